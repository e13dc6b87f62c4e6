"""Who does not get in: each is told why by TLS itself, and the coordinator's log says it in plain words."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from server import authority
from server.gateway_limits import Limits
from tests.integration import gateway
from tests.integration.gateway import PULL, WAIT_S, World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = gateway.make_world(tmp_path_factory.mktemp("coordinator"))
    with gateway.running(made, Limits(handshake_s=0.5)) as world:
        yield world


def reason(world: World, context: ssl.SSLContext) -> str:
    """Connect, send a request, read: return OpenSSL's word for what came back."""
    try:
        with world.connect(context) as connection:
            with contextlib.suppress(ConnectionError):
                connection.sendall(gateway.head(world.hospitals["Aarhus"], f"POST {PULL} HTTP/1.1") + b"x")
            return repr(connection.recv(1000))
    except ssl.SSLError as error:
        return str(error.reason)


def says(caplog: pytest.LogCaptureFixture, what: str) -> bool:
    return gateway.until(lambda: f"refused: 127.0.0.1: {what}" in caplog.messages)


def test_without_a_client_certificate(world: World, caplog: pytest.LogCaptureFixture) -> None:
    assert "TLSV13_ALERT_CERTIFICATE_REQUIRED" == reason(world, world.trust())
    assert says(caplog, "it showed no client certificate")


def test_with_a_certificate_of_another_ca(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    # With the same name, as an impostor would give it.
    other = authority.new_authority("Test", gateway.now())
    context = world.trust()
    context.load_cert_chain(*gateway.client_certificate(other, "Aarhus", tmp_path))

    assert "TLSV1_ALERT_UNKNOWN_CA" == reason(world, context)
    assert says(caplog, "its client certificate is from another CA")


def test_with_an_expired_certificate(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = world.trust()
    context.load_cert_chain(*gateway.client_certificate(world.ca, "Aarhus", tmp_path, timedelta(days=-366)))

    assert "SSLV3_ALERT_CERTIFICATE_EXPIRED" == reason(world, context)
    assert says(caplog, "its client certificate has expired")


def test_with_a_certificate_that_is_not_valid_yet(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    context = world.trust()
    context.load_cert_chain(*gateway.client_certificate(world.ca, "Aarhus", tmp_path, timedelta(hours=2)))

    assert "SSLV3_ALERT_BAD_CERTIFICATE" == reason(world, context)
    assert says(caplog, "its client certificate is not valid yet: compare the clocks")


def test_with_a_certificate_for_servers(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = world.trust()
    context.load_cert_chain(*gateway.server_certificate(world.ca, "x", tmp_path))

    assert "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE" == reason(world, context)
    assert says(caplog, "its certificate is not one for clients")


def test_with_tls_1_2(world: World, caplog: pytest.LogCaptureFixture) -> None:
    context = world.context("Aarhus")
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    assert "TLSV1_ALERT_PROTOCOL_VERSION" == reason(world, context)
    assert says(caplog, "it offered only versions of TLS before 1.3")


def test_with_plain_http(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", world.port), timeout=WAIT_S) as connection:
        connection.sendall(f"POST {PULL} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = connection.recv(1000)

    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert answer.endswith(b"This port speaks TLS 1.3 and asks for a client certificate. Connect with https.\n")
    assert says(caplog, "it spoke plain HTTP; this port speaks TLS 1.3")


def test_with_the_ca_certificate_of_another_consortium(world: World, caplog: pytest.LogCaptureFixture) -> None:
    context = ssl.create_default_context(cafile=world.folder / "certificates" / "loopback-ca.crt")

    assert "CERTIFICATE_VERIFY_FAILED" == reason(world, context)
    assert says(caplog, "it does not trust our certificate: it has the CA certificate of another consortium")


def test_with_nothing_at_all(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", world.port), timeout=WAIT_S) as connection:
        assert b"" == connection.recv(1000)

    assert says(caplog, "it did not finish the TLS handshake in 0.5 s")


def test_with_something_that_is_not_tls(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_connection(("127.0.0.1", world.port), timeout=WAIT_S) as connection:
        connection.sendall(b"\x00" * 100)
        gateway.until(lambda: not connection.recv(1000))

    assert says(caplog, "what it sent is not TLS")


def test_no_session_can_be_resumed(world: World) -> None:
    with world.client("Aarhus") as connection:
        gateway.ask(connection, world.hospitals["Aarhus"], PULL)
        assert isinstance(connection.sock, ssl.SSLSocket)
        session = connection.sock.session

    assert session is None or not session.has_ticket


def test_a_replaced_server_certificate_is_shown_to_new_connections(world: World, tmp_path: Path) -> None:
    def serial() -> object:
        with world.connect(world.context("Aarhus")) as connection:
            return (connection.getpeercert() or {})["serialNumber"]

    before = serial()
    certificate, key = gateway.server_certificate(world.ca, "server", tmp_path)
    certificate.replace(world.folder / "certificates" / "server.crt")
    between = serial()
    key.replace(world.folder / "secrets" / "server.key")
    after = serial()

    # While the new certificate waits for its key, the old pair is shown.
    assert before == between
    assert before != after


def test_nothing_of_all_this_reached_superlink(world: World) -> None:
    world.upstream.requests.clear()
    reason(world, world.trust())

    assert [] == world.upstream.lines
