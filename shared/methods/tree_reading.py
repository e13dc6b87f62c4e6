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

from shared.interpretation import Dependence, Interpretation, Table
from shared.methods.tree_bins import Bins, numbers
from shared.methods.trees import Floats, Trees
from shared.preparation import Preparation

MOST_COLUMNS = 30
"""Rows of the table of importances."""
DEPENDENCES = 4
"""How many columns get a partial dependence."""
_TOGETHER = 16
"""Bins of a column that are walked at once: memory is so many numbers for each node of all trees."""


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
    table = Table("Importance of the columns", ("column", "share"), rows, note, bars="share")
    return Interpretation(tables=(table,), dependences=tuple(told))


def _dependence(trees: Trees, bins: Bins, preparation: Preparation, speech: Speech, feature: int) -> Dependence:
    every = np.arange(int(bins.widths[feature]))
    parts = np.array_split(every, -(-len(every) // _TOGETHER))
    said = np.concatenate([partial_dependence(trees, speech, feature, part) for part in parts])
    column = next((each for _, at, each in numbers(preparation) if at == feature), None)
    center, scale = (column.center, column.scale) if column else (0.0, 1.0)
    declared = preparation.contract.columns[column.name] if column else None
    return Dependence(
        column=preparation.feature_names[feature],
        unit=declared.unit if declared else "",
        range=(declared.range if declared else None) or (0.0, 1.0),
        names=speech.names,
        edges=tuple((center + scale * np.unique(bins.edges[feature])).tolist()),
        values=tuple(tuple(row) for row in said.tolist()),
    )
