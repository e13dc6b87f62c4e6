"""``consilium-server start``: SuperLink, SuperExec and the gateway, kept running, and what the folder says, done."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

from server import enrolment, superlink
from server.gateway import LISTENING
from server.keeper import Keeper
from shared import files
from shared.errors import DeploymentError
from shared.supervisor import Program, Supervisor

PROCESSES = "processes"
_PORT = "superlink.port"


def start(folder: Path, tell: Callable[[str], None], superlink_port: int = 0, with_gateway: bool = True) -> None:
    """Run the aggregator of a coordinator's folder until SIGTERM or SIGINT.

    tell: shows a line to the coordinator.
    superlink_port: of SuperLink on 127.0.0.1; 0 for a free one.
    with_gateway: False where another proxy stands in front.

    Raises: ConsiliumError saying what is wrong.
    """
    folder = folder.resolve()
    enrolment.read(folder)
    _logged(folder)
    # Flower's control client lives in this process: no telemetry, nothing of the caller's home.
    os.environ.update({key: value for key, value in superlink.environment(folder).items() if key.startswith("FLWR_")})
    with Supervisor(folder / PROCESSES) as supervisor, contextlib.ExitStack() as running:
        port = superlink_port or _port(folder / PROCESSES / _PORT)
        (folder / LISTENING).unlink(missing_ok=True)
        for program in (*superlink.programs(folder, port), *([gateway(folder, port)] if with_gateway else [])):
            supervisor.start(program)
        # Closed before SuperLink is stopped, which waits for open connections.
        control = running.enter_context(contextlib.closing(superlink.control(folder, port)))
        keeper = Keeper(folder, control)
        front = (
            "then the gateway" if with_gateway else "without the gateway: nobody reaches it but through your own proxy"
        )
        tell(f"starting: SuperLink on 127.0.0.1:{port}, {front}; logs are in {folder / PROCESSES}")
        told = False

        def work() -> None:
            nonlocal told
            if supervisor.ready and not told:
                told = True
                tell("ready: hospitals can connect. Stop with Ctrl-C or SIGTERM; runs go on after the next start.")
            keeper.step()

        supervisor.run(work)


def gateway(folder: Path, port: int) -> Program:
    """Return the gateway's program.

    port: SuperLink's.
    """
    return Program(
        "gateway",
        (sys.executable, "-P", "-m", "server.gateway", str(folder), "--upstream-port", str(port)),
        folder / PROCESSES / "gateway.log",
        superlink.environment(folder),
        ready=(folder / LISTENING).exists,
        min_delay_s=0.5,
        max_delay_s=15.0,
        folder=folder / "flower",
    )


def _port(path: Path) -> int:
    """Return SuperLink's port: the one of the last start if it is free, so that whoever knew it finds it again."""
    known = 0
    if path.exists():
        text = path.read_text(encoding="utf-8").strip()
        known = int(text) if text.isdecimal() else 0
    for wanted in (known, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", wanted))
            except OSError:
                continue
            port = int(probe.getsockname()[1])
        files.replace_text(path, f"{port}\n")
        return port
    raise DeploymentError("no port of 127.0.0.1 is free.")


def _logged(folder: Path) -> None:
    """Write what this process does to ``processes/start.log``, and warnings to standard error too."""
    files.make_folder(folder / PROCESSES, files.FOLDER_MODE)
    handler = logging.FileHandler(folder / PROCESSES / "start.log", encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("consilium")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    for noisy in ("httpx", "httpcore", "flwr"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
