"""Secret randomness is a keystream of AES-256 in counter mode, and its draws are as far from the ideal as it says."""

from __future__ import annotations

import copy
import math
import pickle
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from numpy.typing import NDArray

from shared.privacy import noise
from shared.privacy.noise import Stream, gaussian_error, skellam_bound, skellam_error

A, B = bytes([1]) * 32, bytes([2]) * 32
PRECISE_VARIANCES = pytest.mark.parametrize("variance", [0.01, 1.0, 12.5, 400.0])


class InsecureWords(Stream):
    """A stream of given words: for tests alone."""

    def __init__(self, *words: int) -> None:
        super().__init__(bytes(32))
        self.given = list(words)

    def words(self, size: int) -> NDArray[np.uint64]:
        taken, self.given = self.given[:size], self.given[size:]
        return np.array(taken, dtype=np.uint64)


def chi_square(observed: NDArray[Any], law: NDArray[Any]) -> float:
    """Return the chance of so uneven counts; neighbours are taken together until 25 are expected."""
    from scipy.stats import chi2

    draws, statistic, bins, count, expected = observed.sum(), 0.0, 0, 0.0, 0.0
    for seen, probability in zip(observed.tolist(), law.tolist(), strict=True):
        count, expected = count + seen, expected + draws * probability
        if expected >= 25:
            statistic, bins, count, expected = statistic + (count - expected) ** 2 / expected, bins + 1, 0.0, 0.0
    return float(chi2.sf(statistic, bins - 1))


def bessel(number: int, variance: Fraction | int) -> Decimal:
    """Return I_number(variance) to 45 digits, by its power series (DLMF 10.25.2)."""
    half = Decimal(variance.numerator) / Decimal(2 * variance.denominator)
    term = half**number / math.factorial(number)
    total, index = term, 0
    while term > total * Decimal("1e-50") or index < half:
        index += 1
        term *= half * half / (index * (index + number))
        total += term
    return total


def probabilities(variance: float, last: int) -> list[Decimal]:
    """Return the probabilities of 0 to last under Skellam's law."""
    exact = Fraction(variance)
    share = (-Decimal(exact.numerator) / Decimal(exact.denominator)).exp()
    return [share * bessel(number, exact) for number in range(last + 1)]


def test_a_stream_is_what_gcm_makes_of_zeros() -> None:
    """Test case 14 of McGrew and Viega, "The Galois/Counter Mode of Operation"."""
    known = bytes.fromhex("cea7403d4d606b6e074ec5d3baf39d18")
    assert known == Stream(bytes(32)).words(2).astype("<u8").tobytes()


def test_a_stream_is_aes_in_counter_mode() -> None:
    counted = Cipher(algorithms.AES256(A), modes.CTR(bytes(15) + b"\x02")).encryptor().update(bytes(800_008))
    assert counted == Stream(A).words(100_001).astype("<u8").tobytes()


def test_a_stream_goes_on_where_the_last_words_ended() -> None:
    stream = Stream(A)
    parts = [stream.words(size) for size in (1, 0, 3, 40_000, 7)]
    assert np.array_equal(Stream(A).words(40_011), np.concatenate(parts))


def test_every_segment_of_a_stream_has_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noise, "_SEGMENT", 16)
    stream = Stream(A)
    found = np.concatenate([stream.words(2) for _ in range(3)])
    counters = b"".join(number.to_bytes(12, "big") + b"\x00\x00\x00\x02" for number in range(3))
    blocks = Cipher(algorithms.AES256(A), modes.ECB()).encryptor().update(counters)
    assert blocks == found.astype("<u8").tobytes()


def test_no_text_about_a_stream_holds_its_key() -> None:
    assert "Stream(key hidden)" == repr(Stream(A)) == str(Stream(A))


