"""What one cell of a column means under the contract: a number, the index of a level, missing, or outside.

Levels and missing codes are compared by ``shared.schema.level_key``, so ``1``, ``1.0`` and ``" 1 "`` are one level.
Every different cell is read once, so that long columns of few levels are fast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.schema import Column, level_key

OUTSIDE = math.inf
"""Stands for "outside the contract" in what ``read_column`` returns; no value of a contract is infinite."""

_WHOLE = 2.0**53
"""Below this every whole number is a float64; above, the digits of a float64 are none that anybody wrote."""


def read_column(column: Column, cells: NDArray[Any]) -> NDArray[np.float64]:
    """Return numbers, or level indices, of shape (n,); NaN where missing, ``OUTSIDE`` where outside the contract.

    cells: array of shape (n,): text, numbers, or objects.
    """
    missing = {level_key(code) for code in column.missing}
    if column.range is None:
        index = {level_key(level): float(number) for number, level in enumerate(column.levels)}
        return _each_different(cells, lambda cell: _level(cell, index, missing))
    if cells.dtype.kind in "uif":
        values = cells.astype(np.float64)
        values[np.isin(values, [float(code) for code in missing if is_number(code)])] = np.nan
    else:
        values = _each_different(cells, lambda cell: _number(cell, missing))
    values[(values < column.range[0]) | (values > column.range[1])] = OUTSIDE
    return values


def text_of(cells: NDArray[Any]) -> NDArray[np.str_]:
    """Return cells as text without surrounding space; null is empty, and a whole number has no decimal point."""
    if cells.dtype.kind in "ui":
        return cells.astype(np.str_)
    return np.array([_text(cell) for cell in _plain(cells)], dtype=np.str_)


def is_number(text: str) -> bool:
    """Whether Python reads the text as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _plain(cells: NDArray[Any]) -> list[Any]:
    """Return the cells as Python values, None for NaN, which would differ from itself."""
    return [cell if cell == cell else None for cell in cells.tolist()]  # noqa: PLR0124


def _each_different(cells: NDArray[Any], read: Callable[[Any], float]) -> NDArray[np.float64]:
    plain = _plain(cells)
    known = {cell: read(cell) for cell in set(plain)}
    return np.fromiter((known[cell] for cell in plain), dtype=np.float64, count=len(plain))


def _level(cell: Any, index: dict[str, float], missing: set[str]) -> float:
    key = "" if cell is None else level_key(cell)
    return math.nan if not key or key in missing else index.get(key, OUTSIDE)


def _number(cell: Any, missing: set[str]) -> float:
    if cell is None:
        return math.nan
    try:
        value = float(cell)
    except (TypeError, ValueError):
        value = OUTSIDE
    if math.isfinite(value) and repr(value) not in missing:
        # float() also reads True and "1_000", which are no decimal numbers.
        return OUTSIDE if isinstance(cell, bool) or "_" in str(cell) else value
    key = level_key(cell)
    return math.nan if not key or key in missing else OUTSIDE


def _text(cell: Any) -> str:
    if cell is None:
        return ""
    whole = isinstance(cell, float) and cell.is_integer() and abs(cell) < _WHOLE
    return str(int(cell)) if whole else str(cell).strip()
