"""A gateway with real sockets and certificates, and behind it an HTTPS server that takes down what reaches it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from server import authority, consortium, enrolment, gateway
from server.authority import Authority
from server.gateway_limits import Limits
from server.sites import Enrolment, Site
from shared import files
from shared.enrolment import to_text
from shared.keyfiles import new_key, public_pem, write_key

WAIT_S = 20.0
PULL = "/v1/fleet/pull-messages"
PUSH = "/v1/fleet/push-object"


def now(later: timedelta = timedelta()) -> datetime:
    return datetime.now(UTC) + later


def client_certificate(issuer: Authority, name: str, folder: Path, later: timedelta = timedelta()) -> tuple[Path, Path]:
    """Write a hospital's certificate and its key into ``folder``; return both paths.

    later: after now, when it was issued; it is valid from one hour before, for 365 days.
    """
    key = new_key("P-256")
    return _written(issuer.client(key.public_key(), name, now(later)), key, name, folder)


def server_certificate(issuer: Authority, name: str, folder: Path) -> tuple[Path, Path]:
    """Write a server's certificate for this machine and its key into ``folder``; return both paths."""
    key = new_key("P-256")
    return _written(issuer.server(key.public_key(), ["localhost", "127.0.0.1"], now()), key, name, folder)


def _written(
    certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey, name: str, folder: Path
) -> tuple[Path, Path]:
    paths = folder / f"{name}.crt", folder / f"{name}.key"
    paths[0].write_text(authority.pem(certificate))
    write_key(paths[1], key)
    return paths


@dataclass(frozen=True)
class Hospital:
    name: str
    certificate: Path
    key: Path
    flower_key: str

    @property
    def site(self) -> Site:
        """As the coordinator has it on record."""
        return Site(
            name=self.name,
            identity=bytes(32),
            flower_key=self.flower_key,
            certificates=(authority.digest(authority.read_certificate(self.certificate)),),
            enrolled_at=now(),
            expires_at=now(),
            requested_at=now(),
            tls_key="00" * 32,
        )

    @property
    def headers(self) -> dict[str, str]:
        """What Flower's client sends with each request."""
        return {
            "content-type": "application/protobuf",
            "flwr-public-key": base64.b64encode(self.flower_key.encode()).decode(),
            "flwr-timestamp": "2026-11-21T11:00:00+00:00",
            "flwr-signature": "c2lnbmF0dXJl",
            "flwr-package-name": "flwr",
            "flwr-package-version": "1.41.0",
            "flwr-component-name": "SuperNode",
        }


