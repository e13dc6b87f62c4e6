"""Noise for sums over sites: each site adds a share of Skellam noise to its integer words before it masks them.

A site scales its contribution to steps (``scale`` of them to a unit), rounds to the nearest, adds integers of Skellam's
law, and masks; the aggregator sees the masked total alone. A sum of independent Skellam draws is a Skellam draw, so the
total has the noise that a trusted curator would add, without the curator: Agarwal, Kairouz and Liu 2021, "The Skellam
Mechanism for Differentially Private Federated Learning", NeurIPS (arXiv 2110.04995), after Kairouz, Liu and Steinke
2021, "The Distributed Discrete Gaussian Mechanism", ICML (arXiv 2102.06387), whose noise adds up only nearly.

Neighbours differ by one patient's rows at one site, added or removed (unit ``patient``), or by one site's whole clipped
contribution, which becomes zero while its noise stays (unit ``site``). Everything here holds for both: ``l1`` and
``l2`` bound what the unit changes in one site's contribution, before scaling.

Assumptions: of the sites that are counted, at most ``Sharing.colluding`` give their noise away or add none; the others
follow the protocol. One scale serves the whole vector, because the bound is on the vector's norm: entries of unlike
units are brought to comparable ones by the method, not here. Words are modulo 2**k, and reduction of the noised
integers is post-processing: a sum that wraps is wrong, and as private as before. So head room is a question of
accuracy, and the chance of wrapping is not added to delta.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from shared.errors import StudyError
from shared.fixedpoint import WordPlan, Words
from shared.layout import Entry, size_of
from shared.privacy.noise import LARGEST_VARIANCE, Stream, skellam_bound, skellam_error

WRAP = 2.0**-40
"""Chance, at most, with which the noise makes any word of one sum wrap."""
_SUMMATION = 2.0**-6
"""Steps that float64 arithmetic may add to the change of one number of a contribution; see ``sensitivity``."""
_SHARE_GRID = 1024
"""A share's variance is a multiple of 1/1024, so that shares add up exactly."""
_FRACTION_BITS = 52


def default_colluding(sites: int) -> int:
    """Return ceil(n/3) - 1: the most that are fewer than a third, as many as secure aggregation bears."""
    return (sites - 1) // 3


@dataclass(frozen=True)
class Sharing:
    """How many sites' noise a total is sure to have.

    sites: n, whose words may be added.
    threshold: t, fewest contributors of a total that is revealed.
    colluding: c, most sites whose noise does not count.

    Raises: StudyError unless 0 <= c < t <= n.
    """

    sites: int
    threshold: int
    colluding: int

    def __post_init__(self) -> None:
        if not 0 <= self.colluding < self.threshold <= self.sites:
            raise StudyError(
                "expected 0 <= colluding_sites < threshold <= sites, so that an honest share of the noise is in every"
                f" sum. Received: {self.colluding}, {self.threshold}, {self.sites}"
            )

    @property
    def honest(self) -> int:
        """Fewest honest shares in a total: t - c."""
        return self.threshold - self.colluding


def sharing(sites: int, threshold: int, colluding: int | None = None) -> Sharing:
    """Return the sharing of noise, with ``default_colluding`` sites where none is stated."""
    return Sharing(sites, threshold, default_colluding(sites) if colluding is None else colluding)


def sensitivity(l1: float, l2: float, size: int, scale: float, whole: bool = False) -> tuple[float, float]:
    """Return the L1 and L2 norms, at most, of what one unit changes in a site's integers.

    Rounding moves each number by at most half a step with the unit and half a step without it, so the integers change
    by scale * v and at most one step for each number: L1 <= scale * l1 + d, L2 <= scale * l2 + sqrt(d). It holds for
    stochastic rounding, too, whose draws do not depend on the data: that is rounding at thresholds which neighbours
    share. The change is of integers, so L2 <= L1 <= min(L2**2, sqrt(d) L2) (Agarwal et al. 2021, section 4), L1 is an
    integer and L2 the root of one.

    To each step is added 2**-6 for float64: with and without the unit, a sum must be within 2**-7 of a step of the
    exact one. Sums of n numbers up to B are, in any order, where n**2 * B * scale <= 2**46.

    l1: L1 bound in units; ``math.inf`` where only l2 is known.
    l2: L2 bound in units (the clipping norm).
    size: d, length of the vector.
    whole: whether scale and every contribution are whole numbers, as counts are: nothing is rounded.

    Raises: ValueError if nothing can change: whole numbers change by 1 at least.
    """
    moved = 0.0 if whole else 1.0 + _SUMMATION
    most1 = scale * l1 + moved * size
    most2 = min(scale * l2 + moved * math.sqrt(size), most1)
    steps2 = _floor(most2 * most2)
    if steps2 < 1.0:
        raise ValueError(f"expected an influence of at least one step. Received: {most2:g}")
    steps1 = _floor(min(most1, math.sqrt(size * steps2), steps2))
    return steps1, min(math.sqrt(steps2), steps1)


def _floor(value: float) -> float:
    """Round down to a whole number, but never by the last digits: 2.9999999999999 is 3."""
    return float(math.floor(value * (1.0 + 2.0**-40)))


