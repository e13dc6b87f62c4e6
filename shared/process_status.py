"""Where supervised programs stand, as any process can see it: what their files say, held against what runs.

``shared/supervisor.py`` writes the files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from shared import files
from shared.errors import DeploymentError
from shared.processes import born

FORMAT = 1
LOCK = "supervisor.lock"


@dataclass(frozen=True)
class ProcessStatus:
    """Where a program stands.

    pid: None while it does not run. ready: whether its check has said so since it was started.
    started_at: of the current or last process; restarts: by this supervisor; last_exit: such as ``exit code 1``.
    """

    name: str
    pid: int | None
    ready: bool
    started_at: datetime | None
    restarts: int
    last_exit: str | None

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.pid is not None


def status(folder: Path) -> list[ProcessStatus]:
    """Return where each program of a folder stands, by name. What its file says is held against the running processes.

    Raises: DeploymentError if a file is damaged.
    """
    found = []
    for state in states(folder):
        began = None if state["started_at"] is None else datetime.fromisoformat(state["started_at"])
        pid, ready = (state["pid"], state["ready"]) if runs(state) else (None, False)
        found.append(ProcessStatus(state["name"], pid, ready, began, state["restarts"], state["last_exit"]))
    return found


def supervisor_pid(folder: Path) -> int | None:
    """Return the process that supervises a folder, None where none does."""
    try:
        state = json.loads((folder / LOCK).read_text(encoding="utf-8"))
        return int(state["pid"]) if runs(state) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def runs(state: Mapping[str, Any]) -> bool:
    """Whether the process in a file's content runs still; another one may have its number by now."""
    return state["pid"] is not None and state["born"] is not None and born(state["pid"]) == state["born"]


def states(folder: Path) -> Iterator[dict[str, Any]]:
    """Return the content of each program's file, by name.

    Raises: DeploymentError if a file is damaged.
    """
    keys = {"format", "name", "pid", "born", "ready", "started_at", "restarts", "last_exit"}
    for path in sorted(folder.glob("*.json")):
        state = files.read_json(path, DeploymentError, "Delete it while the supervisor does not run.")
        if set(state) != keys or state["format"] != FORMAT:
            raise DeploymentError(f"{path}: expected a program's state. Delete it while the supervisor does not run.")
        yield state
