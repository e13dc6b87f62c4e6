"""Evaluation as a method: one exchange over the held-out patients; the result is ``shared.scores.Sums``.

Each site applies the final model to its own held-out rows and contributes histograms of scores and summed losses.
What it computed
for itself stays there as its own result (``keep``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared import scores
from shared.examples import Arrays, Examples, Part
from shared.layout import Entry
from shared.methods import averaging
from shared.methods.base import NOTHING, Ask, Contribution, Measurements, Total, TrainingMethod
from shared.preparation import Preparation
from shared.randomness import Randomness

_COUNT_PRECISION = 0.5
_SUM_PRECISION = 1e-6


class EvaluationMethod:
    """Judge one model on the held-out rows, or on those of one subgroup.

    method, weights: the trained model.
    bins, threshold: of the score histogram, and for "yes" in a binary study.
    subgroup: (column, level index) that rows must have, or None for all rows.
    """

    def __init__(
        self,
        method: TrainingMethod,
        weights: Arrays,
        preparation: Preparation,
        bins: int,
        threshold: float,
        subgroup: tuple[str, int] | None = None,
    ) -> None:
        self.method = method
        self.weights = weights
        self.preparation = preparation
        self.bins = bins
        self.threshold = threshold
        self.subgroup = subgroup
        self.contract = preparation.contract

    def start(self) -> Arrays:
        """Return the state before the exchange."""
        return {"rounds": np.array(0)}

    def asks(self, state: Arrays) -> Ask:
        """Return the layout of the sums; every row adds at most the bound of one row."""
        most = float(self.contract.max_rows_per_site)
        return Ask(
            part=Part.HELD_OUT,
            entries=tuple(
                Entry(name, shape, most * bound, _COUNT_PRECISION if whole else _SUM_PRECISION)
                for name, shape, bound, whole in self._sums()
            ),
            weight_bound=most,
            word_bits=64,
            stochastic_rounding=False,
            state_norm=averaging.norm(self.weights),
            state_norm_bound=self.method.state_norm_bound,
        )

    def _sums(self) -> list[tuple[str, tuple[int, ...], float, bool]]:
        """Return (name, shape, bound for one row, whether it is a count)."""
        if self.contract.task == "number":
            return [
                ("histogram", (self.bins,), 1.0, True),
                ("groups", (scores.CALIBRATION_GROUPS, 3), 1.0, False),
                ("sums", (4,), 1.0, False),
            ]
        k = len(self.contract.classes)
        return [
            ("histogram", (1 if k == 2 else k, 2, self.bins), 1.0, True),
            ("confusion", (k, k), 1.0, True),
            ("sums", (4,), (scores.ROW_LOSS_LIMIT + 1.0) ** 2, False),
        ]

    def count(self, examples: Examples) -> scores.Sums:
        """Return the sums over the rows of this subgroup."""
        if self.subgroup is not None:
            name, level = self.subgroup
            column = examples.values[:, self.contract.features.index(name)]
            examples = examples.take(column == level)
        said = self.method.scores(self.weights, self.preparation.transform(examples))
        if self.contract.task == "number":
            bounds = self.contract.columns[self.contract.label].range
            assert bounds is not None
            return scores.count_numbers(said[:, 0], examples.labels, bounds, self.bins)
        return scores.count_classes(said, examples.labels, self.contract.classes, self.bins, self.threshold)

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return this site's sums."""
        sums = self.count(examples)
        arrays: dict[str, NDArray[Any]] = {"histogram": sums.histogram}
        if isinstance(sums, scores.NumberSums):
            arrays["groups"] = sums.groups
            arrays["sums"] = np.array([sums.absolute, sums.squared, sums.label, sums.label_squared])
        else:
            arrays["confusion"] = sums.confusion
            arrays["sums"] = np.array([sums.brier, sums.log_loss, sums.brier_squared, sums.log_loss_squared])
        return Contribution(arrays, float(sums.n)), NOTHING

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the summed histograms."""
        return {"rounds": np.array(1), **total.arrays}, {}

    def finished(self, state: Arrays) -> bool:
        """Whether the one exchange has been made."""
        return bool(state["rounds"] >= 1)

    def result(self, state: Arrays) -> scores.Sums:
        """Return the sums over all contributing sites."""
        if self.contract.task == "number":
            bounds = self.contract.columns[self.contract.label].range
            assert bounds is not None
            absolute, squared, label, label_squared = (float(value) for value in state["sums"])
            low, width = bounds[0], bounds[1] - bounds[0]
            return scores.NumberSums(
                state["histogram"], state["groups"], absolute, squared, label, label_squared, low, width
            )
        sums = (float(value) for value in state["sums"])
        return scores.ClassSums(self.contract.classes, state["histogram"], state["confusion"], *sums)

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> scores.Sums:
        """Return the site's own sums: how good the released model is on its own patients."""
        return self.count(examples[Part.HELD_OUT])
