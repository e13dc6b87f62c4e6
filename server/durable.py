"""Replacing a file in one step: whatever happens, the old content or the new one is there, and nothing between."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def replace(path: Path, fill: Callable[[BinaryIO], None]) -> None:
    """Write a file beside ``path``, flush it to the disk, and rename it over ``path`` (POSIX rename is atomic).

    fill: writes the content.

    Raises: OSError if it cannot be written; ``path`` is untouched then.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        descriptor = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
