"""Options chosen by cross-validation: every candidate on every fold, side by side, in the exchanges of one training.

The training patients of each hospital fall into folds by a keyed hash (``shared/patients.py``), so that rows of one
patient are in one fold. A candidate is trained on all folds but one and judged on that one (Stone 1974, J. R. Stat.
Soc. B 36(2)); its value is the mean over the folds. The preparation is that of all training patients: it is no option
that is chosen. The held-out patients have no part in the choice.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import NoEstimate
from shared.examples import Arrays, Examples, Part
from shared.methods.base import Ask, Contribution, Measurements, Method, ModelMethod, Total
from shared.methods.combinators import InTurn, Results, SideBySide, Stage
from shared.methods.evaluation import EvaluationMethod
from shared.patients import words_of
from shared.preparation import Preparation
from shared.randomness import Randomness

BINS = 4000
"""Of the score histograms: log-odds near zero that are less than 0.004 apart are ties. All candidates send one each."""


@dataclass(frozen=True)
class Candidate:
    """What one candidate reached.

    values: of the metric, one for each fold; NaN where it was not defined.
    failed: without how many folds there was no model (``NoEstimate``).
    """

    values: tuple[float, ...]
    failed: int = 0

    @property
    def mean(self) -> float:
        """Over the folds where it was defined; NaN without any, and if a model is missing."""
        known = self._known
        return sum(known) / len(known) if known and not self.failed else math.nan

    @property
    def deviation(self) -> float:
        """Standard deviation between folds, of the sample; NaN with fewer than two."""
        known, mean = self._known, self.mean
        if len(known) < 2:
            return math.nan
        return math.sqrt(sum((value - mean) ** 2 for value in known) / (len(known) - 1))

    @property
    def _known(self) -> list[float]:
        return [value for value in self.values if not math.isnan(value)]


@dataclass(frozen=True)
class Choice:
    """Which candidate is trained.

    metric: by which it was chosen, a key of ``shared.wording.METRIC_WORDS``.
    chosen: index of the candidate.
    candidates: in the order of the grid.
    """

    metric: str
    chosen: int
    candidates: tuple[Candidate, ...]


def folds_of(patients: NDArray[np.str_], seed: int, folds: int) -> NDArray[np.int64]:
    """Return the fold of each row, from 0, shape (n,). seed: of the study."""
    return (words_of(patients, seed, "fold") % np.uint64(folds)).astype(np.int64)


_NONE = "no_estimate"
"""The only array of the state of a method that found nothing."""


class OnFolds:
    """A method over some folds of the training patients; its result is None where there is none (``NoEstimate``).

    inside: whether over the fold itself, else over all others.
    """

    def __init__(self, method: Method[Any], fold: int, folds: int, inside: bool) -> None:
        self.method = method
        self.fold, self.folds, self.inside = fold, folds, inside

    def start(self) -> Arrays:
        """Return the method's start."""
        return self.method.start()

    def asks(self, state: Arrays) -> Ask:
        """Return what the method asks, of training patients."""
        return dataclasses.replace(self.method.asks(state), part=Part.TRAINING)

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return the contribution of the rows in these folds."""
        # Kept with the table, as its prepared rows are: one table for each fold and side.
        part = examples.derived(
            f"fold {self.fold} {self.inside}", (self.folds, randomness.seed), lambda: self._rows(examples, randomness)
        )
        return self.method.contribute(state, part, memory, randomness)

    def _rows(self, examples: Examples, randomness: Randomness) -> Examples:
        folds = folds_of(examples.patients, randomness.seed, self.folds)
        return examples.take((folds == self.fold) == self.inside)

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the method advanced; what it measures is not told."""
        try:
            moved, _ = self.method.advance(state, total)
        except NoEstimate:
            return {_NONE: np.array(1)}, {}
        return moved, {}

    def finished(self, state: Arrays) -> bool:
        """Whether the method is finished."""
        return _NONE in state or self.method.finished(state)

    def result(self, state: Arrays) -> Any:
        """Return the method's result."""
        return None if _NONE in state else self.method.result(state)

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> None:
        """Nothing stays at the hospital."""
        return


class CrossValidation(SideBySide):
    """Every candidate on every fold; the result is a ``Choice``.

    candidates: by name.
    threshold: for "yes" in a binary study.
    """

    def __init__(
        self, candidates: Mapping[str, ModelMethod], preparation: Preparation, folds: int, threshold: float
    ) -> None:
        self.folds = folds
        super().__init__(
            {
                f"{name}, fold {fold + 1}": _one(method, preparation, (fold, folds), threshold)
                for name, method in candidates.items()
                for fold in range(folds)
            }
        )

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> None:
        """Nothing stays at the hospital."""
        return

    def result(self, state: Arrays) -> Any:
        """Return which candidate has the best mean; the first of equal ones."""
        from shared.judgement import point
        from shared.wording import METRIC_WORDS

        found = [each["judge"] and point(each["judge"]) for each in super().result(state).values()]
        metric = next((each[0] for each in found if each), "")
        candidates = tuple(_candidate(found[at : at + self.folds]) for at in range(0, len(found), self.folds))
        better = METRIC_WORDS[metric].better if metric else 1
        return Choice(metric, _best([better * each.mean for each in candidates]), candidates)


def _one(method: ModelMethod, preparation: Preparation, fold: tuple[int, int], threshold: float) -> InTurn:
    """Return one candidate's training without one fold, and its judgement on it."""

    def judge(results: Results) -> Any:
        weights = results["train"]
        if weights is None:
            return _NothingToJudge(method, {}, preparation, BINS, threshold)
        return OnFolds(EvaluationMethod(method, weights, preparation, BINS, threshold), *fold, inside=True)

    return InTurn([Stage("train", lambda _: OnFolds(method, *fold, inside=False)), Stage("judge", judge)])


class _NothingToJudge(EvaluationMethod):
    """The judgement of no model: nothing is asked."""

    def finished(self, state: Arrays) -> bool:
        return True

    def result(self, state: Arrays) -> Any:
        return None


def _candidate(found: Sequence[tuple[str, float] | None]) -> Candidate:
    """Return what a candidate reached. found: (metric, value) of each fold, None where there was no model."""
    return Candidate(tuple(each[1] if each else math.nan for each in found), found.count(None))


def _best(means: Sequence[float]) -> int:
    defined = [index for index, mean in enumerate(means) if not math.isnan(mean)]
    if not defined:
        raise NoEstimate("[tuning] no candidate could be judged on every fold: try others, or fewer folds")
    return max(defined, key=lambda index: means[index])
