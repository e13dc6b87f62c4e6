"""Times on a grid that hospitals share: who leaves in which interval, and how well a score orders who leaves first.

The grid cuts the label's declared range into intervals of equal width. It is known before any data: no hospital's times
choose an edge, and no exchange is needed for it.

Concordance (Harrell et al. 1982, "Evaluating the yield of medical tests", JAMA 247(18)): of all pairs of rows of which
it is known who had the event first, the share in which that one has the higher score, equal scores counting half. Of
two rows of one interval, one with and one without the event, the event was first; of two events, nothing is known. It
follows from a histogram, rows by score bin, interval and event, so it adds over hospitals. Intervals are percentiles
over Poisson resamples of the counts (``shared/metrics.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays, Examples
from shared.methods import subsets
from shared.methods.measures import Predictor, Summed
from shared.metrics import Interval, Judgement, batches, centred, interval_of
from shared.preparation import Preparation
from shared.scores import bin_of

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

SCORE_BINS = 512
"""As of ``shared/scores.py``: near zero a bin is 0.03 wide."""


@dataclass(frozen=True)
class Grid:
    """Intervals of equal width from ``low`` to ``high``, each without its end but the last."""

    low: float
    high: float
    intervals: int

    def index(self, times: Floats) -> Indices:
        """Return the interval of each time, from 0."""
        share = (times - self.low) / (self.high - self.low)
        return np.clip((share * self.intervals).astype(np.int64), 0, self.intervals - 1)

    @property
    def ends(self) -> Floats:
        """The end of each interval, shape (intervals,)."""
        return self.low + (self.high - self.low) * np.arange(1, self.intervals + 1) / self.intervals


def coarsened(cells: Indices, kinds: Indices, patients: Indices, least: int) -> Indices:
    """Return the intervals of one hospital's rows after joining those with too few of its patients.

    Beginning with the first, intervals are joined until there are ``least`` patients of each kind, or none of it; what
    is left over at the end joins those before. All rows of a join count in the interval of its middle row. With
    ``least`` 1 nothing changes. Where all rows together are too few, they are all in one interval.

    cells, kinds, patients: shape (n,): interval, kind, and whose row it is, from 0.
    """
    order = np.argsort(cells, kind="stable")
    ordered, sorts, whose = cells[order], kinds[order], patients[order]
    rows = len(order)

    def enough(start: int, stop: int) -> bool:
        return subsets.fewest(sorts[start:stop], whose[start:stop]) >= least

    starts = [0]
    for stop in (np.flatnonzero(np.diff(ordered, append=-1)) + 1).tolist():
        if enough(starts[-1], stop):
            starts.append(stop)
    if starts[-1] == rows:
        starts.pop()
    while len(starts) > 1 and not enough(starts[-1], rows):
        starts.pop()
    after = cells.copy()
    for start, stop in pairwise([*starts, rows]):
        if stop > start:
            after[order[start:stop]] = ordered[(start + stop - 1) // 2]
    return after


def concordance(counts: Floats) -> tuple[Floats, Floats]:
    """Return concordance, NaN where no pair is known, and the number of known pairs.

    counts: shape (..., scores, intervals, 2): rows by score, by interval, and without and with the event.
    """
    all_rows, events = counts.sum(axis=-1), counts[..., 1]
    later = np.flip(np.cumsum(np.flip(all_rows, -1), axis=-1), -1) - events
    below = np.cumsum(later, axis=-2) - 0.5 * later
    known = (events.sum(axis=-2) * later.sum(axis=-2)).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(known > 0, (events * below).sum(axis=(-2, -1)) / known, np.nan), known


@dataclass(frozen=True, eq=False)
class ConcordanceSums:
    """Rows by score bin, interval, and without and with the event: shape (SCORE_BINS, intervals, 2)."""

    histogram: Floats

    @property
    def n(self) -> int:
        """Number of rows."""
        return round(float(self.histogram.sum()))

    def judge(self, replicates: int, generator: np.random.Generator) -> Judgement:
        """Return concordance."""
        filled = self.histogram[self.histogram.any(axis=(1, 2))][:, self.histogram.any(axis=(0, 2))]
        value = float(concordance(filled)[0])
        if math.isnan(value):
            return Judgement({"concordance": Interval(value, math.nan, math.nan)}, self.n, curves=())
        drawn = [
            concordance(generator.poisson(filled, size=(batch.stop - batch.start, *filled.shape)).astype(np.float64))[0]
            for batch in batches(replicates, filled.size)
        ]
        interval = interval_of(value, centred(np.concatenate(drawn), value))
        return Judgement({"concordance": interval}, self.n, curves=())


@dataclass(frozen=True, eq=False)
class Concordance:
    """How well a score orders who has the event first: a ``Measure``. The model's score is its first column."""

    model: Predictor
    preparation: Preparation
    grid: Grid

    def layout(self) -> list[Summed]:
        """Return what is summed."""
        return [Summed("histogram", (SCORE_BINS, self.grid.intervals, 2), 1.0, True)]

    def contents(self) -> tuple[str, ...]:
        """Return what the numbers are."""
        return (
            f"how many rows got each of {SCORE_BINS} steps of the model's score, by {self.grid.intervals} intervals of"
            f" {self.preparation.contract.label}, and by whether it ended with the event",
        )

    def count(self, weights: Arrays, examples: Examples) -> ConcordanceSums:
        """Return the sums over some rows."""
        assert examples.events is not None
        said = self.model.scores(weights, self.preparation.transform(examples))[:, 0]
        shape = (SCORE_BINS, self.grid.intervals, 2)
        places = (bin_of(said, SCORE_BINS), self.grid.index(examples.labels), examples.events.astype(np.int64))
        cells = np.bincount(np.ravel_multi_index(places, shape), minlength=math.prod(shape))
        return ConcordanceSums(cells.reshape(shape).astype(np.float64))

    def arrays(self, sums: Any) -> Arrays:
        """Return sums as arrays."""
        return {"histogram": sums.histogram}

    def sums(self, arrays: Arrays) -> ConcordanceSums:
        """Return the sums over the contributing hospitals."""
        return ConcordanceSums(arrays["histogram"])
