"""Sums to the last digit of a float64: each number travels as two words, a whole number and the rest.

A word must hold the largest value that a site may send, so its step is a share of that bound, and bounds are far above
the values: a gradient is a sum over rows of numbers with both signs. With v in units of a 2**-40th of its bound,
round(v) and v - round(v) are both exact in float64 (Dekker 1971, "A floating-point technique for extending the
available precision", Numer. Math. 18), and so are the sums of round(v); what is left of the error is that of the site's
own arithmetic. Units are powers of two, so scaling is exact too.

Two words reach down to a 2**-85th of the bound. Where sums are farther below it, what the second rounds off is a third.
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
_REST_BITS = 45


class Part(NamedTuple):
    """One array of a contribution.

    bound: of one number of one site.
    words: of each number, two at least.
    """

    name: str
    shape: tuple[int, ...]
    bound: float
    words: int = 2

    @property
    def rests(self) -> list[str]:
        """Names of the entries after the first."""
        return [f"{self.name}/rest {place}" for place in range(1, self.words)]


def entries(parts: Sequence[Part]) -> tuple[Entry, ...]:
    """Return the layout, an entry for each word of each part; bounds get room for the last digits of float64."""
    made: list[Entry] = []
    for part in parts:
        made.append(Entry(part.name, part.shape, part.bound / _unit(part) * ROOM + 1.0, 1.0))
        made += [Entry(name, part.shape, 0.5, 2.0**-_REST_BITS) for name in part.rests]
    return tuple(made)


def split(parts: Sequence[Part], arrays: Arrays) -> dict[str, NDArray[np.float64]]:
    """Return a contribution's arrays, by entry name."""
    made: dict[str, NDArray[np.float64]] = {}
    for part in parts:
        scaled = np.asarray(arrays[part.name], np.float64) / _unit(part)
        made[part.name] = np.asarray(np.rint(scaled))
        rest = scaled - made[part.name]
        for name in part.rests[:-1]:
            made[name] = np.asarray(np.ldexp(np.rint(np.ldexp(rest, _REST_BITS)), -_REST_BITS))
            rest = np.ldexp(rest - made[name], _REST_BITS)
        # A word may be finer than it must be.
        made[part.rests[-1]] = np.asarray(rest)
    return made


def join(parts: Sequence[Part], arrays: Arrays) -> dict[str, NDArray[np.float64]]:
    """Return the sums of a total, by the parts' names."""
    made: dict[str, NDArray[np.float64]] = {}
    for part in parts:
        rest: NDArray[np.float64] = np.zeros(part.shape)
        for name in reversed(part.rests):
            rest = np.ldexp(rest, -_REST_BITS) + arrays[name]
        made[part.name] = np.asarray((arrays[part.name] + rest) * _unit(part))
    return made


def _unit(part: Part) -> float:
    return math.ldexp(1.0, math.ceil(math.log2(part.bound)) - _WHOLE_BITS)
