"""Which cells of a table must not be shown, so that no count of few rows is told or can be worked out.

A count from 1 to ``least`` - 1 is hidden (primary suppression). Sums of cells are shown beside them, so further cells
are hidden (complementary suppression) until no hidden cell is determined by the sums, that is, by the linear equations
between all hidden cells, and until the hidden cells of a line whose sum is shown are of ``least`` rows together. The
smallest other count of the line is taken, as in Hundepool et al. 2012, "Statistical Disclosure Control", chapter 4.
Zeros are shown: nobody is behind them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float64]
Mask = NDArray[np.bool_]
_DETERMINED = 1.0 - 1e-9


def hidden_totals(totals: Counts, least: int) -> Mask:
    """Return which totals are hidden, of an array of shape (1 + groups,): of all rows, then of each group."""
    few = (totals > 0) & (totals < least)
    return _completed(totals[None], few[None], least, first=0).reshape(-1)


def hidden_cells(table: Counts, least: int) -> Mask:
    """Return which cells are hidden.

    table: array of shape (1 + parts, 1 + groups); row 0 has the totals of the groups, column 0 those of the parts. The
        first row is hidden as ``hidden_totals`` says, and with it all cells of a group whose total is.
    """
    mask = (table > 0) & (table < least)
    mask[:, hidden_totals(table[0], least)] = True
    return _completed(table, mask, least, first=1)


def _completed(table: Counts, mask: Mask, least: int, first: int) -> Mask:
    """Return the mask with as many cells more as are needed; rows before ``first`` stay as they are."""
    mask = mask.copy()
    lines = _lines(table.shape)
    while True:
        weak = [line for line in lines if _adds_up_to_few(table, mask, line, least)] or _telling(mask, lines)
        open_cells = {
            (int(row), int(column))
            for line in weak
            for row, column in zip(*np.unravel_index(line, table.shape), strict=True)
            if row >= first and not mask[row, column]
        }
        if not open_cells:
            return mask
        # The groups' cells first, totals only if nothing else is left; zeros only after counts.
        mask[min(open_cells, key=lambda cell: (cell[1] == 0, table[cell] == 0, table[cell], cell))] = True


def _lines(shape: tuple[int, ...]) -> list[NDArray[np.int64]]:
    """Return the cells of each line, its total first, as indices of the flat table."""
    flat = np.arange(shape[0] * shape[1]).reshape(shape)
    return [line for line in (*flat, *flat.T) if len(line) > 1]


def _adds_up_to_few(table: Counts, mask: Mask, line: NDArray[np.int64], least: int) -> bool:
    cells, hidden = table.reshape(-1)[line], mask.reshape(-1)[line]
    return bool(not hidden[0] and 0 < cells[hidden].sum() < least)


def _telling(mask: Mask, lines: list[NDArray[np.int64]]) -> list[NDArray[np.int64]]:
    """Return lines with a hidden cell that the equations determine, those with the fewest hidden cells.

    A cell is determined if its unit vector is in the equations' row space.
    """
    unknown = np.flatnonzero(mask)
    if not len(unknown):
        return []
    equations = np.zeros((len(lines), mask.size))
    for row, line in enumerate(lines):
        equations[row, line] = -1.0
        equations[row, line[0]] = 1.0
    _, values, vectors = np.linalg.svd(equations[:, unknown], full_matrices=False)
    known = unknown[np.square(vectors[values > 1e-9]).sum(axis=0) > _DETERMINED]
    hidden = {
        index: int(np.isin(line, unknown).sum()) for index, line in enumerate(lines) if np.isin(line, known).any()
    }
    return [lines[index] for index, count in hidden.items() if count == min(hidden.values())]
