"""The study's contract applied to a hospital's raw data: what each row means, what is missing, what lies outside.

A cell is missing when it is empty, null, or one of the column's missing codes. A number outside the range, a text that
is no number, and a level that is not declared are *outside the contract*: counted by column, then treated as missing
(``shared/cells.py``). A row without a usable label, a patient id, or its place among the patient's rows, or with a
pixel outside the range, cannot be used: it is left out, and counted. Of sequences, a row without a label is still read
in the history of later rows. Where the label is a time, what says how it ended belongs to it. No message contains a
cell.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data.base import LABEL, PATIENT_ID, SPLIT, RawData
from shared.cells import is_number, read_column, text_of
from shared.errors import DataError
from shared.examples import Examples
from shared.schema import DataContract, level_key
from shared.sequences import PADDING, histories, spelt

_LONGEST_ID = 200
_MOST_NAMED = 5


@dataclass(frozen=True)
class Findings:
    """What was found in one hospital's data.

    outside: out-of-contract values by column, of the rows that are used; columns without any are left out.
    wholly_outside: columns whose every observed value lies outside: another unit, or another way of writing; a text by
        its own name if that is so at every position.
    no_patient, no_order, no_label, label_outside, pixels_outside: rows left out, each counted for the first that
        applies.
    same_place: rows with the place of another row of their patient.
    """

    outside: Mapping[str, int] = field(default_factory=dict)
    wholly_outside: tuple[str, ...] = ()
    no_patient: int = 0
    no_label: int = 0
    label_outside: int = 0
    pixels_outside: int = 0
    no_order: int = 0
    same_place: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report; the counts by column are shown beside them."""
        reasons = {
            "without a patient id": self.no_patient,
            "without a place in the patient's order, or with one outside its range": self.no_order,
            "without a label": self.no_label,
            "whose label lies outside the contract": self.label_outside,
            "with pixels outside the contract's range": self.pixels_outside,
        }
        rows = [f"Left out: {count:,} row(s) {reason}." for reason, count in reasons.items() if count]
        if self.same_place:
            rows.append(
                f"{self.same_place:,} row(s) have the place of another row of their patient: they follow each other as"
                " they stand in the data."
            )
        columns = [
            f"Column {name}: every observed value lies outside the contract and counts as missing. Check the unit and"
            " that decimals are written with a point; the levels; of a text, the letters and the length."
            for name in self.wholly_outside
        ]
        return (*rows, *columns)


@dataclass(frozen=True, eq=False)
class Conformed:
    """Rows in the contract's terms.

    examples: the rows that can be used; labels are NaN where the contract keeps rows without one.
    marks: array of shape (n,), text of the split column; None where the study names none.
    """

    examples: Examples
    marks: NDArray[np.str_] | None
    findings: Findings


def conform(contract: DataContract, raw: RawData, source: str) -> Conformed:
    """Read raw data as the contract says.

    source: what errors call these data: the hospital's name.

    Raises: DataError if there are no rows or too many, if a declared column is absent, if the images have another
        shape, or if no row has a label of the contract.
    """
    if not len(raw):
        raise DataError(f"{source}: empty site: expected at least one row. Received: none. Leave the site out.")
    raw = RawData(spelt(contract, raw.columns), raw.images, raw.row_names)
    _check_columns(contract, raw, source)
    columns = [read_column(contract.columns[name], raw.columns[name]) for name in contract.features]
    values = np.column_stack(columns) if columns else np.zeros((len(raw), 0))
    labels, patients = labels_of(contract, raw), patients_of(contract, raw, source)
    events = _events(contract, raw)
    outside = np.isinf(values)
    values[outside] = np.nan
    images = _histories(contract, values, patients) if contract.histories else _images(contract, raw, source)
    reasons = {
        "no_patient": patients == "",
        "no_order": _without_order(contract, values),
        "no_label": (np.isnan(labels) & (not contract.unlabelled)) | np.isnan(events),
        "label_outside": np.isinf(labels) | np.isinf(events),
        "pixels_outside": _pixels_outside(contract, images),
    }
    used, left_out = np.ones(len(raw), dtype=bool), {}
    for reason, rows in reasons.items():
        left_out[reason] = int((used & rows).sum())
        used &= ~rows
    _check_rows(contract, int(used.sum()), left_out, source)
    values, outside = values[used], outside[used]
    findings = Findings(
        outside={name: n for name, n in zip(contract.features, outside.sum(axis=0).tolist(), strict=True) if n},
        wholly_outside=_wholly_outside(contract, values, outside),
        same_place=_same_place(contract, values, patients[used]),
        **left_out,
    )
    kept = None if images is None else images[used]
    marks = text_of(raw.columns[_find(contract, raw, contract.split_column, SPLIT)]) if contract.split_column else None
    ended = events[used] > 0 if contract.event else None
    examples = Examples(values, outside, labels[used], patients[used], kept, ended)
    return Conformed(examples, None if marks is None else marks[used], findings)


