"""What the benchmark of the methods measures are two fits of the same rows. No speed is asserted."""

from __future__ import annotations

import dataclasses

import pytest

from simulations.benchmarks import methods


def test_both_sides_of_the_glm_end_with_the_same_model() -> None:
    took = methods.glm_sides(1, 200)
    ours, theirs = took.auroc
    assert took.apart == pytest.approx(0.0, abs=1e-8)
    assert theirs == pytest.approx(ours, abs=1e-3)
    assert [1] * 6 == [len(each) for each in dataclasses.astuple(took)[:6]]
