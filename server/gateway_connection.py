"""One hospital's connection from its first byte to its last, in a thread of its own."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from server import gateway_http, gateway_tls
from server.gateway_http import Answer, Refused, Request
from server.gateway_limits import Buckets, Limits, Notes, Slots
from server.gateway_sites import Sites, Watched, certificate_digest
from server.gateway_upstream import Line

logger = logging.getLogger("consilium.gateway")

_CHUNK = 64 * 1024
_TURN_S = 0.02
_TOO_FAST = Refused(
    503,
    "too-fast",
    "This hospital's node asks faster than the gateway allows. It tries again by itself.",
    "asks faster than allowed",
)
_STOPPING = Refused(503, "stopping", "The gateway is being restarted. The node tries again by itself.")


@dataclass(eq=False)
class Peer:
    """A connection whose certificate was verified.

    site: the hospital's name; where the certificate belongs to none, "a certificate" and its digest's beginning.
    certificate: SHA-256 in hex. expires: when the certificate does, seconds since 1970.
    admitted: whether the certificate was an enrolled hospital's when the connection began.
    busy: whether a request is under way.
    """

    connection: ssl.SSLSocket
    address: str
    site: str
    certificate: str
    expires: float
    admitted: bool
    busy: bool = False

    def __str__(self) -> str:
        return f"{self.site} at {self.address}"


class Live:
    """The connections that are open now."""

    def __init__(self) -> None:
        self._peers: set[Peer] = set()
        self._lock = threading.Lock()

    def enter(self, peer: Peer) -> None:
        """Take a connection in."""
        with self._lock:
            self._peers.add(peer)

    def leave(self, peer: Peer) -> None:
        """Take a connection out, before its socket is closed: what is in here can be cut."""
        with self._lock:
            self._peers.discard(peer)

    def cut(self, peer: Peer) -> bool:
        """End a connection that is still open; return whether it was."""
        with self._lock:
            # Under the lock: once out, the socket's number may belong to another connection.
            if peer in self._peers:
                gateway_tls.cut(peer.connection)
                self._peers.discard(peer)
                return True
            return False

    def all(self) -> list[Peer]:
        """Every open connection."""
        with self._lock:
            return list(self._peers)


@dataclass
class Gate:
    """What all connections share."""

    limits: Limits
    upstream_port: int
    contexts: gateway_tls.ServerContexts
    upstream: Watched[ssl.SSLContext]
    sites: Sites
    stop: threading.Event
    handshakes: Slots = field(init=False)
    connections: Slots = field(init=False)
    of_sites: Slots = field(init=False)
    rate: Buckets = field(init=False)
    notes: Notes = field(default_factory=Notes)
    live: Live = field(default_factory=Live)

    def __post_init__(self) -> None:
        limits = self.limits
        self.handshakes = Slots(limits.handshakes, limits.handshakes_per_address)
        self.connections = Slots(limits.connections, limits.connections)
        self.of_sites = Slots(limits.connections, limits.connections_per_site)
        self.rate = Buckets(limits.requests_per_s, limits.request_burst)


def attend(gate: Gate, plain: socket.socket, address: str) -> None:
    """Serve one connection until it ends. Its handshake slot and its connection slot are given back."""
    try:
        try:
            shaken = _shake(gate, plain, address)
        finally:
            gate.handshakes.give(address)
        if shaken is not None:
            _admit(gate, shaken)
    finally:
        gate.connections.give("")


def _shake(gate: Gate, plain: socket.socket, address: str) -> Peer | None:
    shaken = gateway_tls.shake_hands(gate.contexts.current(), plain, gate.limits.handshake_s)
    if isinstance(shaken, str):
        gate.notes.refused(address, shaken)
        return None
    certificate = certificate_digest(shaken.getpeercert(binary_form=True) or b"")
    expires = ssl.cert_time_to_seconds(str((shaken.getpeercert() or {})["notAfter"]))
    known = gate.sites.find(certificate, datetime.now(UTC))
    name = f"a certificate {certificate[:16]}" if isinstance(known, Refused) else known.name
    return Peer(shaken, address, name, certificate, expires, admitted=not isinstance(known, Refused))


def _admit(gate: Gate, peer: Peer) -> None:
    if not gate.of_sites.take(peer.site):
        gate.notes.refused(str(peer), f"has {gate.limits.connections_per_site} connections already, which is the limit")
        gateway_tls.end(peer.connection)
        return
    gate.live.enter(peer)
    try:
        _Visit(gate, peer).serve()
    except OSError:
        # The other side went away, or the connection was cut: whoever cut it has said so.
        logger.debug("connection of %s ended", peer)
    finally:
        gate.live.leave(peer)
        gate.of_sites.give(peer.site)
        gateway_tls.end(peer.connection)


class _Visit:
    """The requests of one connection, one after the other."""

    def __init__(self, gate: Gate, peer: Peer) -> None:
        self._gate = gate
        self._peer = peer
        self._limits = gate.limits
        self._arrived = bytearray()
        self._line = Line(gate.upstream, gate.upstream_port, gate.limits)

    def serve(self) -> None:
        try:
            while self._one():
                self._peer.busy = False
        finally:
            self._line.close()

    def _one(self) -> bool:
        """Take one request and answer it; return whether another may follow."""
        head = self._head()
        if head is None:
            return False
        request = gateway_http.parse(head, self._limits.request_bytes) if isinstance(head, bytes) else head
        refused = request if isinstance(request, Refused) else self._why_not(request)
        if isinstance(request, Refused) or refused is not None:
            return self._refuse(refused or _STOPPING)
        body = self._body(request.length)
        if body is None:
            return False
        answer = self._line.ask(request, body)
        if isinstance(answer, Refused):
            self._gate.notes.refused(str(self._peer), answer.log)
        else:
            self._gate.sites.saw(self._peer.site, datetime.now(UTC))
        self._send(answer, close=request.last)
        return not request.last

    def _why_not(self, request: Request) -> Refused | None:
        if self._gate.stop.is_set():
            return _STOPPING
        refused = self._gate.sites.check(self._peer.certificate, request, datetime.now(UTC))
        return refused if refused is not None else self._in_turn()

    def _in_turn(self) -> Refused | None:
        """Wait for this hospital's turn: a burst is slowed down before it is refused."""
        until = time.monotonic() + self._limits.patience_s
        while not self._gate.rate.take(self._peer.site, now := time.monotonic()):
            if now >= until:
                return _TOO_FAST
            self._gate.stop.wait(_TURN_S)
        return None

    def _refuse(self, refused: Refused) -> bool:
        if refused is not _STOPPING:
            self._gate.notes.refused(str(self._peer), refused.log or refused.text)
        self._send(refused, close=True)
        return False

    def _head(self) -> bytes | Refused | None:
        """Return the next request's head, with its empty line; None where the connection ends instead."""
        if not self._arrived and not self._read(time.monotonic() + self._limits.idle_s):
            return None
        self._peer.busy = True
        until = time.monotonic() + self._limits.header_s
        while not (end := gateway_http.end_of_head(self._arrived)):
            if len(self._arrived) > self._limits.head_bytes:
                break
            if not self._read(until):
                self._gate.notes.refused(str(self._peer), "began a request and did not finish its head")
                return None
        if end < 0:
            return Refused(400, "malformed", "The request was not taken: its lines do not end as in HTTP/1.1.")
        if end == 0 or end > self._limits.head_bytes:
            return Refused(431, "malformed", f"A request's head has at most {self._limits.head_bytes} bytes.")
        head = bytes(self._arrived[:end])
        del self._arrived[:end]
        return head

    def _body(self, length: int) -> bytearray | None:
        """Return a body; None where it did not come in time, or not as a whole."""
        until = time.monotonic() + self._limits.body_s
        body = bytearray(length)
        count = min(length, len(self._arrived))
        body[:count] = self._arrived[:count]
        del self._arrived[:count]
        with memoryview(body) as rest:
            while count < length:
                try:
                    self._wait_at_most(until)
                    received = self._peer.connection.recv_into(rest[count:])
                except TimeoutError:
                    received = 0
                if not received:
                    self._gate.notes.refused(str(self._peer), f"sent {count} of a body of {length} bytes, then no more")
                    return None
                count += received
        return body

    def _read(self, until: float) -> int:
        """Wait for more; return how many bytes arrived, 0 where the other side has ended or the time is over."""
        try:
            self._wait_at_most(until)
            received = self._peer.connection.recv(_CHUNK)
        except TimeoutError:
            return 0
        self._arrived += received
        return len(received)

    def _send(self, answer: Answer | Refused, close: bool) -> None:
        connection = self._peer.connection
        until = time.monotonic() + self._limits.answer_s
        body = answer.body if isinstance(answer, Answer) else b""
        self._wait_at_most(until)
        connection.sendall(gateway_http.to_bytes(answer, close, datetime.now(UTC)))
        if body:
            self._wait_at_most(until)
            connection.sendall(body)

    def _wait_at_most(self, until: float) -> None:
        """Raises: TimeoutError if the time is over already; a socket with a time-out of 0 would not block at all."""
        remaining = until - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        self._peer.connection.settimeout(remaining)