def labels_of(contract: DataContract, raw: RawData) -> NDArray[np.float64]:
    """Return class indices, or numbers, of shape (n,); NaN where missing, ``OUTSIDE`` where outside the contract."""
    column = contract.columns[contract.label]
    values = read_column(column, raw.columns[_find(contract, raw, contract.label, LABEL)])
    if contract.task == "number":
        return values
    class_of = contract.class_of_level()
    classes = np.array([class_of[level_key(level)] for level in column.levels], dtype=np.float64)
    known = np.isfinite(values)
    values[known] = classes[values[known].astype(np.int64)]
    return values


def _events(contract: DataContract, raw: RawData) -> NDArray[np.float64]:
    """Return 1 for the event and 0 for censored, shape (n,); as labels where it is neither. Zeros without an event."""
    if contract.event is None:
        return np.zeros(len(raw))
    return read_column(contract.columns[contract.event], raw.columns[contract.event])


def patients_of(contract: DataContract, raw: RawData, source: str) -> NDArray[np.str_]:
    """Return which patient each row belongs to, shape (n,), text; empty where the patient id is missing.

    Without a patient id every row is a patient, known by the row's name. Images that bring patient ids are used with
    them even where the study names no column: ignoring them would let one patient into training and evaluation.

    Raises: DataError if a text is far too long for an id.
    """
    name = _find(contract, raw, contract.patient_id, PATIENT_ID)
    if name not in raw.columns:
        return raw.names
    patients = text_of(raw.columns[name])
    if patients.dtype.itemsize > _LONGEST_ID * 4:
        raise DataError(
            f"{source}: column {name!r}: expected patient ids of at most {_LONGEST_ID} letters. Received: longer texts."
            " Is this the right column?"
        )
    return patients


def absent_column(source: str, name: str, role: str, contract: DataContract, known: Iterable[str]) -> str:
    """Return the sentence that a column is not there.

    Only a similar name is shown, and only where at least half of the declared columns are there: where a file has no
    header line, its column names are a patient's values.
    """
    names, declared = set(known), set(contract.written)
    words = [word for word in names if not is_number(word)]
    has_header = contract.kind == "images" or 2 * len(names & declared) >= len(declared)
    folded = {word.casefold().strip(): word for word in sorted(words)} if has_header else {}
    close = difflib.get_close_matches(name.casefold().strip(), folded, n=1, cutoff=0.6)
    hint = f"Did you mean {folded[close[0]]!r}?" if close else "Is the first line of the file the line of column names?"
    return f"{source}: expected the column {name!r} ({role}). Received: {len(words)} other column(s). {hint}"


def _check_columns(contract: DataContract, raw: RawData, source: str) -> None:
    text_of_place = {place: name for name, text in contract.texts.items() for place in text.columns(name)}
    lacking = [text_of_place.get(name, name) for name in contract.features if name not in raw.columns]
    roles = [(name, "feature", name) for name in dict.fromkeys(lacking)]
    roles.append((contract.label, "label", LABEL))
    if contract.event:
        roles.append((contract.event, "event", ""))
    if contract.patient_id:
        roles.append((contract.patient_id, "patient id", PATIENT_ID))
    if contract.split_column:
        roles.append((contract.split_column, "split column", SPLIT))
    absent = [
        absent_column(source, name, role, contract, raw.columns)
        for name, role, standard in roles
        if _find(contract, raw, name, standard) not in raw.columns
    ]
    if len(absent) > _MOST_NAMED:
        absent[_MOST_NAMED:] = [
            f"{source}: {len(absent) - _MOST_NAMED} more column(s) are absent. Is this the right file?"
        ]
    if absent:
        raise DataError("\n".join(absent))


def _find(contract: DataContract, raw: RawData, name: str | None, standard: str) -> str:
    """Return the column that plays a role: the one that the study names or, for images, the source's own."""
    if name is not None and (name in raw.columns or contract.kind != "images"):
        return name
    return standard if contract.kind == "images" else ""


