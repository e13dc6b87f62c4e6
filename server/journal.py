"""The journal: where secure aggregation stands in the round in progress, on the disk.

Sites answer a round once and reveal it once. So before the aggregator asks for contributions it writes down what it
will ask, and before it asks for the reveal, the masked sum and its contributors: one that was killed asks the same
again, gets the same stored answers, and never makes the round a second time with other sites. Nothing in the file is a
secret: words are masked, shares sealed.

The file is a NumPy archive without pickle, replaced in one step: the masked words, and a JSON text.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path

import numpy as np
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from server.secagg_state import MaskedTotal, Ready, Secured, Session
from shared import files
from shared.errors import CheckpointError, NotWritten
from shared.messages import Keys, Receipt

FILE = "round.npz"
_FORMAT = 2
_ENTRY, _WORDS = "entry.json", "words"
_DAMAGED = (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, config=ConfigDict(extra="forbid", ser_json_bytes="hex", val_json_bytes="hex"))
class _Entry:
    """What a ``Secured`` is, without its words."""

    format: int
    session: Session
    ready: Ready | None
    asked: bool
    receipts: tuple[Receipt, ...] | None
    next_keys: tuple[Keys, ...]


def write(folder: Path, secured: Secured) -> None:
    """Replace the journal in ``folder``.

    Raises: NotWritten; the one before is untouched then.
    """
    total = secured.total
    entry = _Entry(
        _FORMAT,
        secured.session,
        secured.ready,
        secured.asked,
        total.receipts if total else None,
        total.next_keys if total else (),
    )
    text = np.frombuffer(TypeAdapter(_Entry).dump_json(entry), dtype=np.uint8)
    words = total.words if total else np.zeros(0, dtype=np.uint32)
    try:
        files.replace(folder / FILE, lambda file: np.savez(file, allow_pickle=False, **{_ENTRY: text, _WORDS: words}))
    except OSError as error:
        raise NotWritten(folder / FILE, error) from None


def read(folder: Path) -> Secured | None:
    """Return what the journal in ``folder`` says; None where there is none.

    Raises: CheckpointError if it is damaged.
    """
    path = folder / FILE
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            text, words = archive[_ENTRY].tobytes(), archive[_WORDS]
        if json.loads(text).get("format") != _FORMAT:
            raise CheckpointError(f"{path}: expected format {_FORMAT}")
        entry = TypeAdapter(_Entry).validate_json(text)
    except FileNotFoundError:
        return None
    except (*_DAMAGED, ValidationError) as error:
        raise CheckpointError(f"{path}: not a readable journal ({type(error).__name__}).") from None
    total = None
    if entry.ready is not None and entry.receipts is not None:
        total = MaskedTotal(entry.ready, words, entry.receipts, entry.next_keys)
    return Secured(entry.session, entry.ready, entry.asked, total)
