"""What the benchmark of the methods measures are two fits of the same rows. No speed is asserted."""

from __future__ import annotations

import pytest

from simulations.benchmarks import methods


def test_both_sides_of_the_glm_end_with_the_same_coefficients() -> None:
    took = methods.glm_sides(1, 200)
    assert took.apart == pytest.approx(0.0, abs=1e-8)
    assert [1, 1, 1, 1] == [len(each) for each in (took.training, took.whole, took.exact, took.default)]
