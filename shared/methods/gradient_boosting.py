"""Gradient boosting: trees one after the other, each on what those before it leave unexplained.

Chen and Guestrin, "XGBoost", KDD 2016, arXiv:1603.02754: with g and h the first and second derivative of a row's loss
at its score, a leaf of the sums G and H says -G / (H + l2) (equation 5), and a split gains
GL^2 / (HL + l2) + GR^2 / (HR + l2) - G^2 / (H + l2) (twice equation 7, without its gamma). Scores begin at the log-odds
or the mean of all training rows, and what a tree says is shrunk by ``learning_rate``.

Log loss for two classes; multinomial log loss with one tree a class for more, h = p (1 - p); squared error, with labels
in shares of their declared range, for a number. A row's g is cut at ``GRADIENT`` and both are rounded to multiples of
2^-24 before they are added, so the sums are exact.

Sums that weigh rows say more of a hospital's patients than how many there are: one may have nearly all of a node's
weight, and as g and h take few values, a combination of rows, G and H may leave one where all others cancel. So with
``min_subset_patients`` above 1 a hospital's patients go through the trees in groups of so many (``subsets.similar``),
and within a node rows of so many with nearly the same g have the mean of their g and h (``subsets.alike``). With one
row a patient, no combination of one node's sums tells fewer of its patients apart, and none of the numbers of rows in
all nodes of all trees. Of several rows, each has the mean of its own group: they may be of different classes.

Each exchange is one level of one iteration's trees: at most 1 + ``iterations`` * ``max_depth`` of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.examples import Arrays, Examples
from shared.methods import subsets, tree_growth, tree_method, trees
from shared.methods.tree_growth import Criterion, Places, Rows
from shared.methods.tree_method import UNIT, TreeMethod
from shared.methods.tree_reading import Speech
from shared.methods.trees import Floats, Trees
from shared.preparation import Preparation, Prepared
from shared.schema import CLOSED
from shared.scores import log_odds, probabilities

if TYPE_CHECKING:
    from shared.study import Study

GRADIENT = 4.0
"""Largest |g| of one row: log loss stays within 1, squared error within the label's range and what boosting strays."""


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class GradientBoostingOptions:
    """``[method.options]`` of ``gradient-boosting``.

    iterations: trees one after the other, of each class where there are more than two.
    max_depth: splits from a root to a leaf, at most.
    bins: into which a number column is cut, by quantiles.
    learning_rate: by which what a tree says is shrunk.
    l2: penalty on what leaves say.
    min_samples_leaf: fewest rows in a leaf, of all hospitals.
    min_subset_patients: fewest patients of one hospital who go through the trees together and whose g and h are told as
        one; 1 for the trees of the pooled rows.
    """

    iterations: Annotated[int, Field(ge=1, le=10_000)] = 100
    max_depth: Annotated[int, Field(ge=1, le=12)] = 3
    bins: Annotated[int, Field(ge=2, le=256)] = 32
    learning_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    l2: Annotated[float, Field(gt=0)] = 1.0
    min_samples_leaf: Annotated[int, Field(ge=1)] = 20
    min_subset_patients: Annotated[int, Field(ge=1)] = 5


