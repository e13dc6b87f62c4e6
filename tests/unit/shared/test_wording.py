"""How numbers are printed."""

from __future__ import annotations

import math

import pytest

from shared import wording
from shared.metrics import CLASS_METRICS, NUMBER_METRICS, Interval


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [
        ("auroc", 0.99449, "0.994"),
        ("r2", -0.25, "\N{MINUS SIGN}0.250"),
        ("mae", 4.9012, "4.90"),
        ("mae", 0.0123, "0.0123"),
        ("rmse", 12345.6, "12,346"),
        ("mae", 0.0, "0"),
        ("mae", 1.5e-9, "1.50e-09"),
        ("auroc", math.nan, wording.UNDEFINED),
    ],
)  # fmt: skip
def test_values_have_three_decimals_or_three_digits(metric: str, value: float, text: str) -> None:
    assert wording.value_text(metric, value) == text


def test_an_interval_names_its_unit_and_level() -> None:
    text = wording.interval_text("mae", Interval(4.9, 4.2, 5.6), "mmHg")
    assert text == "4.90 mmHg (95 % interval 4.20 to 5.60)"


def test_an_undefined_interval_is_a_dash() -> None:
    assert wording.range_text("auroc", Interval(0.9, math.nan, math.nan)) == wording.UNDEFINED


@pytest.mark.parametrize(
    ("count", "text"), [(999, "999 bytes"), (1500, "1.5 kB"), (2_000_000, "2.0 MB"), (3.2e12, "3.2 TB")]
)
def test_bytes_are_in_decimal_units(count: int, text: str) -> None:
    assert wording.bytes_text(int(count)) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.417, "0.42 s"), (12.34, "12.3 s"), (125.0, "2 min 5 s"), (12_000.0, "3 h 20 min")]
)
def test_durations_are_in_readable_units(seconds: float, text: str) -> None:
    assert wording.seconds_text(seconds) == text


def test_runs_of_rounds_are_drawn_together() -> None:
    assert wording.rounds_text([7, 3, 1, 5, 6]) == "1, 3, 5 to 7"


def test_metrics_that_are_initials_keep_their_capitals_in_a_sentence() -> None:
    assert [wording.in_sentence(label) for label in ("AUROC", "R²", "Mean absolute error")] == [
        "AUROC",
        "R²",
        "mean absolute error",
    ]


def test_every_metric_has_words() -> None:
    assert wording.METRIC_WORDS.keys() >= {*CLASS_METRICS, *NUMBER_METRICS}
