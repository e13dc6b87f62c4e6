"""Permutation importance: how much worse a model is judged when one column's values are dealt anew among the rows.

Breiman 2001, "Random Forests", Machine Learning 45, section 10; Fisher, Rudin, Dominici 2019, arXiv:1801.01489, for any
model. Values are dealt anew among one hospital's held-out rows, so what tells hospitals apart stays. It takes the same
one exchange as the evaluation, and the same kind of sums: nothing new is learnt about a patient but from a model that
reads a wrong value. Columns that say the same thing share their importance: one is a stand-in for the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from shared.examples import Arrays, Examples, Part
from shared.methods.base import NOTHING, Contribution, ModelMethod
from shared.methods.evaluation import EvaluationMethod
from shared.methods.measures import Sums
from shared.preparation import Preparation
from shared.randomness import Randomness, generator

BINS = 1000
"""Of the histograms of scores or errors: enough for a difference, a sixteenth of what the evaluation itself sends.

What a ``Measured`` method sums instead, such as survival or clusters, is the same as in the evaluation.
"""


class PermutedEvaluation(EvaluationMethod):
    """Judge one model on the held-out rows with the values of one column dealt anew, ``times`` times.

    column: of the contract's features.
    """

    times: ClassVar[int] = 5

    def __init__(
        self, method: ModelMethod, weights: Arrays, preparation: Preparation, threshold: float, column: str
    ) -> None:
        super().__init__(method, weights, preparation, BINS, threshold)
        self.column = preparation.contract.features.index(column)

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return this site's sums over all repeats."""
        drawn = generator(randomness.seed, "importance", randomness.site, self.column)
        total: dict[str, Any] = {}
        for _ in range(self.times):
            wrong = examples.dealt(self.column, drawn.permutation(len(examples)))
            sums = self.measure.arrays(self.count(wrong))
            total = {name: array + total.get(name, 0.0) for name, array in sums.items()}
        return Contribution(total, float(len(examples))), NOTHING

    def result(self, state: Arrays) -> Sums:
        """Return the sums over all contributing sites, as if values had been dealt once."""
        sums = {name: array for name, array in state.items() if name != "rounds"}
        return self.measure.sums({name: array / self.times for name, array in sums.items()})

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> None:
        """Nothing stays at the hospital."""
        return
