"""Numbers in two words: their sum is that of the float64 numbers, however large the bound."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared import fixedpoint, layout
from shared.methods import two_words

SITES = 10


def summed(part: two_words.Part, values: list[float]) -> float:
    """What the aggregator reads when sites send these."""
    plan = fixedpoint.plan(two_words.entries([part]), 64, SITES)
    words = np.zeros(plan.size, np.uint64)
    for value in values:
        arrays = two_words.split([part], {part.name: np.array(value)})
        words += fixedpoint.encode(plan, layout.to_vector(plan.entries, arrays), None)
    total = layout.from_vector(plan.entries, fixedpoint.decode(plan, words))
    return float(two_words.join([part], total)[part.name])


def test_a_small_sum_of_large_numbers_keeps_its_last_digits() -> None:
    part = two_words.Part("gradient", (), 1e9)
    assert 2.0**-30 == summed(part, [12345.0 + 2.0**-30, -12345.0])


def test_a_third_word_has_what_two_round_off() -> None:
    """Beside a bound of 2**100: two reach down to 2**15, three to 2**-30."""
    values = [3.0, 1.0 + 2.0**-30, -3.0]
    assert 1.0 + 2.0**-30 == summed(two_words.Part("products", (), 2.0**100, words=3), values)
    assert 0.0 == summed(two_words.Part("products", (), 2.0**100), values)


@settings(max_examples=50)
@given(
    st.floats(1e-12, 1e30).flatmap(
        lambda bound: st.tuples(st.just(bound), st.lists(st.floats(-bound, bound), min_size=1, max_size=SITES))
    )
)
def test_a_sum_is_right_to_the_numbers_own_rounding(drawn: tuple[float, list[float]]) -> None:
    bound, values = drawn
    exact = math.fsum(values)
    assert summed(two_words.Part("sum", (), bound), values) == pytest.approx(
        exact, rel=1e-15, abs=bound * 1e-24 + 1e-14
    )