@dataclass(frozen=True)
class SumNoise:
    """The noise of one sum, and what accounts for it: ``Skellam(l1, l2, variance, sampler_error=sampler_error)``.

    fraction_bits: f; a unit has 2**f steps, the same for every number of the vector.
    l1, l2: sensitivity in steps.
    variance: of the honest shares together, in steps squared.
    share: variance of what each site adds.
    sampler_error: total variation distance, at most, of the honest shares from ideal noise, over the whole vector.
    """

    fraction_bits: int
    l1: float
    l2: float
    variance: float
    share: float
    sampler_error: float

    @property
    def scale(self) -> float:
        """Steps to a unit."""
        return math.ldexp(1.0, self.fraction_bits)

    def deviation(self, contributors: int) -> float:
        """Return the standard deviation, in units, of the noise and the rounding in one number of a total.

        contributors: sites whose words were added; each adds a share, colluding ones as well.
        """
        return math.sqrt(contributors * (self.share + 1.0 / 12.0)) / self.scale

    def reach(self, contributors: int, size: int) -> float:
        """Return how far, in units, the noise may move any number of a total, but for a chance of ``WRAP``."""
        return headroom(self.share, contributors, size) / self.scale


def headroom(share: float, sites: int, size: int, probability: float = WRAP) -> int:
    """Return how many steps the noise of all sites stays within, in every one of ``size`` numbers, but for this chance.

    Source: the tail of ``shared.privacy.noise.skellam_bound``, and the union bound.
    """
    return skellam_bound(sites * share, probability / size)


def sum_noise(
    noise_multiplier: float,
    influence: tuple[float, float],
    entries: tuple[Entry, ...],
    among: Sharing,
    word_bits: int,
    *,
    whole: bool = False,
    rounding: float = 0.01,
) -> SumNoise:
    """Choose the steps and the noise of one sum.

    The scale is the least power of two with which rounding adds at most ``rounding`` to the standard deviation, and
    Skellam noise costs at most about as much more than Gaussian noise: variance V >= 2 / rounding, where the Renyi
    divergence of order a exceeds the Gaussian's by at most (1 + 3 l1 / (a l2**2)) / V of it (the bound of
    Agarwal et al. 2021). Where the words are too short, it is the largest scale that fits, and rounding costs more.

    noise_multiplier: standard deviation of the honest shares over the L2 sensitivity, both in steps: rounding included.
    influence: L1 and L2 bound, in units, of what one unit of privacy changes; L1 may be ``math.inf``.
    entries: what the noise is added to, with the bound of one site's numbers.
    whole: whether all contributions are whole numbers.

    Raises: StudyError if the words are so short that rounding would double the noise, or cannot hold the sum.
    """
    l1, l2 = influence
    if not (noise_multiplier > 0.0 and 0.0 < l2 < math.inf and l1 > 0.0 and 0.0 < rounding < 1.0):
        raise ValueError(
            "expected positive noise multiplier and influence, rounding in 0..1."
            f" Received: {noise_multiplier}, {influence}, {rounding}"
        )
    size = size_of(entries)
    bound = max(entry.bound for entry in entries)
    grown = 0.0 if whole else (1.0 + _SUMMATION) * math.sqrt(size) / l2
    least = max(grown / rounding, math.sqrt(2.0 / rounding) / (noise_multiplier * l2))
    bits = min(max(math.ceil(math.log2(least)), 0 if whole else -1022), _FRACTION_BITS)
    while math.ldexp(1.0, bits) >= max(grown, 1.0 if whole else 0.0):
        noise = _at(bits, noise_multiplier, sensitivity(l1, l2, size, math.ldexp(1.0, bits), whole), among, size)
        if noise is not None and _fits(noise, bound, size, among.sites, word_bits):
            return noise
        bits -= 1
    raise StudyError(
        f"words of {word_bits} bits are too short for {among.sites} sites' sums of up to {bound:g} with noise of"
        f" {noise_multiplier:g} times {l2:g}. Use words of 64 bits, or lower the bounds."
    )


def _at(bits: int, noise_multiplier: float, steps: tuple[float, float], among: Sharing, size: int) -> SumNoise | None:
    """Return the noise at one scale; None where its variance is more than can be drawn."""
    variance = (noise_multiplier * steps[1]) ** 2
    share = math.ceil(variance / among.honest * _SHARE_GRID) / _SHARE_GRID
    if share > LARGEST_VARIANCE:
        return None
    error = skellam_error(share, among.honest * size)
    return SumNoise(bits, steps[0], steps[1], share * among.honest, share, error)


def _fits(noise: SumNoise, bound: float, size: int, sites: int, word_bits: int) -> bool:
    """Whether the sum and its noise stay below half the modulus, as ``shared.fixedpoint.plan`` proves it of the sum."""
    sum_ = sites * (math.ceil(bound * noise.scale) + 1)
    return sum_ + headroom(noise.share, sites, size) < 1 << (word_bits - 1)


def word_plan(entries: tuple[Entry, ...], noise: SumNoise, among: Sharing, word_bits: int) -> WordPlan:
    """Return how a noised vector becomes words: every entry with the same fraction bits.

    entries: those that ``sum_noise`` was asked about, and any without noise, such as a constant weight.

    Raises: StudyError if their sum could wrap.
    """
    if not _fits(noise, max(entry.bound for entry in entries), size_of(entries), among.sites, word_bits):
        raise StudyError(f"sums of {among.sites} sites do not fit into words of {word_bits} bits with this noise")
    return WordPlan(entries, (noise.fraction_bits,) * len(entries), word_bits, among.sites)


def add_noise(words: Words, share: float, stream: Stream) -> None:
    """Add one site's share of the noise, in place, modulo the word size.

    words: vector of uint32 or uint64, encoded and not yet masked.
    share: ``SumNoise.share``.
    stream: fresh, and used for this release alone.
    """
    # Conversion of a signed integer to an unsigned type is reduction modulo its size.
    words += stream.skellam(share, words.size).astype(words.dtype)
