"""What a hospital is told when the consortium cannot be reached: each with real sockets, certificates and answers."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import pytest

from client.connection import Address
from client.findings import Finding
from client.reach import reach
from server import authority
from server.authority import Authority
from server.gateway_limits import Limits
from shared.keyfiles import new_key, public_pem
from tests.integration import gateway
from tests.integration.gateway import World


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = gateway.make_world(tmp_path_factory.mktemp("coordinator"))
    made.upstream.answer = lambda path, body: (401, b"", {})
    with gateway.running(made, Limits(handshake_s=0.5)) as world:
        yield world


def address_of(world: World, name: str = "Aarhus", port: int = 0) -> Address:
    own = world.hospitals[name]
    return Address(
        f"localhost:{port or world.port}", world.folder / "certificates" / "ca.crt", own.certificate, own.key
    )


def found(world: World, address: Address | None = None, name: str = "Aarhus") -> list[Finding]:
    return reach(address or address_of(world, name), world.hospitals[name].flower_key, now)


def the_one(world: World, address: Address | None = None, name: str = "Aarhus") -> Finding:
    [finding] = found(world, address, name)
    return finding


def summary(finding: Finding) -> tuple[str, str]:
    return finding.name, finding.level


@contextlib.contextmanager
def listening(serve: Callable[[socket.socket], None]) -> Iterator[int]:
    """Call ``serve`` with each connection to a port, in a thread."""
    stop = threading.Event()
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(0.05)

    def accept() -> None:
        while not stop.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                connection.settimeout(5.0)
                with connection:
                    serve(connection)

    thread = threading.Thread(target=accept)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        stop.set()
        thread.join(10.0)
        listener.close()


def speaking(context: ssl.SSLContext, answer: bytes) -> Callable[[socket.socket], None]:
    """Return what serves one request over TLS with a fixed answer."""

    def serve(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(answer)

    return serve


def server_context(
    issuer: Authority, folder: Path, names: tuple[str, ...] = ("localhost",), at: datetime | None = None
) -> ssl.SSLContext:
    """Return the TLS settings of a server with a certificate for these names, issued at a time."""
    key = new_key("P-256")
    paths = gateway._written(issuer.server(key.public_key(), list(names), at or now()), key, "s", folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*paths)
    return context


def test_nothing_is_wrong_when_the_request_reaches_the_aggregator(world: World) -> None:
    assert [] == found(world)


def test_a_revoked_hospital_is_told_so(world: World) -> None:
    world.enrol(revoked=("Basel",))
    try:
        finding = the_one(world, name="Basel")
    finally:
        world.enrol()

    assert ("gateway", "fatal") == summary(finding)
    assert "has revoked this hospital" in finding.text


def test_a_certificate_that_the_coordinator_does_not_know(world: World, tmp_path: Path) -> None:
    certificate, key = gateway.client_certificate(world.ca, "Aarhus", tmp_path)
    finding = the_one(world, replace(address_of(world), certificate=certificate, key=key))

    assert ("gateway", "fatal") == summary(finding)
    assert "does not know this hospital's certificate" in finding.text


def test_the_flower_key_of_another_hospital(world: World) -> None:
    [finding] = reach(address_of(world), public_pem(new_key("P-384").public_key()), now)

    assert ("gateway", "fatal") == summary(finding)
    assert "Flower key" in finding.text


def test_an_aggregator_that_is_down_behind_the_gateway_may_come_back(tmp_path: Path) -> None:
    made = gateway.make_world(tmp_path)
    with gateway.running(made) as world:
        world.upstream.stop()
        finding = the_one(world)
        world.upstream.start()

    assert ("gateway", "away") == summary(finding)
    assert "the aggregator behind it does not" in finding.text


@pytest.mark.parametrize(
    ("later", "words"),
    [(timedelta(days=-366), "certificate has expired"), (timedelta(hours=2), "not valid yet by its clock")],
)
def test_a_certificate_out_of_its_time(world: World, tmp_path: Path, later: timedelta, words: str) -> None:
    certificate, key = gateway.client_certificate(world.ca, "Aarhus", tmp_path, later)
    finding = the_one(world, replace(address_of(world), certificate=certificate, key=key))

    assert ("certificate", "fatal") == summary(finding)
    assert words in finding.text


def test_a_certificate_of_another_consortium(world: World, tmp_path: Path) -> None:
    certificate, key = gateway.client_certificate(authority.new_authority("Test", now()), "Aarhus", tmp_path)
    finding = the_one(world, replace(address_of(world), certificate=certificate, key=key))

    assert ("certificate", "fatal") == summary(finding)
    assert "another consortium's authority" in finding.text


def test_a_server_of_another_authority(world: World) -> None:
    finding = the_one(world, replace(address_of(world), authority=world.folder / "certificates" / "loopback-ca.crt"))

    assert ("server", "fatal") == summary(finding)
    assert "another authority signed it" in finding.text


def test_a_server_under_another_name(world: World, tmp_path: Path) -> None:
    with listening(speaking(server_context(world.ca, tmp_path, ("elsewhere.example",)), b"")) as port:
        finding = the_one(world, address_of(world, port=port))

    assert ("server", "fatal") == summary(finding)
    assert "not for localhost" in finding.text


@pytest.mark.parametrize(
    ("later", "words"), [(timedelta(days=-400), "has expired"), (timedelta(hours=2), "not valid yet")]
)
def test_a_servers_certificate_out_of_its_time(world: World, tmp_path: Path, later: timedelta, words: str) -> None:
    with listening(speaking(server_context(world.ca, tmp_path, at=now() + later), b"")) as port:
        finding = the_one(world, address_of(world, port=port))

    assert ("server", "fatal") == summary(finding)
    assert words in finding.text


def test_a_server_that_speaks_only_tls_1_2(world: World, tmp_path: Path) -> None:
    context = server_context(world.ca, tmp_path)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with listening(speaking(context, b"")) as port:
        finding = the_one(world, address_of(world, port=port))

    assert ("tls", "fatal") == summary(finding)
    assert "no TLS 1.3" in finding.text


def test_a_server_without_tls(world: World) -> None:
    def plain(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    with listening(plain) as port:
        finding = the_one(world, address_of(world, port=port))

    assert ("tls", "fatal") == summary(finding)
    assert "does not speak TLS" in finding.text


def test_a_connection_that_is_cut_in_the_handshake_may_come_back(world: World) -> None:
    with listening(lambda connection: None) as port:
        finding = the_one(world, address_of(world, port=port))

    assert "away" == finding.level
    assert "firewall" in finding.text


def test_a_port_where_nothing_listens(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    finding = the_one(world, address_of(world, port=port))

    assert ("connection", "away") == summary(finding)
    assert "refuses the connection" in finding.text


def test_a_name_that_cannot_be_looked_up(world: World) -> None:
    finding = the_one(world, replace(address_of(world), server="no-such-host.invalid:9443"))

    assert "address" == finding.name
    assert "the name in no-such-host.invalid:9443" in finding.text


def test_an_answer_that_is_not_the_gateways(world: World, tmp_path: Path) -> None:
    answer = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"
    with listening(speaking(server_context(world.ca, tmp_path), answer)) as port:
        finding = the_one(world, address_of(world, port=port))

    assert ("gateway", "fatal") == summary(finding)
    assert "HTTP status 400" in finding.text


@pytest.mark.parametrize(
    ("ahead_s", "expected"),
    [(0, []), (60, [("clock", "fatal")]), (-200, []), (-400, [("clock", "fatal")]), (5, [("clock", "warning")])],
)
def test_the_clock_is_held_against_the_servers(
    world: World, tmp_path: Path, ahead_s: float, expected: list[tuple[str, str]]
) -> None:
    theirs = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    answer = f"HTTP/1.1 401 Unauthorized\r\nDate: {format_datetime(theirs, usegmt=True)}\r\nContent-Length: 0\r\n\r\n"
    with listening(speaking(server_context(world.ca, tmp_path), answer.encode())) as port:
        findings = reach(
            address_of(world, port=port),
            world.hospitals["Aarhus"].flower_key,
            lambda: theirs + timedelta(seconds=ahead_s),
        )

    assert expected == [summary(each) for each in findings]


def proxy(status: bytes, port: int) -> Callable[[socket.socket], None]:
    """Return a proxy that answers CONNECT with a status; it goes on to a port of this machine where that is 200."""

    def serve(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 " + status + b"\r\n\r\n")
        if status.startswith(b"200"):
            with socket.create_connection(("127.0.0.1", port), timeout=5.0) as beyond:
                ways = [(connection, beyond), (beyond, connection)]
                threads = [threading.Thread(target=_copy, args=way) for way in ways]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join(10.0)

    return serve


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    for each in (source, target):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (b"200 OK", []),
        (b"407 Proxy Authentication Required", [("proxy", "fatal")]),
        (b"403 Forbidden", [("proxy", "fatal")]),
        (b"502 Bad Gateway", [("proxy", "away")]),
    ],
)
def test_the_way_through_a_proxy(world: World, status: bytes, expected: list[tuple[str, str]]) -> None:
    with listening(proxy(status, world.port)) as port:
        through = replace(address_of(world), proxy=f"http://127.0.0.1:{port}")

        assert expected == [summary(each) for each in found(world, through)]


def test_a_revoked_hospital_behind_a_proxy_is_told_so(world: World) -> None:
    world.enrol(revoked=("Aarhus",))
    try:
        with listening(proxy(b"200 OK", world.port)) as port:
            finding = the_one(world, replace(address_of(world), proxy=f"http://127.0.0.1:{port}"))
    finally:
        world.enrol()

    assert "has revoked this hospital" in finding.text


def test_a_proxy_that_is_not_there_is_named(world: World) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    finding = the_one(world, replace(address_of(world), proxy=f"http://127.0.0.1:{port}"))

    assert ("connection", "away") == summary(finding)
    assert f"the proxy http://127.0.0.1:{port}" in finding.text
