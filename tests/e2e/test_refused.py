"""Who and what the gateway of a consortium at work refuses, and in which words: connections, requests, the revoked."""

from __future__ import annotations

import json
import re
import shutil
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client import identity
from client.connection import Address, Fleet
from client.reach import reach
from server import authority
from server.gateway_http import PATHS
from tests.e2e import hostile
from tests.e2e.commands import command, until
from tests.e2e.conftest import Template
from tests.e2e.consortium import Consortium
from tests.e2e.hostile import Door, gateway_said, reached_superlink
from tests.integration.gateway import client_certificate
from tests.integration.test_gateway_paths import METHODS, TARGETS

pytestmark = pytest.mark.e2e

PULL = "/v1/fleet/pull-messages"
LIST = "/v1/control/list-nodes"
MINUTE, YEAR = timedelta(minutes=1), timedelta(days=365)


@pytest.fixture(scope="module")
def door(running: Consortium) -> Door:
    return hostile.gateway(running)


# --- Connections: what TLS says to the hospital, what its own command makes of it, what the coordinator's log says ---


def explained(
    running: Consortium, pair: tuple[Path, Path], node_key: str | None = None, host: str = "localhost"
) -> str:
    """Ask the gateway once as a hospital's command does before it starts the node, and return what it finds."""
    address = Address(f"{host}:{running.port}", running.server / "certificates" / "ca.crt", *pair)
    key = node_key or identity.load(running.hospital("Aarhus")).require_welcome().flower_key
    [found] = reach(address, key, lambda: datetime.now(UTC))
    return str(found)


def test_a_connection_without_a_client_certificate(running: Consortium, door: Door) -> None:
    assert "TLSV13_ALERT_CERTIFICATE_REQUIRED" == door.reason(door.context())
    gateway_said(running, "it showed no client certificate")


def test_a_certificate_of_another_authority(running: Consortium, door: Door, tmp_path: Path) -> None:
    pair = client_certificate(authority.new_authority("Test consortium", datetime.now(UTC)), "Aarhus", tmp_path)

    assert "TLSV1_ALERT_UNKNOWN_CA" == door.reason(door.context(pair))
    assert "certificate is of another consortium's authority" in explained(running, pair)
    gateway_said(running, "its client certificate is from another CA")


def test_an_expired_certificate(running: Consortium, door: Door, tmp_path: Path) -> None:
    pair = client_certificate(authority.load(running.server), "Aarhus", tmp_path, -YEAR - MINUTE)

    assert "SSLV3_ALERT_CERTIFICATE_EXPIRED" == door.reason(door.context(pair))
    assert "the gateway says that this hospital's certificate has expired" in explained(running, pair)
    gateway_said(running, "its client certificate has expired")


