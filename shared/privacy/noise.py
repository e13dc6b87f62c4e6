"""Secret randomness of differential privacy: uniform, Poisson-sampled, Gaussian and Skellam draws from AES-256-CTR.

An adversary who can predict the noise subtracts it, and one who can predict a batch undoes its amplification, so
nothing here comes from the study's seed or from NumPy's generators. ``Stream`` is a keystream as in
``shared.secagg.masks``. That its words are as good as uniform ones is the standard assumption on AES (NIST SP
800-38A), and no error below counts it. How far each draw is from the ideal one beyond that, in total variation:

- ``words`` and ``below``: not at all. ``uniform``: not at all from multiples of 2**-53. ``sample``: probabilities are
  rounded down to a multiple of 2**-64, never up.
- ``skellam``: ``skellam_error``; about 1e-16 for one draw of variance 100, 3e-14 above 65,536. Exact integers: what is
  added to integers leaves no trace in low-order bits.
- ``gaussian``: ``gaussian_error`` is the mass of the tail that is never drawn. The rest is floating point, for which no
  such bound exists: a float is never distributed as a real number is. A draw is off the one that it stands for by about
  2**-21 (float32) or 2**-50 (float64), and Mironov 2012 (doi 10.1145/2382196.2382264) reads a value from the low-order
  bits of value + noise where that sum itself is published. DP-SGD does not publish it: what leaves is the change of
  weights after many noised steps, rounded to fixed-point words far coarser than that, and added up under masks. This is
  an argument and no proof; what must be proved is released with Skellam noise.

A Skellam variable of variance V is the difference of two Poisson variables of mean V/2; its probability of k is
exp(-V) I_k(V) (Skellam 1946, doi 10.2307/2981372), and a sum of independent ones is one of the sum of the variances. Up
to V = 65,536 it is drawn by inversion of its distribution function, computed in integers by Miller's backward
recurrence (DLMF 3.6, 10.29.1) and cut off where less than 2**-64 is left. Above that, the magnitudes are divided into
strips of equal width: one is drawn by inversion, a place in it uniformly, and the place is accepted with its
probability relative to that of the strip's first (Ahrens 1993, doi 10.1007/BF02243855): 99 in 100 are. There I_k comes
from its uniform asymptotic expansion (DLMF 10.41.3) to the second correction; the third is below 0.08 / V**3 < 3e-16.

How long a draw takes depends on what is drawn: who can time it on the hospital's own machine is no adversary here.
"""

from __future__ import annotations

import math
import secrets
from functools import lru_cache
from itertools import accumulate
from typing import Any, NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

_BLOCK = 16
_IV_BYTES = 12
_CHUNK = 256 * 1024
"""Bytes of keystream at a time; the zeros stay in a core's second-level cache."""
_ZEROS = bytes(_CHUNK)
_SEGMENT = 2**32
"""Bytes of the stream under one number: GCM allows 2**36 - 32 (NIST SP 800-38D, section 5.2.1.1)."""
_GAUSSIANS = 2**15
"""Gaussians at a time: all that they are made from stays in the cache."""

_TAIL = 2.0**-64
_EXACT = 2.0**16
"""Largest variance of a table with an entry for each number."""
SMALLEST_VARIANCE, LARGEST_VARIANCE = 2.0**-20, 2.0**60
_STRIPS = 64
"""Strips to a standard deviation, at least."""
_RELATIVE = 2.0**-46
"""Root mean square of a strip sampler's relative errors, at most; see ``skellam_error``."""


