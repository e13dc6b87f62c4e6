"""Where a hospital's node stands, for ``consilium-client status``: ``node.json``, its processes, its last words."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared import files
from shared.errors import DeploymentError

FILE = "node.json"
_TIME = "%Y-%m-%dT%H:%M:%SZ"
_TAIL_BYTES = 256 * 1024
_WORDS = re.compile(r"^(?:([\d-]{10} [\d:]{8})\S* (?:WARNING|ERROR|CRITICAL) \S+ |error: )(.*)$")
_ONLINE = re.compile(r"^[\d-]{10} [\d:]{8}\S* INFO \S+ node=\d+ .*online$")


@dataclass(eq=False)
class Standing:
    """Whether the consortium answers a node, written down in the hospital's folder whenever that changes.

    node_id: Flower's number of the node, from an earlier process at first; None before it was ever online.
    """

    folder: Path
    node_id: int | None = None
    _why: str | None = field(default=None)

    def __post_init__(self) -> None:
        with contextlib.suppress(DeploymentError):
            self.node_id = _number(read(self.folder).get("node_id"))

    def __call__(self, why: str) -> None:
        """Take down why the consortium does not answer; empty where it does."""
        if why == self._why:
            return
        since = datetime.now(UTC).strftime(_TIME)
        value = {"node_id": self.node_id, "connected": not why, "since": since, "why": why}
        # A full disk is no reason to stop answering; what it says is tried again with the next message.
        with contextlib.suppress(OSError):
            files.replace_json(self.folder / FILE, value, files.SECRET_MODE)
            self._why = why


def read(folder: Path) -> dict[str, Any]:
    """Return what ``node.json`` says; empty where the node was never online.

    Raises: DeploymentError if it is damaged.
    """
    path = folder / FILE
    return files.read_json(path, DeploymentError, "Delete it: the node writes it anew.") if path.exists() else {}


def log_format() -> logging.Formatter:
    """Return how lines of the hospital's logs look: times in UTC, as everywhere else."""
    formatter = logging.Formatter("%(asctime)sZ %(levelname)s %(name)s %(message)s")
    formatter.converter = time.gmtime
    return formatter


def last_words(log: Path, since_online: bool = False) -> str:
    """Return a log's last warning or error, with its time where it has one; empty where there is none.

    since_online: whether those before the node last came online do not count.
    """
    for path in (log, log.with_name(f"{log.name}.1")):
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
                lines = file.read().decode("utf-8", "replace").splitlines()
        except OSError:
            continue
        for line in reversed(lines):
            if found := _WORDS.match(line):
                return " ".join(part for part in found.groups() if part)
            if since_online and _ONLINE.match(line):
                return ""
    return ""


def _number(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
