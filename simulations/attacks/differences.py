"""What two sums over nearly the same patients give away: the row of whoever is in one and not in the other.

The aggregator is honest in every message: it makes two runs of one study, between which a patient left one hospital,
and subtracts the second run's preparation from the first's. Masks do not help, because both are sums, and neither do
the other hospitals, whose patients were the same. Counts give classes and levels, and a sum over one patient is the
patient's value.
"""

from __future__ import annotations

import numpy as np

from shared.examples import Arrays
from shared.methods.base import Measurements, Total
from shared.methods.combinators import InTurn
from shared.schema import DataContract


class Remembering(InTurn):
    """A study's plan at an aggregator that remembers every sum."""

    def __init__(self, plan: InTurn) -> None:
        super().__init__(plan.stages)
        self.totals: list[Total] = []

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return what the plan does, after taking note."""
        self.totals.append(total)
        return super().advance(state, total)


def row_of_who_left(contract: DataContract, before: Arrays, after: Arrays) -> dict[str, float | str | None]:
    """Return the row of the one patient who is in the first sum and not in the second, by column.

    before, after: totals of the preparation (``shared/methods/preparation.py``).

    Returns: numbers to the precision of the words, levels and classes by name; None for what was missing.
    """
    row: dict[str, float | str | None] = {}
    missing = before["missing"] - after["missing"]
    for name, lacks in zip(contract.features, missing.tolist(), strict=True):
        column = contract.columns[name]
        if lacks:
            row[name] = None
        elif column.range is not None:
            low, high = column.range
            row[name] = float(low + (high - low) * (before[f"moments/{name}"] - after[f"moments/{name}"])[0])
        else:
            row[name] = str(column.levels[int(np.argmax(before[f"levels/{name}"] - after[f"levels/{name}"]))])
    row[contract.label] = contract.classes[int(np.argmax(before["classes"] - after["classes"]))]
    return row
