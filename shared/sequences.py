"""What a sequence is made of: the letters of a text, or a patient's rows up to one of them.

A row's history holds nothing that came after the row, and is part of the row: whichever rows are taken together later,
each keeps its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.cells import text_of
from shared.schema import DataContract, Text

PADDING = np.inf
"""Stands where a history has no step; no value of a contract is infinite."""

_WRONG = "\N{REPLACEMENT CHARACTER}"
"""Stands at each position of a text of a wrong length: no letter of a study."""


def spelt(contract: DataContract, columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Return columns of cells, shape (n,) each, in which every text stands as one column for each of its positions."""
    made = dict(columns)
    for name, text in contract.texts.items():
        if name in columns:
            made |= dict(zip(text.columns(name), _letters(text, made.pop(name)).T, strict=True))
    return made


def _letters(text: Text, cells: NDArray[Any]) -> NDArray[np.str_]:
    """Return the letter at each position, shape (n, length); empty where the text is."""
    wrong = _WRONG * text.length
    whole = [cell if len(cell) in (0, text.length) else wrong for cell in text_of(cells).tolist()]
    return np.array(whole, dtype=f"U{text.length}").view("U1").reshape(len(whole), text.length)


def histories(
    patients: NDArray[np.str_], order: NDArray[np.float64], values: NDArray[np.float64], count: int
) -> NDArray[np.float64]:
    """Return each row behind the rows of the same patient that came before it, shape (n, count, p).

    patients, order: arrays of shape (n,); rows of equal order follow each other as they stand.
    values: array of shape (n, p).

    The earliest of the last ``count`` rows comes first; ``PADDING`` follows the row itself where there are fewer.
    """
    _, patient = np.unique(patients, return_inverse=True)
    by_time = np.lexsort((order, patient))
    place = np.empty(len(order), dtype=np.int64)
    place[by_time] = np.arange(len(order))
    first = np.searchsorted(patient[by_time], patient)
    lengths = np.minimum(place - first + 1, count)
    steps = np.arange(count)
    rows = np.minimum((place - lengths + 1)[:, None] + steps, place[:, None])
    made: NDArray[np.float64] = values[by_time[rows]]
    made[steps >= lengths[:, None]] = PADDING
    return made
