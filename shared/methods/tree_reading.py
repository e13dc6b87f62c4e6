"""What grown trees say of their columns, from the trees alone: no row is looked at.

Importance: the share of a column in what all splits gained (mean decrease in impurity: Breiman et al. 1984, section
5.3.4). It favours columns of many values, and splits importance between columns that say the same.

Partial dependence: what the model says on average when one column is set to a value (Friedman 2001, Annals of
Statistics 29(5), section 8.2), by a weighted walk: at a split on that column, the side of the value; at any other, both
sides, by the share of training rows that went there. Where columns depend on each other, the average holds rows that
nobody has.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.interpretation import Interpretation, Table, Value
from shared.methods.tree_bins import Bins, numbers
from shared.methods.trees import Floats, Trees
from shared.preparation import Preparation

MOST_COLUMNS = 30
"""Rows of the table of importances."""
DEPENDENCES, MOST_VALUES = 4, 10
"""How many columns get a partial dependence, and at how many values at most."""


@dataclass(frozen=True, eq=False)
class Speech:
    """How what single nodes say adds up.

    names: of what the model says, ``("probability of malignant",)``.
    shares: array of shape (N, names): what each node adds where a row ends there.
    offset: array of shape (names,), added once.
    """

    names: tuple[str, ...]
    shares: Floats
    offset: Floats


def importances(trees: Trees, features: int) -> Floats:
    """Return each column's share of the gain of all splits, shape (features,); zeros where nothing was split."""
    split = trees.feature >= 0
    gains = np.bincount(trees.feature[split], weights=trees.gain[split], minlength=features)
    return np.asarray(gains / gains.sum() if gains.sum() > 0 else gains)


def partial_dependence(trees: Trees, speech: Speech, feature: int, values: NDArray[np.int64]) -> Floats:
    """Return what the model says on average when a column lies in given bins, shape (values, names).

    values: array of shape (values,), bins of the column.
    """
    reached = np.zeros((len(trees), len(values)))
    reached[trees.roots] = 1.0
    for depth in range(int(trees.depth.max(initial=0))):
        nodes = np.flatnonzero((trees.depth == depth) & (trees.feature >= 0))
        left = trees.left[nodes]
        both = trees.weight[left] + trees.weight[left + 1]
        goes_left = np.repeat((trees.weight[left] / both)[:, None], len(values), axis=1)
        own = trees.feature[nodes] == feature
        goes_left[own] = values[None, :] <= trees.bin[nodes[own]][:, None]
        reached[left] = reached[nodes] * goes_left
        reached[left + 1] = reached[nodes] * (1.0 - goes_left)
    ends = trees.feature < 0
    return speech.offset + reached[ends].T @ speech.shares[ends]


def interpretation(trees: Trees, bins: Bins, preparation: Preparation, speech: Speech) -> Interpretation:
    """Return the table of importances, and partial dependences of the most important columns."""
    names = preparation.feature_names
    shares = importances(trees, len(names))
    order = np.argsort(-shares, kind="stable")
    rows = tuple((names[index], float(shares[index])) for index in order[:MOST_COLUMNS])
    note = (
        "The share of each column in what all splits gained. Columns of many values are favoured, and columns that say"
        " the same share what they say; it says nothing of causes."
    )
    if len(names) > MOST_COLUMNS:
        note += f" The {MOST_COLUMNS} most important of {len(names)} columns."
    told = [_dependence(trees, bins, preparation, speech, int(index)) for index in order[:DEPENDENCES] if shares[index]]
    return Interpretation(tables=(Table("Importance of the columns", ("column", "share"), rows, note), *told))


def _dependence(trees: Trees, bins: Bins, preparation: Preparation, speech: Speech, feature: int) -> Table:
    width = int(bins.widths[feature])
    values = np.unique(np.linspace(0, width - 1, min(width, MOST_VALUES)).round().astype(np.int64))
    said = partial_dependence(trees, speech, feature, values)
    center, scale = _scale(preparation, feature)
    edges = center + scale * np.unique(bins.edges[feature])
    rows: list[tuple[Value, ...]] = []
    for value, row in zip(values.tolist(), said, strict=True):
        low = float(edges[value - 1]) if value > 0 else None
        high = float(edges[value]) if value < width - 1 else None
        rows.append((low, high, *(float(number) for number in row)))
    name = preparation.feature_names[feature]
    note = (
        "What the model says on average when this column alone is set to a value from the first number up to the"
        " second, in its own unit; from the trees alone."
    )
    return Table(f"Partial dependence on {name}", ("from", "below", *speech.names), tuple(rows), note)


def _scale(preparation: Preparation, feature: int) -> tuple[float, float]:
    """Return (center, scale) of a prepared column; a column of 0 and 1 is in its own unit."""
    return next(((each.center, each.scale) for _, at, each in numbers(preparation) if at == feature), (0.0, 1.0))
