"""How numbers and metrics are said to people: the same in every report and on the model card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shared.metrics import Interval

UNDEFINED = "\N{EN DASH}"
"""Stands for a value that is not defined, such as the AUROC of patients who all belong to one class."""

NOT_SHOWN = "not shown"
"""Stands for a value that a hospital's own policy does not show to others."""


@dataclass(frozen=True)
class MetricWords:
    """How one metric is presented.

    label: its usual name.
    better: 1 where higher values are better, -1 where lower ones are, 0 where neither is.
    meaning: one sentence.
    decides: whether a model with a better value is the better model.
    """

    label: str
    better: Literal[1, 0, -1]
    meaning: str
    decides: bool = True

    @property
    def direction(self) -> str:
        """``higher is better``; empty where neither is."""
        return {1: "higher is better", -1: "lower is better", 0: ""}[self.better]


METRIC_WORDS: dict[str, MetricWords] = {
    "auroc": MetricWords(
        "AUROC",
        1,
        "The chance that a random patient of the class gets a higher score than a random one outside it; 0.5 is"
        " guessing, 1 is perfect. With several classes, the mean over the classes.",
    ),
    "average_precision": MetricWords(
        "Average precision",
        1,
        "Area under the precision-recall curve; guessing reaches the share of the class. With several classes, the"
        " mean.",
    ),
    "accuracy": MetricWords("Accuracy", 1, "Share of rows put into the right class."),
    "brier": MetricWords(
        "Brier score", -1, "Mean squared distance between predicted probability and what was observed; 0 is perfect."
    ),
    "log_loss": MetricWords(
        "Log loss", -1, "Mean of -log(probability given to what was observed); punishes confident errors; 0 is perfect."
    ),
    "mae": MetricWords(
        "Mean absolute error", -1, "Mean distance between prediction and observation, in the label's unit."
    ),
    "rmse": MetricWords(
        "Root mean squared error",
        -1,
        "Like the mean absolute error, but large errors count for more; in the label's unit.",
    ),
    "r2": MetricWords(
        "R²", 1, "Share of the variance that is explained; 1 is perfect, 0 is predicting the mean for everybody."
    ),
    "concordance": MetricWords(
        "Concordance",
        1,
        "Of pairs of rows of which it is known who had the event first, the share in which the model gives that one the"
        " higher hazard (Harrell's c); 0.5 is guessing, 1 is perfect.",
    ),
    "variance_explained": MetricWords(
        "Variance explained",
        1,
        "Share of the squared distance from the mean that the model accounts for; 1 is everything, 0 is putting every"
        " row at the mean. Distances are between prepared columns, so a model trained elsewhere has its own.",
    ),
    "mean_squared_distance": MetricWords(
        "Mean squared distance",
        -1,
        "Mean squared distance between a row and what the model puts in its place, between prepared columns.",
    ),
    "mean_difference": MetricWords(
        "Mean standardised difference",
        -1,
        "How far the means of held-out patients lie from the table's, in its standard deviations, averaged over numbers"
        " and levels; 0 is the same.",
    ),
    "bellman_error": MetricWords(
        "Mean Bellman error",
        -1,
        "How far the values of the actions contradict themselves from one row to the next, in the reward's unit; 0 is"
        " not at all. It does not tell whether the policy is good.",
        decides=False,
    ),
    "policy_value": MetricWords(
        "Estimated value of the policy",
        0,
        "What the values promise for a patient's first row, in the reward's unit. Mostly too much: the best of several"
        " estimates is too high, and sicker patients may have been treated otherwise.",
    ),
    "observed_return": MetricWords(
        "Observed return",
        0,
        "Mean discounted sum of the recorded rewards of a patient, in the reward's unit: of the patients as they were"
        " treated, whatever the model.",
    ),
    "policy_agreement": MetricWords(
        "Agreement with the record",
        0,
        "Share of a patient's rows in which the recorded action is the one of largest value; neither high nor low"
        " values are good in themselves.",
    ),
}


IN_LABEL_UNIT = ("mae", "rmse", "bellman_error", "policy_value", "observed_return")
"""Metrics in the label's unit."""

AMOUNTS = (*IN_LABEL_UNIT, "mean_squared_distance")
"""Metrics that are no shares."""


def value_text(metric: str, value: float) -> str:
    """Return a metric's value as tables print it: three decimals for shares, three digits for amounts in a unit."""
    if not math.isfinite(value):
        return UNDEFINED
    return _signed(f"{value:.3f}") if metric not in AMOUNTS else number_text(value)


def in_sentence(label: str) -> str:
    """Return a metric's name as it stands inside a sentence: ``mean absolute error``, but ``AUROC``."""
    return label if label[:2].isupper() else label[0].lower() + label[1:]


def _signed(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text


def range_text(metric: str, interval: Interval) -> str:
    """Return ``0.985 to 0.999``, or a dash where the interval is not defined."""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return UNDEFINED
    return f"{value_text(metric, interval.low)} to {value_text(metric, interval.high)}"


def interval_text(metric: str, interval: Interval, unit: str = "") -> str:
    """Return ``0.994 (95 % interval 0.985 to 0.999)``."""
    return f"{value_text(metric, interval.value)}{unit and ' ' + unit} (95 % interval {range_text(metric, interval)})"


def number_text(value: float, digits: int = 3) -> str:
    """Return a number with at least ``digits`` significant digits, thousands separated, no exponent where avoidable."""
    if not math.isfinite(value):
        return UNDEFINED
    if value == 0.0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -5 or exponent > 11:
        return _signed(f"{value:.{digits - 1}e}")
    return _signed(f"{value:,.{max(0, digits - 1 - exponent)}f}")


def share_text(part: float, whole: float) -> str:
    """Return ``12.5 %``; a dash when there is no whole."""
    return f"{100.0 * part / whole:.1f} %" if whole else UNDEFINED


def bytes_text(count: int) -> str:
    """Return a number of bytes in decimal units: ``1.2 MB``."""
    if count < 1000:
        return f"{count} bytes"
    for power, unit in ((1, "kB"), (2, "MB"), (3, "GB")):
        if count < 1000 ** (power + 1):
            return f"{count / 1000**power:.1f} {unit}"
    return f"{count / 1000**4:,.1f} TB"


def seconds_text(seconds: float) -> str:
    """Return a duration: ``0.42 s``, ``12.3 s``, ``2 min 5 s``, ``3 h 20 min``."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def rounds_text(rounds: Sequence[int]) -> str:
    """Return numbers with runs drawn together: ``1, 3 to 5``."""
    parts: list[list[int]] = []
    for number in sorted(set(rounds)):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in parts)


def plural(count: int, noun: str) -> str:
    """Return ``1 hospital``, ``5 hospitals``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
