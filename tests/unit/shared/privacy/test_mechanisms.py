"""Noise spread over sites adds up to that of one curator, and covers what one patient changes, rounding included."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared import fixedpoint
from shared.errors import StudyError
from shared.layout import Entry
from shared.privacy import mechanisms
from shared.privacy.mechanisms import (
    Sharing,
    SumNoise,
    add_noise,
    default_colluding,
    headroom,
    sensitivity,
    sharing,
    sum_noise,
    word_plan,
)
from shared.privacy.noise import Stream, skellam_bound, skellam_error
from shared.secagg.roster import default_threshold

THREE = Sharing(sites=3, threshold=3, colluding=0)
NINE = Sharing(sites=9, threshold=7, colluding=2)
WIDE = (Entry("gradient", (100,), 1000.0, 1.0),)

NUMBERS = st.floats(-1.0, 1.0, allow_nan=False)


def key(number: int) -> bytes:
    return bytes([number]) * 32


@st.composite
def neighbours(draw: st.DrawFn) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return the rows of a site's other patients, and one patient's row."""
    size = draw(st.integers(1, 6))
    rows = draw(st.lists(st.lists(NUMBERS, min_size=size, max_size=size), min_size=1, max_size=5))
    return np.array(rows[1:]).reshape(-1, size), np.array(rows[0])


@pytest.mark.parametrize(("sites", "colluding"), [(3, 0), (4, 1), (6, 1), (7, 2), (9, 2), (10, 3), (100, 33)])
def test_as_many_sites_may_collude_as_are_fewer_than_a_third(sites: int, colluding: int) -> None:
    assert math.ceil(sites / 3) - 1 == colluding == default_colluding(sites)


@pytest.mark.parametrize(("sites", "honest"), [(3, 3), (4, 2), (9, 5), (100, 34)])
def test_the_noise_is_sized_for_the_fewest_honest_shares(sites: int, honest: int) -> None:
    assert honest == sharing(sites, default_threshold(sites)).honest


@pytest.mark.parametrize(("threshold", "colluding"), [(2, 2), (2, 3), (4, 0), (3, -1), (0, 0)])
def test_noise_without_an_honest_share_in_every_sum_is_refused(threshold: int, colluding: int) -> None:
    with pytest.raises(StudyError, match="an honest share"):
        sharing(3, threshold, colluding)


def test_rounding_adds_a_step_for_each_number_to_l1_and_the_root_of_that_to_l2() -> None:
    """40 + 100 steps and 20 + 10, each step 1 + 1/64; 30.15625 squared is 909.4."""
    l1, l2 = sensitivity(4.0, 2.0, size=100, scale=10.0)
    assert (math.floor(40 + 100 * (1 + 1 / 64)), 909) == (l1, round(l2**2, 6))


def test_the_square_of_l2_bounds_l1_of_integers() -> None:
    """0.5 + 1.0156 * 2 = 2.53; a change of squared norm 6 is 6 steps at most, where 4 numbers could have 0.5 + 4.06."""
    assert (4.0, 6) == (sensitivity(0.5, 0.5, 4, 1.0)[0], round(sensitivity(0.5, 0.5, 4, 1.0)[1] ** 2))
    assert 1.0 == sensitivity(math.inf, 0.5, 10**6, 2.0, whole=True)[0]


def test_the_root_of_the_size_bounds_l1_where_only_l2_is_known() -> None:
    assert 1000.0 == sensitivity(math.inf, 100.0, 100, 1.0, whole=True)[0]


def test_l1_bounds_l2() -> None:
    assert (8.0, 8.0) == sensitivity(2.0, 5.0, 100, 4.0, whole=True)
    # One number of 1 in steps of 1/128: 128 + 1.0156, and whole steps are 129.
    assert (129.0, 129.0) == sensitivity(1.0, 1.0, 1, 128.0)


def test_whole_numbers_are_not_rounded() -> None:
    """A patient is in one of the bins of two histograms."""
    assert (2.0, math.sqrt(2.0)) == sensitivity(2.0, math.sqrt(2.0), 50, 1.0, whole=True)


def test_an_influence_of_less_than_a_step_is_an_error_for_whole_numbers() -> None:
    with pytest.raises(ValueError, match="at least one step"):
        sensitivity(0.5, 0.5, 10, 1.0, whole=True)


@given(case=neighbours(), bits=st.integers(-3, 20), chance=st.integers(0, 2**32))
@pytest.mark.parametrize("stochastic", [False, True])
def test_no_patient_changes_a_sites_words_by_more_than_the_sensitivity(
    stochastic: bool, case: tuple[NDArray[Any], NDArray[Any]], bits: int, chance: int
) -> None:
    others, one = case
    plan = fixedpoint.WordPlan((Entry("x", (len(one),), 8.0, 1.0),), (bits,), 32, 3)
    encoded = [
        fixedpoint.encode(plan, rows.sum(axis=0), np.random.default_rng(chance) if stochastic else None).view(np.int32)
        for rows in (others, np.vstack([others, one]))
    ]
    change = (encoded[1] - encoded[0]).astype(np.float64)
    l1, l2 = sensitivity(np.abs(one).sum(), math.sqrt((one * one).sum()), len(one), math.ldexp(1.0, bits))
    assert (True, True) == (np.abs(change).sum() <= l1, math.sqrt((change * change).sum()) <= l2)