@pytest.mark.parametrize("copier", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_stream_cannot_be_copied(copier: Any) -> None:
    with pytest.raises(TypeError, match="never copied"):
        copier(Stream(A))


def test_fresh_streams_share_no_word() -> None:
    assert 2000 == np.unique([Stream.fresh().words(1000), Stream.fresh().words(1000)]).size


def test_a_key_has_32_bytes() -> None:
    with pytest.raises(ValueError, match="must have 32 bytes"):
        Stream(bytes(16))


def test_uniform_numbers_are_the_words_upper_53_bits() -> None:
    assert [0.0, 0.5, 1.0 - 2.0**-53] == InsecureWords(2**11 - 1, 2**63, 2**64 - 1).uniform(3).tolist()


@pytest.mark.parametrize("probability", [0.3, 1e-3, 1e-17, 0.5, 1.0 - 2.0**-53])
def test_a_row_is_sampled_where_its_word_is_below_the_probability(probability: float) -> None:
    threshold = math.floor(Fraction(probability) * 2**64)
    below = [threshold - 1, 0] if threshold else []
    stream = InsecureWords(threshold, *below, 2**64 - 1)
    assert list(range(1, len(below) + 1)) == stream.sample(len(below) + 2, probability).tolist()


def test_nobody_or_everybody_is_sampled_at_0_and_1() -> None:
    assert ([], [0, 1, 2]) == (Stream(A).sample(3, 0.0).tolist(), Stream(A).sample(3, 1.0).tolist())


def test_as_many_rows_are_sampled_as_expected() -> None:
    """Of 10**6 rows at 0.1: 10**5 with a standard deviation of 300."""
    assert abs(len(Stream(A).sample(10**6, 0.1)) - 10**5) < 4 * 300


@pytest.mark.parametrize("probability", [-0.1, 1.1, math.nan])
def test_a_probability_lies_between_0_and_1(probability: float) -> None:
    with pytest.raises(ValueError, match=r"must be 0\.\.1"):
        Stream(A).sample(3, probability)


def test_words_that_a_multiple_of_the_bound_leaves_over_are_drawn_anew() -> None:
    """2**64 is 1 modulo 3, 4 modulo 6, and 0 modulo 8."""
    drawn = InsecureWords(0, 3, 0, 4, 0, 7).below(np.array([3, 6, 8]))
    assert [1, 1, 0] == drawn.tolist()


def test_bounded_integers_are_even() -> None:
    drawn = Stream(A).below(np.full((100, 700), 7))
    assert chi_square(np.bincount(drawn.ravel(), minlength=7), np.full(7, 1 / 7)) > 1e-3


def test_bounds_may_be_as_large_as_an_integer_can_be() -> None:
    assert [2**63 - 2] == InsecureWords(0, 1, 2**64 - 3).below(np.array([2**63 - 1])).tolist()


def test_a_bound_is_positive() -> None:
    with pytest.raises(ValueError, match="bounds must be positive"):
        Stream(A).below(np.array([1, 0]))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaussians_have_the_moments_of_the_normal_law(dtype: Any) -> None:
    """Standard errors for n = 10**6: 1/1000, sqrt(2)/1000, sqrt(15)/1000, sqrt(96)/1000; four of them are allowed."""
    drawn = Stream(A).gaussian(10**6, dtype).astype(np.float64)
    found = [(drawn**power).mean() for power in (1, 2, 3, 4)]
    allowed = [4e-3 * math.sqrt(variance) for variance in (1, 2, 15, 96)]
    assert (dtype, True) == (
        Stream(A).gaussian(1, dtype).dtype,
        bool((np.abs(np.subtract(found, [0, 1, 0, 3])) < allowed).all()),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gaussians_follow_the_normal_law(dtype: Any) -> None:
    from scipy.stats import kstest

    assert kstest(Stream(B).gaussian(200_001, dtype).astype(np.float64), "norm").pvalue > 1e-3


def test_the_two_of_a_pair_are_independent() -> None:
    """Correlations of values and of squares, each of standard error 1/256."""
    one, other = Stream(A).gaussian(2**15).astype(np.float64).reshape(2, -1)
    assert max(abs(np.corrcoef(one, other)[0, 1]), abs(np.corrcoef(one**2, other**2)[0, 1])) < 4 / 128


@pytest.mark.parametrize("size", [0, 1, 2, 5, 2**15, 2**15 + 1, 2**16 + 3])
def test_as_many_gaussians_are_drawn_as_asked_for(size: int) -> None:
    drawn = Stream(A).gaussian(size, np.float64)
    assert (size, size) == (len(drawn), len(np.unique(drawn[np.abs(drawn) < 9.42])))


def test_the_farthest_gaussian_is_at_9_42() -> None:
    assert math.sqrt(2 * math.log(2**64)) == pytest.approx(float(InsecureWords(0, 0).gaussian(1, np.float64)[0]))


def test_the_error_of_gaussians_is_the_chance_of_the_tail_that_is_cut_off() -> None:
    from scipy.stats import chi2

    assert chi2.sf(9.4189**2, 2) / 2 == pytest.approx(gaussian_error(2) / 2, rel=0.01)


@PRECISE_VARIANCES
def test_a_table_is_as_far_from_skellams_law_as_its_error_says(variance: float) -> None:
    table = [0, *noise._exact_table(variance).tolist(), 2**64]
    last = (len(table) - 2) // 2
    with localcontext(prec=60):
        half = probabilities(variance, last)
        ideal = [*half[:0:-1], *half]
        drawn = [Decimal(high - low) / 2**64 for low, high in pairwise(table)]
        distance = (sum(abs(p - q) for p, q in zip(ideal, drawn, strict=True)) + 1 - sum(ideal)) / 2
    assert 0 < float(distance) <= skellam_error(variance)


def test_a_table_moves_on_at_the_word_that_it_holds() -> None:
    """At variance 1, 25 entries lie below zero."""
    step = int(noise._exact_table(1.0)[25])
    assert [0, 1] == InsecureWords(step - 1, step).skellam(1.0, 2).tolist()


def law_of_the_strips(variance: float) -> NDArray[np.float64]:
    """Return the probabilities of 0, 1, ... that the strip sampler gives, both signs together."""
    width, table, heights = noise._strip_table(variance)
    masses = np.diff(np.array([0, *table.tolist(), 2**64], dtype=object)).astype(np.float64)
    magnitudes = np.arange(len(heights) * width)
    accepted = np.exp(noise._log_weight(magnitudes, variance) - np.repeat(heights, width))
    law = np.repeat(masses, width) * accepted
    # With a negative sign, zero is refused.
    law[0] /= 2
    assert accepted.max() <= 1.0
    return law / law.sum()


@pytest.mark.parametrize("variance", [65537.0, 300_000.5])
def test_strips_give_skellams_law(variance: float) -> None:
    from scipy.special import ive

    law = law_of_the_strips(variance)
    ideal = 2 * ive(np.arange(len(law)), variance)
    ideal[0] /= 2
    # SciPy's Bessel functions are right to about 1e-13 here.
    assert 0 == pytest.approx(np.abs(law - ideal).sum() / 2, abs=1e-12)


@pytest.mark.parametrize("standard_deviations", [0.5, 1.0, 3.0, 9.4])
def test_floating_point_moves_a_probability_by_no_more_than_the_error_allows_for(standard_deviations: float) -> None:
    """Against the power series in 60 digits, at the least variance, where the expansion is at its worst."""
    variance = 65537
    number = round(standard_deviations * math.sqrt(variance))
    with localcontext(prec=60):
        exact = (bessel(number, variance) / bessel(0, variance)).ln()
    found = noise._log_weight(np.array([0, number]), float(variance))
    allowed = 2.0**-53 * (18 * standard_deviations**2 / 2 + 20)
    assert abs(float(Decimal(float(found[1])) - Decimal(float(found[0])) - exact)) < allowed


@pytest.mark.parametrize("variance", [10**9, 10**12, 2**60])
def test_floating_point_is_as_good_for_large_variances(variance: int) -> None:
    """Against the leading term of the expansion in 60 digits: the corrections differ by less than 1 / V."""
    number = round(3 * math.sqrt(variance))
    with localcontext(prec=60):
        x, v = Decimal(number), Decimal(variance)
        root = (x * x + v * v).sqrt()
        exact = root - v - x * ((x + root) / v).ln() - (root / v).ln() / 2
    found = (
        noise._log_weight(np.array([number]), float(variance))[0] - noise._log_weight(np.array([0]), float(variance))[0]
    )
    assert abs(float(Decimal(float(found)) - exact)) < 2.0**-53 * (18 * 4.5 + 20) + 1e-9 / variance


@pytest.mark.parametrize("variance", [0.01, 1.0, 100.0, 65536.0, 65537.0, 1e6])
def test_draws_follow_skellams_law(variance: float) -> None:
    from scipy.special import ive

    drawn = Stream(A).skellam(variance, 200_000)
    reach = max(int(np.abs(drawn).max()), skellam_bound(variance, 1e-12))
    observed = np.bincount(drawn + reach, minlength=2 * reach + 1)
    assert chi_square(observed, ive(np.abs(np.arange(-reach, reach + 1)), variance)) > 1e-3


@pytest.mark.parametrize("variance", [1e6, 1e9, 1e12, 2.0**60])
def test_draws_of_large_variance_are_nearly_normal(variance: float) -> None:
    """Skellam's law is within about 1 / V of the normal law, but for its steps."""
    from scipy.stats import kstest

    drawn = (Stream(B).skellam(variance, 100_000) + Stream(A).uniform(100_000) - 0.5) / math.sqrt(variance)
    assert kstest(drawn, "norm").pvalue > 1e-3


@pytest.mark.parametrize("variance", [1.0, 50.0, 1e5, 1e12])
def test_draws_have_mean_0_and_the_variance(variance: float) -> None:
    """Standard errors for n = 10**6: sqrt(V)/1000 and V sqrt(2 + 1/V)/1000; four of them are allowed."""
    drawn = Stream(B).skellam(variance, 10**6).astype(np.float64)
    allowed = [4e-3 * math.sqrt(variance), 4e-3 * variance * math.sqrt(2 + 1 / variance)]
    assert (np.abs([drawn.mean(), (drawn**2).mean() - variance]) < allowed).all()


@pytest.mark.parametrize("variance", [1.0, 1e8])
@pytest.mark.parametrize("size", [0, 1, 10])
def test_as_many_integers_are_drawn_as_asked_for(variance: float, size: int) -> None:
    drawn = Stream(A).skellam(variance, size)
    assert ((size,), np.int64) == (drawn.shape, drawn.dtype)


@pytest.mark.parametrize("variance", [0.0, -1.0, 2.0**61, math.inf, math.nan])
def test_a_variance_that_cannot_be_drawn_is_refused(variance: float) -> None:
    with pytest.raises(ValueError, match="variance must be"):
        Stream(A).skellam(variance, 1)
    with pytest.raises(ValueError, match="variance must be"):
        skellam_error(variance)


@pytest.mark.parametrize("variance", [0.5, 30.0, 5000.0])
@pytest.mark.parametrize("probability", [0.1, 1e-6, 1e-12])
def test_a_bound_is_exceeded_no_more_often_than_it_says(variance: float, probability: float) -> None:
    from scipy.special import ive

    bound = skellam_bound(variance, probability)
    beyond = 2 * ive(np.arange(bound + 1, bound + 2000), variance).sum()
    assert beyond <= probability


def test_a_bound_is_not_far_from_that_of_the_normal_law() -> None:
    """6.1 standard deviations hold all but 1e-9; the bound says 6.55, and ln(2e9) / 3 for the steps."""
    assert math.ceil(math.sqrt(2 * math.log(2e9)) * 1000 + math.log(2e9) / 3) == skellam_bound(1e6, 1e-9)


def test_the_error_of_a_table_is_one_unit_for_each_entry_and_draw() -> None:
    """Variance 1 is cut off at ceil(sqrt(2 * 45.05) + 45.05 / 3) = 25: 51 entries."""
    assert 10 * 51 * 2.0**-64 == skellam_error(1.0, 10)


def test_the_error_of_strips_grows_with_the_root_of_the_draws() -> None:
    """What the tables cost is 2**-64 for each of up to 1,300 strips, 7e-17."""
    assert math.sqrt(50) * 2.0**-46 == pytest.approx(skellam_error(1e9, 100), abs=100 * 7.1e-17)
