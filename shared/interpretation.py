"""What a fitted model says, for people: coefficients, odds ratios, importances, dependences, centres.

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
    bars: the column of ``head`` whose numbers are also drawn as bars; empty for none.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[Value, ...], ...]
    note: str = ""
    bars: str = ""

    def __post_init__(self) -> None:
        if self.bars and self.bars not in self.head:
            raise ValueError(f"expected one of {', '.join(self.head)} as bars. Received: {self.bars!r}")
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
class Dependence:
    """Partial dependence: what the model says on average when one column is set to a value, constant between edges.

    unit: of the column; empty for none.
    range: lowest and highest value that the column may have.
    names: of what the model says, ``("probability of malignant",)``.
    edges: growing values of the column, at least one.
    values: a row for each interval, from below the first edge to above the last, with a number for each name.
    """

    column: str
    unit: str
    range: tuple[float, float]
    names: tuple[str, ...]
    edges: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        if not self.edges or len(self.values) != len(self.edges) + 1:
            raise ValueError(f"expected edges, and a value on both sides of each, for {self.column!r}")

    def table(self) -> Table:
        """Return the same as a table, a row for each interval."""
        ends = zip((None, *self.edges), (*self.edges, None), self.values, strict=True)
        rows = tuple((low, high, *said) for low, high, said in ends)
        return Table(f"Partial dependence on {self.column}", ("from", "below", *self.names), rows)


@dataclass(frozen=True)
class Interpretation:
    """Everything that a model says; empty for one that says nothing, such as a network.

    sentences: what a reader must know of the numbers, such as a column that is not estimated.
    """

    sentences: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()
    forests: tuple[ForestPlot, ...] = ()
    dependences: tuple[Dependence, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.sentences or self.tables or self.forests or self.dependences)

    def as_plain(self) -> dict[str, Any]:
        """Return it as JSON values, for ``metrics.json``."""
        return dataclasses.asdict(self)
