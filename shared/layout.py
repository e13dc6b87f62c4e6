"""Named float arrays and one vector: the same entries, in one agreed order.

A contribution is computed as named arrays, and travels as one vector, because vectors add. The layout is derived from
the method's ``Ask`` by both halves, so names never travel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shared.errors import ProtocolError
from shared.examples import Arrays


@dataclass(frozen=True)
class Entry:
    """One named array of a contribution.

    name: unique in its layout.
    shape: of the array; ``()`` for a number.
    bound: largest absolute value that one site's element may have.
    precision: largest rounding error that is harmless in one element of one site's contribution.
    """

    name: str
    shape: tuple[int, ...]
    bound: float
    precision: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.bound) and self.bound > 0 and self.precision > 0):
            raise ValueError(f"entry {self.name!r}: bound and precision must be positive and finite")

    @cached_property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


def size_of(entries: tuple[Entry, ...]) -> int:
    """Return the length of the vector."""
    return sum(entry.size for entry in entries)


def to_vector(entries: tuple[Entry, ...], arrays: Arrays) -> NDArray[np.float64]:
    """Return the arrays as one vector of shape (size,), float64.

    Raises: ProtocolError if a name or a shape is not the agreed one.
    """
    if set(arrays) != {entry.name for entry in entries}:
        raise ProtocolError("wrong-entries", f"expected {sorted(e.name for e in entries)}. Received: {sorted(arrays)}")
    vector = np.empty(size_of(entries), dtype=np.float64)
    start = 0
    for entry in entries:
        array = np.asarray(arrays[entry.name])
        if array.shape != entry.shape:
            raise ProtocolError("wrong-shape", f"{entry.name}: expected {entry.shape}. Received: {array.shape}")
        vector[start : start + entry.size] = array.ravel()
        start += entry.size
    return vector


def from_vector(entries: tuple[Entry, ...], vector: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return the named arrays that ``to_vector`` laid out; they share memory with ``vector``.

    Raises: ProtocolError if the vector has another length.
    """
    if vector.shape != (size_of(entries),):
        raise ProtocolError("wrong-shape", f"expected {(size_of(entries),)}. Received: {vector.shape}")
    arrays: dict[str, NDArray[np.float64]] = {}
    start = 0
    for entry in entries:
        arrays[entry.name] = vector[start : start + entry.size].reshape(entry.shape)
        start += entry.size
    return arrays