class GradientBoosting(TreeMethod):
    """One prepared study; the sums are (rows, G, H)."""

    Options: ClassVar[type[Any]] = GradientBoostingOptions
    options: GradientBoostingOptions
    channels = 3
    outputs_of_leaf = 1
    bound = GRADIENT

    def __init__(self, study: Study, preparation: Preparation) -> None:
        super().__init__(study, preparation)
        self.summed = "how many rows, and the sums of the first and second derivatives of their losses"
        if self.least > 1:
            self.summed += f", each the mean of at least {self.least} of your patients in the node"
        self.planted = self.bases = self.classes if self.classes > 2 else 1
        self.most = self.planted * self.options.iterations
        self.columns = len(preparation.feature_names)
        self.criterion = Criterion(self._explained, lambda sums: sums[:, 0], self.options.min_samples_leaf, UNIT)

    @classmethod
    def check(cls, study: Study) -> None:
        """Raise ValueError unless the study is about a table, without ``[privacy]``, and has rounds for every level.

        With groups, also for ``[tuning]``.
        """
        options = study.method.options
        tree_method.check(study, 1 + options.iterations * options.max_depth, "gradient-boosting")
        subsets.check_tuning(study)

    def candidates(self, trees: Trees) -> NDArray[np.int64]:
        """Return all columns for each open node."""
        return np.tile(np.arange(self.columns), (len(trees.open), 1))

    def begin(self, rows: Rows, tree: int) -> NDArray[np.int64]:
        """Return all rows."""
        return np.arange(len(rows.codes))

    def groups(self, examples: Examples) -> NDArray[np.int64] | None:
        """Return groups of patients of one class who are like each other, or of patients with like labels."""
        if self.least == 1:
            return None
        columns, kinds = subsets.columns_of(examples), np.zeros(len(examples), np.int64)
        if self.classes:
            kinds = examples.labels.astype(np.int64)
        else:
            columns = np.column_stack([columns, subsets.scaled(examples.labels)])
        return subsets.similar(columns, kinds, examples.patient_index, self.least)

    def fewest(self, people: NDArray[np.int64]) -> int:
        """Return the fewest patients whose derivatives are told as one. people: how many are in each node."""
        return min(int(people.min()), self.least)

    def tally(self, trees: Trees, base: Floats, rows: Rows, labels: Floats) -> Callable[..., Floats]:
        """Return the function that adds rows, g and h."""
        g, h = self.derivatives(self._scored(trees, base, rows), labels)

        def add(tree: int, at: Places, place: NDArray[np.int64], size: int) -> Floats:
            own, node = at
            cells, output, times = place.ravel(), tree % self.planted, place.shape[1]
            weights = [g[own, output], h[own, output]]
            if self.least > 1:
                groups = subsets.alike(weights[0], node, rows.patients[own], self.least)
                counts = np.bincount(groups)
                weights = [_units(np.bincount(groups, each) / counts)[groups] for each in weights]
            summed = (None, *(np.repeat(each, times) for each in weights))
            return np.stack([np.bincount(cells, each, size) for each in summed], axis=1)

        return add

    def derivatives(self, scores: Floats, labels: Floats) -> tuple[Floats, Floats]:
        """Return g and h of each row, in whole units, both of shape (n, trees of an iteration).

        scores: array of that shape. labels: from ``TreeMethod.labels``.
        """
        if not self.classes:
            g, h = scores - labels[:, None], np.ones_like(scores)
        elif self.classes == 2:
            p = probabilities(scores)
            g, h = p - labels[:, None], p * (1.0 - p)
        else:
            p = probabilities(log_odds(scores))
            g, h = p - np.eye(self.classes)[labels.astype(np.int64)], p * (1.0 - p)
        return _units(np.clip(g, -GRADIENT, GRADIENT)), _units(h)

    def _scored(self, grown: Trees, base: Floats, rows: Rows) -> Floats:
        """Return what the trees before those that grow say of each row, shape (n, trees of an iteration)."""
        finished = len(grown.roots) - self.planted
        done, scores = 0, np.tile(base, (len(rows.codes), 1))
        for known, begun, before in rows.scored:
            told = len(known.roots) - self.planted
            if np.array_equal(base, begun) and tree_growth.extends(grown, known) and _same_leaves(grown, known, told):
                done, scores = told, before
        if done < finished:
            scores = scores.copy()  # what was remembered stays as it is
            for tree, said in trees.predict(grown, range(done, finished), rows.bins, rows.codes):
                scores[:, tree % self.planted] += said[:, 0]
        rows.scored[:] = [(grown, base, scores)]
        return scores

    def base(self, labels: Floats) -> Floats:
        """Return the log-odds of the positive class, the logarithms of the classes' shares, or the mean."""
        if not self.classes:
            return np.asarray(labels[1:] / labels[0])
        # Half a row more of each class: a class without rows has finite log-odds.
        logs = np.log((labels + 0.5) / (labels + 0.5).sum())
        return np.asarray(logs[1:] - logs[:1] if self.classes == 2 else logs)

    def leaf(self, base: Floats, sums: Floats) -> Floats:
        """Return -G / (H + l2), shrunk."""
        return np.asarray(-self.options.learning_rate * sums[:, 1:2] / (sums[:, 2:] + self.options.l2))

    def _explained(self, sums: Floats) -> Floats:
        return np.asarray(np.square(sums[:, 1]) / (sums[:, 2] + self.options.l2))

    def scores(self, weights: Arrays, prepared: Prepared) -> Floats:
        """Return the log-odds that base and trees add up to, or the number."""
        bins, base, grown = self._read(weights)
        said = np.tile(base, (len(prepared), 1))
        for tree, each in trees.predict(grown, range(len(grown.roots)), bins, bins.codes(prepared.x)):
            said[:, tree % self.planted] += each[:, 0]
        if self.classes == 2:
            return np.column_stack([-said, said])
        if self.classes:
            return log_odds(said)
        low, high = self.label_range
        return low + (high - low) * said

    def speech(self, grown: Trees, base: Floats) -> Speech:
        """Return base and trees added up, in words: before the link, where averages are means of sums."""
        shares = np.zeros((len(grown), self.planted))
        shares[np.arange(len(grown)), grown.tree % self.planted] = grown.value[:, 0]
        if not self.classes:
            low, high = self.label_range
            return Speech((self.contract.label,), (high - low) * shares, low + (high - low) * base)
        if self.classes == 2:
            return Speech((f"log-odds of {self.contract.classes[1]}",), shares, base)
        return Speech(tuple(f"score of {name}" for name in self.contract.classes), shares, base)

    def description(self) -> str:
        """Return two sentences for the model card."""
        options = self.options
        return (
            f"Gradient boosting with up to {options.iterations} trees{' of each class' if self.planted > 1 else ''}, at"
            f" most {options.max_depth} deep (learning rate {options.learning_rate:g}, L2 penalty {options.l2:g}),"
            " grown from sums over all hospitals by node and bin. A leaf has at least"
            f" {options.min_samples_leaf} rows."
        )


def _units(numbers: Floats) -> Floats:
    return np.asarray(np.rint(numbers / UNIT) * UNIT)


def _same_leaves(grown: Trees, known: Trees, trees: int) -> bool:
    """Whether the first trees say the same."""
    inside = known.tree < trees
    return np.array_equal(grown.value[: len(known)][inside], known.value[inside])
