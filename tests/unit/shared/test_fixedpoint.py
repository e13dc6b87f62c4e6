"""Words: exact sums, proved not to wrap, that refuse what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import fixedpoint
from shared.errors import ProtocolError, Refusal, StudyError
from shared.layout import Entry


def plan_for(
    bound: float, bits: int = 64, sites: int = 3, size: int = 2, precision: float = 1.0
) -> fixedpoint.WordPlan:
    return fixedpoint.plan((Entry("x", (size,), bound, precision),), bits, sites)


def test_one_and_a_half_with_two_fraction_bits_is_six() -> None:
    # 32 bits, one site: largest sum 2**31 - 1. A bound of 2**28 leaves two
    # fraction bits: 2**30 + 1 fits, 2**31 does not.
    plan = plan_for(2.0**28, bits=32, sites=1)
    assert plan.fraction_bits == (2,)
    assert fixedpoint.encode(plan, np.array([1.5, -1.5]), None).tolist() == [6, 2**32 - 6]


def test_three_sites_at_their_bound_do_not_wrap() -> None:
    plan = plan_for(100.0, bits=32)
    words = [fixedpoint.encode(plan, np.array([100.0, -100.0]), None) for _ in range(3)]
    total = words[0] + words[1] + words[2]
    assert fixedpoint.decode(plan, total).tolist() == [300.0, -300.0]


@given(
    bound=st.floats(1e-6, 1e12),
    sites=st.integers(1, 200),
    bits=st.sampled_from([32, 64]),
)
def test_the_proof_holds_in_integers_for_every_plan(bound: float, sites: int, bits: int) -> None:
    try:
        (fraction,) = plan_for(bound, bits, sites, precision=1e15).fraction_bits
    except StudyError:
        return
    largest_of_one = int(np.ceil(np.ldexp(bound, fraction))) + 1
    assert sites * largest_of_one <= 2 ** (bits - 1) - 1


@settings(max_examples=50)
@given(
    values=st.lists(st.lists(st.floats(-50, 50), min_size=3, max_size=3), min_size=1, max_size=7), order=st.randoms()
)
def test_the_sum_is_the_same_in_every_order_and_right_to_half_a_step_a_site(values: list[list[float]], order) -> None:
    plan = plan_for(50.0, bits=32, sites=len(values), size=3)
    words = [fixedpoint.encode(plan, np.array(vector), None) for vector in values]
    shuffled = list(words)
    order.shuffle(shuffled)
    total = sum(words[1:], words[0])
    assert np.array_equal(total, sum(shuffled[1:], shuffled[0]))
    step = 2.0 ** -plan.fraction_bits[0]
    assert np.abs(fixedpoint.decode(plan, total) - np.sum(values, axis=0)).max() <= len(values) * step / 2 + 1e-12


def test_counts_are_exact_in_both_word_sizes() -> None:
    for bits in (32, 64):
        plan = plan_for(1e6, bits=bits, sites=100, precision=0.5)
        words = fixedpoint.encode(plan, np.array([999_999.0, 0.0]), None)
        assert fixedpoint.decode(plan, words).tolist() == [999_999.0, 0.0]


def test_stochastic_rounding_is_unbiased() -> None:
    plan = fixedpoint.plan((Entry("x", (40_000,), 2.0**28, 1.0),), 32, 1)  # steps of 1/4
    words = fixedpoint.encode(plan, np.full(40_000, 0.1), np.random.default_rng(0))
    decoded = fixedpoint.decode(plan, words)
    assert set(decoded.tolist()) == {0.0, 0.25}
    assert decoded.mean() == pytest.approx(0.1, abs=4 * 0.125 / 200)  # four standard errors


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(bad: float) -> None:
    with pytest.raises(Refusal, match="not-finite: x"):
        fixedpoint.encode(plan_for(10.0), np.array([1.0, bad]), None)


def test_beyond_the_bound_is_a_refusal_never_a_clip() -> None:
    with pytest.raises(Refusal, match=r"beyond-bound: x exceeds its declared bound 10$"):
        fixedpoint.encode(plan_for(10.0), np.array([1.0, 10.0001]), None)


def test_a_study_whose_words_are_too_coarse_is_refused_before_a_round() -> None:
    # 1000 sites with values up to 1e6 leave 2**31 / 1e9 = about 2 steps a unit.
    with pytest.raises(StudyError, match=r"with 1000 sites.*steps of 0\.5.*needs 0\.001"):
        plan_for(1e6, bits=32, sites=1000, precision=1e-3)


def test_words_of_another_type_or_length_are_not_words() -> None:
    plan = plan_for(1.0, bits=32)
    with pytest.raises(ProtocolError, match="wrong-type"):
        fixedpoint.decode(plan, np.zeros(2))  # type: ignore[arg-type]
    with pytest.raises(ProtocolError, match="wrong-shape"):
        fixedpoint.decode(plan, np.zeros(1, dtype=np.uint32))


def test_stochastic_rounding_of_64_bit_words_is_not_offered() -> None:
    with pytest.raises(ValueError, match="32"):
        fixedpoint.encode(plan_for(1.0), np.zeros(2), np.random.default_rng(0))


@pytest.mark.parametrize("value", [3.0, -3.0])
def test_a_sum_beyond_what_so_many_contributions_can_add_up_to_is_named(value: float) -> None:
    made = fixedpoint.plan((Entry("x", (), 1.0, 1e-3), Entry("y", (), 5.0, 1e-3)), 64, 4)
    fixedpoint.check_sum(made, np.array([value, 9.0]), 3)
    with pytest.raises(ProtocolError, match="x exceeds what 2 contributions can add up to"):
        fixedpoint.check_sum(made, np.array([value, 9.0]), 2)
