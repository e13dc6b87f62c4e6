"""Scores counted into bins: sums that add over hospitals, from which every metric follows.

Scores are log-odds m. Bin edges are uniform in asinh(m) over |m| <= 1000, which is fine near even odds and still tells
saturated scores apart (bins of the probability cannot: their last bin holds everything above 0.999). Zero is an edge.
Rows in one bin are ties.

Numbers: absolute and squared errors, in shares of the label's declared range; predictions are first clipped to that
range, so that the contract bounds the sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

LOG_ODDS_LIMIT = 1000.0
ROW_LOSS_LIMIT = float(-np.log(np.finfo(np.float64).eps))
"""Largest log loss of one row, 36.04: scikit-learn's ``log_loss`` clips probabilities at the same place."""

CALIBRATION_GROUPS = 10


@dataclass(frozen=True, eq=False)
class ClassSums:
    """Sums over rows whose label is a class.

    classes: names by index.
    histogram: array of shape (judged, 2, bins): rows outside and inside the class, by score bin. A binary study
        judges class 1 only, others each class.
    confusion: array of shape (classes, classes): rows by true and predicted class.
    brier, log_loss: summed over rows.
    brier_squared, log_loss_squared: sums of the squares of each row's, from which their intervals follow.
    """

    classes: tuple[str, ...]
    histogram: Floats
    confusion: Floats
    brier: float
    log_loss: float
    brier_squared: float
    log_loss_squared: float

    @property
    def n(self) -> int:
        """Number of rows."""
        return round(float(self.confusion.sum()))


@dataclass(frozen=True, eq=False)
class NumberSums:
    """Sums over rows whose label is a number; errors in shares of the declared range ``width``.

    histogram: array of shape (bins,): rows by signed error (predicted - observed) in [-1, 1].
    groups: array of shape (CALIBRATION_GROUPS, 3): rows, summed prediction, summed label, by predicted tenth of the
        range.
    absolute, squared: summed errors.
    label, label_squared: summed labels.
    low, width: the declared range.
    """

    histogram: Floats
    groups: Floats
    absolute: float
    squared: float
    label: float
    label_squared: float
    low: float
    width: float

    @property
    def n(self) -> int:
        """Number of rows."""
        return round(float(self.histogram.sum()))


Sums = ClassSums | NumberSums


def log_odds(logits: NDArray[np.floating]) -> Floats:
    """Return the log-odds of each class against the rest under softmax; finite for finite logits.

    logits: array of shape (n, classes), classes >= 2.

    Returns: array of shape (n, classes): m_k = z_k - log sum_{j != k} exp z_j.
    """
    z = np.asarray(logits, dtype=np.float64)
    rest = np.empty_like(z)
    for k in range(z.shape[1]):
        rest[:, k] = np.logaddexp.reduce(np.delete(z, k, axis=1), axis=1)
    return z - rest


def probabilities(odds: NDArray[np.floating]) -> Floats:
    """Return the probability that belongs to log-odds, without overflow."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(odds, dtype=np.float64))))


def calls(odds: Floats, threshold: float) -> NDArray[np.int64]:
    """Return the class that each row is called, shape (n,): the likeliest, or of two class 1 from ``threshold`` on.

    odds: array of shape (n, classes), log-odds of each class against the rest.
    """
    if odds.shape[1] == 2:
        return (probabilities(odds)[:, 1] >= threshold).astype(np.int64)
    return np.asarray(odds.argmax(axis=1), np.int64)


def bin_of(odds: Floats, bins: int) -> NDArray[np.int64]:
    """Return the score bin of each log-odds value, 0 for the lowest scores."""
    share = np.arcsinh(np.clip(odds, -LOG_ODDS_LIMIT, LOG_ODDS_LIMIT)) / np.arcsinh(LOG_ODDS_LIMIT)
    return np.asarray(np.minimum(((share + 1.0) * (bins / 2)).astype(np.int64), bins - 1))


def bin_centres(bins: int) -> Floats:
    """Return the log-odds in the middle of each bin, shape (bins,)."""
    share = (np.arange(bins) + 0.5) * (2.0 / bins) - 1.0
    return np.asarray(np.sinh(share * np.arcsinh(LOG_ODDS_LIMIT)))


def count_classes(odds: Floats, labels: Floats, classes: tuple[str, ...], bins: int, threshold: float) -> ClassSums:
    """Count rows into the sums that ``judge`` needs.

    odds: array of shape (n, classes), log-odds of each class against the rest.
    labels: array of shape (n,), class indices.
    bins: bins of a histogram, even.
    threshold: a binary row is called positive when its probability is at least this.
    """
    own = labels.astype(np.int64)
    judged = [1] if len(classes) == 2 else list(range(len(classes)))
    histogram = np.zeros((len(judged), 2, bins))
    for index, k in enumerate(judged):
        inside = (own == k).astype(np.int64)
        counts = np.bincount(inside * bins + bin_of(odds[:, k], bins), minlength=2 * bins)
        histogram[index] = counts.reshape(2, bins)
    p = probabilities(odds)
    cells = np.bincount(own * len(classes) + calls(odds, threshold), minlength=len(classes) ** 2)
    hit = np.zeros_like(p)
    hit[np.arange(len(own)), own] = 1.0
    brier = np.square(p - hit)[:, judged].sum(axis=1)
    loss = np.minimum(np.logaddexp(0.0, -odds[np.arange(len(own)), own]), ROW_LOSS_LIMIT)
    confusion = cells.reshape(len(classes), len(classes)).astype(np.float64)
    sums = (float(values.sum()) for values in (brier, loss, np.square(brier), np.square(loss)))
    return ClassSums(classes, histogram, confusion, *sums)


def count_numbers(predicted: Floats, labels: Floats, bounds: tuple[float, float], bins: int) -> NumberSums:
    """Count rows into the sums that ``judge`` needs.

    predicted, labels: arrays of shape (n,), in the label's unit.
    bounds: the label's declared range.
    bins: bins of the error histogram.
    """
    low, width = bounds[0], bounds[1] - bounds[0]
    p, y = np.clip((predicted - low) / width, 0.0, 1.0), (labels - low) / width
    error = p - y
    histogram = np.bincount(np.minimum(((error + 1.0) * (bins / 2)).astype(np.int64), bins - 1), minlength=bins)
    group = np.minimum((p * CALIBRATION_GROUPS).astype(np.int64), CALIBRATION_GROUPS - 1)
    groups = [np.bincount(group, weights=w, minlength=CALIBRATION_GROUPS) for w in (np.ones_like(p), p, y)]
    return NumberSums(
        histogram.astype(np.float64),
        np.stack(groups, axis=1),
        float(np.abs(error).sum()),
        float(np.square(error).sum()),
        float(y.sum()),
        float(np.square(y).sum()),
        low,
        width,
    )
