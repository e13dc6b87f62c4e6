"""The difference of two models, by hand."""

from __future__ import annotations

import dataclasses
import math

import pytest

from server.gain import apart, gain, too_few
from shared.metrics import Interval
from tests.unit.server.outcomes import Triple, judgement, study_of

STUDY = study_of()
HIGH, LOW = (0.95, 0.93, 0.97), (0.70, 0.65, 0.75)
UNDEFINED = (math.nan, math.nan, math.nan)


def test_a_gain_is_the_difference_with_the_root_of_summed_squares() -> None:
    """0.9 (0.86 to 0.93) less 0.8 (0.77 to 0.83): from 0.1 - sqrt(0.04**2 + 0.03**2) to 0.1 + sqrt(2 * 0.03**2)."""
    found = gain("auroc", Interval(0.9, 0.86, 0.93), Interval(0.8, 0.77, 0.83))
    assert (0.1, 0.05, 0.1 + 0.03 * math.sqrt(2)) == pytest.approx(dataclasses.astuple(found))


def test_a_smaller_error_is_a_gain() -> None:
    found = gain("mae", Interval(4.0, 3.0, 5.0), Interval(10.0, 9.0, 11.0))
    assert (6.0, 6 - math.sqrt(2), 6 + math.sqrt(2)) == pytest.approx(dataclasses.astuple(found))


@pytest.mark.parametrize(("other", "sign"), [(LOW, 1), (HIGH, 0), ((0.99, 0.985, 0.995), -1), (UNDEFINED, 0)])
def test_models_are_apart_where_the_interval_of_the_gain_excludes_zero(other: Triple, sign: int) -> None:
    assert apart("auroc", judgement(STUDY, auroc=HIGH), judgement(STUDY, auroc=other)) == sign


def test_nine_rows_tell_no_models_apart() -> None:
    perfect, poor = judgement(STUDY, 9, auroc=(1.0, 1.0, 1.0)), judgement(STUDY, 9, auroc=(0.5, 0.4, 0.6))
    assert too_few(perfect)
    assert apart("auroc", perfect, poor) == 0


@pytest.mark.parametrize(
    ("task", "n", "few"), [("multiclass", 14, True), ("multiclass", 15, False), ("number", 19, True)]
)
def test_how_many_rows_are_too_few(task: str, n: int, few: bool) -> None:
    assert too_few(judgement(study_of(task), n)) is few


def test_what_differs_by_rounding_is_the_same() -> None:
    together, pooled = Interval(0.97, 0.9, 1.0), Interval(0.97 + 1e-15, 0.9, 1.0)
    assert 0.0 == gain("mae", together, pooled).value
