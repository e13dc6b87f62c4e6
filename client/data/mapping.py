"""From the hospital's own columns, units and codes to the study's: what ``site.toml`` says, applied to raw data.

Pure: a value becomes what the contract calls it, or stays what it was; what it means, what is missing and what lies
outside is still decided in ``conform.py``. Patients who opted out are dropped first, every row of each. No message
contains a cell.

Empty cells and the contract's missing codes are never converted. Where codes are given for a column, a cell that is
none of them counts as outside the contract: a code of the hospital must not pass for a level of the study that is
written alike.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data import units
from client.data.base import LABEL, PATIENT_ID, SPLIT, RawData
from client.data.split import TEST_WORDS, TRAIN_WORDS
from client.settings import Choice, DataSet
from shared.cells import is_number, text_of
from shared.errors import SettingsError, nearest
from shared.schema import Cell, Column, DataContract, level_key

_NO_CODE = "\0 none of the codes"
"""Stands for a cell that is none of the hospital's codes: no level of a study is written so."""


@dataclass(frozen=True, eq=False)
class Mapped:
    """Data in the study's terms, and what was left out for the patients' sake.

    opted_out_patients, opted_out_rows: dropped before anything else; without a patient id every row is a patient.
    """

    raw: RawData
    opted_out_patients: int = 0
    opted_out_rows: int = 0


def check(mapping: DataSet, contract: DataContract, where: str) -> None:
    """Check that a mapping speaks about this study's columns, units and levels.

    where: what errors call the mapping, such as ``site.toml: [data.heart]``.

    Raises: SettingsError with one line for each fault.
    """
    faults = [*_names(mapping, contract), *_units(mapping, contract), *_codes(mapping, contract)]
    if faults:
        raise SettingsError("\n".join(f"{where} {fault}" for fault in faults))


def mapped(raw: RawData, mapping: DataSet, contract: DataContract, where: str) -> Mapped:
    """Return raw data in the study's terms.

    raw: as it stands in the hospital's files.
    mapping: one that ``check`` has passed.
    where: as for ``check``.

    Raises: SettingsError if a column that the mapping names is absent; never with a cell in it.
    """
    _check_columns(raw, mapping, contract, where)
    taken = set(mapping.columns.values())
    columns = {name: cells for name, cells in raw.columns.items() if name not in taken}
    columns |= {name: raw.columns[source] for name, source in mapping.columns.items()}
    renamed = RawData(columns, raw.images, raw.row_names)
    refused = _refused(raw, mapping)
    patients = _patients(renamed, contract)
    # A patient whose every row has no id is known by those rows alone.
    known = refused & (patients != "")
    dropped = refused | np.isin(patients, np.unique(patients[known]))
    kept = renamed.take(~dropped)
    columns = dict(kept.columns)
    for name, change in _changes(mapping, contract):
        place = _place(kept, contract, name)
        if place in columns:
            columns[place] = _converted(columns[place], change)
    people = len(np.unique(patients[dropped & (patients != "")])) + int((dropped & (patients == "")).sum())
    return Mapped(RawData(columns, kept.images, kept.row_names), people, int(dropped.sum()))


def _roles(contract: DataContract) -> list[str]:
    """Return all names that a mapping may speak about."""
    return [*contract.written, *(name for name in (contract.patient_id, contract.split_column) if name)]


def _names(mapping: DataSet, contract: DataContract) -> Iterator[str]:
    known = _roles(contract)
    for part, about in (("columns", list(mapping.columns)), ("codes", list(mapping.codes))):
        for name in about:
            if name not in known:
                yield f"{part}: the study has no column {name!r}. {nearest(name, known)}"
    for part, about in (("units", list(mapping.units)), ("conversions", list(mapping.conversions))):
        for name in about:
            column = contract.columns.get(name)
            if column is None:
                yield f"{part}: the study has no column {name!r}. {nearest(name, contract.columns)}"
            elif column.type != "number":
                yield f"{part}: {name!r} is a category in the study: it has codes, not units."


def _units(mapping: DataSet, contract: DataContract) -> Iterator[str]:
    for name, unit in mapping.units.items():
        column = contract.columns.get(name)
        if column is not None and column.type == "number":
            try:
                units.conversion(unit, column.unit)
            except ValueError as error:
                yield f"units: {name}: {error}."


def _codes(mapping: DataSet, contract: DataContract) -> Iterator[str]:
    for name, codes in mapping.codes.items():
        column = contract.columns.get(name)
        if column is not None and column.type == "number":
            yield f"codes: {name!r} is a number in the study: it has units or a conversion, not codes."
        elif name == contract.patient_id:
            yield f"codes: {name!r} says which rows are one patient: it has no codes."
        elif name in contract.texts:
            yield f"codes: {name!r} is a text of letters: it has no codes."
        elif column is not None or name == contract.split_column:
            allowed = _meanings(column)
            wrong = sorted({str(level) for level in codes.values() if level_key(level) not in allowed})
            if wrong:
                expected = ", ".join(sorted(key for key in allowed if key))
                yield f'codes: {name}: expected one of {expected}, or "" for missing. Received: {", ".join(wrong)}.'
            keys = [level_key(code) for code in codes]
            if len(set(keys)) < len(keys):
                yield f"codes: {name}: one code is written twice, in two ways."


