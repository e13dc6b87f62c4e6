"""What forest and boosting share: quantile edges in the first exchange, then one level of trees in each.

The state holds ``round`` and the weights: ``edges`` and ``base`` of the first exchange, and the arrays of ``Trees``.
All trees that grow side by side share an exchange. What a hospital adds up is exact: counts, or numbers rounded to
whole multiples of ``UNIT`` row by row before they are added, so the same rows give the same trees bit for bit however
they are dealt to hospitals, with masks and without.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shared.errors import ProtocolError
from shared.examples import Arrays, Examples, Part
from shared.interpretation import Interpretation
from shared.layout import Entry, size_of
from shared.methods import averaging, tree_bins, tree_growth, tree_reading, trees
from shared.methods.base import NOTHING, Ask, Contribution, Forecast, Measurements, Total, under, used, within
from shared.methods.plain import PlainMethod
from shared.methods.tree_bins import GRID, Bins
from shared.methods.tree_growth import Criterion, Layout, Rows
from shared.methods.tree_reading import Speech
from shared.methods.trees import OPEN, Floats, Trees
from shared.preparation import Preparation
from shared.randomness import Randomness

if TYPE_CHECKING:
    from shared.study import Study

VALUE_BOUND = 1e6
"""Largest number that a node says, in shares of the label's range or log-odds."""
UNIT = 2.0**-24
"""Step of what is summed and is no count, in shares of the label's range or of one row's gradient."""


def check(study: Study, exchanges: int, name: str) -> None:
    """Raise ValueError unless trees can serve the study.

    exchanges: how many there are at most.
    """
    if study.privacy:
        raise ValueError(f"{name} adds no noise. Received: a [privacy] part; leave it out, or use another method")
    if study.data.kind != "table":
        raise ValueError(f'{name} reads tables. Received: kind = {study.data.kind!r}; use name = "neural"')
    if study.aggregation.strategy != "FedAvg":
        raise ValueError(
            f'{name} averages no weights: expected strategy = "FedAvg". Received: "{study.aggregation.strategy}"'
        )
    if study.method.rounds < exchanges:
        raise ValueError(
            f"rounds: with these options {name} makes up to {exchanges} exchanges, one for the bins and one for each"
            f" level. Received: rounds = {study.method.rounds}; write rounds = {exchanges}"
        )


