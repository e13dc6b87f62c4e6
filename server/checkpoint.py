"""A checkpoint is one file, replaced in one step: whatever happens, the last good one is there.

The file is a NumPy archive without pickle: the state's arrays, and a JSON text with the run's identity and history. A
sum that is still masked is not in it (``server/journal.py``).
"""

from __future__ import annotations

import dataclasses
import json
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from server.outcome import RoundRecord
from server.training import Progress
from shared import files
from shared.errors import CheckpointError, NotWritten

FILE = "last.npz"
_FORMAT = 2
_META = "meta.json"
_STATE = "state/"

_DAMAGED = (
    *(OSError, EOFError, ValueError, KeyError, TypeError, AttributeError, NotImplementedError, MemoryError),
    *(zipfile.BadZipFile, zlib.error, tokenize.TokenError),
)
"""What reading another file than a checkpoint, or a damaged one, raises."""


def write(folder: Path, identity: Mapping[str, Any], progress: Progress) -> None:
    """Replace the checkpoint in ``folder``.

    identity: what a run must be, to go on from here: JSON values.

    Raises: NotWritten; the checkpoint before is untouched then.
    """
    history = [dataclasses.asdict(record) for record in progress.history]
    meta = {
        "format": _FORMAT,
        "identity": dict(identity),
        "run": progress.run,
        "history": history,
        "frozen": dict(progress.frozen),
    }
    arrays = {f"{_STATE}{name}": array for name, array in progress.state.items()}
    arrays[_META] = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
    try:
        files.replace(folder / FILE, lambda file: np.savez(file, allow_pickle=False, **arrays))
    except OSError as error:
        raise NotWritten(folder / FILE, error) from None


def read(folder: Path, identity: Mapping[str, Any]) -> Progress | None:
    """Return the progress of the checkpoint in ``folder``; None where there is none.

    identity: what the run to go on is; see ``write``.

    Raises: CheckpointError if it is damaged, or of another run.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            meta = json.loads(archive[_META].tobytes())
            state = {name.removeprefix(_STATE): archive[name] for name in archive.files if name.startswith(_STATE)}
        if meta.get("format") != _FORMAT:
            raise CheckpointError(f"{path}: expected format {_FORMAT}. Received: {meta.get('format')!r}")
        check_identity(path, meta["identity"], identity)
        history = tuple(
            RoundRecord(**{**record, "contributors": tuple(record["contributors"])}) for record in meta["history"]
        )
        frozen = {part: tuple(names) for part, names in meta["frozen"].items()}
        if not isinstance(meta["run"], str):
            raise TypeError("a run's id is text")  # told like every other damage
    except FileNotFoundError:
        return None
    except _DAMAGED as error:
        raise CheckpointError(
            f"{path}: not a readable checkpoint ({type(error).__name__}). Start in a new folder."
        ) from None
    return Progress(meta["run"], state, history, frozen)


def check_identity(path: Path, found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Raise CheckpointError unless both say the same, naming the first thing that differs."""
    for key in sorted({*found, *expected}):
        if found.get(key) != expected.get(key):
            raise CheckpointError(
                f"{path}: belongs to another run: {key} is {found.get(key)!r} there, and {expected.get(key)!r} here."
                " Resume with the same study, options and data, or choose another --output."
            )
