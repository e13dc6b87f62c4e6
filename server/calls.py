"""What was called right and wrong, for the report: the confusion table, and what it says of a test."""

from __future__ import annotations

from dataclasses import dataclass

from server.charts import wilson
from server.tables import Cell, cell_of
from shared.metrics import Judgement
from shared.wording import UNDEFINED


@dataclass(frozen=True)
class ConfusionRow:
    """Rows of one true class, by called class: (count, share of the true class)."""

    name: str
    cells: tuple[tuple[str, float], ...]


def confusion_rows(judgement: Judgement) -> tuple[ConfusionRow, ...]:
    """Return the confusion table; empty for a number, and for noised sums over many classes."""
    if not judgement.confusion.size:
        return ()
    rows = []
    for name, counts in zip(judgement.classes, judgement.confusion, strict=True):
        whole = max(float(counts.sum()), 1.0)
        rows.append(ConfusionRow(name, tuple((f"{count:,.0f}", float(count) / whole) for count in counts)))
    return tuple(rows)


def diagnostic_values(judgement: Judgement) -> tuple[tuple[str, str, Cell], ...]:
    """Return (name, meaning, value) of what a binary confusion table says of a test.

    With Wilson intervals, or those that know the noise.
    """
    if len(judgement.classes) != 2:
        return ()
    (tn, fp), (fn, tp) = judgement.confusion.tolist()
    no, yes = judgement.classes
    shares = (
        ("sensitivity", "Sensitivity", f"of those with {yes}, called {yes}", tp, tp + fn),
        ("specificity", "Specificity", f"of those with {no}, called {no}", tn, tn + fp),
        ("ppv", "Positive predictive value", f"of those called {yes}, have {yes}", tp, tp + fp),
        ("npv", "Negative predictive value", f"of those called {no}, have {no}", tn, tn + fn),
    )
    noised = judgement.diagnostics
    return tuple(
        (name, meaning, cell_of("accuracy", noised[key]) if noised else _share_cell(hits, rows))
        for key, name, meaning, hits, rows in shares
    )


def _share_cell(hits: float, rows: float) -> Cell:
    if not rows:
        return Cell(UNDEFINED)
    low, high = wilson(hits, rows)
    return Cell(f"{hits / rows:.3f}", f"{low:.3f} to {high:.3f}, {hits:,.0f} of {rows:,.0f}")