class TreeMethod(PlainMethod, ABC):
    """One prepared study.

    planted: trees that grow side by side.
    most: trees in the end.
    channels: numbers that are summed by bin; outputs_of_leaf: numbers that a leaf says.
    bases: numbers that trees begin from.
    bound: largest absolute value of one row's number; summed: what is summed, in words.
    columns: how many a node may split on.
    least: fewest patients of a hospital in a node.
    options: the method's own; ``bins``, ``max_depth``, ``min_samples_leaf`` and ``min_subset_patients`` are read here.
    """

    # Columns and numbers of nodes are weights here, too: what nodes say is bounded where they are read.
    state_norm_bound: ClassVar[float] = 1e9
    planted: int
    most: int
    channels: int
    outputs_of_leaf: int
    bases: int
    bound: float
    summed: str
    columns: int
    criterion: Criterion

    def __init__(self, study: Study, preparation: Preparation) -> None:
        self.options = study.method.options
        self.preparation = preparation
        self.contract = preparation.contract
        self.seed = study.study.seed
        self.classes = len(self.contract.classes)
        self.least: int = self.options.min_subset_patients

    # What a method of trees says for itself.

    @abstractmethod
    def candidates(self, trees: Trees) -> NDArray[np.int64]:
        """Return the columns that each open node may split on, growing, shape (m, c)."""

    @abstractmethod
    def begin(self, rows: Rows, tree: int) -> NDArray[np.int64]:
        """Return the rows that a tree is grown on."""

    @abstractmethod
    def tally(self, trees: Trees, base: Floats, rows: Rows, labels: Floats) -> Any:
        """Return the function that ``tree_growth.sums`` takes."""

    @abstractmethod
    def leaf(self, base: Floats, sums: Floats) -> Floats:
        """Return what leaves of these sums say, shape (k, outputs_of_leaf)."""

    def groups(self, examples: Examples) -> NDArray[np.int64] | None:
        """Return in which group each row goes through the trees, shape (n,), or None where rows go alone."""
        return None

    def fewest(self, people: NDArray[np.int64]) -> int:
        """Return the fewest patients behind a sum. people: how many are in each node."""
        return int(people.min())

    def closed(self, sums: Floats) -> NDArray[np.bool_]:
        """Return whether nothing is gained by splitting nodes of these sums."""
        return np.asarray(self.criterion.rows(sums) < 2 * self.options.min_samples_leaf)

    @abstractmethod
    def base(self, labels: Floats) -> Floats:
        """Return what the trees begin from. labels: rows by class, or (rows, sum of the labels in shares)."""

    # The method.

    def start(self) -> Arrays:
        """Return no edges and no trees."""
        return self._state(0, np.zeros((0, 0)), np.zeros(0), trees.none(self.outputs_of_leaf))

    def _state(self, number: int, edges: Floats, base: Floats, grown: Trees) -> Arrays:
        return {"round": np.array(number), **under("weights", {"edges": edges, "base": base, **grown.arrays()})}

    def _read(self, weights: Arrays) -> tuple[Bins, Floats, Trees]:
        """Return what the state says once the first exchange is made.

        Raises: ProtocolError if no exchange leads there.
        """
        if weights.keys() != {"edges", "base", *trees.STORED}:
            raise ProtocolError("bad-trees", f"expected edges, base and {', '.join(trees.STORED)}")
        bins = tree_bins.read(weights["edges"], self.preparation, self.options.bins)
        grown = trees.read(weights, bins, self.outputs_of_leaf, self.options.max_depth)
        count = len(grown.roots)
        if not 0 < count <= self.most or count % self.planted:
            raise ProtocolError("bad-trees", f"expected trees by {self.planted}, {self.most} at most")
        waiting = grown.open
        if np.any(grown.tree[waiting] < count - self.planted) or np.any(np.diff(grown.depth[waiting])):
            raise ProtocolError("bad-trees", "expected open nodes at one depth of the trees planted last")
        if weights["base"].shape != (self.bases,) or weights["base"].dtype != np.float64:
            raise ProtocolError("bad-trees", "expected a base of the agreed shape, float64")
        if not max(np.abs(grown.value).max(), np.abs(weights["base"]).max()) <= VALUE_BOUND:
            raise ProtocolError("bad-trees", f"expected nodes that say at most {VALUE_BOUND:g}")
        return bins, weights["base"], grown

    def asks(self, state: Arrays) -> Ask:
        """Return the layout: counts over the grid first, then sums by node, column and bin.

        Raises: ProtocolError for a state that holds no trees.
        """
        weights = within("weights", state)
        if self._first(state):
            return self._ask(self._grid(), weights)
        bins, _, grown = self._read(weights)
        return self._ask({"sums": (self._layout(bins, grown).size, self.channels)}, weights)

    def _grid(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the first exchange."""
        return {"grid": (len(tree_bins.numbers(self.preparation)), GRID), "labels": (max(self.classes, 2),)}

    def _ask(self, shapes: Mapping[str, tuple[int, ...]], weights: Arrays) -> Ask:
        """Return the ask for arrays of these shapes.

        One bound and one size of words for all exchanges: what the first proves holds for all. The first one, too, says
        that subsets depend on data: a hospital hears of it when it approves the study.
        """
        counted = self.criterion.unit == 1.0
        most = float(self.contract.max_rows_per_site)
        precision = 0.5 if counted else self.criterion.unit
        return Ask(
            part=Part.TRAINING,
            entries=tuple(Entry(name, shape, most * self.bound, precision) for name, shape in shapes.items()),
            weight_bound=most,
            word_bits=32 if counted else 64,
            stochastic_rounding=False,
            state_norm=averaging.norm(used(weights)),
            state_norm_bound=self.state_norm_bound,
            subset_patients=self.least,
        )

    def forecast(self) -> Forecast:
        """Return the counts over the grid or, if there are more, the sums of full trees' last level; and their size."""
        options, names = self.options, len(self.preparation.feature_names)
        numbers = len(tree_bins.numbers(self.preparation))
        widths = [options.bins] * min(numbers, self.columns) + [2] * max(0, self.columns - numbers)
        deepest = {"sums": (self.planted * 2 ** (options.max_depth - 1) * sum(widths), self.channels)}
        nodes = self.most * (2 ** (options.max_depth + 1) - 1)
        return Forecast(
            ask=max(
                (self._ask(shapes, {}) for shapes in (self._grid(), deepest)), key=lambda ask: size_of(ask.entries)
            ),
            parameters=nodes * (5 + self.outputs_of_leaf) + names * (options.bins - 1) + self.bases,
            contents=(
                f"of each number column, once: how many rows lie in each of {GRID:,} equal parts of the declared range",
                f"at each open node of a tree, of each column that it may split on, by its bins: {self.summed}",
            ),
        )

    def _first(self, state: Arrays) -> bool:
        return int(state["round"]) == 0

    def _layout(self, bins: Bins, grown: Trees) -> Layout:
        return tree_growth.layout(grown.open, self.candidates(grown), bins)

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return counts over the grid, or the sums of the open nodes."""
        labels = self.labels(examples)
        if self._first(state):
            arrays = {"grid": tree_bins.count(self.preparation, examples), "labels": self._label_sums(labels)}
            return Contribution(arrays, float(len(examples)), examples.patient_count), NOTHING
        bins, base, grown = self._read(within("weights", state))
        rows = self._rows(bins, examples)
        places = tree_growth.walk(grown, rows, partial(self.begin, rows), self.least)
        tally = self.tally(grown, base, rows, labels)
        total, people = tree_growth.sums(self._layout(bins, grown), grown, rows, places, tally, self.channels)
        # A hospital that has left every open node sums nobody: no patient is nearer to that than all of them.
        smallest = self.fewest(people) if len(people) else examples.patient_count
        return Contribution({"sums": total}, float(len(examples)), smallest), NOTHING

    def _rows(self, bins: Bins, examples: Examples) -> Rows:
        def make() -> Rows:
            names, patients = np.unique(examples.patients, return_inverse=True)
            codes = bins.codes(self.preparation.transform(examples).x)
            return Rows(bins, codes, patients, names, self.groups(examples))

        key = (self.preparation, bins.edges.tobytes(), self.seed, str(self.options))
        return examples.derived("tree rows", key, make)

    def labels(self, examples: Examples) -> Floats:
        """Return class indices, or numbers in whole units of shares of the declared range, shape (n,)."""
        if self.classes:
            return examples.labels
        low, high = self.label_range
        return np.asarray(np.rint((examples.labels - low) / (high - low) / UNIT) * UNIT)

    def _label_sums(self, labels: Floats) -> Floats:
        if self.classes:
            return np.bincount(labels.astype(np.int64), minlength=self.classes).astype(np.float64)
        return np.array([float(len(labels)), labels.sum()])

    @property
    def label_range(self) -> tuple[float, float]:
        """Declared range of a label that is a number."""
        declared = self.contract.columns[self.contract.label].range
        assert declared is not None
        return declared

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the state after the first exchange, or one level deeper."""
        weights, number = within("weights", state), int(state["round"]) + 1
        if self._first(state):
            edges = tree_bins.edges(self.preparation, total.arrays["grid"], self.options.bins)
            grown = trees.plant(trees.none(self.outputs_of_leaf), self.planted)
            return self._state(number, edges, self.base(total.arrays["labels"]), grown), {}
        bins, base, grown = self._read(weights)
        layout = self._layout(bins, grown)
        split = tree_growth.best(layout, bins, total.arrays["sums"], self.criterion)
        depth, say = self.options.max_depth, partial(self.leaf, base)
        grown = tree_growth.grow(grown, layout.nodes, split, self.criterion, say, self.closed, depth)
        count = len(grown.roots)
        last = grown.tree >= count - self.planted
        # Trees that gain nothing are followed by trees that gain nothing.
        if not len(grown.open) and count < self.most and np.any(grown.feature[last] >= 0):
            grown = trees.plant(grown, self.planted)
        measured = {"trees": float(count), "nodes": float(len(grown)), "open": float(len(grown.open))}
        return self._state(number, weights["edges"], base, grown), measured

    def finished(self, state: Arrays) -> bool:
        """Whether no node waits for its sums."""
        return not self._first(state) and not np.any(state["weights/feature"] == OPEN)

    def result(self, state: Arrays) -> Arrays:
        """Return edges, base and trees."""
        return within("weights", state)

    def interpretation(self, weights: Arrays) -> Interpretation:
        """Return which columns the trees split on, and how what they say depends on the most important ones."""
        bins, base, grown = self._read(weights)
        return tree_reading.interpretation(grown, bins, self.preparation, self.speech(grown, base))

    @abstractmethod
    def speech(self, grown: Trees, base: Floats) -> Speech:
        """Return how what single nodes say adds up to what the model says."""
