"""What a hospital's files hold, before the study's contract is applied: columns as they stand, and images.

Reading and judging are apart: a source only reads (``table.py``, ``images.py``); what a cell means, what is missing and
what lies outside the contract is decided in one place (``conform.py``), whatever the kind of file.
"""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.schema import DataContract

LABEL, PATIENT_ID, SPLIT = "label", "patient_id", "split"
"""What image sources call these columns: an image file has no column names of its own that a study could declare."""


DAMAGED = (
    *(OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, SyntaxError, RuntimeError),
    *(ArithmeticError, AssertionError, MemoryError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error),
)
"""What libraries raise while they read a file that is damaged, or of another kind than its name says."""


@dataclass(frozen=True, eq=False, repr=False)
class RawData:
    """n rows as they stand in a file.

    columns: arrays of shape (n,) by column name: text, numbers, or objects.
    images: array of shape (n, height, width, channels), or None.
    row_names: array of shape (n,), text that stays with a row whatever part of the file is taken; numbered from 0 if
        not given. A row without a patient id is known by this name.
    """

    columns: Mapping[str, NDArray[Any]]
    images: NDArray[Any] | None = None
    row_names: NDArray[np.str_] | None = None

    def __post_init__(self) -> None:
        arrays = [*self.columns.values(), *(array for array in (self.images, self.row_names) if array is not None)]
        lengths = sorted({len(array) for array in arrays})
        if len(lengths) > 1:
            raise ValueError(f"columns of one table must have one length. Received: {lengths}")
        if self.row_names is None:
            count = lengths[0] if lengths else 0
            object.__setattr__(self, "row_names", np.arange(count).astype(np.str_))

    def __len__(self) -> int:
        return len(self.names)

    def __repr__(self) -> str:
        # No cell: this text may end up in a log.
        return f"RawData({len(self)} rows, {len(self.columns)} columns, images={self.images is not None})"

    @property
    def names(self) -> NDArray[np.str_]:
        """``row_names``, which are never None once the data exist."""
        assert self.row_names is not None
        return self.row_names

    def take(self, rows: NDArray[Any]) -> RawData:
        """Return the rows chosen by an index or a mask."""
        images = None if self.images is None else self.images[rows]
        return RawData({name: cells[rows] for name, cells in self.columns.items()}, images, self.names[rows])


class DataSource(Protocol):
    """One kind of file. ``SOURCES`` lists these; each is made from a path and, where there is one, the contract."""

    kind: ClassVar[str]
    """``table`` or ``images``, as in the contract."""

    suffixes: ClassVar[tuple[str, ...]]
    """How names of such files end; empty for a folder."""

    def __init__(self, path: Path, contract: DataContract | None = None) -> None: ...

    def load(self) -> RawData:
        """Read the file.

        Raises: DataError saying what is wrong with the file and what to do; never a cell's content.
        """
        ...
