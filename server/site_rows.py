"""The report's table of hospitals: who brought what, as far as it is shown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from server.outcome import Outcome, SiteSummary
from server.tables import Cell
from shared.wording import NOT_SHOWN, UNDEFINED, share_text


@dataclass(frozen=True)
class SiteRow:
    """One hospital's data. ``classes``: count and share of each class among the training rows."""

    name: str
    patients: str
    rows: str
    training: str
    held_out: str
    classes: tuple[Cell, ...]
    outside: str
    rounds: str
    notes: tuple[str, ...]


def site_rows(outcome: Outcome) -> tuple[SiteRow, ...]:
    """Return one row for each hospital, and the total of all when there are several."""
    rows = [_site_row(outcome, site) for site in outcome.sites]
    return (*rows, _total(outcome)) if len(rows) > 1 else tuple(rows)


def _site_row(outcome: Outcome, site: SiteSummary) -> SiteRow:
    rounds = f"{outcome.contributed_rounds(site.name)} of {len(outcome.training)}"
    counts, classes = site.counts, len(outcome.study.data.classes)
    shown = told(outcome)
    if counts is None:
        hidden = (Cell(NOT_SHOWN),) * classes
        return SiteRow(site.name, NOT_SHOWN, NOT_SHOWN, NOT_SHOWN, NOT_SHOWN, hidden, NOT_SHOWN, rounds, site.notes)
    return SiteRow(
        name=site.name,
        patients=f"{counts.patients:,}",
        rows=f"{counts.rows:,}",
        training=f"{counts.training_rows:,}",
        held_out=f"{counts.held_out_rows:,}",
        classes=_classes(counts.class_rows, classes) if shown else (Cell(NOT_SHOWN),) * classes,
        outside=_outside(counts.out_of_contract) if shown else NOT_SHOWN,
        rounds=rounds,
        notes=site.notes,
    )


def _total(outcome: Outcome) -> SiteRow:
    """Return the total: of what the hospitals show when all do, else what the sums over all of them say."""
    shown = [site.counts for site in outcome.sites if site.counts]
    if len(shown) < len(outcome.sites):
        return _noised_total(outcome) if outcome.privacy else _summed_total(outcome)
    named = len(outcome.study.data.classes)
    by_class = [counts.class_rows for counts in shown]
    if any(len(rows) != named for rows in by_class):
        by_class = [outcome.preparation.class_rows or (0,) * named]
    classes = [sum(column) for column in zip(*by_class, strict=True)]
    return SiteRow(
        name="All",
        patients=f"{sum(counts.patients for counts in shown):,}",
        rows=f"{sum(counts.rows for counts in shown):,}",
        training=f"{sum(counts.training_rows for counts in shown):,}",
        held_out=f"{sum(counts.held_out_rows for counts in shown):,}",
        classes=_class_cells(classes) if told(outcome) else (Cell(NOT_SHOWN),) * named,
        outside=f"{sum(sum(counts.out_of_contract.values()) for counts in shown):,}" if told(outcome) else NOT_SHOWN,
        rounds="",
        notes=(),
    )


def _summed_total(outcome: Outcome) -> SiteRow:
    preparation, judged = outcome.preparation, outcome.federated.n
    counted = not outcome.federated.by_patient
    return SiteRow(
        name="All",
        patients=NOT_SHOWN,
        rows=f"{preparation.rows + judged:,}" if counted else NOT_SHOWN,
        training=f"{preparation.rows:,}",
        held_out=f"{judged:,}" if counted else NOT_SHOWN,
        classes=_class_cells(preparation.class_rows)
        if told(outcome)
        else (Cell(NOT_SHOWN),) * len(outcome.study.data.classes),
        outside=f"{sum(preparation.outside.values()):,}" if told(outcome) else NOT_SHOWN,
        rounds="",
        notes=(),
    )


def _noised_total(outcome: Outcome) -> SiteRow:
    """Return the total of a private run: noised sums count patients, and neither classes nor values out of contract."""
    training, judged = outcome.preparation.rows, outcome.federated.n
    return SiteRow(
        name="All",
        patients=f"about {training + judged:,}",
        rows=NOT_SHOWN,
        training=f"about {training:,}",
        held_out=f"about {judged:,}",
        classes=(Cell(NOT_SHOWN),) * len(outcome.study.data.classes),
        outside=NOT_SHOWN,
        rounds="",
        notes=(),
    )


def told(outcome: Outcome) -> bool:
    """Whether counts by class and column may be shown: not where a table was made that hides small ones."""
    preparation = outcome.preparation
    return bool(outcome.privacy or outcome.study.data.images or preparation.columns)


def _classes(counts: Sequence[int], classes: int) -> tuple[Cell, ...]:
    # A hospital says these itself: another number of classes would shift the table.
    return _class_cells(counts) if len(counts) == classes else (Cell(UNDEFINED),) * classes


def _class_cells(counts: Sequence[int]) -> tuple[Cell, ...]:
    return tuple(Cell(f"{count:,}", share_text(count, sum(counts))) for count in counts)


def _outside(counts: Mapping[str, int]) -> str:
    named = ", ".join(f"{name} {count:,}" for name, count in counts.items() if count)
    return f"{sum(counts.values()):,} ({named})" if named else "0"
