"""What methods share that do not predict the label: the columns that they read, and how well they stand for new rows.

Columns are the prepared ones of a table, or the prepared pixels of an image, row by row. A model replaces a row x by
some x', the nearest centre or what a few components say of it; with m the mean of the training rows, the share of
variance explained on held-out rows is 1 - sum |x - x'|^2 / sum |x - m|^2. The interval is that of a ratio of means over
independent rows (Cochran 1977, "Sampling Techniques", section 6.3).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays, Examples
from shared.methods.design import Term, design_of
from shared.methods.measures import Summed
from shared.metrics import Interval, Judgement
from shared.preparation import Preparation, Prepared

if TYPE_CHECKING:
    from shared.study import Study

Floats = NDArray[np.float64]


def check_study(study: Study, name: str, kinds: tuple[str, ...] = ("table", "images")) -> None:
    """Raise ValueError unless a method of exact sums that predicts nothing can serve the study."""
    if study.privacy:
        raise ValueError(
            f"{name} adds no noise: leave [privacy] out, or train another method. Received: a [privacy] part"
        )
    if study.data.kind not in kinds:
        raise ValueError(
            f"{name} reads data of kind {' or '.join(map(repr, kinds))}. Received: kind = {study.data.kind!r}"
        )
    if study.aggregation.strategy != "FedAvg":
        raise ValueError(
            f'{name} moves its state itself: expected [aggregation] strategy = "FedAvg". Received:'
            f" {study.aggregation.strategy!r}"
        )


def terms_of(preparation: Preparation) -> tuple[Term, ...]:
    """Return the columns that are read: all prepared ones, or the pixels by row, column and channel."""
    images = preparation.contract.images
    if images is None:
        terms = design_of(preparation, every_level=True).terms
        return tuple(dataclasses.replace(term, bound=1.0) if _still(term) else term for term in terms)
    low, width = images.range[0], images.range[1] - images.range[0]
    channels = list(zip(preparation.image_mean, preparation.image_deviation, strict=True))
    pixels: list[Term] = []
    for place in np.ndindex(images.height, images.width):
        for channel, (mean, deviation) in enumerate(channels):
            name = f"pixel {place[0] + 1}, {place[1] + 1}" + (f" channel {channel + 1}" if len(channels) > 1 else "")
            # Pixels are prepared in float32: room for its last digits.
            bound = 2.0 ** math.ceil(math.log2(1.001 * max(mean, 1.0 - mean) / deviation))
            pixels.append(Term(name, len(pixels), bound, low + width * mean, width * deviation, number=True))
    return tuple(pixels)


def _still(term: Term) -> bool:
    """Whether no training row differs from another in a number: it was left unscaled (``shared/preparation.py``)."""
    return term.number and term.scale == 1.0


def rows_of(prepared: Prepared, terms: Sequence[Term]) -> Floats:
    """Return prepared rows as a matrix, shape (n, columns).

    A number without spread among the training rows is 0 in every row: unscaled, one other value would outweigh all.
    """
    rows = np.asarray(prepared.x.reshape(len(prepared), -1), dtype=np.float64)
    still = [index for index, term in enumerate(terms) if _still(term)] if prepared.x.ndim == 2 else []
    if still:
        rows = rows.copy()
        rows[:, still] = 0.0
    return rows


def spread_of(preparation: Preparation) -> tuple[Floats, Floats]:
    """Return mean and deviation of each column, as far as the preparation knows them; numbers and pixels have 0 and 1.

    Of a category of more than two levels, each level is taken to be as frequent as the others.
    """
    count = len(terms_of(preparation))
    mean, deviation = np.zeros(count), np.ones(count)
    place = 0
    for column in preparation.columns:
        width = max(column.levels - 1, 1) + (column.levels > 2)
        share = np.full(width, 1.0 / column.levels if column.levels > 2 else column.fill)
        if column.levels:
            mean[place : place + width] = share
            deviation[place : place + width] = np.sqrt(share * (1.0 - share))
        if column.indicator:
            absent = preparation.missing[column.name] / max(preparation.rows, 1)
            mean[place + width], deviation[place + width] = absent, math.sqrt(absent * (1.0 - absent))
        place += width + column.indicator
    return mean, deviation


class Standing(Protocol):
    """A model that replaces rows."""

    def distances(self, weights: Arrays, rows: Floats) -> tuple[Floats, Floats]:
        """Return each row's squared distance to what replaces it, and to the training mean; shape (n,) each."""
        ...


@dataclass(frozen=True, eq=False)
class ExplainedSums:
    """Sums over n rows of d, t, d^2, d t and t^2: squared distances to what replaces the row, and to the mean.

    unit: what distances were divided by.
    """

    n: int
    totals: tuple[float, ...]
    unit: float

    def judge(self, replicates: int, generator: np.random.Generator) -> Judgement:
        """Return the share explained, and the mean squared distance; no resamples are needed."""
        n, (d, t, dd, dt, tt) = self.n, self.totals
        nowhere = Interval(math.nan, math.nan, math.nan)
        explained = distance = nowhere
        if n:
            mean = d / n
            half = 1.96 * math.sqrt(max(dd / n - mean * mean, 0.0) / n)
            distance = Interval(*(self.unit * value for value in (mean, max(mean - half, 0.0), mean + half)))
        if t > 0:
            ratio = d / t
            half = 1.96 * math.sqrt(max(dd - 2 * ratio * dt + ratio * ratio * tt, 0.0)) / t
            explained = Interval(1.0 - ratio, 1.0 - ratio - half, min(1.0 - ratio + half, 1.0))
        return Judgement({"variance_explained": explained, "mean_squared_distance": distance}, n, curves=())


@dataclass(frozen=True, eq=False)
class Explained:
    """How well a model stands for rows that it has not seen: a ``Measure``.

    terms: the columns that it reads; their bounds bound every distance.
    """

    model: Standing
    preparation: Preparation
    terms: tuple[Term, ...]
    names: ClassVar[tuple[str, ...]] = ("d", "t", "dd", "dt", "tt")

    @property
    def unit(self) -> float:
        """Largest squared distance between two rows."""
        return 4.0 * sum(term.bound**2 for term in self.terms)

    def layout(self) -> list[Summed]:
        """Return what is summed; distances are shares of the largest one."""
        return [Summed("rows", (), 1.0, True), Summed("distances", (5,), 1.0, False)]

    def contents(self) -> tuple[str, ...]:
        """Return what the numbers are."""
        return (
            "how many rows there are, and summed over them: how far each lies from what the model puts in its place,"
            " and from the mean (squared distances, their squares and products)",
        )

    def count(self, weights: Arrays, examples: Examples) -> ExplainedSums:
        """Return the sums over some rows."""
        rows = rows_of(self.preparation.transform(examples), self.terms)
        own, mean = (np.minimum(each / self.unit, 1.0) for each in self.model.distances(weights, rows))
        totals = (own.sum(), mean.sum(), own @ own, own @ mean, mean @ mean)
        return ExplainedSums(len(examples), tuple(map(float, totals)), self.unit)

    def arrays(self, sums: Any) -> Arrays:
        """Return sums as arrays."""
        return {"rows": np.array(float(sums.n)), "distances": np.array(sums.totals)}

    def sums(self, arrays: Arrays) -> ExplainedSums:
        """Return the sums over the contributing hospitals."""
        return ExplainedSums(
            round(float(arrays["rows"])), tuple(float(value) for value in arrays["distances"]), self.unit
        )
