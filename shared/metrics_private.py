"""Metrics with intervals, and curves, from the noised sums of ``shared/scores_private.py``.

All of it is post-processing: it uses noised sums and the public deviation of their noise, and costs no privacy.

Noised counts become a histogram that could be: their running sums are clipped to between nothing and all, and made
monotone, as the mean of the running maximum and of the running minimum from the other end. Empty bins stay almost empty
so; clipping each bin at zero would put some patients of each class into every bin, and move AUROC towards 0.5. Inside a
bin the share of patients below a score is interpolated by a monotone cubic (Fritsch and Carlson 1980, "Monotone
piecewise cubic interpolation", SIAM J. Numer. Anal. 17:238-246), so that few bins cost AUROC 0.001 rather than 0.005.

Intervals are percentiles of a parametric bootstrap: counts are drawn anew (Poisson, as in ``shared/metrics.py``), noise
of the known deviation is added, and both go the way that the sums went. So they cover who was held out and the noise
together. Strong noise draws values towards those of guessing, average precision most.

The Brier score takes the middle of its bin for each probability, which moves it by about 0.001. Log loss has no bound
inside the outer bins, so it is not defined. What noise drowns is not defined either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shared.metrics import Curve, Interval, Judgement, batches, centred, interval_of, mean_defined, ranking
from shared.scores import CALIBRATION_GROUPS, Floats
from shared.scores_private import BINS, PrivateSums, middles

_PARTS = 8
"""Parts into which a bin is interpolated."""
_KNOWN = 2.0
"""A count is taken for one where it is more than so many standard deviations of its noise."""
_UNDEFINED = Interval(math.nan, math.nan, math.nan)
_DIAGNOSTICS = ("sensitivity", "specificity", "ppv", "npv")


@dataclass(frozen=True, eq=False)
class _Counts:
    """Counts that could be, one set or many along the first axes.

    histogram: array of shape (..., judged, 2, BINS): patients outside and inside.
    calls: array of shape (..., 2): patients called wrong and right.
    """

    histogram: Floats
    calls: Floats


def judge(sums: PrivateSums, replicates: int, generator: np.random.Generator) -> Judgement:
    """Return metrics with 95 % intervals, and the curves; NaN where noise drowns the patients.

    replicates: resamples of counts and noise.
    """
    counts = _plausible(np.stack([sums.outside, sums.inside], axis=1), sums.calls)
    binary = sums.calls is None
    totals = counts.histogram.sum(axis=-1)
    known = (totals > _KNOWN * math.sqrt(BINS) * _noise(sums)[:, 0]).all(axis=-1)
    drawn = [
        _values(_redrawn(sums, counts, batch.stop - batch.start, generator), sums, known)
        for batch in batches(replicates, counts.histogram.size * _PARTS)
    ]
    intervals = {}
    for name, found in _values(counts, sums, known).items():
        most = 2.0 if name == "brier" and not binary else 1.0
        value = float(np.clip(found, 0.0, most))  # rounding may lead a little beyond
        samples = np.concatenate([each[name] for each in drawn])
        intervals[name] = interval_of(value, centred(samples, value, most))
    diagnostics = {name: intervals.pop(name) for name in _DIAGNOSTICS if name in intervals}
    names = sums.classes[1:] if binary else sums.classes
    return Judgement(
        metrics={**intervals, "log_loss": _UNDEFINED},
        n=round(float(counts.calls.sum())),
        curves=tuple(
            _curve(name, each * sure, sums) for name, each, sure in zip(names, counts.histogram, known, strict=True)
        ),
        classes=sums.classes,
        confusion=_confusion(counts.histogram) if binary else np.zeros((0, 0)),
        diagnostics=diagnostics,
    )


def _noise(sums: PrivateSums) -> Floats:
    """Return the deviation of the noise outside and inside, shape (2, 1)."""
    return np.array([[sums.outside_noise], [sums.inside_noise]])


def _plausible(histogram: Floats, calls: Floats | None) -> _Counts:
    """Return noised counts as counts that could be."""
    smooth = _smooth(histogram)
    if calls is not None:
        return _Counts(smooth, np.maximum(calls, 0.0))
    confusion = _confusion(smooth)
    right = np.trace(confusion, axis1=-2, axis2=-1)
    return _Counts(smooth, np.stack([confusion.sum(axis=(-2, -1)) - right, right], axis=-1))


def _smooth(noised: Floats) -> Floats:
    """Return counts of the same shape, none below zero, of about the same running sums along the last axis."""
    running = np.cumsum(noised, axis=-1)
    running = np.clip(running, 0.0, np.maximum(running[..., -1:], 0.0))
    highest = np.maximum.accumulate(running, axis=-1)
    lowest = np.minimum.accumulate(running[..., ::-1], axis=-1)[..., ::-1]
    return np.asarray(np.diff((highest + lowest) / 2.0, axis=-1, prepend=0.0))


def _redrawn(sums: PrivateSums, counts: _Counts, size: int, generator: np.random.Generator) -> _Counts:
    """Return so many resamples, each with noise of its own."""
    shape = (size, *counts.histogram.shape)
    histogram = generator.poisson(counts.histogram, size=shape) + _noise(sums) * generator.normal(size=shape)
    calls = None
    if sums.calls is not None:
        calls = generator.poisson(counts.calls, size=(size, 2)) + sums.inside_noise * generator.normal(size=(size, 2))
    return _plausible(histogram, calls)


def _confusion(histogram: Floats) -> Floats:
    """Return patients by true class and call, shape (..., 2, 2), of a binary study: calls change at the middle edge."""
    halves = histogram[..., 0, :, :].reshape(*histogram.shape[:-3], 2, 2, BINS // 2)
    return np.asarray(halves.sum(axis=-1))


def _values(counts: _Counts, sums: PrivateSums, known: np.ndarray) -> dict[str, Floats]:
    """Return each metric, of the shape that the counts have before their own axes.

    known: array of shape (judged,), bool; other classes are not ranked.
    """
    n, right = counts.calls.sum(axis=-1), counts.calls[..., 1]
    noise = float(_noise(sums).max())
    enough = _KNOWN * noise * math.sqrt(2 * BINS if sums.calls is None else 2)
    auroc, precision = (np.where(known, each, np.nan) for each in ranking(_interpolated(counts.histogram)))
    p = middles(sums.edges)
    squared = np.stack([np.square(p), np.square(1.0 - p)])
    values = {
        "auroc": mean_defined(np.moveaxis(auroc, -1, 0)),
        "average_precision": mean_defined(np.moveaxis(precision, -1, 0)),
        "accuracy": _share(right, n, enough),
        "brier": _share((counts.histogram * squared).sum(axis=(-3, -2, -1)), n, enough),
    }
    if sums.calls is None:
        by_class = _confusion(counts.histogram)
        called = np.swapaxes(by_class, -2, -1)
        for names, table in ((("specificity", "sensitivity"), by_class), (("npv", "ppv"), called)):
            hits, rows = np.diagonal(table, axis1=-2, axis2=-1), table.sum(axis=-1)
            for index, name in enumerate(names):
                values[name] = _share(hits[..., index], rows[..., index], _KNOWN * noise * math.sqrt(BINS))
    return values


def _share(part: Floats, whole: Floats, enough: float) -> Floats:
    """Return part / whole, NaN where the whole may be noise alone."""
    return np.asarray(np.where(whole > enough, part / np.maximum(whole, enough), np.nan))


def _interpolated(histogram: Floats) -> Floats:
    """Return the histogram over ``_PARTS`` times as many bins."""
    from scipy.interpolate import pchip_interpolate

    running = np.concatenate([np.zeros_like(histogram[..., :1]), np.cumsum(histogram, axis=-1)], axis=-1)
    parts = np.arange(BINS * _PARTS + 1) / _PARTS
    # The inverse of a slope of next to nothing may overflow: what is made from it is then zero, as it should be.
    with np.errstate(over="ignore", under="ignore"):
        fine = pchip_interpolate(np.arange(BINS + 1.0), running, parts, axis=-1)
    # The last digits of an interpolated running sum may fall.
    return np.asarray(np.maximum(np.diff(fine, axis=-1), 0.0))


def _curve(name: str, counts: Floats, sums: PrivateSums) -> Curve:
    """Return what is drawn of one class; empty where its counts, of shape (2, BINS), are."""
    outside, inside = _interpolated(counts)[:, ::-1]
    filled = np.flatnonzero(outside + inside)
    false_positives, true_positives = np.cumsum(outside[filled]), np.cumsum(inside[filled])
    n_out, n_in = max(float(outside.sum()), 1.0), max(float(inside.sum()), 1.0)
    predicted, observed, rows = _calibration(counts, sums)
    return Curve(
        name=name,
        false_positive_rate=np.concatenate([[0.0], false_positives / n_out]),
        true_positive_rate=np.concatenate([[0.0], true_positives / n_in]),
        recall=true_positives / n_in,
        precision=true_positives / (true_positives + false_positives),
        predicted=predicted,
        observed=observed,
        rows=rows,
    )


def _calibration(counts: Floats, sums: PrivateSums) -> tuple[Floats, Floats, Floats]:
    """Return (mean prediction, observed share, rows) of each predicted tenth in which there are surely patients."""
    p = middles(sums.edges)
    tenth = np.minimum((p * CALIBRATION_GROUPS).astype(np.int64), CALIBRATION_GROUPS - 1)
    both = counts.sum(axis=0)
    rows, predicted, hits, bins = (
        np.bincount(tenth, weights=weights, minlength=CALIBRATION_GROUPS)
        for weights in (both, both * p, counts[1], np.ones(BINS))
    )
    kept = rows > _KNOWN * np.sqrt(bins) * math.hypot(sums.outside_noise, sums.inside_noise)
    rows, predicted, hits, bins = rows[kept], predicted[kept], hits[kept], bins[kept]
    likely = (hits + 1.0) / (rows + 2.0)
    sampling = likely * (1.0 - likely) / rows
    noise = bins * (np.square(sums.outside_noise * likely) + np.square(sums.inside_noise * (1.0 - likely))) / rows**2
    return predicted / rows, hits / rows, rows * sampling / (sampling + noise)
