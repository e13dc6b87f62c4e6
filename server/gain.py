"""By how much one model is better than another, and whether that may be chance.

The 95 % interval of a difference is made from the two models' intervals as if they were independent (Zou and Donner
2008, "Construction of confidence limits about effect measures", Statistics in Medicine 27:1693-1702). That is cautious:
both are judged on the same patients, which usually makes the true interval narrower, but sums over patients do not say
by how much.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from shared.metrics import Interval, Judgement
from shared.wording import METRIC_WORDS

_FEWEST_NUMBERS, _FEWEST_OF_CLASS = 20, 5
"""Below these, resampling gives no trustworthy interval: a perfect ranking of nine rows has the interval 1 to 1."""


def gain(metric: str, together: Interval, other: Interval) -> Interval:
    """Return by how much ``together`` is better than ``other``, with a 95 % interval; NaN where either is undefined."""
    a, b = (together, other) if METRIC_WORDS[metric].better > 0 else (_mirrored(together), _mirrored(other))
    # What differs by rounding alone is the same: sums over hospitals are added in another order than pooled rows.
    value = 0.0 if math.isclose(a.value, b.value, rel_tol=1e-9) else a.value - b.value
    low = value - math.hypot(a.value - a.low, b.high - b.value)
    high = value + math.hypot(a.high - a.value, b.value - b.low)
    return Interval(value, low, high)


def _mirrored(interval: Interval) -> Interval:
    return Interval(-interval.value, -interval.high, -interval.low)


def too_few(judgement: Judgement) -> bool:
    """Whether there are too few rows (of one class) for an interval to be trusted."""
    if not judgement.classes:
        return judgement.n < _FEWEST_NUMBERS
    if len(judgement.classes) == 2:
        return bool(judgement.confusion.sum(axis=1).min() < _FEWEST_OF_CLASS)
    return judgement.n < _FEWEST_OF_CLASS * len(judgement.classes)


def apart(metric: str, together: Judgement, other: Judgement) -> Literal[-1, 0, 1]:
    """Return 1 if ``together`` is clearly better, -1 if clearly worse, 0 if that may be chance or is undefined."""
    difference = gain(metric, together.metrics[metric], other.metrics[metric])
    if too_few(together) or too_few(other) or math.isnan(difference.low) or math.isnan(difference.high):
        return 0
    return 1 if difference.low > 0 else -1 if difference.high < 0 else 0


@dataclass(frozen=True)
class Comparison:
    """The model trained together against models trained alone, by one metric.

    better, worse: names of those that it is clearly better and clearly worse than.
    unclear: names of those from which its difference may be chance.
    """

    better: tuple[str, ...]
    worse: tuple[str, ...]
    unclear: tuple[str, ...]

    @property
    def compared(self) -> int:
        """Number of models compared."""
        return len(self.better) + len(self.worse) + len(self.unclear)


def compare(metric: str, together: Judgement, others: Mapping[str, Judgement]) -> Comparison:
    """Compare the model trained together with every other one whose metric is defined."""
    signs = {
        name: apart(metric, together, other)
        for name, other in others.items()
        if not math.isnan(other.metrics[metric].value)
    }
    better, worse, unclear = (tuple(name for name, sign in signs.items() if sign == wanted) for wanted in (1, -1, 0))
    return Comparison(better, worse, unclear)