@given(case=neighbours(), bits=st.integers(0, 20))
def test_no_patient_changes_counts_by_more_than_the_sensitivity_without_rounding(
    case: tuple[NDArray[Any], NDArray[Any]], bits: int
) -> None:
    others, one = (np.rint(3 * rows) for rows in case)
    one[0] = 1.0
    scale = math.ldexp(1.0, bits)
    change = np.rint((others.sum(axis=0) + one) * scale) - np.rint(others.sum(axis=0) * scale)
    l1, l2 = sensitivity(np.abs(one).sum(), math.sqrt((one * one).sum()), len(one), scale, whole=True)
    assert (True, True) == (np.abs(change).sum() <= l1, math.sqrt((change * change).sum()) <= l2 * (1 + 1e-15))


def test_a_change_of_exactly_the_sensitivity_occurs() -> None:
    """0.5 is rounded to 0 and 1.5 to 2: a patient of 1 moves each of four numbers by 2 steps, of 2.02 allowed."""
    change = np.rint(np.full(4, 1.5)) - np.rint(np.full(4, 0.5))
    assert (np.abs(change).sum(), math.sqrt((change**2).sum())) == sensitivity(4.0, 2.0, 4, 1.0)


def test_the_noise_of_all_honest_shares_is_the_multiplier_times_the_sensitivity() -> None:
    noise = sum_noise(1.5, (math.inf, 2.0), WIDE, NINE, 64)
    assert 1.5 * noise.l2 == pytest.approx(math.sqrt(5 * noise.share), rel=1e-3)
    assert 5 * noise.share == noise.variance >= (1.5 * noise.l2) ** 2


def test_the_scale_is_the_least_power_of_two_at_which_rounding_costs_a_hundredth() -> None:
    """sqrt(100) * (1 + 1/64) / 2 steps to the unit cost as much as the clipping norm 2; a hundred times it is 508."""
    noise = sum_noise(1.0, (math.inf, 2.0), WIDE, THREE, 64)
    assert (9, 512.0) == (noise.fraction_bits, noise.scale)
    assert 2.0 * 1.01 >= noise.l2 / noise.scale


def test_small_noise_has_steps_so_fine_that_it_is_nearly_normal() -> None:
    """A variance of 2 / 0.01 at least: counts of one person at multiplier 1 have 16 steps, 16**2 = 256."""
    noise = sum_noise(1.0, (1.0, 1.0), (Entry("count", (), 1e4, 0.5),), THREE, 64, whole=True)
    assert (4, 16.0, 256.0) == (noise.fraction_bits, noise.l2, pytest.approx(noise.variance, abs=1e-2))


def test_counts_are_never_scaled_below_one() -> None:
    noise = sum_noise(1000.0, (1.0, 1.0), (Entry("count", (), 1e4, 0.5),), THREE, 64, whole=True)
    assert (0, 1e6) == (noise.fraction_bits, pytest.approx(noise.variance))


def test_short_words_have_the_largest_scale_that_fits() -> None:
    """Sums of 9 * 2**19 and their noise leave 2**8 steps of 2**31 / (9 * 2**19) = 455; 2**9 were wanted."""
    entries = (replace(WIDE[0], bound=2.0**19),)
    noise = sum_noise(1.0, (math.inf, 2.0), entries, NINE, 32)
    assert (9, 8) == (sum_noise(1.0, (math.inf, 2.0), entries, NINE, 64).fraction_bits, noise.fraction_bits)
    assert noise.l2 == pytest.approx(2.0 * 256 + 10 * (1 + 1 / 64), rel=1e-3)


def test_words_in_which_rounding_would_double_the_noise_are_refused() -> None:
    with pytest.raises(StudyError, match="words of 32 bits are too short"):
        sum_noise(1.0, (math.inf, 2.0), (replace(WIDE[0], bound=2.0**27),), NINE, 32)


@pytest.mark.parametrize("influence", [(1.0, 0.0), (0.0, 1.0), (1.0, math.inf), (1.0, math.nan)])
def test_an_influence_without_a_bound_is_an_error(influence: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="expected positive"):
        sum_noise(1.0, influence, WIDE, THREE, 64)


def test_noise_that_cannot_be_drawn_is_refused() -> None:
    with pytest.raises(StudyError, match="too short"):
        sum_noise(1e12, (math.inf, 2.0), WIDE, THREE, 64)


@given(
    multiplier=st.floats(0.05, 100),
    norm=st.floats(1e-3, 1e3),
    size=st.integers(1, 2000),
    sites=st.integers(3, 100),
    bits=st.sampled_from([32, 64]),
)
def test_sums_and_noise_of_all_sites_fit_whatever_is_chosen(
    multiplier: float, norm: float, size: int, sites: int, bits: int
) -> None:
    among = sharing(sites, default_threshold(sites))
    try:
        noise = sum_noise(multiplier, (math.inf, norm), (Entry("x", (size,), 10 * norm, 1.0),), among, bits)
    except StudyError:
        assert 32 == bits
        return
    room = headroom(noise.share, sites, size)
    assert sites * (math.ceil(10 * norm * noise.scale) + 1) + room <= 2 ** (bits - 1) - 1
    assert noise.variance >= (multiplier * noise.l2) ** 2


