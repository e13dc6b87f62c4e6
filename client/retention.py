"""What the ``[retention]`` part of ``site.toml`` asks to be deleted, and when; then it is.

A study's state carries the time of its last answer (the file's). Replies and a method's memory go; how often each sum
was released and which hospitals it was made with stay, because without them patients could be found by subtraction
(docs/protocol.md, "Lost sites subtract"). The record ``audit.jsonl`` stays, too.

A log begins anew after a third of ``logs_days``, and goes once its first line is that old: so no line gets older, and
of the supervisor's three files none is lost before.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from client import store
from client.approval import STATES
from client.locking import study_lock
from client.settings import Retention
from client.store import Kept
from shared.errors import ConsiliumError
from shared.methods.base import NOTHING

log = logging.getLogger("consilium.node")

PROCESSES = "processes"
"""Folder of a hospital's folder with the supervisor's files and the logs."""
_LOGS = "*.log*"
_TIME_CHARACTERS = 19
_LINES_SEEN = 50


@dataclass(frozen=True)
class Due:
    """What of a study's state is too old."""

    reply: bool
    memory: bool


def due(used_at: datetime, retention: Retention, now: datetime) -> Due:
    """Return what is too old of a study that was last answered at ``used_at``."""
    age = now - used_at
    return Due(age > timedelta(days=retention.replies_days), age > timedelta(days=retention.memory_days))


def without(kept: Kept, what: Due) -> Kept:
    """Return a study's state without what is too old."""
    if what.reply:
        kept = replace(kept, asked=b"", said="", block=np.zeros(0, np.uint8))
    if what.memory:
        kept = replace(kept, state=replace(kept.state, memory=NOTHING, staged=NOTHING, judged=NOTHING))
    return kept


@dataclass(frozen=True)
class DueLogs:
    """delete: logs that are too old; begin_anew: those in which a new one has to begin."""

    delete: frozenset[Path]
    begin_anew: frozenset[Path]


def due_logs(begun: Mapping[Path, datetime], retention: Retention, now: datetime) -> DueLogs:
    """Return what is to be done with logs.

    begun: the time of each log's first line.
    """
    days = timedelta(days=retention.logs_days)
    delete = frozenset(path for path, first in begun.items() if now - first > days)
    current = {path for path in begun if path.suffix == ".log"}
    anew = frozenset(path for path in current - delete if now - begun[path] > days / 3)
    return DueLogs(delete, anew)


def apply(folder: Path, retention: Retention, now: datetime) -> frozenset[str]:
    """Delete what is too old, and return the digests of the studies whose state was changed.

    What cannot be deleted now is logged, and tried again the next time.

    folder: the hospital's.
    """
    _apply_to_logs(folder / PROCESSES, retention, now)
    changed = set()
    for path in sorted((folder / STATES).glob(f"*/{store.FILE}")):
        digest = path.parent.name
        try:
            with study_lock(folder, digest):
                if _apply_to_state(path, retention, now):
                    changed.add(digest)
                    log.info("event=retention study=%s", digest[:16])
        except (ConsiliumError, OSError) as error:
            log.warning("what is too old of the study %s could not be deleted: %s", digest[:16], error)
    return frozenset(changed)


def _apply_to_state(path: Path, retention: Retention, now: datetime) -> bool:
    stat = path.stat()
    what = due(datetime.fromtimestamp(stat.st_mtime, UTC), retention, now)
    if not (what.reply or what.memory):
        return False
    kept = store.read(path.parent)
    has_reply, has_memory = bool(kept.said), bool(kept.state.memory or kept.state.staged or kept.state.judged)
    if not ((what.reply and has_reply) or (what.memory and has_memory)):
        return False
    store.write(path.parent, without(kept, what))
    # Forgetting is not using: the other of the two has its own time.
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return True


def _apply_to_logs(folder: Path, retention: Retention, now: datetime) -> None:
    begun = {path: first for path in folder.glob(_LOGS) if (first := _begun(path))}
    what = due_logs(begun, retention, now)
    for path in what.delete:
        with contextlib.suppress(OSError):
            path.unlink()
    for path in what.begin_anew:
        for number in (2, 1):
            newer = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
            with contextlib.suppress(OSError):
                newer.replace(path.with_name(f"{path.name}.{number}"))


def _begun(path: Path) -> datetime | None:
    """Return the time of a log's first line that has one; else when it was last written to. None for an empty one."""
    try:
        changed = datetime.fromtimestamp(path.stat().st_mtime, UTC)
        with path.open(encoding="utf-8", errors="replace") as file:
            lines = [line for line, _ in zip(file, range(_LINES_SEEN), strict=False)]
    except OSError:
        return None
    for line in lines:
        with contextlib.suppress(ValueError):
            return datetime.fromisoformat(line[:_TIME_CHARACTERS]).replace(tzinfo=UTC)
    return changed if lines else None
