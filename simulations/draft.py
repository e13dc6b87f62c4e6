"""A first study file from a researcher's own data: ``consilium-simulate study new --from FILE``.

The contract of a study is declared by people. What stands in the draft was guessed from one file (``guesses.py``),
and each
guess is marked for a person to confirm: only they know what ``0`` means in a laboratory value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.data.base import LABEL, PATIENT_ID, SPLIT, RawData
from client.data.source import source_type
from shared.cells import is_number, text_of
from shared.errors import DataError, StudyError
from shared.schema import Cell, DataContract
from simulations.guesses import Guess, Roles, guess_column, guess_roles, positive_level, rounded_outwards

_PIXEL_SCALES = (1.0, 16.0, 255.0, 4095.0, 65535.0)
_DEFAULT_SITES = 5
_DEFAULT_MOST_ROWS: int = DataContract.__dataclass_fields__["max_rows_per_site"].default


def draft_study(path: Path, name: str | None) -> str:
    """Return the text of a study file that fits the data, every guess marked.

    path: a table (CSV, Parquet), an image folder, or an ``.npz`` archive.
    name: of the study; the file's without it.

    Raises: DataError if the data cannot be read or nothing can be predicted from them; StudyError if the name cannot
        be one.
    """
    source = source_type(path)
    raw = source(path).load()
    if not len(raw):
        raise DataError(f"{path}: expected at least one row. Received: none.")
    lines = _head(path, name, raw)
    lines += _image_data(path, raw) if source.kind == "images" else _table_data(path, raw)
    return "\n".join(lines) + "\n"


def _head(path: Path, name: str | None, raw: RawData) -> list[str]:
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", path.stem).strip("_-")[:64] or "study"
    if name is not None and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise StudyError(f"--name: expected letters, digits, '_' and '-'. Received: {name!r}")
    return [
        f"# Drafted from {_comment(path.name)}: {len(raw)} rows. Every line marked `guess` was guessed from them.",
        "# Confirm or correct each one, add units and descriptions, and remove what others should not see: all",
        "# hospitals read this file.",
        "",
        "[study]",
        f"name = {_toml(name or stem)}",
        'question = "Which clinical question does this study answer?" # guess: write your own and confirm',
        "seed = 1",
        "",
        "[data]",
    ]


def _table_data(path: Path, raw: RawData) -> list[str]:
    _require_header(path, raw)
    guesses = {name: guess_column(cells) for name, cells in raw.columns.items()}
    roles = guess_roles(raw.columns, guesses)
    if not roles.labels:
        raise DataError(f"{path}: expected a column that can be predicted. Received: only ids, dates and free text.")
    label, apart = roles.labels[0], {roles.patient_id, roles.hospital, roles.split}
    features = [name for name, guess in guesses.items() if guess.kind != "left out" and name not in {label, *apart}]
    if not features:
        raise DataError(f"{path}: expected a column besides {label!r} to predict it from. Received: none.")
    lines = ['kind = "table"', *_label_lines(label, guesses[label], roles.labels[1:]), *_role_lines(roles, raw)]
    for name in (*features, label):
        lines += ["", f"[data.columns.{_key(name)}]", *_column_lines(guesses[name])]
    left_out = [(name, guess) for name, guess in guesses.items() if guess.kind == "left out" and name not in apart]
    lines += ["", *(f"# guess: column {_toml(name)} is left out ({guess.why}); confirm" for name, guess in left_out)]
    method = "neural" if guesses[label].kind == "number" else "logistic-regression"
    return [*lines, *_method_lines(method, "tabular_mlp"), *_simulation_lines(roles, guesses, raw)]


def _require_header(path: Path, raw: RawData) -> None:
    """Raise DataError if the column names look like a row of values."""
    numbers = [float(name) for name in raw.columns if is_number(name)]
    if 2 * len(numbers) > len(raw.columns) and numbers != [numbers[0] + index for index in range(len(numbers))]:
        raise DataError(f"{path}: the first line must name the columns. Received: mostly numbers. Add a header line.")


def _label_lines(label: str, guess: Guess, others: Sequence[str]) -> list[str]:
    also = f"; also possible: {', '.join(others)}" if others else ""
    lines = [f"label = {_toml(label)} # guess: what is to be predicted{_comment(also)}; confirm"]
    if len(guess.levels) == 2:
        lines.append(f"positive = {_toml([positive_level(guess.levels)])} # guess: the level that means yes; confirm")
    elif guess.levels:
        lines.append(
            f"# positive = {_toml(list(guess.levels[1:]))} # these levels mean yes: makes it a yes-or-no question"
        )
    return lines


def _role_lines(roles: Roles, raw: RawData) -> list[str]:
    lines = []
    if roles.patient_id is not None:
        lines.append(
            f"patient_id = {_toml(roles.patient_id)} # guess: rows with the same value are one patient; confirm"
        )
    else:
        lines.append('# patient_id = "..." # guess: every row is another patient; confirm, or name the column')
    if roles.split is not None:
        lines.append(f"split_column = {_toml(roles.split)} # guess: says train or test; confirm")
    else:
        lines.append("test_fraction = 0.2 # share of patients held out, by keyed hash")
    if len(raw) > _DEFAULT_MOST_ROWS:
        lines.append(f"max_rows_per_site = {10 ** len(str(len(raw)))} # guess: more than any hospital has; confirm")
    return lines


def _column_lines(guess: Guess) -> list[str]:
    lines = [f"type = {_toml(guess.kind)} # guess: {guess.why}; confirm"]
    if guess.range is not None:
        lines.append(f"range = {_toml(list(guess.range))} # guess: rounded from these data; confirm what is plausible")
        lines.append('unit = ""')
    else:
        lines.append(
            f"levels = {_toml(list(guess.levels))} # guess: those in these data; confirm that there are no others"
        )
    if guess.missing:
        lines.append(f"missing = {_toml(list(guess.missing))} # guess: mean that nothing was measured; confirm")
    return [*lines, 'description = ""']


def _image_data(path: Path, raw: RawData) -> list[str]:
    assert raw.images is not None
    limits = _pixel_range(path, raw.images)
    guess = guess_column(raw.columns[LABEL], most_text_levels=len(raw))
    if guess.kind == "left out":
        raise DataError(f"{path}: expected at least two labels. Received: {guess.different}.")
    _, height, width, channels = raw.images.shape
    roles = Roles((LABEL,), *(name if name in raw.columns else None for name in (PATIENT_ID, "", SPLIT)))
    lines = ['kind = "images"', *_label_lines(LABEL, guess, ()), *_role_lines(roles, raw), "", "[data.images]"]
    lines += [f"height = {height}", f"width = {width}", f"channels = {channels}"]
    lines.append(f"range = {_toml(list(limits))} # guess: of the pixel values; confirm")
    lines += ["", f"[data.columns.{LABEL}]", *_column_lines(guess), ""]
    return [*lines, *_method_lines("neural", "image_cnn"), *_simulation_lines(roles, {LABEL: guess}, raw)]


def _pixel_range(path: Path, images: NDArray[np.generic]) -> tuple[float, float]:
    """Return the range of the pixel values.

    Raises: DataError if the images are of a size, or the pixels of values, that no study can declare.
    """
    _, height, width, channels = images.shape
    if not (min(height, width) >= 4 and max(height, width) <= 4096 and channels in (1, 3)):
        raise DataError(
            f"{path}: expected images of 4 to 4096 pixels a side, with 1 or 3 channels. Received: {height} x {width}"
            f" pixels, {channels} channel(s). Resize the images."
        )
    wrong = sum(not np.isfinite(image).all() for image in images) if images.dtype.kind == "f" else 0
    if wrong:
        raise DataError(
            f"{path}: expected a number in every pixel. Received: {wrong} image(s) with NaN or infinity. Mend or remove"
            " them."
        )
    low, high = float(images.min()), float(images.max())
    scale = next((scale for scale in _PIXEL_SCALES if high <= scale), None)
    limits = (0.0, scale) if low >= 0 and scale else rounded_outwards(low, high)
    if limits is None:
        raise DataError(f"{path}: pixel values are too large, or too close together, to declare. Use another unit.")
    return limits


def _method_lines(method: str, architecture: str) -> list[str]:
    lines = ["[method]", f"name = {_toml(method)} # guess: fits this label; confirm", "rounds = 50", ""]
    return [*lines, "[method.options]", f"architecture = {_toml(architecture)}", ""] if method == "neural" else lines


def _simulation_lines(roles: Roles, guesses: dict[str, Guess], raw: RawData) -> list[str]:
    lines = ["[simulation]"]
    if roles.hospital is not None:
        partition = _toml(f"column:{roles.hospital}")
        count = guesses[roles.hospital].different
        return [*lines, f"partition = {partition} # guess: a column that says which of {count} hospitals; confirm"]
    patients = len(np.unique(text_of(raw.columns[roles.patient_id]))) if roles.patient_id else len(raw)
    return [
        *lines,
        f"sites = {min(_DEFAULT_SITES, patients)}",
        'partition = "iid" # guess: no hospital column; confirm',
    ]


def _toml(value: Cell | Sequence[Cell]) -> str:
    """Return a value as TOML; whole numbers without a decimal point."""
    if isinstance(value, str):
        # JSON's escapes are TOML's, but TOML also wants DEL escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2.0**53 else repr(value)
    if isinstance(value, int):
        return str(value)
    return f"[{', '.join(_toml(item) for item in value)}]"


def _key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml(name)


def _comment(text: str) -> str:
    """Return text that may stand in a comment: no control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text)
