"""One study, one writer: approving, withdrawing, answering and forgetting exclude each other, across processes.

``approvals/.DIGEST.lock`` is locked with flock(2); the kernel frees it when its holder ends, in whatever way.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from client.approval import APPROVALS
from shared import files
from shared.errors import ApprovalError

_POLL_S = 0.02
_WAIT_S = 2.0


@contextlib.contextmanager
def study_lock(folder: Path, digest: str) -> Iterator[None]:
    """Keep other processes and threads from changing what a hospital has of one study; they are waited for.

    folder: the hospital's.
    digest: of the study.

    Raises: ApprovalError if another one holds it for longer, or it cannot be made.
    """
    path = folder / APPROVALS / f".{digest}.lock"
    try:
        files.make_folder(path.parent, files.FOLDER_MODE)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR, files.SECRET_MODE)
    except OSError as error:
        raise ApprovalError(f"{path}: cannot be locked: {error.strerror}.") from None
    try:
        end = time.monotonic() + _WAIT_S
        while not _taken(descriptor):
            if time.monotonic() >= end:
                raise ApprovalError("another command works on this study right now. Try again in a moment.")
            time.sleep(_POLL_S)
        yield
    finally:
        os.close(descriptor)


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
