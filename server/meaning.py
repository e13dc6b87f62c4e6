"""What the model says, as the report and the model card show it: from an ``Interpretation`` to rows of texts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from server.scale import ratio_scale, scale
from server.tables import Mark
from shared.interpretation import ForestPlot, Interpretation, Table, Value
from shared.wording import UNDEFINED, number_text

_WIDEST = 100.0
"""Ratios beyond this times the reference, or below its inverse, are drawn at the end of the axis."""


_LEAST_P = 0.001
"""Smaller p-values are not told apart."""

_MOST_ROWS = 40
"""Longer tables and plots are folded."""


@dataclass(frozen=True)
class ForestRow:
    """One estimate. mark: where it lies on the axis; ends beyond the axis are drawn at its end."""

    name: str
    mark: Mark
    value: str
    range: str


@dataclass(frozen=True)
class Forest:
    """One forest plot.

    reference: where nothing would be associated, as a share of the axis' width.
    ticks: (share of the axis' width, text).
    cut: whether an interval is longer than the axis.
    """

    title: str
    axis: str
    reference: float
    rows: tuple[ForestRow, ...]
    ticks: tuple[tuple[float, str], ...]
    cut: bool

    @property
    def long(self) -> bool:
        """Whether a reader should be asked first."""
        return len(self.rows) > _MOST_ROWS


@dataclass(frozen=True)
class TextTable:
    """A table as texts. words: by column, whether its cells are words, which stand to the left."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[bool, ...]
    note: str

    @property
    def long(self) -> bool:
        """Whether a reader should be asked first."""
        return len(self.rows) > _MOST_ROWS


def forests(interpretation: Interpretation) -> tuple[Forest, ...]:
    """Return the forest plots, each estimate in its place on the axis."""
    return tuple(_forest(plot) for plot in interpretation.forests if plot.estimates)


def text_tables(interpretation: Interpretation) -> tuple[TextTable, ...]:
    """Return the tables with rounded numbers."""
    return tuple(_texts(table) for table in interpretation.tables)


def _forest(plot: ForestPlot) -> Forest:
    ends = [end for each in plot.estimates for end in (each.low, each.value, each.high)]
    if plot.logarithmic:
        least, most = plot.reference / _WIDEST, plot.reference * _WIDEST
        low, high, ticks = ratio_scale(*_within([plot.reference, *ends], least, most))
    else:
        low, high, ticks = scale(min(*ends, plot.reference), max(*ends, plot.reference))

    def place(value: float) -> float:
        value = min(max(value, low), high)
        if plot.logarithmic:
            return math.log(value / low) / math.log(high / low)
        return (value - low) / (high - low)

    rows = tuple(
        ForestRow(
            name=each.name,
            mark=Mark(place(each.low), place(each.value), place(each.high)),
            value=number_text(each.value),
            range=f"{number_text(each.low)} to {number_text(each.high)}",
        )
        for each in plot.estimates
    )
    shown = tuple((place(tick), text) for tick, text in ticks)
    return Forest(plot.title, plot.axis, place(plot.reference), rows, shown, min(ends) < low or max(ends) > high)


def _within(values: Iterable[float], least: float, most: float) -> tuple[float, float]:
    """Return the smallest and the largest value, each moved into [least, most]."""
    kept = [min(max(value, least), most) for value in values]
    return min(kept), max(kept)


def _texts(table: Table) -> TextTable:
    columns = range(len(table.head))
    return TextTable(
        title=table.title,
        head=table.head,
        rows=tuple(tuple(_text(cell, head) for cell, head in zip(row, table.head, strict=True)) for row in table.rows),
        words=tuple(any(isinstance(row[index], str) for row in table.rows) for index in columns),
        note=table.note,
    )


def _text(cell: Value, head: str) -> str:
    if cell is None:
        return UNDEFINED
    if isinstance(cell, str):
        return cell
    if head == "p" and cell < _LEAST_P:
        return f"<{_LEAST_P}"
    return f"{cell:,}" if isinstance(cell, int) else number_text(cell)
