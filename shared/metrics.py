"""Metrics with intervals, and curves, from the sums of ``shared/scores.py``.

Rows in one bin are ties, as in scikit-learn's treatment of equal scores, so AUROC and average precision differ from
the row-wise values only by what happens inside a bin. Several classes are judged one against the rest, and averaged
over the classes that occur (macro).

Intervals of AUROC, average precision and accuracy are percentiles over Poisson resamples of the counts (Chamandy et al.
2012, "Estimating uncertainty for massive data streams"): each row is drawn Poisson(1) times, so each count c is drawn
Poisson(c), without knowing the rows; classes are resampled independently. Intervals of Brier score and log loss follow
from the sums of the rows' squares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from shared.scores import CALIBRATION_GROUPS, ClassSums, Floats, NumberSums, Sums, bin_centres, probabilities

_NO_VARIANCE = 1e-9
"""A label's variance below this share of its squared range is rounding, not spread."""
_DRAWN_AT_ONCE = 500_000
"""Resampled counts held in memory at a time: 4 MB, whatever the number of rows and resamples."""

CLASS_METRICS = ("auroc", "average_precision", "accuracy", "brier", "log_loss")
NUMBER_METRICS = ("mae", "rmse", "r2")


@dataclass(frozen=True)
class Interval:
    """A value and the 2.5 and 97.5 percentiles of its resamples; NaN where undefined."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Curve:
    """What is drawn of one judged class; or of a number, where only the last three are filled.

    name: of the class.
    false_positive_rate, true_positive_rate: of the ROC curve, from (0, 0) to (1, 1).
    recall, precision: of the precision-recall curve, by falling threshold.
    predicted, observed, rows: calibration: mean prediction, share (or mean) observed, and rows, for each group that
        has rows. Of noised sums, rows are as many as would tell the observed share that well without noise.
    """

    name: str
    false_positive_rate: Floats
    true_positive_rate: Floats
    recall: Floats
    precision: Floats
    predicted: Floats
    observed: Floats
    rows: Floats


@dataclass(frozen=True, eq=False)
class Judgement:
    """How good one model is on one set of held-out rows.

    metrics: ``CLASS_METRICS`` or ``NUMBER_METRICS`` with intervals.
    n: rows.
    curves: one for each judged class, or one for a number.
    classes, confusion: names, and rows by true and predicted class; empty for a number. Of noised sums over more than
        two classes there is no confusion table, and no count is whole.
    diagnostics: of noised sums over two classes: ``sensitivity``, ``specificity``, ``ppv`` and ``npv``, with intervals
        that know the noise. Of exact sums they follow from ``confusion``.
    by_patient: whether ``n`` counts patients, and each counts once in the metrics, however many rows there are of one.
    """

    metrics: Mapping[str, Interval]
    n: int
    curves: tuple[Curve, ...]
    classes: tuple[str, ...] = ()
    confusion: Floats = field(default_factory=lambda: np.zeros((0, 0)))
    diagnostics: Mapping[str, Interval] = field(default_factory=dict)
    by_patient: bool = False

    def values(self) -> dict[str, float | int | None]:
        """Return the point values and ``n``, as ``metrics.json`` has them: None where undefined."""
        values: dict[str, float | int | None] = {
            name: None if math.isnan(metric.value) else metric.value for name, metric in self.metrics.items()
        }
        return {**values, "n": self.n}


def judge(sums: Sums, replicates: int, generator: np.random.Generator) -> Judgement:
    """Return metrics with 95 % intervals, and the curves.

    replicates: Poisson resamples.
    """
    if isinstance(sums, NumberSums):
        return _judge_number(sums, replicates, generator)
    metrics = _class_values(sums)
    samples = _class_samples(sums, replicates, generator)
    intervals = {name: interval_of(metrics[name], samples[name]) for name in samples}
    intervals["brier"] = _mean_interval(sums.brier, sums.brier_squared, sums.n)
    intervals["log_loss"] = _mean_interval(sums.log_loss, sums.log_loss_squared, sums.n)
    names = sums.classes[1:] if len(sums.classes) == 2 else sums.classes
    curves = tuple(_curve(name, counts) for name, counts in zip(names, sums.histogram, strict=True))
    return Judgement(intervals, sums.n, curves, sums.classes, sums.confusion)


def _class_values(sums: ClassSums) -> dict[str, float]:
    n = sums.n
    auroc, precision = ranking(sums.histogram)
    return {
        "auroc": _mean(auroc),
        "average_precision": _mean(precision),
        "accuracy": float(np.trace(sums.confusion)) / n if n else math.nan,
        "brier": sums.brier / n if n else math.nan,
        "log_loss": sums.log_loss / n if n else math.nan,
    }


def ranking(histogram: Floats) -> tuple[Floats, Floats]:
    """Return (AUROC, average precision) for histograms of shape (..., 2, bins); NaN where a class is absent.

    AUROC is the chance that a random row inside scores above a random row outside, ties counting half (Mann-Whitney).
    """
    outside, inside = histogram[..., 0, ::-1], histogram[..., 1, ::-1]
    false_positives, true_positives = np.cumsum(outside, axis=-1), np.cumsum(inside, axis=-1)
    n_out, n_in = outside.sum(axis=-1), inside.sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        beaten = (outside * (true_positives - 0.5 * inside)).sum(axis=-1)
        auroc = beaten / (n_out * n_in)
        precision = true_positives / (true_positives + false_positives)
        average = (np.where(inside > 0, precision, 0.0) * inside).sum(axis=-1) / n_in
    undefined = (n_out == 0) | (n_in == 0)
    return np.where(undefined, np.nan, auroc), np.where(undefined, np.nan, average)


def _class_samples(sums: ClassSums, replicates: int, generator: np.random.Generator) -> dict[str, Floats]:
    """Return the resamples of AUROC, average precision and accuracy, each of shape (replicates,)."""
    auroc, precision = [], []
    for counts in sums.histogram:
        filled = np.flatnonzero(counts.sum(axis=0))  # empty bins stay empty: only filled ones are drawn
        ranked = []
        for batch in batches(replicates, 2 * len(filled)):
            size = (batch.stop - batch.start, 2, len(filled))
            ranked.append(ranking(generator.poisson(counts[:, filled], size=size).astype(np.float64)))
        auroc.append(np.concatenate([each[0] for each in ranked]))
        precision.append(np.concatenate([each[1] for each in ranked]))
    cells = generator.poisson(sums.confusion, size=(replicates, *sums.confusion.shape))
    accuracy = np.trace(cells, axis1=1, axis2=2) / np.maximum(cells.sum(axis=(1, 2)), 1)
    values = _class_values(sums)
    return {
        "auroc": centred(mean_defined(np.stack(auroc)), values["auroc"]),
        "average_precision": centred(mean_defined(np.stack(precision)), values["average_precision"]),
        "accuracy": accuracy,
    }


def centred(samples: Floats, value: float, most: float = 1.0) -> Floats:
    """Return resamples of a share moved so that their mean is the value, within [0, most].

    A row that is drawn twice ties with itself, which lifts resampled average precision above what new rows would give.
    """
    return np.clip(samples + (value - _mean(samples)), 0.0, most)


def _mean_interval(total: float, squares: float, n: int) -> Interval:
    """Return the mean over n rows with its normal 95 % interval: the limit of the Poisson bootstrap of a mean."""
    if not n:
        return Interval(math.nan, math.nan, math.nan)
    mean = total / n
    half = 1.96 * math.sqrt(max(squares / n - mean * mean, 0.0) / n)
    return Interval(mean, max(mean - half, 0.0), mean + half)


def batches(replicates: int, size: int) -> list[slice]:
    """Return slices of the resamples, each of at most ``_DRAWN_AT_ONCE`` counts; the stream of draws is the same."""
    step = max(1, _DRAWN_AT_ONCE // max(size, 1))
    return [slice(start, min(start + step, replicates)) for start in range(0, replicates, step)]


def _curve(name: str, counts: Floats) -> Curve:
    outside, inside = counts[0, ::-1], counts[1, ::-1]
    filled = np.flatnonzero(outside + inside)
    false_positives, true_positives = np.cumsum(outside[filled]), np.cumsum(inside[filled])
    n_out, n_in = max(float(outside.sum()), 1.0), max(float(inside.sum()), 1.0)
    p = probabilities(bin_centres(counts.shape[-1]))
    group = np.minimum((p * CALIBRATION_GROUPS).astype(np.int64), CALIBRATION_GROUPS - 1)
    rows = counts.sum(axis=0)
    sums = [np.bincount(group, weights=w, minlength=CALIBRATION_GROUPS) for w in (rows, rows * p, counts[1])]
    used = sums[0] > 0
    return Curve(
        name=name,
        false_positive_rate=np.concatenate([[0.0], false_positives / n_out]),
        true_positive_rate=np.concatenate([[0.0], true_positives / n_in]),
        recall=true_positives / n_in,
        precision=true_positives / (true_positives + false_positives),
        predicted=sums[1][used] / sums[0][used],
        observed=sums[2][used] / sums[0][used],
        rows=sums[0][used].astype(np.float64),
    )


def _judge_number(sums: NumberSums, replicates: int, generator: np.random.Generator) -> Judgement:
    n, width = max(sums.n, 1), sums.width
    variance = sums.label_squared / n - (sums.label / n) ** 2
    if variance < _NO_VARIANCE:
        variance = 0.0
    bins = len(sums.histogram)
    filled = np.flatnonzero(sums.histogram)
    error = (filled + 0.5) * (2.0 / bins) - 1.0
    costs = np.stack([np.ones_like(error), np.abs(error), np.square(error)], axis=1)
    resampled = np.concatenate(
        [
            generator.poisson(sums.histogram[filled], size=(batch.stop - batch.start, len(filled))) @ costs
            for batch in batches(replicates, len(filled))
        ]
    )
    absolute, squared = (resampled[:, column] / np.maximum(resampled[:, 0], 1) for column in (1, 2))

    def r2(mean_squared: Floats) -> Floats:
        return 1.0 - mean_squared / variance if variance > 0 else np.full_like(mean_squared, np.nan)

    exact = np.array([sums.squared / n]) if sums.n else np.array([np.nan])
    metrics = {
        "mae": interval_of(width * sums.absolute / n if sums.n else math.nan, width * absolute),
        "rmse": interval_of(width * float(np.sqrt(exact[0])), width * np.sqrt(squared)),
        "r2": interval_of(float(r2(exact)[0]), r2(squared)),
    }
    groups = sums.groups[sums.groups[:, 0] > 0]
    none = np.zeros(0)
    predicted, observed = (sums.low + width * groups[:, column] / groups[:, 0] for column in (1, 2))
    return Judgement(metrics, sums.n, (Curve("", none, none, none, none, predicted, observed, groups[:, 0]),))


def interval_of(value: float, samples: Floats) -> Interval:
    """Return a value with the percentiles of its resamples, those that are defined."""
    defined = samples[~np.isnan(samples)]
    if math.isnan(value) or not len(defined):
        return Interval(value, math.nan, math.nan)
    low, high = np.percentile(defined, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def _mean(values: Floats) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else math.nan


def mean_defined(values: Floats) -> Floats:
    """Return the mean over the first axis of the defined values; NaN where none is."""
    defined = ~np.isnan(values)
    count = defined.sum(axis=0)
    total = np.where(defined, values, 0.0).sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
