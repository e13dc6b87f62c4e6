"""The columns that a table one describes, and the table for people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays, Examples
from shared.interpretation import Interpretation, Table, Value
from shared.schema import DataContract

HIDDEN = -1.0
"""Stands in released arrays for a number that is hidden; counts and shares are none below 0."""


@dataclass(frozen=True)
class Described:
    """One column that is described.

    index: among the features; the label's is that after them.
    levels: of a category; none for a number, whose range then goes from low to high.
    """

    name: str
    index: int
    levels: tuple[str, ...] = ()
    low: float = 0.0
    high: float = 1.0
    label: bool = False

    @property
    def number(self) -> bool:
        """Whether it is a number."""
        return not self.levels

    @property
    def width(self) -> int:
        """Of how many means: one for a number, one for each level."""
        return len(self.levels) or 1

    @property
    def parts(self) -> int:
        """Into how many counts the rows fall: there or each level, and missing."""
        return self.width + 1

    def observed(self, examples: Examples) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Return which rows have a value, and the values: index of a level, or share of the range."""
        values = examples.labels if self.label else examples.values[:, self.index]
        there = ~np.isnan(values)
        return there, values[there] if self.levels else (values[there] - self.low) / (self.high - self.low)


def once(examples: Examples) -> Examples:
    """Return the first row of each patient: patients are counted."""
    first = np.sort(np.unique(examples.patients, return_index=True)[1])
    return examples if len(first) == len(examples) else examples.take(first)


def described(contract: DataContract) -> tuple[Described, ...]:
    """Return the features, and the label if it is a number."""
    columns = []
    names = contract.features if contract.classes else (*contract.features, contract.label)
    for index, name in enumerate(names):
        column = contract.columns[name]
        low, high = column.range or (0.0, 1.0)
        levels = tuple(str(level) for level in column.levels)
        columns.append(Described(name, index, levels, low, high, name == contract.label))
    return tuple(columns)


def interpretation(weights: Arrays, contract: DataContract, columns: Sequence[Described], least: int) -> Interpretation:
    """Return the tables: the groups, the numbers, and the levels.

    least: counts of fewer patients are hidden.
    """
    groups = ("all", *(f"{contract.label} = {name}" for name in contract.classes))
    counts = weights["fit/counts"]
    totals = counts[0]
    whole = tuple((name, _count(rows), _share(rows, totals[0])) for name, rows in zip(groups, totals, strict=True))
    numbers: list[tuple[Value, ...]] = []
    levels: list[tuple[Value, ...]] = []
    place, number = 1, 0
    for column in columns:
        parts = counts[place : place + column.parts]
        if column.number:
            unit = contract.columns[column.name].unit
            name = f"{column.name} ({unit})" if unit else column.name
            moments = weights["fit/moments"][number]
            numbers += [
                (name, group, _count(parts[0, index]), _count(parts[1, index]), *_own_units(moments[:, index], column))
                for index, group in enumerate(groups)
            ]
            number += 1
        else:
            levels += [
                (
                    column.name,
                    level,
                    *(cell for pair in zip(map(_count, row), map(_share, row, totals), strict=True) for cell in pair),
                )
                for level, row in zip((*column.levels, "missing"), parts, strict=True)
            ]
        place += column.parts
    note = (
        f"A dash is a count of fewer than {least} patients, or one that would give such a count away, and what is"
        " computed from it. "
    )
    head = ("column", "of", "patients", "missing", "mean", "deviation", "25 %", "median", "75 %")
    by_group = tuple(text for group in groups for text in (group, "share"))
    tables = [Table("Training patients", ("of", "patients", "share"), whole, note.strip())]
    if numbers:
        precise = (
            "Quartiles are right to a thousandth of the declared range; there are none of fewer than"
            f" {4 * least} patients."
        )
        tables.append(Table("Numbers", head, tuple(numbers), note + precise))
    if levels:
        tables.append(
            Table("Categories", ("column", "level", *by_group), tuple(levels), note + "Shares are of all patients.")
        )
    return Interpretation(tables=tuple(tables))


def _count(rows: float) -> int | None:
    return None if rows == HIDDEN else round(float(rows))


def _share(rows: float, total: float) -> float | None:
    return None if HIDDEN in (rows, total) or not total else float(rows / total)


def _own_units(moments: NDArray[np.float64], column: Described) -> tuple[float | None, ...]:
    """Return mean, deviation and quartiles in the column's unit."""
    width = column.high - column.low
    return tuple(
        None if value == HIDDEN else float(width * value + (0.0 if index == 1 else column.low))
        for index, value in enumerate(moments)
    )
