"""Real vectors as words modulo 2**k, so that sums are exact whatever the order in which they arrive.

A real x with f fraction bits becomes the integer round(x * 2**f), stored modulo 2**k in an unsigned word (two's
complement). Words of n sites are added modulo 2**k; the sum is right as long as the true integer sum lies in
[-2**(k-1), 2**(k-1)). ``plan`` chooses for each entry the largest f for which that is *proved* for n sites that each
keep to the entry's bound B:

    n * (ceil(B * 2**f) + 1) <= 2**(k-1) - 1

(the 1 is the unit that rounding may add), and refuses the study where the resulting step 2**-f is coarser than the
entry needs. Nothing is clipped here: a value beyond its bound is a refusal. Bonawitz et al. 2017 (doi
10.1145/3133956.3133982), section 5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from shared.errors import ProtocolError, Refusal, StudyError
from shared.layout import Entry, size_of

Words = NDArray[np.uint32] | NDArray[np.uint64]

_MAX_FRACTION_BITS = 52  # a float64 holds no finer step of numbers near 1
_DTYPES: dict[int, np.dtype[np.uint32] | np.dtype[np.uint64]] = {32: np.dtype(np.uint32), 64: np.dtype(np.uint64)}


@dataclass(frozen=True)
class WordPlan:
    """How a vector of known entries becomes words.

    entries: the agreed layout.
    fraction_bits: f of each entry.
    word_bits: 32 or 64.
    sites: the number n of sites for which the sum is proved not to wrap.
    reach: how far noise may move a number of the sum beyond its bounds, in units.
    """

    entries: tuple[Entry, ...]
    fraction_bits: tuple[int, ...]
    word_bits: int
    sites: int
    reach: float = 0.0

    @cached_property
    def size(self) -> int:
        """Number of words."""
        return size_of(self.entries)

    @property
    def dtype(self) -> np.dtype[np.uint32] | np.dtype[np.uint64]:
        """Type of one word."""
        return _DTYPES[self.word_bits]

    def parts(self) -> Iterator[tuple[Entry, float, slice]]:
        """Yield each entry with its 2**f and its place in the vector."""
        start = 0
        for entry, bits in zip(self.entries, self.fraction_bits, strict=True):
            yield entry, math.ldexp(1.0, bits), slice(start, start + entry.size)
            start += entry.size


@lru_cache(maxsize=64)
def plan(entries: tuple[Entry, ...], word_bits: int, sites: int) -> WordPlan:
    """Choose the fraction bits of each entry; remembered, because every site asks for the same in every round.

    entries: the agreed layout with bounds and precisions.
    word_bits: 32 or 64.
    sites: how many contributions may be added.

    Raises: StudyError if the sum of so many sites could wrap, or would be coarser than the method needs.
    """
    if word_bits not in _DTYPES or sites < 1:
        raise ValueError(f"word_bits must be 32 or 64, sites at least 1. Received: {word_bits}, {sites}")
    return WordPlan(entries, tuple(_fraction_bits(entry, word_bits, sites) for entry in entries), word_bits, sites)


def _fraction_bits(entry: Entry, word_bits: int, sites: int) -> int:
    largest = (2 ** (word_bits - 1) - 1) // sites - 1
    if largest < 1:
        raise StudyError(f"{sites} sites do not fit into words of {word_bits} bits")
    bits = min(math.floor(math.log2(largest / entry.bound)) + 1, _MAX_FRACTION_BITS)
    # Integers decide, not the logarithm's last digit.
    while math.ceil(math.ldexp(entry.bound, bits)) > largest:
        bits -= 1
    if math.ldexp(1.0, -bits) > entry.precision:
        raise StudyError(
            f"{entry.name}: with {sites} sites, values up to {entry.bound:g} leave steps of"
            f" {math.ldexp(1.0, -bits):.3g} in words of {word_bits} bits; the method needs {entry.precision:g}."
            " Lower [data] max_rows_per_site, or the bounds that the study declares: ranges, update_bound."
        )
    return bits


def encode(plan: WordPlan, vector: NDArray[np.float64], rounding: np.random.Generator | None) -> Words:
    """Return the words of a vector.

    vector: array of shape (plan.size,), float64.
    rounding: source of stochastic rounding (unbiased: x goes up with probability equal to its fraction); None rounds to
        the nearest integer, ties to even. Only for words of 32 bits.

    Raises: Refusal ``not-finite`` or ``beyond-bound``, naming the entry.
    """
    if vector.shape != (plan.size,):
        raise ProtocolError("wrong-shape", f"expected {(plan.size,)}. Received: {vector.shape}")
    if rounding is not None and plan.word_bits != 32:
        # A float64 near 2**62 has no fraction left to round.
        raise ValueError(f"stochastic rounding is for words of 32 bits. Received: {plan.word_bits}")
    signed = np.empty(plan.size, dtype=np.int32 if plan.word_bits == 32 else np.int64)
    for entry, scale, place in plan.parts():
        values = vector[place]
        # One comparison finds both faults: NaN compares as False.
        if not np.abs(values).max(initial=0.0) <= entry.bound:
            _refuse(entry, values)
        scaled = values * scale
        if rounding is None:
            np.rint(scaled, out=scaled)
        else:
            scaled += rounding.random(entry.size, dtype=np.float32)
            np.floor(scaled, out=scaled)
        signed[place] = scaled
    return signed.view(plan.dtype)


def _refuse(entry: Entry, values: NDArray[np.float64]) -> NoReturn:
    if not np.isfinite(values).all():
        raise Refusal("not-finite", f"{entry.name} is not a finite number")
    raise Refusal("beyond-bound", f"{entry.name} exceeds its declared bound {entry.bound:g}")


def decode(plan: WordPlan, words: Words) -> NDArray[np.float64]:
    """Return the real vector, shape (plan.size,), that a sum of words stands for.

    Raises: ProtocolError if type or length are not the agreed ones.
    """
    check_words(plan, words)
    vector = words.view(np.int32 if plan.word_bits == 32 else np.int64).astype(np.float64)
    for _, scale, place in plan.parts():
        vector[place] /= scale
    return vector


def check_sum(plan: WordPlan, vector: NDArray[np.float64], contributors: int) -> None:
    """Raise ProtocolError ``not-a-sum``, naming the entry, if no so many contributions add up to a decoded vector.

    Words that are no encoding of values within their bounds are found by this, not those of wrong values within them.
    """
    for entry, scale, place in plan.parts():
        most = contributors * math.ceil(entry.bound * scale) / scale + plan.reach
        # Two passes, and no second vector.
        if max(vector[place].max(initial=0.0), -vector[place].min(initial=0.0)) > most:
            raise ProtocolError("not-a-sum", f"{entry.name} exceeds what {contributors} contributions can add up to")


def check_words(plan: WordPlan, words: NDArray[np.generic]) -> None:
    """Raise ProtocolError unless ``words`` has the type and the shape that the plan says."""
    if words.dtype != plan.dtype:
        raise ProtocolError("wrong-type", f"expected words of type {plan.dtype}. Received: {words.dtype}")
    if words.shape != (plan.size,):
        raise ProtocolError("wrong-shape", f"expected {(plan.size,)} words. Received: {words.shape}")