def test_head_room_holds_the_noise_of_all_sites_in_every_number() -> None:
    assert skellam_bound(900.0, 1e-6) == headroom(100.0, sites=9, size=1000, probability=1e-3)


def test_no_noise_in_a_thousand_sums_goes_beyond_a_head_room_of_one_in_a_million() -> None:
    drawn = sum(Stream(key(site)).skellam(100.0, 1000) for site in range(9))
    assert np.abs(drawn).max() <= headroom(100.0, 9, 1000, 1e-6)


def test_the_error_of_the_honest_shares_goes_into_delta() -> None:
    noise = sum_noise(1.0, (math.inf, 2.0), WIDE, NINE, 64)
    assert skellam_error(noise.share, 5 * 100) == noise.sampler_error


def test_the_deviation_of_a_count_is_that_of_all_sites_shares() -> None:
    """Four shares of variance 64 in steps of a sixteenth: 16 steps, one unit; rounding adds 4/12 to the 256."""
    noise = SumNoise(4, 1.0, 1.0, 192.0, 64.0, 0.0)
    assert math.sqrt(256 + 1 / 3) / 16 == pytest.approx(noise.deviation(contributors=4))


def test_a_total_may_be_off_by_the_head_room() -> None:
    noise = SumNoise(4, 1.0, 1.0, 192.0, 64.0, 0.0)
    assert headroom(64.0, 4, 10) / 16 == noise.reach(contributors=4, size=10)


@pytest.mark.parametrize("dtype", [np.uint32, np.uint64])
def test_noise_is_added_modulo_the_word_size(dtype: Any) -> None:
    words = np.array([0, 1, np.iinfo(dtype).max, 7], dtype=dtype)
    expected = [
        (word + noise) % (int(np.iinfo(dtype).max) + 1)
        for word, noise in zip(words.tolist(), Stream(key(1)).skellam(1e5, 4).tolist(), strict=True)
    ]
    add_noise(words, 1e5, Stream(key(1)))
    assert expected == words.tolist()


def test_noise_may_leave_a_constant_weight_alone() -> None:
    words = np.zeros(11, dtype=np.uint64)
    add_noise(words[:-1], 1e5, Stream(key(1)))
    assert [True] * 10 + [False] == (words != 0).tolist()


def test_shares_add_up_to_the_noise_of_one_curator() -> None:
    """Chi-square of 60,000 sums of five shares of variance 1.6 against Skellam's law of variance 8."""
    from scipy.stats import chisquare, skellam

    words = np.zeros(60_000, dtype=np.uint32)
    for site in range(5):
        add_noise(words, 1.6, Stream(key(site)))
    reach = 9
    observed = np.bincount(np.clip(words.view(np.int32), -reach, reach) + reach)
    law = skellam.pmf(np.arange(-reach, reach + 1), 4.0, 4.0)
    law[[0, -1]] += (1 - law.sum()) / 2
    assert chisquare(observed, law * 60_000).pvalue > 1e-3


def test_a_noised_sum_comes_back_in_units() -> None:
    """Three sites of 100 numbers: the mean error of 100 is within five standard errors, and no error is 0."""
    noise = sum_noise(1.0, (math.inf, 2.0), WIDE, THREE, 64)
    entries = (*WIDE, Entry("weight", (), 1.0, 0.5))
    plan = word_plan(entries, noise, THREE, 64)
    values = np.append(np.linspace(-500.0, 500.0, 100), 1.0)
    total = np.zeros(plan.size, dtype=np.uint64)
    for site in range(3):
        words = fixedpoint.encode(plan, values, None)
        add_noise(words[:-1], noise.share, Stream(key(site)))
        total += words
    error = fixedpoint.decode(plan, total) - 3 * values
    deviation = noise.deviation(contributors=3)
    assert (0.0, True) == (error[-1], 0 < abs(error[:-1].mean()) < 5 * deviation / 10)
    assert deviation * 0.7 < error[:-1].std() < deviation * 1.3


def test_words_of_a_noised_vector_have_one_scale() -> None:
    noise = sum_noise(1.0, (math.inf, 2.0), WIDE, THREE, 32)
    assert (9, 9) == word_plan((*WIDE, Entry("weight", (), 1.0, 0.5)), noise, THREE, 32).fraction_bits


def test_an_entry_without_noise_that_does_not_fit_is_refused() -> None:
    noise = sum_noise(1.0, (math.inf, 2.0), WIDE, THREE, 32)
    with pytest.raises(StudyError, match="do not fit"):
        word_plan((*WIDE, Entry("rows", (), 1e7, 0.5)), noise, THREE, 32)


def test_the_chance_that_a_sum_wraps_is_one_in_10_to_the_12() -> None:
    assert 1e-12 > mechanisms.WRAP > 5e-13