class Stream:
    """Secret random numbers, each used once.

    One use: a second stream of the same key would draw the same noise, and two releases with it differ by no noise at
    all. So a stream cannot be copied, and is for one thread of one process.

    key: 32 secret bytes.
    """

    __slots__ = ("_cipher", "_key", "_left", "_segment")

    def __init__(self, key: bytes) -> None:
        if len(key) != 32:
            raise ValueError(f"key must have 32 bytes. Received: {len(key)}")
        self._key, self._segment, self._left = key, -1, 0
        self._cipher: Any = None

    @classmethod
    def fresh(cls) -> Stream:
        """Return a stream of a new key from the operating system."""
        return cls(secrets.token_bytes(32))

    def __repr__(self) -> str:
        return "Stream(key hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a stream of secret noise is never copied or stored: its copy would draw the same noise")

    def words(self, size: int) -> NDArray[np.uint64]:
        """Return uniform words of 64 bits, shape (size,)."""
        octets = 8 * size
        # The cipher asks for room for one more block than it writes.
        buffer = np.empty(octets + _BLOCK - 1, dtype=np.uint8)
        for start in range(0, octets, _CHUNK):
            length = min(_CHUNK, octets - start)
            if self._left < length:
                self._next_segment()
            self._left -= length
            zeros = _ZEROS if length == _CHUNK else _ZEROS[:length]
            self._cipher.update_into(zeros, buffer.data[start : start + length + _BLOCK - 1])
        return buffer[:octets].view("<u8").astype(np.uint64, copy=False)

    def _next_segment(self) -> None:
        self._segment, self._left = self._segment + 1, _SEGMENT
        number = self._segment.to_bytes(_IV_BYTES, "big")
        self._cipher = Cipher(algorithms.AES256(self._key), modes.GCM(number)).encryptor()

    def uniform(self, size: int) -> NDArray[np.float64]:
        """Return uniform numbers in [0, 1), multiples of 2**-53, shape (size,)."""
        return _to_floats(self.words(size) >> np.uint64(11), 2.0**-53)

    def sample(self, count: int, probability: float) -> NDArray[np.int64]:
        """Return which of ``count`` rows are drawn, each by itself with ``probability``, in ascending order.

        Poisson sampling, as amplification by sampling assumes it. The probability is rounded down to a multiple of
        2**-64: a row that is drawn less often loses no privacy.
        """
        if not 0.0 <= probability <= 1.0:
            raise ValueError(f"probability must be 0..1. Received: {probability}")
        numerator, denominator = probability.as_integer_ratio()
        threshold = (numerator << 64) // denominator
        if threshold == 2**64:
            return np.arange(count, dtype=np.int64)
        return np.flatnonzero(self.words(count) < np.uint64(threshold)).astype(np.int64, copy=False)

    def below(self, bounds: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return for each bound a uniform integer in [0, bound).

        Without bias: of the 2**64 words, the first few that a multiple of the bound leaves over are drawn anew.

        bounds: positive, of any shape.
        """
        if bounds.size and bounds.min() < 1:
            raise ValueError(f"bounds must be positive. Received: {bounds.min()}")
        limits = bounds.ravel().astype(np.uint64)
        # 2**64 modulo the bound, in arithmetic modulo 2**64.
        beyond = (np.uint64(0) - limits) % limits
        words = self.words(limits.size)
        while (again := np.flatnonzero(words < beyond)).size:
            words[again] = self.words(again.size)
        return (words % limits).astype(np.int64).reshape(bounds.shape)

    def gaussian(self, size: int, dtype: type[np.float32 | np.float64] = np.float32) -> NDArray[Any]:
        """Return standard Gaussians, shape (size,), of type float32 or float64.

        Box and Muller 1958 (doi 10.1214/aoms/1177706645): the radius from 63 bits in float64, the angle from 32 bits
        for float32 and 64 for float64. None is beyond 9.42.
        """
        values = np.empty(size, dtype=dtype)
        for start in range(0, size, _GAUSSIANS):
            self._fill_gaussian(values[start : start + _GAUSSIANS])
        return values

    def _fill_gaussian(self, values: NDArray[Any]) -> None:
        pairs = (len(values) + 1) // 2
        # From words of 63 bits to (0, 1): never 0, whose logarithm does not exist.
        radius = _to_floats(self.words(pairs) >> np.uint64(1), 2.0**-63)
        radius += 2.0**-64
        np.log(radius, out=radius)
        radius *= -2.0
        np.sqrt(radius, out=radius)
        length: NDArray[Any] = radius.astype(values.dtype, copy=False)
        if values.dtype == np.float32:
            angle: NDArray[Any] = self.words((pairs + 1) // 2).view(np.int32)[:pairs].astype(np.float32)
            angle *= np.float32(math.tau * 2.0**-32)
        else:
            angle = _to_floats(self.words(pairs), math.tau * 2.0**-64)
        np.multiply(length, np.cos(angle), out=values[:pairs])
        odd = len(values) - pairs
        np.multiply(length[:odd], np.sin(angle[:odd]), out=values[pairs:])

    def skellam(self, variance: float, size: int) -> NDArray[np.int64]:
        """Return integers distributed by Skellam's law of mean 0 and this variance, shape (size,).

        variance: 2**-20 to 2**60.
        """
        _check_variance(variance)
        if variance <= _EXACT:
            table = _exact_table(variance)
            drawn: NDArray[np.int64] = np.searchsorted(table, self.words(size), side="right") - len(table) // 2
            return drawn
        drawn = np.empty(size, dtype=np.int64)
        done = 0
        while done < size:
            accepted = self._strip_candidates(variance, size - done)
            drawn[done : done + len(accepted)] = accepted
            done += len(accepted)
        return drawn

    def _strip_candidates(self, variance: float, size: int) -> NDArray[np.int64]:
        """Return those of so many candidates that are accepted."""
        width, table, heights = _strip_table(variance)
        choice, place, chance = self.words(3 * size).reshape(3, size)
        strip = np.searchsorted(table, choice, side="right")
        magnitude = strip * width + (place & np.uint64(width - 1)).view(np.int64)
        # The highest bit, which is none of the place's.
        negative = place.view(np.int64) < 0
        ratio = np.exp(_log_weight(magnitude, variance) - heights[strip])
        # Zero has no sign: it is taken once.
        kept = (_to_floats(chance >> np.uint64(11), 2.0**-53) < ratio) & ~(negative & (magnitude == 0))
        drawn: NDArray[np.int64] = np.where(negative, -magnitude, magnitude)[kept]
        return drawn


def _to_floats(words: NDArray[np.uint64], unit: float) -> NDArray[np.float64]:
    """Return words, read as signed integers, in float64; NumPy converts unsigned ones fourteen times as slowly."""
    floats = words.view(np.int64).astype(np.float64)
    floats *= unit
    return floats


def _check_variance(variance: float) -> None:
    if not SMALLEST_VARIANCE <= variance <= LARGEST_VARIANCE:
        raise ValueError(f"variance must be {SMALLEST_VARIANCE:.3g} to {LARGEST_VARIANCE:.3g}. Received: {variance:g}")


def skellam_bound(variance: float, probability: float) -> int:
    """Return a number that a Skellam draw exceeds in magnitude with at most this probability.

    The logarithm of its moment generating function, V (cosh x - 1), is at most V x**2 / (2 (1 - x/3)), so it is
    sub-gamma: Boucheron, Lugosi and Massart 2013, "Concentration Inequalities", section 2.4.
    """
    exponent = math.log(2.0 / probability)
    return math.ceil(math.sqrt(2.0 * variance * exponent) + exponent / 3.0)


def skellam_error(variance: float, draws: int = 1) -> float:
    """Return the total variation distance, at most, of so many independent draws of ``Stream.skellam`` from ideal ones.

    A table of m entries costs each draw m 2**-64: half a unit 2**-64 for each entry that is rounded to one, and the
    tail that is cut off. Strips are also of a probability p (1 + e) that floating point computes: with u = 2**-53,
    |e| is below u (18 x + 20), x being the exponent (mean 1/2, mean square 3/4), where each function is right to four
    units in the last place. So the root mean square of e is below 2**-46, chi-square divergence below its square, and n
    independent draws are within sqrt(n / 2) 2**-46 of ideal ones, by Pinsker (Tsybakov 2009, "Introduction to
    Nonparametric Estimation", Lemma 2.5 and (2.27)).

    Raises: ValueError if ``Stream.skellam`` would refuse the variance.
    """
    _check_variance(variance)
    last = skellam_bound(variance, _TAIL)
    if variance <= _EXACT:
        return draws * (2 * last + 1) * 2.0**-64
    return draws * (last // _strip_width(variance) + 1) * 2.0**-64 + math.sqrt(draws / 2) * _RELATIVE


def gaussian_error(draws: int) -> float:
    """Return the chance, at most, that one of so many ideal Gaussians is where ``Stream.gaussian`` never reaches.

    This is the tail that is cut off; the module's docstring says what floating point adds.
    """
    return (draws + 1) // 2 * 2.0**-64


@lru_cache(maxsize=16)
def _exact_table(variance: float) -> NDArray[np.uint64]:
    """Return 2**64 times the probability of at most k, rounded down, for k from -n to n - 1."""
    numerator, denominator = variance.as_integer_ratio()
    first = skellam_bound(variance, 2.0**-100)
    above, here = 0, 1 << 128
    weights = [here]
    for number in range(first, 0, -1):
        above, here = here, above + 2 * number * denominator * here // numerator
        weights.append(here)
    half = weights[::-1][: skellam_bound(variance, _TAIL) + 1]
    return _inversion([*half[:0:-1], *half])


@lru_cache(maxsize=16)
def _strip_table(variance: float) -> tuple[int, NDArray[np.uint64], NDArray[np.float64]]:
    """Return the width of a strip, the table of strips, and the logarithm of the height of each."""
    width = _strip_width(variance)
    heights = _log_weight(np.arange(0, skellam_bound(variance, _TAIL) + 1, width), variance)
    return width, _inversion([int(math.ldexp(weight, 100)) for weight in np.exp(heights).tolist()]), heights


def _strip_width(variance: float) -> int:
    return 1 << math.floor(math.log2(math.sqrt(variance) / _STRIPS))


def _inversion(weights: list[int]) -> NDArray[np.uint64]:
    """Return the words at which the choice among weights moves on to the next."""
    *sums, total = accumulate(weights)
    return np.array([(part << 64) // total for part in sums], dtype=np.uint64)


def _log_weight(magnitudes: NDArray[np.int64], variance: float) -> NDArray[np.float64]:
    """Return log I_k(V) less a constant, for V above 65,536: DLMF 10.41.3 in w = sqrt(k**2 + V**2) and p = k / w."""
    ratio = magnitudes / variance
    square = ratio * ratio
    root = np.sqrt(1.0 + square)
    exponent = variance * (ratio * np.arcsinh(ratio) - square / (1.0 + root))
    w, p2 = variance * root, square / (1.0 + square)
    correction = (3.0 - 5.0 * p2) / (24.0 * w) + (81.0 + p2 * (-462.0 + 385.0 * p2)) / (1152.0 * w * w)
    return np.log1p(correction) - 0.5 * np.log(root) - exponent
