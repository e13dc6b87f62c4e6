"""How the data were prepared, for the report: columns of a table, or images."""

from __future__ import annotations

from dataclasses import dataclass

from server.outcome import Outcome
from shared.schema import Column
from shared.wording import number_text, plural, share_text


@dataclass(frozen=True)
class ColumnRow:
    """One column of the contract, and how it was prepared.

    missing, outside: empty where nobody counted, as in a private run.
    """

    name: str
    description: str
    contract: str
    missing: str
    missing_share: str
    outside: str
    mean: str
    deviation: str
    fill: str


def column_rows(outcome: Outcome) -> tuple[ColumnRow, ...]:
    """Return one row for each feature column of a table."""
    preparation, contract = outcome.preparation, outcome.study.data
    rows = []
    for encoding in preparation.columns:
        column = contract.columns[encoding.name]
        number = column.type == "number"
        if column.range is not None:
            declared = f"{column.range[0]:g} to {column.range[1]:g}{column.unit and ' ' + column.unit}"
        else:
            declared = f"one of {', '.join(str(level) for level in column.levels)}"
        missing, outside = preparation.missing.get(encoding.name), preparation.outside.get(encoding.name)
        rows.append(
            ColumnRow(
                name=encoding.name,
                description=column.description,
                contract=declared,
                missing="" if missing is None else f"{missing:,}",
                missing_share=share_text(missing, preparation.rows) if missing else "",
                outside="" if outside is None else f"{outside:,}",
                mean=number_text(encoding.center, 4) if number else "",
                deviation=number_text(encoding.scale, 4) if number else "",
                fill=_fill(column, encoding.fill, noised=missing is None) if missing != 0 else "",
            )
        )
    return tuple(rows)


def _fill(column: Column, fill: float, noised: bool) -> str:
    if column.type == "number":
        return f"{'mean' if noised else 'median'}, {number_text(fill, 4)}"
    return f"share of {column.levels[1]}, {fill:.3f}" if len(column.levels) == 2 else "none of the levels"


def image_facts(outcome: Outcome) -> tuple[tuple[str, str], ...]:
    """Return (term, text) about the images; empty for a table."""
    images, preparation = outcome.study.data.images, outcome.preparation
    if images is None:
        return ()
    low, high = images.range
    size = f"{images.height} x {images.width} pixels, {plural(images.channels, 'channel')}"
    facts = [("Images", f"{size}, values {low:g} to {high:g}")]
    pairs = zip(preparation.image_mean, preparation.image_deviation, strict=True)
    for index, (mean, deviation) in enumerate(pairs):
        which = f" of channel {index + 1}" if images.channels > 1 else ""
        facts.append((f"Pixels{which}", f"mean {mean:.4f}, deviation {deviation:.4f}, of values scaled to 0 to 1"))
    return tuple(facts)
