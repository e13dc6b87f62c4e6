"""The one public port of a consortium: mutual TLS in front of Flower's SuperLink.

Whoever reaches SuperLink itself may register nodes and run code (Flower 1.41: its Control and Runtime interfaces share
the Fleet's port and ask for nothing). So SuperLink listens on 127.0.0.1, and this process lets through what a
hospital's node needs and nothing else: TLS 1.3 with a client certificate of this consortium's CA, looked up in the
enrolment file on every request and bound to the same hospital's Flower key; nine targets, each mapped to a constant;
sizes, rates and times bounded. docs/samples/nginx.conf does as much of it as nginx can.

A thread for each connection: with Python's ``ssl`` that gives a refused hospital the exact TLS alert, and the
coordinator a line that says why (measured: an asynchronous server lost both).
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from server import consortium
from server.gateway_connection import Gate, attend
from server.gateway_http import Refused
from server.gateway_limits import Limits
from server.gateway_sites import UNREADABLE, Sites
from server.gateway_tls import ServerContexts, upstream_context
from shared import files
from shared.enrolment import split_address
from shared.errors import ConsiliumError, DeploymentError

logger = logging.getLogger("consilium.gateway")

LISTENING = Path("processes") / "gateway.listening"
"""File in the coordinator's folder that is there once the gateway listens: its address."""
_ACCEPT_S = 0.2
_FINISH_S = 5.0


@dataclass(frozen=True)
class Settings:
    """Where the gateway listens, and for whom.

    host, port: its public side; port 0 takes a free one. folder: the coordinator's.
    upstream_port: SuperLink's on 127.0.0.1.
    """

    host: str
    port: int
    folder: Path
    upstream_port: int
    limits: Limits = field(default_factory=Limits)


def serve(settings: Settings, stop: threading.Event, ready: Callable[[int], None]) -> None:
    """Run the gateway until ``stop`` is set; requests under way are then finished, for some seconds.

    ready: is called once with the port that is listened on.

    Raises: DeploymentError if the certificates cannot be used, or nothing can listen at the address.
    """
    folder = settings.folder
    gate = Gate(
        settings.limits, settings.upstream_port, ServerContexts(folder), upstream_context(folder), Sites(folder), stop
    )
    try:
        gate.contexts.current()
        gate.upstream.get()
    except OSError as error:
        raise DeploymentError(
            f"{folder}: the certificates cannot be used: {error}. Was this folder made by init?"
        ) from None
    with _listener(settings) as listener:
        reaper = threading.Thread(target=_watch, args=(gate,), name="gateway-watch", daemon=True)
        reaper.start()
        ready(listener.getsockname()[1])
        while not stop.is_set():
            _accept(gate, listener)
    _finish(gate)
    reaper.join(_FINISH_S)
    gate.sites.write_seen()


def _listener(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=128)
    except OSError as error:
        reason = str(error.strerror).partition(" (while")[0]
        raise DeploymentError(
            f"{settings.host}:{settings.port}: nothing can listen there: {reason}."
            " Is another gateway running, or the address of another machine?"
        ) from None
    listener.settimeout(_ACCEPT_S)
    return listener


def _accept(gate: Gate, listener: socket.socket) -> None:
    try:
        plain, where = listener.accept()
    except TimeoutError:
        return
    except OSError as error:
        # No file descriptors left, as a rule: connections that end give some back.
        logger.warning("a connection could not be taken: %s", error.strerror)
        gate.stop.wait(_ACCEPT_S)
        return
    address = str(where[0])
    why_not = _no_room(gate, address)
    if why_not:
        gate.notes.refused(address, why_not)
        plain.close()
        return
    try:
        threading.Thread(target=attend, args=(gate, plain, address), name=f"gateway-{address}", daemon=True).start()
    except RuntimeError:
        gate.notes.refused(address, "no thread is left to serve it")
        gate.connections.give("")
        gate.handshakes.give(address)
        plain.close()


def _no_room(gate: Gate, address: str) -> str:
    """Take the two slots of a new connection; return why not where they are taken."""
    if not gate.connections.take(""):
        return f"{gate.limits.connections} connections are open, which is the limit"
    if not gate.handshakes.take(address):
        gate.connections.give("")
        return "too many connections that have not shown a certificate yet"
    return ""


def _watch(gate: Gate) -> None:
    """Cut who was revoked or whose certificate has expired; write down who was seen."""
    written = time.monotonic()
    while not gate.stop.wait(gate.limits.check_s):
        for peer in gate.live.all():
            if not peer.admitted:
                # Its first request is answered with the reason, which ends the connection.
                continue
            known = gate.sites.find(peer.certificate, now := datetime.now(UTC))
            if isinstance(known, Refused):
                # A record that cannot be read is no revocation; requests are refused meanwhile.
                why = known.log if known.code != UNREADABLE else ""
            else:
                why = "its certificate has expired" if now.timestamp() > peer.expires else ""
            if why and gate.live.cut(peer):
                gate.notes.refused(str(peer), f"connection cut: {why}")
        if time.monotonic() - written >= gate.limits.seen_s:
            gate.sites.write_seen()
            written = time.monotonic()


def _finish(gate: Gate) -> None:
    """Cut idle connections at once, the others when their request is answered or some seconds are over."""
    until = time.monotonic() + _FINISH_S
    while (peers := gate.live.all()) and time.monotonic() < until:
        for peer in peers:
            if not peer.busy:
                gate.live.cut(peer)
        time.sleep(0.02)
    for peer in gate.live.all():
        gate.live.cut(peer)


def address_of(folder: Path) -> tuple[str, int]:
    """Return where a consortium's gateway listens: on every address of this machine, at its public address's port.

    Raises: EnrolmentError if this is no coordinator's folder.
    """
    host, port = split_address(consortium.read(folder).address)
    return ("::" if ":" in host else "0.0.0.0"), port  # noqa: S104 - the one public port


def main(arguments: list[str] | None = None) -> int:
    """Run the gateway as a process until SIGTERM or SIGINT; return the exit code, 0 then."""
    parser = argparse.ArgumentParser(prog="python -m server.gateway", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, metavar="DIR", help="the coordinator's folder")
    parser.add_argument("--upstream-port", type=int, required=True, help="SuperLink's port on 127.0.0.1")
    parser.add_argument("--host", help="address to listen on; every address of this machine unless given")
    parser.add_argument("--port", type=int, help="port to listen on, 0 for a free one; the consortium's unless given")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    listening = given.folder / LISTENING
    listening.unlink(missing_ok=True)

    def ready(bound: int) -> None:
        files.make_folder(listening.parent, files.FOLDER_MODE)
        files.replace_text(listening, f"{host}:{bound}\n")
        print(f"gateway ready: {host}:{bound}", flush=True)

    try:
        host, port = given.host, given.port
        if host is None or port is None:
            default_host, default_port = address_of(given.folder)
            host, port = host or default_host, default_port if port is None else port
        settings = Settings(host, port, given.folder, given.upstream_port)
        serve(settings, stop, ready)
    except ConsiliumError as error:
        with contextlib.suppress(OSError):
            print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
