"""What the model says, as the report and the model card show it: from an ``Interpretation`` to rows of texts."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from server import charts
from server.scale import decimals, ratio_scale, scale
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
    """A table as texts.

    words: by column, whether its cells are words, which stand to the left.
    bars: by row, from zero to a number of the row; empty where nothing is drawn. zero: as a share of the width.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[bool, ...]
    note: str
    bars: tuple[Mark, ...] = ()
    zero: float = 0.0

    @property
    def long(self) -> bool:
        """Whether a reader should be asked first."""
        return len(self.rows) > _MOST_ROWS


@dataclass(frozen=True)
class DependencePlot:
    """Partial dependence on one column. chart: an SVG element, without any text of the study."""

    column: str
    unit: str
    chart: str
    table: TextTable


def forests(interpretation: Interpretation) -> tuple[Forest, ...]:
    """Return the forest plots, each estimate in its place on the axis."""
    return tuple(_forest(plot) for plot in interpretation.forests if plot.estimates)


def text_tables(interpretation: Interpretation) -> tuple[TextTable, ...]:
    """Return the tables with rounded numbers."""
    return tuple(_texts(table) for table in interpretation.tables)


def dependence_plots(interpretation: Interpretation) -> tuple[DependencePlot, ...]:
    """Return the partial dependences as charts, with their numbers."""
    shown = interpretation.dependences
    return tuple(
        DependencePlot(each.column, each.unit, chart, _texts(each.table()))
        for each, chart in zip(shown, charts.dependences(shown), strict=True)
    )


def dependence_legend(interpretation: Interpretation) -> tuple[tuple[str, str, str], ...]:
    """Return (colour, dash pattern, name) of each line in the charts of partial dependence."""
    names = interpretation.dependences[0].names if interpretation.dependences else ()
    return tuple((*charts.line_style(index, len(names)), name) for index, name in enumerate(names))


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
    bars, zero, places = _bars(table)
    return TextTable(
        title=table.title,
        head=tuple(head.replace("95 %", "95\N{NO-BREAK SPACE}%") for head in table.head),
        rows=tuple(
            tuple(
                _text(cell, head, places if head == table.bars else None)
                for cell, head in zip(row, table.head, strict=True)
            )
            for row in table.rows
        ),
        words=tuple(any(isinstance(row[index], str) for row in table.rows) for index in columns),
        note=table.note,
        bars=bars,
        zero=zero,
    )


def _bars(table: Table) -> tuple[tuple[Mark, ...], float, int]:
    """Return the bars of a table, where their zero lies, and to how many decimals their numbers are told."""
    if not table.bars or not table.rows:
        return (), 0.0, 0
    at = table.head.index(table.bars)
    numbers = [cell if isinstance(cell, int | float) else 0.0 for cell in (row[at] for row in table.rows)]
    low, high = min(0.0, *numbers), max(0.0, *numbers)
    span = (high - low) or 1.0
    places, zero = [(number - low) / span for number in numbers], -low / span
    bars = tuple(Mark(min(place, zero), place, max(place, zero)) for place in places)
    return bars, zero, decimals(max(map(abs, numbers)) or 1.0) + 2


def _text(cell: Value, head: str, places: int | None) -> str:
    """Return a cell as text. places: decimals that the whole column has; None for three digits."""
    if cell is None:
        return UNDEFINED
    if isinstance(cell, str):
        return cell
    if head == "p" and cell < _LEAST_P:
        return f"<{_LEAST_P}"
    if isinstance(cell, int):
        return f"{cell:,}"
    if places is None:
        return number_text(cell)
    text = f"{abs(cell):,.{places}f}"
    return f"\N{MINUS SIGN}{text}" if cell < 0 and text.strip("0.") else text
