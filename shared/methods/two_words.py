"""Sums to the last digit of a float64: each number travels as two words, a whole number and the rest.

A word must hold the largest value that a site may send, so its step is a share of that bound, and bounds are far above
the values: a gradient is a sum over rows of numbers with both signs. With v in units of a 2**-40th of its bound,
round(v) and v - round(v) are both exact in float64 (Dekker 1971, "A floating-point technique for extending the
available precision", Numer. Math. 18), and so are the sums of round(v); what is left of the error is that of the site's
own arithmetic. Units are powers of two, so scaling is exact too.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays
from shared.layout import Entry
from shared.methods.base import ROOM

_WHOLE_BITS = 40
"""Sums of 2**13 sites are still exact in float64."""
_REST = "/rest"


class Part(NamedTuple):
    """One array of a contribution; ``bound`` is that of one number of one site."""

    name: str
    shape: tuple[int, ...]
    bound: float


def entries(parts: Sequence[Part]) -> tuple[Entry, ...]:
    """Return the layout, two entries for each part; bounds get room for the last digits of float64."""
    made: list[Entry] = []
    for part in parts:
        made.append(Entry(part.name, part.shape, part.bound / _unit(part) * ROOM + 1.0, 1.0))
        made.append(Entry(part.name + _REST, part.shape, 0.5, 2.0**-45))
    return tuple(made)


def split(parts: Sequence[Part], arrays: Arrays) -> dict[str, NDArray[np.float64]]:
    """Return a contribution's arrays, by entry name."""
    made: dict[str, NDArray[np.float64]] = {}
    for part in parts:
        scaled = np.asarray(arrays[part.name], np.float64) / _unit(part)
        made[part.name] = np.asarray(np.rint(scaled))
        made[part.name + _REST] = np.asarray(scaled - made[part.name])
    return made


def join(parts: Sequence[Part], arrays: Arrays) -> dict[str, NDArray[np.float64]]:
    """Return the sums of a total, by the parts' names."""
    return {part.name: np.asarray((arrays[part.name] + arrays[part.name + _REST]) * _unit(part)) for part in parts}


def _unit(part: Part) -> float:
    return math.ldexp(1.0, math.ceil(math.log2(part.bound)) - _WHOLE_BITS)
