"""What a fitted model says, in tables and estimates for people: coefficients, odds ratios, importances, centres.

A method makes it of its released weights alone (``ModelMethod.interpretation``), so whoever has the model can make
it again, and nothing leaves a hospital for it. Reports and model cards show it; they know no method.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

Value = str | float | int | None
"""One cell; None where a number is undefined, such as a standard error under a penalty."""


@dataclass(frozen=True)
class Table:
    """One table, in the numbers themselves: whoever shows it rounds.

    head: the columns' names, ``"coefficient"``; rows: as many cells each.
    note: sentences below the table, about units, references and what is not estimated.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    note: str = ""

    def __post_init__(self) -> None:
        if any(len(row) != len(self.head) for row in self.rows):
            raise ValueError(f"expected {len(self.head)} cells in each row of {self.title!r}")
        numbers = (cell for row in self.rows for cell in row if isinstance(cell, float))
        if not all(map(math.isfinite, numbers)):
            raise ValueError(f"expected finite numbers in {self.title!r}, and None where there is none")


@dataclass(frozen=True)
class Estimate:
    """A quantity with its 95 % interval."""

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True)
class ForestPlot:
    """Estimates under each other on one axis.

    axis: what is estimated, ``"odds ratio"``.
    reference: where nothing would be associated: 1 for a ratio, which is drawn on a logarithmic axis, else 0.
    """

    title: str
    axis: str
    reference: float
    estimates: tuple[Estimate, ...]

    @property
    def logarithmic(self) -> bool:
        """Whether the axis is of ratios."""
        return self.reference > 0


@dataclass(frozen=True)
class Interpretation:
    """Everything that a model says; empty for one that says nothing, such as a network.

    sentences: what a reader must know of the numbers, such as a column that is not estimated.
    """

    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    forests: tuple[ForestPlot, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.sentences or self.tables or self.forests)

    def as_plain(self) -> dict[str, Any]:
        """Return it as JSON values, for ``metrics.json``."""
        return dataclasses.asdict(self)
