"""Evaluation as a method: one exchange over the held-out patients; the result is ``shared.methods.measures.Sums``.

Each site applies the final model to its own held-out rows and contributes what its measure sums, such as histograms of
scores and losses. What it computed for itself stays there as its own result (``keep``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from shared.examples import Arrays, Examples, Part
from shared.layout import Entry
from shared.methods import averaging
from shared.methods.base import NOTHING, Ask, Contribution, Measurements, ModelMethod, Total, used
from shared.methods.measures import Sums, measure_of
from shared.preparation import Preparation
from shared.randomness import Randomness

_COUNT_PRECISION = 0.5
_SUM_PRECISION = 1e-6


class EvaluationMethod:
    """Judge one model on the held-out rows, or on those of one subgroup.

    Each row is counted ``times`` times.

    method, weights: the trained model.
    bins, threshold: of the score histogram, and for "yes" in a binary study.
    subgroup: (column, level index) that rows must have, or None for all rows.
    """

    times: ClassVar[int] = 1

    def __init__(
        self,
        method: ModelMethod,
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
        self.measure = measure_of(method, preparation, bins, threshold)

    def start(self) -> Arrays:
        """Return the state before the exchange."""
        return {"rounds": np.array(0)}

    def asks(self, state: Arrays) -> Ask:
        """Return the layout of the sums; every row adds at most the bound of one row."""
        rows = float(self.contract.max_rows_per_site)
        most = self.times * rows
        return Ask(
            part=Part.HELD_OUT,
            entries=tuple(
                Entry(each.name, each.shape, most * each.bound, _COUNT_PRECISION if each.whole else _SUM_PRECISION)
                for each in self.measure.layout()
            ),
            weight_bound=rows,
            word_bits=64,
            stochastic_rounding=False,
            state_norm=averaging.norm(used(self.weights)),
            state_norm_bound=self.method.state_norm_bound,
        )

    def count(self, examples: Examples) -> Sums:
        """Return the sums over the rows of this subgroup."""
        if self.subgroup is not None:
            name, level = self.subgroup
            column = examples.values[:, self.contract.features.index(name)]
            examples = examples.take(column == level)
        return self.measure.count(self.weights, examples)

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return this site's sums."""
        sums = self.count(examples)
        return Contribution(self.measure.arrays(sums), float(sums.n)), NOTHING

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the summed arrays."""
        return {"rounds": np.array(1), **total.arrays}, {}

    def finished(self, state: Arrays) -> bool:
        """Whether the one exchange has been made."""
        return bool(state["rounds"] >= 1)

    def result(self, state: Arrays) -> Sums:
        """Return the sums over all contributing sites."""
        return self.measure.sums(state)

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> Sums | None:
        """Return the site's own sums: how good the released model is on its own patients."""
        return self.count(examples[Part.HELD_OUT])