def _images(contract: DataContract, raw: RawData, source: str) -> NDArray[Any] | None:
    """Return the images of an image study, after checking their shape."""
    wanted = contract.images
    if wanted is None:
        return None
    if raw.images is None:
        raise DataError(f"{source}: the study is about images. Received: a table.")
    shape = (wanted.height, wanted.width, wanted.channels)
    if raw.images.shape[1:] != shape:
        raise DataError(
            f"{source}: expected images of (height, width, channels) = {shape}. Received: {raw.images.shape[1:]}."
            " Resize the images, or correct [data.images]."
        )
    return raw.images


def _without_order(contract: DataContract, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which rows have no place among the rows of their patient, shape (n,)."""
    if contract.steps is None:
        return np.zeros(1, dtype=bool)
    return np.isnan(values[:, contract.features.index(contract.steps.order)])


def _same_place(contract: DataContract, values: NDArray[np.float64], patients: NDArray[np.str_]) -> int:
    """Return how many rows have the place of another row of their patient."""
    if contract.steps is None:
        return 0
    places = np.column_stack(
        [np.unique(patients, return_inverse=True)[1], values[:, contract.features.index(contract.steps.order)]]
    )
    counts = np.unique(places, axis=0, return_counts=True)[1]
    return int(counts[counts > 1].sum())


def _histories(contract: DataContract, values: NDArray[np.float64], patients: NDArray[np.str_]) -> NDArray[np.float64]:
    """Return each row's history, shape (n, count, p); rows that have none are left out later."""
    assert contract.steps is not None
    placed = (patients != "") & ~_without_order(contract, values)
    made = np.full((len(values), contract.steps.count, values.shape[1]), PADDING)
    order = values[placed, contract.features.index(contract.steps.order)]
    made[placed] = histories(patients[placed], order, values[placed], contract.steps.count)
    return made


def _pixels_outside(contract: DataContract, images: NDArray[Any] | None) -> NDArray[np.bool_]:
    """Return which images have a pixel that is outside the range or not a number, shape (n,)."""
    if images is None or contract.images is None:
        return np.zeros(1, dtype=bool)
    low, high = contract.images.range
    if images.dtype.kind in "ui" and low <= np.iinfo(images.dtype).min and np.iinfo(images.dtype).max <= high:
        return np.zeros(len(images), dtype=bool)
    # Written so that NaN is outside; one image at a time bounds the memory.
    return np.array([not (image.min() >= low and image.max() <= high) for image in images])


def _check_rows(contract: DataContract, rows: int, left_out: Mapping[str, int], source: str) -> None:
    if rows > contract.max_rows_per_site:
        raise DataError(
            f"{source}: expected at most max_rows_per_site = {contract.max_rows_per_site} rows. Received: {rows}."
            " Raise [data] max_rows_per_site."
        )
    if rows:
        return
    label = contract.columns[contract.label]
    allowed = (
        f"levels {list(label.levels)}"
        if label.range is None
        else f"numbers from {label.range[0]:g} to {label.range[1]:g}"
    )
    parts = " or ".join(f"[data.columns.{name}]" for name in (contract.label, contract.event) if name)
    if contract.event:
        allowed += f", and in {contract.event!r} levels {list(contract.columns[contract.event].levels)}"
    if left_out["label_outside"]:
        raise DataError(
            f"{source}: no row has a label of the contract: column {contract.label!r}: expected {allowed}. Received:"
            f" {left_out['label_outside']} other value(s). Correct the data, or {parts}."
        )
    if left_out["no_label"]:
        raise DataError(
            f"{source}: label missing: column {contract.label!r} is empty in all {left_out['no_label']} rows."
        )
    what = next(
        (name for reason, name in (("no_patient", "patient id"), ("no_order", "place in order")) if left_out[reason]),
        "pixel within [data.images] range",
    )
    raise DataError(f"{source}: no row can be used: expected a {what} in each. Received: none.")


def _wholly_outside(contract: DataContract, values: NDArray[np.float64], outside: NDArray[np.bool_]) -> tuple[str, ...]:
    """Return the columns with observed values of which all lie outside."""
    suspect = outside.any(axis=0) & np.isnan(values).all(axis=0)
    names = [name for name, wrong in zip(contract.features, np.atleast_1d(suspect), strict=True) if wrong]
    for name, text in contract.texts.items():
        positions = set(text.columns(name))
        if positions <= set(names):
            names = [name, *(each for each in names if each not in positions)]
    return tuple(names)
