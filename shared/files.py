"""Files of the network part: secrets that only their owner can read, and texts that are replaced in one step."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from shared.errors import ConsiliumError

SECRET_MODE = 0o600
FOLDER_MODE = 0o700


def make_folder(path: Path, mode: int = 0o755) -> None:
    """Make a folder with exactly this mode, whatever the process's umask, unless it is there."""
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)


def write_secret(path: Path, data: bytes) -> None:
    """Write a new file that only its owner can read, mode 0600 from its first moment.

    Raises: FileExistsError rather than overwrite a secret; OSError.
    """
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, SECRET_MODE)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, fill: Callable[[BinaryIO], None], mode: int = 0o644) -> None:
    """Write a file beside ``path``, flush it to the disk, and rename it over ``path`` (POSIX rename is atomic).

    Whatever happens, the old content or the new one is there, and nothing between.

    fill: writes the content.

    Raises: OSError if it cannot be written; ``path`` is untouched then.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with os.fdopen(os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, mode), "wb") as file:
            fill(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def replace_bytes(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Replace a file in one step, see ``replace``."""
    replace(path, lambda file: _write(file, data), mode)


def replace_text(path: Path, text: str, mode: int = 0o644) -> None:
    """Replace a text file in one step, see ``replace``."""
    replace_bytes(path, text.encode(), mode)


def replace_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """Replace a JSON file in one step, see ``replace``."""
    replace_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n", mode)


def read_json(path: Path, kind: type[ConsiliumError], advice: str) -> dict[str, Any]:
    """Return the JSON object in a file.

    kind: the error that is raised; advice: what to do, the end of its message.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise kind(f"{path}: no such file. {advice}") from None
    except OSError as error:
        raise kind(f"{path}: cannot be read: {error.strerror}. {advice}") from None
    except ValueError:
        raise kind(f"{path}: expected JSON. {advice}") from None
    if not isinstance(value, dict):
        raise kind(f"{path}: expected a JSON object. {advice}")
    return value


def _write(file: BinaryIO, data: bytes) -> None:
    file.write(data)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