def test_plain_http(running: Consortium) -> None:
    with socket.create_connection(("127.0.0.1", running.port), timeout=hostile.WAIT_S) as connection:
        connection.sendall(f"POST {PULL} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        answer = connection.recv(1000)

    assert answer.endswith(b"This port speaks TLS 1.3 and asks for a client certificate. Connect with https.\n")
    gateway_said(running, "it spoke plain HTTP; this port speaks TLS 1.3")


def test_tls_1_2(running: Consortium, door: Door) -> None:
    context = door.context(hostile.pair_of(running.hospital("Aarhus")))
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    assert "TLSV1_ALERT_PROTOCOL_VERSION" == door.reason(context)
    gateway_said(running, "it offered only versions of TLS before 1.3")


def test_a_flower_key_that_is_not_the_one_of_the_certificates_hospital(running: Consortium) -> None:
    pair = hostile.pair_of(running.hospital("Aarhus"))

    assert "the Flower key in secrets is not the one that the coordinator enrolled" in explained(
        running, pair, hostile.other_flower_key()
    )
    gateway_said(running, "the certificate is Aarhus's, the Flower key of the request is not")


def test_superlink_behind_the_gateway_knows_registered_keys_only(running: Consortium, tmp_path: Path) -> None:
    import httpx

    stranger = hostile.hospital(tmp_path, hostile.elsewhere(running, tmp_path), "Stranger", datetime.now(UTC))
    known, inner = identity.load(stranger), hostile.superlink(running)
    fleet = Fleet(
        Address(f"localhost:{inner.port}", inner.authority, known.certificate, known.tls_key), known.flower_key()
    )
    with pytest.raises(httpx.HTTPStatusError) as refused:
        fleet.activate()
    fleet.close()
    assert refused.value.response.status_code >= 400


# --- Hospitals that start: the command ends with what is wrong, in words for the hospital's IT ---


def unknown(running: Consortium, root: Path) -> Path:
    return hostile.hospital(root, hostile.elsewhere(running, root), "Stranger", datetime.now(UTC))


def expired(running: Consortium, root: Path) -> Path:
    long_ago = datetime.now(UTC) - YEAR - 10 * MINUTE
    return hostile.hospital(root, hostile.elsewhere(running, root), "Late", long_ago, long_ago + YEAR - 10 * MINUTE)


def wrong_host_name(running: Consortium, root: Path) -> Path:
    made = hostile.elsewhere(running, root, address=f"127.0.0.2:{running.port}")
    return hostile.hospital(root, made, "Wrong", datetime.now(UTC))


def another_consortium(running: Consortium, root: Path) -> Path:
    return hostile.hospital(root, hostile.another_consortium(running, root), "Foreign", datetime.now(UTC))


def other_flower_key(running: Consortium, root: Path) -> Path:
    shutil.copytree(running.hospital("Aarhus"), root / "copy", ignore=shutil.ignore_patterns("processes"))
    donor = unknown(running, root)
    shutil.copy(donor / "secrets" / "flower.key", root / "copy" / "secrets" / "flower.key")
    return root / "copy"


@pytest.mark.parametrize(
    ("made", "hears", "logged"),
    [
        (
            unknown,
            "the coordinator does not know this hospital's certificate: it was never enrolled",
            "is valid but belongs to no enrolled hospital, or was replaced",
        ),
        (expired, "this hospital's certificate expired on", None),
        (
            wrong_host_name,
            "the server's certificate is not for 127.0.0.2: the coordinator has to add this name.",
            "it does not accept our certificate: is the host name that it uses in it?",
        ),
        (
            another_consortium,
            "is not this consortium's server: another authority signed it.",
            "it does not trust our certificate: it has the CA certificate of another consortium",
        ),
        (other_flower_key, "not for the keys that are in use here", None),
    ],
    ids=["unknown", "expired", "wrong host name", "another consortium", "other Flower key"],
)
def test_a_hospital_that_starts_is_told_what_is_wrong(
    running: Consortium,
    tmp_path: Path,
    made: Callable[[Consortium, Path], Path],
    hears: str,
    logged: str | None,
) -> None:
    process = command("consilium-client", "start", made(running, tmp_path), check=False)

    assert 2 == process.returncode
    assert hears in process.stderr
    assert "Traceback" not in process.stderr
    if logged:
        gateway_said(running, logged)


# --- Requests: what a hospital with a good certificate and key may ask for ---


def head(running: Consortium, line: str, *more: str, length: int | None = 0) -> bytes:
    fields = ["Host: localhost", *hostile.headers_of(running.hospital("Aarhus")), *more]
    fields += [] if length is None else [f"Content-Length: {length}"]
    return "\r\n".join([line, *fields, "", ""]).encode("latin-1")


@pytest.fixture(scope="module")
def surface(running: Consortium) -> list[str]:
    """Every path of SuperLink, as SuperLink itself lists them to whoever reaches it on this machine."""
    inner = hostile.superlink(running)
    answer = inner.raw(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", inner.context())
    return sorted(json.loads(answer.partition(b"\r\n\r\n")[2])["paths"])


def allowed(line: str) -> bool:
    """Whether a line of SuperLink's access log is one of the nine requests of nodes."""
    return line in {f"POST {path} HTTP/1.1" for path in PATHS.values()}


def test_whoever_reaches_superlink_itself_is_answered(running: Consortium) -> None:
    """Else the tests below would show nothing."""
    inner = hostile.superlink(running)
    answer = inner.raw(head(running, f"POST {LIST} HTTP/1.1", "Connection: close"), inner.context())

    assert answer.startswith(b"HTTP/1.1 200 ")
    until("it is in the access log", lambda: f"POST {LIST} HTTP/1.1" in reached_superlink(running)[-5:], 5.0)


def test_no_path_of_superlink_but_the_nodes_nine_answers_through_the_gateway(
    running: Consortium, door: Door, surface: list[str]
) -> None:
    context = door.context(hostile.pair_of(running.hospital("Aarhus")))
    before = len(reached_superlink(running))
    closed = [path for path in surface if path not in PATHS.values()]
    answers = {
        path: door.raw(head(running, f"{method} {path} HTTP/1.1", "Connection: close"), context)
        for path in closed
        for method in ("POST", "GET")
    }

    assert {"/v1/control/start-run", "/v1/runtime/acquire-task", "/v1/fleet/register-node"} <= set(closed)
    assert {404} == {int(answer[9:12]) for answer in answers.values()}
    assert [] == [line for line in reached_superlink(running)[before:] if not allowed(line)]


SMUGGLED = f"POST {LIST} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n".encode()


def tricks(running: Consortium) -> Iterator[bytes]:
    """Yield requests that other readers of HTTP have taken for two, or for another one."""
    line = f"POST {PULL} HTTP/1.1"
    for target in TARGETS:
        yield head(running, f"POST {target} HTTP/1.1", "Connection: close")
    for method in METHODS:
        yield head(running, f"{method} {LIST} HTTP/1.1", "Connection: close")
    for more in (
        ["Transfer-Encoding: chunked"],
        ["Transfer-Encoding:\tchunked"],
        ["Transfer-Encoding : chunked"],
        ["Transfer_Encoding: chunked"],
        ["X: y", " Transfer-Encoding: chunked"],
        ["X: y\nTransfer-Encoding: chunked"],
        ["Content-Length: 5"],
        ["Content-Length: 0, 5"],
        ["Host: elsewhere"],
        ["X-Original-URL: " + LIST, "X-HTTP-Method-Override: GET"],
        ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA"],
        ["Expect: 100-continue"],
    ):
        yield head(running, line, *more) + b"0\r\n\r\n" + SMUGGLED
    for more in (["Transfer-Encoding: chunked"], ["Transfer-Encoding: identity, chunked"]):
        yield head(running, line, *more, length=None) + b"0\r\n\r\n" + SMUGGLED
    yield head(running, line) + SMUGGLED
    yield head(running, line, length=len(SMUGGLED)) + SMUGGLED + SMUGGLED
    yield b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9) + SMUGGLED
    yield head(running, "CONNECT 127.0.0.1:443 HTTP/1.1") + SMUGGLED
    yield head(running, f"POST {PULL} HTTP/1.0") + SMUGGLED
    yield head(running, f"POST {LIST}") + SMUGGLED
    yield SMUGGLED.replace(b"\r\n", b"\n")


def test_tricks_with_paths_and_framing_reach_nothing(running: Consortium, door: Door) -> None:
    context = door.context(hostile.pair_of(running.hospital("Aarhus")))
    before = len(reached_superlink(running))
    for data in tricks(running):
        answers = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", door.raw(data, context))]
        # A question for messages that names no node is the one thing that may reach SuperLink, which says 401.
        assert set(answers) <= {400, 401, 404, 411, 413, 415, 417, 431}, data
    time.sleep(0.3)
    assert [] == [line for line in reached_superlink(running)[before:] if not allowed(line)]


# --- Revoked while connected ---


def test_a_revoked_hospital_is_cut_off_at_once_and_told_when_it_starts_again(
    running: Consortium, door: Door, template: Template
) -> None:
    fingerprint = running.init("Evora", template.data["Delft"])
    running.enrol("Evora", fingerprint)
    running.join("Evora")
    running.start_hospital("Evora")
    context = door.context(hostile.pair_of(running.hospital("Evora")))
    plain = socket.create_connection(("127.0.0.1", running.port), timeout=hostile.WAIT_S)
    with context.wrap_socket(plain, server_hostname="localhost") as connection:
        command("consilium-server", "revoke", running.server, "Evora")
        connection.settimeout(2.0)
        assert b"" == connection.recv(1)
    gateway_said(running, "connection cut: Evora was revoked")
    until("the node says why", lambda: "revoked" in running.said("Evora"), hostile.WAIT_S)
    running.stop("Evora")
    process = command("consilium-client", "start", running.hospital("Evora"), check=False)

    assert 2 == process.returncode
    assert "the coordinator has revoked this hospital. Ask the coordinator" in process.stderr
