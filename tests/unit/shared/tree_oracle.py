"""Trees grown over rows, one row at a time, in plain Python: what the sums over hospitals must give, node for node."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

UNIT = 2.0**-24

Node = tuple[Any, ...]
"""(column, bin, left, right), or ("leaf", what it says)."""


@dataclass(frozen=True)
class Grower:
    """How one tree is grown.

    bins: bins[row][column]; widths: number of bins of each column.
    columns: from (depth, path) to the columns that a node may split on.
    quality, leaf: from rows to the criterion, and to what a leaf says.
    hopeless: from rows to whether they need no split.
    """

    bins: list[list[int]]
    widths: list[int]
    columns: Callable[[int, int], Sequence[int]]
    quality: Callable[[list[int]], float]
    leaf: Callable[[list[int]], list[float]]
    hopeless: Callable[[list[int]], bool]
    min_leaf: int
    max_depth: int

    def grow(self, rows: list[int], depth: int = 0, path: int = 0) -> Node:
        """Return the tree over these rows."""
        if depth == self.max_depth or len(rows) < 2 * self.min_leaf or self.hopeless(rows):
            return ("leaf", self.leaf(rows))
        best: tuple[float, int, int] | None = None
        for column in self.columns(depth, path):
            for cut in range(self.widths[column] - 1):
                left, right = self.divided(rows, column, cut)
                if min(len(left), len(right)) < self.min_leaf:
                    continue
                score = self.quality(left) + self.quality(right)
                if best is None or score > best[0]:
                    best = (score, column, cut)
        if best is None or best[0] - self.quality(rows) <= 1e-9 * len(rows):
            return ("leaf", self.leaf(rows))
        left, right = self.divided(rows, best[1], best[2])
        return (*best[1:], self.grow(left, depth + 1, 2 * path), self.grow(right, depth + 1, 2 * path + 1))

    def divided(self, rows: list[int], column: int, cut: int) -> tuple[list[int], list[int]]:
        """Return the rows on both sides of a split."""
        left = [row for row in rows if self.bins[row][column] <= cut]
        return left, [row for row in rows if self.bins[row][column] > cut]


def said(node: Node, bins: list[int]) -> list[float]:
    """Return what a tree says of a row."""
    while node[0] != "leaf":
        node = node[2] if bins[node[0]] <= node[1] else node[3]
    return list(node[1])


def binned(x: NDArray[np.float64], edges: NDArray[np.float64]) -> tuple[list[list[int]], list[int]]:
    """Return each row's bins by column, and the number of bins of each column."""
    distinct = [sorted(set(column.tolist())) for column in edges]
    rows = [[sum(edge <= value for edge in distinct[c]) for c, value in enumerate(row)] for row in x.tolist()]
    return rows, [len(column) + 1 for column in distinct]


def nested(weights: Any) -> list[Node]:
    """Return released trees as nodes in nodes."""
    feature, cut, left = (weights[name].astype(int).tolist() for name in ("feature", "bin", "left"))

    def node(at: int) -> Node:
        if feature[at] < 0:
            return ("leaf", weights["value"][at].tolist())
        return (feature[at], cut[at], node(left[at]), node(left[at] + 1))

    children = {child for at, here in enumerate(feature) if here >= 0 for child in (left[at], left[at] + 1)}
    return [node(at) for at in range(len(feature)) if at not in children]


def in_units(values: Sequence[float]) -> list[float]:
    """Return numbers rounded to whole units."""
    return [round(value / UNIT) * UNIT for value in values]


def softmax(scores: list[float]) -> list[float]:
    """Return the probabilities of scores; of one score, that of the positive class."""
    if len(scores) == 1:
        return [1.0 / (1.0 + math.exp(-scores[0]))]
    powers = [math.exp(score) for score in scores]
    return [power / sum(powers) for power in powers]
