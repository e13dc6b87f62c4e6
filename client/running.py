"""``consilium-client start``: what may be wrong is said first, then the node is kept running until it is stopped."""

from __future__ import annotations

import logging
import logging.handlers
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from client import standing
from client.findings import Finding
from client.preflight import preflight
from client.retention import PROCESSES
from shared import files, process_status
from shared.errors import DeploymentError
from shared.supervisor import Program, Supervisor

NODE = "node"
_START_LOG, _NODE_LOG = "start.log", "node.log"
_QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
"""Outgoing connections go to the consortium and nowhere else."""
_CONNECTED = "connected: approved studies are answered"


def start(folder: Path, tell: Callable[[str], None], wait: bool = True) -> None:
    """Run the node of a hospital's folder until SIGTERM or SIGINT.

    tell: shows a line to the hospital.
    wait: whether a consortium that is merely away is waited for.

    Raises: DeploymentError with everything that keeps the node from working.
    """
    folder = folder.resolve()
    found = preflight(folder, lambda: datetime.now(UTC))
    check(found, wait)
    for each in found:
        tell(f"{'not there yet' if each.level == 'away' else each.level}: {each}")
    _logged(folder)
    with Supervisor(folder / PROCESSES) as running:
        running.start(node(folder))
        tell(f"the node is started; its log is {node_log(folder)}. Stop with Ctrl-C or SIGTERM.")
        running.run(Watch(folder, tell).step)


def check(found: Sequence[Finding], wait: bool) -> None:
    """Raise DeploymentError if something was found that waiting does not change."""
    stops = {"fatal"} if wait else {"fatal", "away"}
    if any(each.level in stops for each in found):
        raise DeploymentError("not started.\n" + "\n".join(f"  {each}" for each in found))


def node(folder: Path) -> Program:
    """Return the node's program.

    folder: the hospital's, absolute.
    """
    # Only installed code: neither the working folder nor what a shell happens to have set.
    environment = {**_QUIET, "FLWR_HOME": str(folder / "flower"), "PYTHONPATH": "", "PYTHONSAFEPATH": "1"}
    return Program(
        NODE,
        (sys.executable, "-P", "-m", "client.node", str(folder)),
        node_log(folder),
        environment,
        min_delay_s=1.0,
        max_delay_s=60.0,
        folder=folder,
    )


def node_log(folder: Path) -> Path:
    """Return where the node's output goes."""
    return folder / PROCESSES / _NODE_LOG


class Watch:
    """Tells the hospital when the node connects, loses the consortium, or ends; the same only once until it connects.

    folder: the hospital's.
    """

    def __init__(self, folder: Path, tell: Callable[[str], None]) -> None:
        self._folder, self._tell = folder, tell
        self._path = folder / standing.FILE
        self._stamp = self._now()
        self._restarts = 0
        self._told: set[str] = set()

    def step(self) -> None:
        """Look once."""
        for each in process_status.status(self._folder / PROCESSES):
            if each.restarts > self._restarts:
                self._restarts = each.restarts
                self._say(self._of_end(each.last_exit or ""))
        if (stamp := self._now()) != self._stamp:
            self._stamp = stamp
            found = standing.read(self._folder)
            if found.get("connected"):
                self._told.clear()
            self._say(_CONNECTED if found.get("connected") else f"not connected: {found.get('why')}")

    def _of_end(self, how: str) -> str:
        if how == "exit code 0":
            return "the node started anew: this hospital's certificate or settings were changed"
        words = standing.last_words(node_log(self._folder), since_online=True)
        return f"the node ended ({how}) and was started again. {words}".strip()

    def _say(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._tell(text)

    def _now(self) -> int:
        return self._path.stat().st_mtime_ns if self._path.exists() else 0


def _logged(folder: Path) -> None:
    """Write what this process does to ``processes/start.log``."""
    files.make_folder(folder / PROCESSES, files.FOLDER_MODE)
    # Retention renames logs: this handler notices.
    handler = logging.handlers.WatchedFileHandler(folder / PROCESSES / _START_LOG, encoding="utf-8")
    handler.setFormatter(standing.log_format())
    logger = logging.getLogger("consilium")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    for noisy in ("httpx", "httpcore"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
