"""What is summed over held-out rows to judge a model: predictions against the label, or what a method says itself.

A method that predicts the label is judged by its predictions. One that does not (clusters, survival) is ``Measured``:
it says what to sum, and its sums judge themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from shared import scores
from shared.examples import Arrays, Examples
from shared.preparation import Preparation, Prepared
from shared.schema import DataContract

if TYPE_CHECKING:
    from shared.metrics import Judgement


class Summed(NamedTuple):
    """One array of the sums.

    bound: what one row adds to one number, at most.
    whole: whether rows add whole numbers.
    """

    name: str
    shape: tuple[int, ...]
    bound: float
    whole: bool


class OwnSums(Protocol):
    """Sums that judge themselves."""

    @property
    def n(self) -> int:
        """Number of rows."""
        ...

    def judge(self, replicates: int, generator: np.random.Generator) -> Judgement:
        """Return metrics with intervals. The first metric is the main one; names are in ``wording.METRIC_WORDS``.

        replicates: number of resamples for intervals.
        """
        ...


Sums = scores.Sums | OwnSums


class Measure(Protocol):
    """How one kind of model is judged."""

    def layout(self) -> list[Summed]:
        """Return what is summed."""
        ...

    def contents(self) -> tuple[str, ...]:
        """Return what the numbers are, one phrase each, for the hospital that is to approve them."""
        ...

    def count(self, weights: Arrays, examples: Examples) -> Sums:
        """Return the sums over some rows, which may be none."""
        ...

    def arrays(self, sums: Any) -> Arrays:
        """Return sums as the arrays of ``layout``."""
        ...

    def sums(self, arrays: Arrays) -> Sums:
        """Return the sums that arrays, added over hospitals, stand for."""
        ...


class Predictor(Protocol):
    """What predicts the label."""

    def scores(self, weights: Arrays, prepared: Prepared) -> NDArray[np.float64]:
        """As ``TrainingMethod.scores``."""
        ...


@runtime_checkable
class Measured(Protocol):
    """A method that is not judged by how well it predicts the label."""

    def measure(self) -> Measure:
        """Return how its model is judged."""
        ...


def measure_of(method: Any, preparation: Preparation, bins: int, threshold: float) -> Measure:
    """Return how a method's model is judged.

    bins, threshold: of the score histogram, and for "yes" in a binary study.
    """
    if isinstance(method, Measured):
        return method.measure()
    kind = NumberPredictions if preparation.contract.task == "number" else ClassPredictions
    return kind(method, preparation, bins, threshold)


@dataclass(frozen=True, eq=False)
class _Predictions:
    method: Predictor
    preparation: Preparation
    bins: int
    threshold: float

    @property
    def contract(self) -> DataContract:
        """The study's."""
        return self.preparation.contract

    def scores(self, weights: Arrays, examples: Examples) -> NDArray[np.float64]:
        """Return what the model says of each row."""
        return self.method.scores(weights, self.preparation.transform(examples))


class ClassPredictions(_Predictions):
    """Histograms of log-odds by class, calls by true class, and the losses of probabilities."""

    def layout(self) -> list[Summed]:
        """Return what is summed."""
        k = len(self.contract.classes)
        return [
            Summed("histogram", (1 if k == 2 else k, 2, self.bins), 1.0, True),
            Summed("confusion", (k, k), 1.0, True),
            Summed("sums", (4,), (scores.ROW_LOSS_LIMIT + 1.0) ** 2, False),
        ]

    def contents(self) -> tuple[str, ...]:
        """Return what the numbers are."""
        return (
            f"how many rows of each class got each of {self.bins:,} steps of the model's score",
            "how often each class was taken for which, and summed errors",
        )

    def count(self, weights: Arrays, examples: Examples) -> scores.ClassSums:
        """Return the sums over some rows."""
        said = self.scores(weights, examples)
        return scores.count_classes(said, examples.labels, self.contract.classes, self.bins, self.threshold)

    def arrays(self, sums: Any) -> Arrays:
        """Return sums as arrays."""
        losses = np.array([sums.brier, sums.log_loss, sums.brier_squared, sums.log_loss_squared])
        return {"histogram": sums.histogram, "confusion": sums.confusion, "sums": losses}

    def sums(self, arrays: Arrays) -> scores.ClassSums:
        """Return the sums over the contributing hospitals."""
        losses = (float(value) for value in arrays["sums"])
        return scores.ClassSums(self.contract.classes, arrays["histogram"], arrays["confusion"], *losses)


class NumberPredictions(_Predictions):
    """A histogram of errors, means by predicted tenth of the range, and summed errors."""

    def layout(self) -> list[Summed]:
        """Return what is summed."""
        return [
            Summed("histogram", (self.bins,), 1.0, True),
            Summed("groups", (scores.CALIBRATION_GROUPS, 3), 1.0, False),
            Summed("sums", (4,), 1.0, False),
        ]

    def contents(self) -> tuple[str, ...]:
        """Return what the numbers are."""
        return (f"how many rows have each of {self.bins:,} steps of error, and summed errors by predicted value",)

    def count(self, weights: Arrays, examples: Examples) -> scores.NumberSums:
        """Return the sums over some rows."""
        said = self.scores(weights, examples)
        return scores.count_numbers(said[:, 0], examples.labels, self._range(), self.bins)

    def arrays(self, sums: Any) -> Arrays:
        """Return sums as arrays."""
        errors = np.array([sums.absolute, sums.squared, sums.label, sums.label_squared])
        return {"histogram": sums.histogram, "groups": sums.groups, "sums": errors}

    def sums(self, arrays: Arrays) -> scores.NumberSums:
        """Return the sums over the contributing hospitals."""
        low, high = self._range()
        absolute, squared, label, label_squared = (float(value) for value in arrays["sums"])
        return scores.NumberSums(
            arrays["histogram"], arrays["groups"], absolute, squared, label, label_squared, low, high - low
        )

    def _range(self) -> tuple[float, float]:
        declared = self.contract.columns[self.contract.label].range
        assert declared is not None
        return declared