class _Recorder(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("do_"):
            return self._any
        raise AttributeError(name)

    def _any(self) -> None:
        upstream: Upstream = self.server.upstream  # type: ignore[attr-defined]
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        upstream.requests.append((self.requestline, {k.lower(): v for k, v in self.headers.items()}, body))
        status, answer, more = upstream.answer(self.path, body)
        self.send_response(status)
        for name, value in {"content-length": str(len(answer)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(answer)
        self.close_connection = self.close_connection or upstream.ends

    def log_message(self, *args: object) -> None:
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """A connection that the gateway ended is no fault."""


@dataclass
class Upstream:
    """What stands where SuperLink does.

    requests: (request line, headers, body) of all that reached it. ends: whether it ends each connection after an
    answer without having said so.
    """

    certificate: Path
    key: Path
    requests: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)
    answer: Callable[[str, bytes], tuple[int, bytes, dict[str, str]]] = lambda path, body: (200, b"done", {})
    ends: bool = False
    port: int = 0

    def start(self) -> None:
        self._server = _Server(("127.0.0.1", self.port), _Recorder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.certificate, self.key)
        # The handshake is made by the connection's thread, at its first read.
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self._server.upstream = self  # type: ignore[attr-defined]
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def lines(self) -> list[str]:
        return [line for line, _, _ in self.requests]


@dataclass
class World:
    """A coordinator's folder with two hospitals, its gateway and what stands behind it."""

    folder: Path
    ca: Authority
    hospitals: dict[str, Hospital]
    upstream: Upstream
    port: int = 0

    def enrol(self, revoked: tuple[str, ...] = ()) -> None:
        """Replace the enrolment record: both hospitals, some of them revoked."""
        record = Enrolment(
            sites=tuple(
                replace(each.site, revoked_at=now() if each.name in revoked else None)
                for each in self.hospitals.values()
            )
        )
        files.replace_text(self.folder / enrolment.FILE, to_text(record))

    def trust(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.folder / "certificates" / "ca.crt")
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        return context

    def context(self, name: str) -> ssl.SSLContext:
        context = self.trust()
        context.load_cert_chain(self.hospitals[name].certificate, self.hospitals[name].key)
        return context

    def connect(self, context: ssl.SSLContext) -> ssl.SSLSocket:
        plain = socket.create_connection(("127.0.0.1", self.port), timeout=WAIT_S)
        return context.wrap_socket(plain, server_hostname="localhost")

    @contextlib.contextmanager
    def client(self, name: str) -> Iterator[http.client.HTTPSConnection]:
        connection = http.client.HTTPSConnection("localhost", self.port, context=self.context(name), timeout=WAIT_S)
        try:
            yield connection
        finally:
            connection.close()

    def post(self, name: str, path: str, body: bytes = b"x", **changed: str) -> tuple[int, bytes, dict[str, str]]:
        """Send one request on a connection of its own; return status, body, headers."""
        with self.client(name) as connection:
            return ask(connection, self.hospitals[name], path, body, **changed)

    def raw(self, name: str, data: bytes) -> bytes:
        """Send bytes and return all that comes back until the gateway ends the connection, or 1 s after an answer."""
        with self.connect(self.context(name)) as connection:
            connection.sendall(data)
            return read_all(connection)


def ask(
    connection: http.client.HTTPSConnection, hospital: Hospital, path: str, body: bytes = b"x", **changed: str
) -> tuple[int, bytes, dict[str, str]]:
    headers = {**hospital.headers, **{name.replace("_", "-"): value for name, value in changed.items()}}
    connection.request("POST", path, body, headers)
    response = connection.getresponse()
    return response.status, response.read(), {k.lower(): v for k, v in response.headers.items()}


def read_all(connection: ssl.SSLSocket) -> bytes:
    received = bytearray()
    with contextlib.suppress(ssl.SSLError, ConnectionError, TimeoutError):
        while data := connection.recv(65536):
            received += data
    return bytes(received)


def head(hospital: Hospital, line: str, *more: str, length: int = 1) -> bytes:
    """A request's head as Flower's client writes it, with another first line and more headers."""
    fields = [f"{name}: {value}" for name, value in hospital.headers.items()]
    lines = [line, "Host: localhost", *fields, f"Content-Length: {length}", *more]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def until(condition: Callable[[], bool], seconds: float = WAIT_S) -> bool:
    """Wait until something holds; return whether it came to hold in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def make_world(folder: Path, address: str = "localhost:9443") -> World:
    """Make a consortium with two hospitals in a folder below ``folder``."""
    consortium.init(folder / "consortium", "Test", address, ["localhost", "127.0.0.1"], now())
    folder = folder / "consortium"
    (folder / "hospitals").mkdir()
    ca = authority.load(folder)
    hospitals = {name: hospital(ca, name, folder / "hospitals") for name in ("Aarhus", "Basel")}
    upstream = Upstream(folder / "certificates" / "loopback.crt", folder / "secrets" / "loopback.key")
    world = World(folder, ca, hospitals, upstream)
    world.enrol()
    return world


def hospital(issuer: Authority, name: str, folder: Path) -> Hospital:
    return Hospital(name, *client_certificate(issuer, name, folder), public_pem(new_key("P-384").public_key()))


@contextlib.contextmanager
def running(world: World, limits: Limits | None = None) -> Iterator[World]:
    """Run the upstream and the gateway in threads of this process."""
    stop, ready, faults = threading.Event(), threading.Event(), []

    def listening(port: int) -> None:
        world.port = port
        ready.set()

    def serve() -> None:
        try:
            gateway.serve(settings, stop, listening)
        except BaseException as error:
            faults.append(error)
            ready.set()

    world.upstream.start()
    settings = gateway.Settings("127.0.0.1", 0, world.folder, world.upstream.port, limits or Limits())
    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert ready.wait(WAIT_S)
        assert [] == faults
        yield world
    finally:
        stop.set()
        thread.join(WAIT_S)
        world.upstream.stop()
    assert [] == faults
    assert not thread.is_alive()
