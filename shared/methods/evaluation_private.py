"""Evaluation with noise: one exchange of few counts over the held-out patients, whoever is judged in one vector.

One patient adds a vector of known L1 and L2 norm, the mean over its rows, and nothing else about the held-out patients
leaves; so the noise of ``shared/privacy/mechanisms.py`` on the sum makes all metrics, curves and subgroups together
private, as post-processing. Adding or removing one patient is what makes neighbours.

What a row adds, in units of the vector:

- two classes: 1 in one of 2 * BINS cells (class by score bin). L1 = L2 = 1.
- k classes: 1 in the cell of its own class and score; 1 / sqrt(k - 1) in a cell of each of the k - 1 other classes,
  which it is outside of; 1 in "called right" or "called wrong". L1 = 2 + sqrt(k - 1), L2 = sqrt(3). A class has about
  k - 1 times as many patients outside as inside, so that more noise on those harms less.
- with subgroups, the same again, times 1 / sqrt(columns), for its level of each column: everyone has half of the
  squared norm, all columns share the other half. L1 grows by 1 + sqrt(columns), L2 by sqrt(2).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from shared.errors import StudyError
from shared.examples import Arrays, Examples, Part
from shared.layout import Entry
from shared.methods import averaging
from shared.methods.base import NOTHING, ROOM, Ask, Contribution, Influence, Measurements, ModelMethod, Total
from shared.methods.evaluation import EvaluationMethod
from shared.methods.measures import Sums
from shared.preparation import Preparation
from shared.randomness import Randomness
from shared.schema import DataContract
from shared.scores_private import BINS, PrivateSums, count_patients, edges_of

_PRECISION = 1e-6
EXACT_BINS = 16384

Groups = Mapping[str, tuple[str, int] | None]


class PrivateEvaluationMethod:
    """Judge one model on all held-out patients, and on those of each subgroup; the result is ``PrivateSums`` by name.

    method, weights: the trained model.
    threshold: for "yes" in a binary study.
    groups: by name: (column, level index) that rows must have, or None for all rows.
    noise_multiplier: standard deviation of the honest sites' noise over the L2 influence.
    honest: fewest honest shares of noise in a sum of so many sites (``Sharing.honest``). Each site adds a share, so
        that the noise of all is larger than that of the honest ones, and intervals are to know it. None where all are.
    bins: of the exact score histogram that stays at the hospital.

    Raises: StudyError as ``check``.
    """

    def __init__(
        self,
        method: ModelMethod,
        weights: Arrays,
        preparation: Preparation,
        threshold: float,
        groups: Groups,
        noise_multiplier: float,
        *,
        honest: Callable[[int], int] | None = None,
        bins: int = EXACT_BINS,
    ) -> None:
        self.check(preparation.contract)
        self.method = method
        self.weights = weights
        self.preparation = preparation
        self.threshold = threshold
        self.groups = dict(groups)
        self.noise_multiplier = noise_multiplier
        self.honest = honest
        self.bins = bins
        self.contract = preparation.contract
        self._classes = len(self.contract.classes)
        self._edges = edges_of(threshold if self._classes == 2 else None, self._classes)

    @staticmethod
    def check(contract: DataContract) -> None:
        """Raise StudyError where the label is a number."""
        if contract.task == "number":
            raise StudyError(
                "[privacy] expected a label of type category: errors of a predicted number are not yet judged with"
                f" noise. Received: {contract.label!r} of type number. Make it a category of ranges, or leave [privacy]"
                " out."
            )

    @property
    def influence(self) -> Influence:
        """One patient's influence on the vector."""
        columns = self._columns()
        l1, l2 = (1.0, 1.0) if self._classes == 2 else (2.0 + math.sqrt(self._classes - 1), math.sqrt(3.0))
        return Influence(l1 * (1.0 + math.sqrt(columns)), l2 * math.sqrt(2.0 if columns else 1.0))

    def _columns(self) -> int:
        """Return by how many columns subgroups are made."""
        return len({subgroup[0] for subgroup in self.groups.values() if subgroup})

    def _scale(self, subgroup: tuple[str, int] | None) -> float:
        return 1.0 / math.sqrt(self._columns()) if subgroup else 1.0

    def start(self) -> Arrays:
        """Return the state before the exchange."""
        return {"rounds": np.array(0)}

    def asks(self, state: Arrays) -> Ask:
        """Return the layout of the counts, one patient's influence, and the noise."""
        # A patient has at least one row, and adds at most 1 to a number.
        most = self.contract.max_rows_per_site * ROOM
        groups, judged = len(self.groups), 1 if self._classes == 2 else self._classes
        shapes: dict[str, tuple[int, ...]] = dict.fromkeys(("outside", "inside"), (groups, judged, BINS))
        if self._classes > 2:
            shapes["calls"] = (groups, 2)
        return Ask(
            part=Part.HELD_OUT,
            entries=tuple(Entry(name, shape, most, _PRECISION) for name, shape in shapes.items()),
            weight_bound=1.0,
            word_bits=64,
            stochastic_rounding=False,
            state_norm=averaging.norm(self.weights),
            state_norm_bound=self.method.state_norm_bound,
            exact=False,
            influence=self.influence,
            noise_multiplier=self.noise_multiplier,
        )

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return this site's counts, without noise."""
        odds = self.method.scores(self.weights, self.preparation.transform(examples))
        _, patient, rows = np.unique(examples.patients, return_inverse=True, return_counts=True)
        weights = 1.0 / rows[patient]
        made = []
        for subgroup in self.groups.values():
            kept = self._rows_of(subgroup, examples)
            counts = count_patients(odds[kept], examples.labels[kept], weights[kept], self._edges)
            made.append([self._scale(subgroup) * each for each in counts])
        outside, inside, calls = (np.stack(each) for each in zip(*made, strict=True))
        arrays = {"outside": outside / math.sqrt(self._classes - 1), "inside": inside}
        if self._classes > 2:
            arrays["calls"] = calls
        return Contribution(arrays, 1.0), NOTHING

    def _rows_of(self, subgroup: tuple[str, int] | None, examples: Examples) -> NDArray[np.bool_]:
        if subgroup is None:
            return np.ones(len(examples), dtype=np.bool_)
        name, level = subgroup
        return np.asarray(examples.values[:, self.contract.features.index(name)] == level)

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the summed counts, with their noise."""
        return {"rounds": np.array(1), "contributors": np.array(total.contributors), **total.arrays}, {}

    def finished(self, state: Arrays) -> bool:
        """Whether the one exchange has been made."""
        return bool(state["rounds"] >= 1)

    def result(self, state: Arrays) -> dict[str, PrivateSums]:
        """Return the noised sums over all contributing sites, by group."""
        contributors = int(state["contributors"])
        shares = contributors / self.honest(contributors) if self.honest else 1.0
        noise = self.noise_multiplier * self.influence.l2 * math.sqrt(shares)
        spread = math.sqrt(self._classes - 1)
        found = {}
        for index, (name, subgroup) in enumerate(self.groups.items()):
            scale = self._scale(subgroup)
            found[name] = PrivateSums(
                classes=self.contract.classes,
                edges=self._edges,
                outside=state["outside"][index] * spread / scale,
                inside=state["inside"][index] / scale,
                calls=state["calls"][index] / scale if self._classes > 2 else None,
                outside_noise=noise * spread / scale,
                inside_noise=noise / scale,
            )
        return found

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> dict[str, Sums]:
        """Return the site's own sums by group, exact: they stay at the hospital."""
        return {
            name: EvaluationMethod(
                self.method, self.weights, self.preparation, self.bins, self.threshold, subgroup
            ).count(examples[Part.HELD_OUT])
            for name, subgroup in self.groups.items()
        }
