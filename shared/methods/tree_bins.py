"""Columns in bins: what trees split on, the same at every site.

A number column is counted over a fine grid of its declared range, and its edges are quantiles of the counts of all
sites (as in LightGBM and scikit-learn's histogram gradient boosting; Ke et al. 2017, NeurIPS, section 2.1), put into
the middle between the cells on both sides, where no value was seen. Columns of 0 and 1 have the edge 1/2.

Trees read prepared rows, ``Prepared.x``: a missing number stands at the median, and its indicator column lets a tree
part those rows from the others.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shared.errors import ProtocolError
from shared.examples import Examples
from shared.preparation import FeatureColumn, Preparation

GRID = 4096
"""Cells over a declared range: values closer than a cell fall into one bin."""

_HALF = 0.5


@dataclass(frozen=True, eq=False)
class Bins:
    """Edges of p columns.

    edges: array of shape (p, at least 1), non-decreasing, in prepared units; bin b is where b different edges are <= x.
    """

    edges: NDArray[np.float64]

    @cached_property
    def widths(self) -> NDArray[np.int64]:
        """Bins of each column, at least 2."""
        return np.asarray(2 + (np.diff(self.edges, axis=1) > 0).sum(axis=1))

    @cached_property
    def firsts(self) -> NDArray[np.int64]:
        """Code of each column's first bin."""
        return np.cumsum(self.widths) - self.widths

    def codes(self, x: NDArray[np.float64]) -> NDArray[np.int32]:
        """Return the bins of rows, each column's numbered after those of the column before.

        x: array of shape (n, p), prepared.
        """
        codes = np.empty(x.shape, np.int32)
        for column, edges in enumerate(self.edges):
            codes[:, column] = self.firsts[column] + np.searchsorted(np.unique(edges), x[:, column], side="right")
        return codes


def read(edges: NDArray[np.float64], preparation: Preparation, bins: int) -> Bins:
    """Return the bins that a state holds.

    bins: most of one column.

    Raises: ProtocolError ``bad-bins``.
    """
    shape = (len(preparation.feature_names), bins - 1)
    if edges.shape != shape or edges.dtype != np.float64:
        raise ProtocolError("bad-bins", f"expected edges of shape {shape}, float64")
    if not np.isfinite(edges).all() or np.any(np.diff(edges, axis=1) < 0):
        raise ProtocolError("bad-bins", "expected finite edges in growing order")
    return Bins(edges)


def numbers(preparation: Preparation) -> list[tuple[int, int, FeatureColumn]]:
    """Return (index in ``Examples.values``, index in ``Prepared.x``, column) of each number column."""
    found, feature = [], 0
    for index, column in enumerate(preparation.columns):
        if not column.levels:
            found.append((index, feature, column))
        feature += (column.levels if column.levels > 2 else 1) + column.indicator
    return found


def count(preparation: Preparation, examples: Examples) -> NDArray[np.float64]:
    """Return how many observed values lie in each cell of each number column, shape (number columns, GRID)."""
    columns = numbers(preparation)
    counts = np.zeros((len(columns), GRID))
    for place, (index, _, column) in enumerate(columns):
        low, high = _range(preparation, column)
        observed = examples.values[:, index]
        observed = observed[~np.isnan(observed)]
        cells = np.minimum(((observed - low) / (high - low) * GRID).astype(np.int64), GRID - 1)
        counts[place] = np.bincount(cells, minlength=GRID)
    return counts


def edges(preparation: Preparation, counts: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Return the edges that counts of all sites give, shape (p, bins - 1); the last one repeats where there are fewer.

    counts: array of shape (number columns, GRID).
    """
    found = np.full((len(preparation.feature_names), bins - 1), _HALF)
    for (_, feature, column), cells in zip(numbers(preparation), counts, strict=True):
        low, high = _range(preparation, column)
        places = (low + (high - low) * _quantiles(cells, bins) / GRID - column.center) / column.scale
        found[feature, : len(places)] = places
        found[feature, len(places) :] = places[-1]
    return found


def _quantiles(cells: NDArray[np.float64], bins: int) -> NDArray[np.float64]:
    """Return between which cells the edges lie, in cells from the lower end of the range; at least one."""
    occupied = np.flatnonzero(cells >= 1)
    gaps = (occupied[:-1] + 1 + occupied[1:]) / 2
    if not len(gaps):
        return np.zeros(1)  # all values in one cell: nothing lies left of the range
    if len(gaps) < bins:
        return np.asarray(gaps)
    below = np.cumsum(cells[occupied])
    at = np.searchsorted(below, below[-1] * np.arange(1, bins) / bins)
    return np.asarray(gaps[np.unique(np.minimum(at, len(gaps) - 1))])


def _range(preparation: Preparation, column: FeatureColumn) -> tuple[float, float]:
    declared = preparation.contract.columns[column.name].range
    assert declared is not None
    return declared
