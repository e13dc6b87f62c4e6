"""What a column of a table probably is, guessed from its cells and its name. Used to draft a study, never to run one.

    number      what reads as a number, with more than a few different values
    category    a few different texts, or a few different whole numbers that come again and again
    left out    dates, names, free text, and columns without values

Missing codes are guessed from a list of usual words, and from usual numbers (0, -9, 999) that lie outside all other
values: beyond Tukey's fences of these (1.5 interquartile ranges outside the quartiles; Tukey 1977, "Exploratory Data
Analysis"), and more than one interquartile range from the nearest.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from client.data.split import TEST_WORDS, TRAIN_WORDS
from shared.cells import is_number, text_of
from shared.schema import Cell, can_be_a_range, level_key

_MISSING_WORDS = {
    *("?", "na", "n/a", "nan", "null", "none", "nil", "-", "--", ".", "missing"),
    *("unknown", "unk", "#n/a", "<na>", "n.a.", "nd", "not_available"),
}
_MISSING_NUMBERS = (0.0, -1.0, *(sign * float("9" * digits) for sign in (-1, 1) for digits in range(1, 6)))
_MOST_CODED_LEVELS, _MOST_TEXT_LEVELS = 10, 30
_ODD_SHARE = 0.1
"""A column is of numbers when fewer of its cells are other texts."""

_PATIENT = re.compile(
    r"(patient|subject|person|participant)s?(ids?|identifier|nr|no|number|key|code)?"
    r"|(pat|case|record|individual|p|row)?ids?|mrn"
)
_HOSPITAL = re.compile(r"(hospital|site|center|centre|clinic|institution|facility)s?(ids?|name|nr|no|number|code)?")
_LABELS = (
    *("label", "target", "outcome", "diagnosis", "class", "y", "num", "disease", "event", "death", "died", "dead"),
    *("mortality", "survived", "survival", "readmitted", "readmission", "status", "response", "result"),
)
_SELDOM_LABELS = ("sex", "gender", "age", "race", "ethnicity")
_YES = {
    *("yes", "y", "true", "t", "1", "positive", "pos", "malignant", "disease", "diseased", "dead"),
    *("died", "case", "abnormal", "sick", "ill", "present", "event"),
}


@dataclass(frozen=True)
class Guess:
    """What one column probably is.

    kind: ``number``, ``category``, or ``left out``.
    range: of a number, rounded outwards.
    levels: of a category.
    missing: codes that probably mean "not measured".
    why: half a sentence for the person who confirms.
    different: number of different values, missing codes not counted.
    """

    kind: Literal["number", "category", "left out"]
    why: str
    different: int
    range: tuple[float, float] | None = None
    levels: tuple[Cell, ...] = ()
    missing: tuple[Cell, ...] = ()


@dataclass(frozen=True)
class Roles:
    """Which columns probably play which part.

    label: what to predict; the first of ``labels``, which are all candidates.
    """

    labels: tuple[str, ...]
    patient_id: str | None
    hospital: str | None
    split: str | None


def guess_column(cells: NDArray[Any], most_text_levels: int = _MOST_TEXT_LEVELS) -> Guess:
    """Return what a column probably is.

    cells: array of shape (n,).
    most_text_levels: a category of texts has at most so many levels.
    """
    counts = Counter(level_key(text) for text in text_of(cells).tolist() if text)
    codes = [key for key in counts if key.casefold() in _MISSING_WORDS]
    numbers = {float(key): count for key, count in counts.items() if is_number(key) and math.isfinite(float(key))}
    words = {key: count for key, count in counts.items() if key not in codes and not is_number(key)}
    total = sum(numbers.values()) + sum(words.values())
    if not total:
        return Guess("left out", "no values", 0)
    if sum(words.values()) < _ODD_SHARE * total:
        return _numbers(numbers, codes, sum(words.values()))
    levels = [*(_plain(value) for value in sorted(numbers)), *sorted(words)]
    if len(levels) > most_text_levels or (len(levels) > 2 and 2 * len(levels) > total):
        return Guess("left out", f"{len(levels)} different texts: dates, names or free text?", len(levels))
    if len(levels) < 2:
        return Guess("left out", "one value only", 1)
    return Guess("category", f"{len(levels)} different texts", len(levels), levels=tuple(levels), missing=tuple(codes))


def _numbers(numbers: dict[float, int], words: list[str], odd: int) -> Guess:
    """Return the guess for a column of numbers of which some are other texts."""
    numbers = dict(numbers)
    sentinels = []
    for code in _MISSING_NUMBERS:
        if _far_out(code, numbers):
            sentinels.append(_plain(code))
            del numbers[code]
    missing = (*words, *sentinels)
    total, different = sum(numbers.values()), len(numbers)
    note = f"; {odd} cell(s) are no numbers and would lie outside" if odd else ""
    coded = all(value.is_integer() for value in numbers) and different <= _MOST_CODED_LEVELS
    if different >= 2 and (different == 2 or (coded and 3 * different <= total)):
        levels = tuple(_plain(value) for value in sorted(numbers))
        return Guess("category", f"{different} different codes{note}", different, levels=levels, missing=missing)
    low, high = min(numbers), max(numbers)
    limits = rounded_outwards(low, high)
    if limits is None:
        return Guess(
            "left out", f"{different} different numbers, too large or too close together: the unit?", different
        )
    return Guess("number", f"{different} different numbers{note}", different, range=limits, missing=missing)


def _far_out(code: float, numbers: Mapping[float, int]) -> bool:
    """Whether a value lies outside all others: beyond their fences, and far from the nearest."""
    rest = {value: count for value, count in numbers.items() if value != code}
    if code not in numbers or len(rest) < 2 or min(rest) < code < max(rest):
        return False
    values = np.array(sorted(rest))
    shares = np.cumsum([rest[value] for value in values]) / sum(rest.values())
    low, high = (float(values[np.searchsorted(shares, quarter)]) for quarter in (0.25, 0.75))
    between = high - low
    beyond = not low - 1.5 * between <= code <= high + 1.5 * between
    return between > 0 and beyond and float(np.abs(values - code).min()) > between


def rounded_outwards(low: float, high: float) -> tuple[float, float] | None:
    """Return a range around ``low`` to ``high`` whose ends are round; None if no study may declare such a range."""
    if low == high:
        low, high = low - max(abs(low), 1.0), high + max(abs(high), 1.0)
    if not can_be_a_range(low, high):
        return None
    exponent = math.floor(math.log10(high - low))
    step = 10.0**exponent / 2
    # The division may be off by a rounding error, hence the rounding to two digits more than the step has.
    limits = round(math.floor(low / step) * step, 2 - exponent), round(math.ceil(high / step) * step, 2 - exponent)
    return limits if can_be_a_range(*limits) and limits[0] <= low and high <= limits[1] else (low, high)


def guess_roles(columns: Mapping[str, NDArray[Any]], guesses: Mapping[str, Guess]) -> Roles:
    """Return which columns probably are label, patient id, hospital and split."""
    split = next((name for name, cells in columns.items() if _says_train_and_test(cells)), None)
    free = [name for name in columns if name != split]
    patient = next((name for name in free if _PATIENT.fullmatch(_folded(name)) and guesses[name].different > 2), None)
    free = [name for name in free if name != patient]
    hospital = next(
        (name for name in free if _HOSPITAL.fullmatch(_folded(name)) and 2 <= guesses[name].different <= 100), None
    )
    usable = [name for name in free if name != hospital and guesses[name].kind != "left out"]
    return Roles(
        tuple(sorted(usable, key=lambda name: _label_rank(name, usable, guesses))[:4]), patient, hospital, split
    )


def _label_rank(name: str, usable: list[str], guesses: Mapping[str, Guess]) -> tuple[int, int]:
    """Return a key that sorts likely labels first: usual names, two levels, several, numbers."""
    if _folded(name) in _LABELS:
        return 0, _LABELS.index(_folded(name))
    if _folded(name) in _SELDOM_LABELS:
        return 4, 0
    levels = len(guesses[name].levels)
    return (1 if levels == 2 else 2 if levels else 3), -usable.index(name)


def positive_level(levels: tuple[Cell, ...]) -> Cell:
    """Return which of two levels probably means yes: a usual word, or the second."""
    return next((level for level in levels if str(level).casefold() in _YES), levels[1])


def _says_train_and_test(cells: NDArray[Any]) -> bool:
    words = {text.lower() for text in text_of(cells).tolist()}
    return words <= {*TRAIN_WORDS, *TEST_WORDS} and bool(words & set(TRAIN_WORDS)) and bool(words & set(TEST_WORDS))


def _folded(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _plain(value: float) -> Cell:
    # A larger float would become an integer of digits that nobody wrote.
    return int(value) if value.is_integer() and abs(value) < 2.0**53 else value