def _meanings(column: Column | None) -> set[str]:
    """Return what a code may stand for, as ``level_key`` writes it; a split column's words where there is none."""
    words: tuple[Cell, ...] = (*TRAIN_WORDS, *TEST_WORDS) if column is None else (*column.levels, *column.missing)
    return {level_key(word) for word in words} | {""}


def _check_columns(raw: RawData, mapping: DataSet, contract: DataContract, where: str) -> None:
    wanted = {f"columns: {name}": source for name, source in mapping.columns.items()}
    for part, choice in (("opt_out", mapping.opt_out), ("consent", mapping.consent)):
        if choice:
            wanted[f"{part}: column"] = choice.column
    absent = {place: source for place, source in wanted.items() if source not in raw.columns}
    if not absent:
        return
    # Without a header line, the first row's cells would be the names: a patient's. So no other name is shown unless at
    # least half of those that the study and the mapping expect are there.
    expected = {*(mapping.columns.get(name, name) for name in contract.written), *wanted.values()}
    names = [name for name in raw.columns if not is_number(name)]
    has_header = contract.kind == "images" or 2 * len(expected & set(raw.columns)) >= len(expected)
    lines = []
    for place, source in absent.items():
        close = difflib.get_close_matches(source, sorted(names), n=1, cutoff=0.6) if has_header else []
        hint = f"Did you mean {close[0]!r}?" if close else "Is the first line of the file the line of column names?"
        lines.append(f"{where} {place}: the data have no column {source!r}. {hint}")
    raise SettingsError("\n".join(lines))


def _place(raw: RawData, contract: DataContract, name: str) -> str:
    """Return where a column of the study stands: image files have names of their own for the three that they bring."""
    if name in raw.columns or contract.kind != "images":
        return name
    standard = {contract.label: LABEL, contract.patient_id: PATIENT_ID, contract.split_column: SPLIT}
    return standard.get(name, name)


def _patients(raw: RawData, contract: DataContract) -> NDArray[np.str_]:
    """Return each row's patient, shape (n,), text; empty where the id is missing. Without an id, a row is a patient."""
    name = _place(raw, contract, contract.patient_id or PATIENT_ID)
    if name in raw.columns and (contract.patient_id or contract.kind == "images"):
        return text_of(raw.columns[name])
    return raw.names


def _refused(raw: RawData, mapping: DataSet) -> NDArray[np.bool_]:
    """Return which rows say that their patient must not be used, shape (n,)."""
    if mapping.opt_out:
        return _says(raw, mapping.opt_out)
    if mapping.consent:
        return ~_says(raw, mapping.consent)
    return np.zeros(len(raw), dtype=bool)


def _says(raw: RawData, choice: Choice) -> NDArray[np.bool_]:
    """Return which rows hold one of the values, shape (n,); ``Yes`` and ``yes`` are one value."""
    values = {level_key(value).casefold() for value in choice.values}
    said = text_of(raw.columns[choice.column])
    answers = {cell: level_key(cell).casefold() in values for cell in set(said.tolist())}
    return np.array([answers[cell] for cell in said.tolist()], dtype=bool)


Change = Callable[[Any], Any]
"""From one cell of the hospital to one of the study."""


def _changes(mapping: DataSet, contract: DataContract) -> Iterator[tuple[str, Change]]:
    for name, codes in mapping.codes.items():
        yield name, _by_codes(codes, contract.columns.get(name))
    for name, unit in mapping.units.items():
        factor, offset = units.conversion(unit, contract.columns[name].unit)
        yield name, _by_numbers(factor, offset, contract.columns[name])
    for name, by in mapping.conversions.items():
        yield name, _by_numbers(by.factor, by.offset, contract.columns[name])


def _by_codes(codes: Mapping[str, Cell], column: Column | None) -> Change:
    meaning: dict[str, Any] = {level_key(code): level for code, level in codes.items()}
    missing = {"", *(level_key(code) for code in (column.missing if column else ()))}

    def change(cell: Any) -> Any:
        key = "" if cell is None else level_key(cell)
        return meaning.get(key, cell if key in missing else _NO_CODE)

    return change


def _by_numbers(factor: float, offset: float, column: Column) -> Change:
    missing = {level_key(code) for code in column.missing}

    def change(cell: Any) -> Any:
        if cell is None or level_key(cell) in missing:
            return cell
        try:
            value = float(cell)
        except (TypeError, ValueError):
            return cell
        # What is no decimal number stays as it stands, and so outside the contract (shared/cells.py).
        return cell if isinstance(cell, bool) or "_" in str(cell) else factor * value + offset

    return change


def _converted(cells: NDArray[Any], change: Change) -> NDArray[Any]:
    """Return the cells changed one by one, as objects; every different cell is looked at once."""
    plain = [None if cell != cell else cell for cell in cells.tolist()]  # noqa: PLR0124 -- NaN differs from itself
    known = {cell: change(cell) for cell in set(plain)}
    made = np.empty(len(plain), dtype=object)
    made[:] = [known[cell] for cell in plain]
    return made
