"""The data contract of a study: which columns there are, what they mean, and what counts as missing.

The contract is the part of a study that a data steward reads first. It is declared, never guessed from data: a range
that the study declares is what later bounds every sum that leaves a hospital (DESIGN section 5).

Columns are of two types. A ``number`` has a range (and usually a unit); a ``category`` has levels. Cells that equal
one of the ``missing`` codes, and empty cells, are missing. A value outside the range or the levels is *out of
contract*: it is counted by column and then treated as missing, so that one typing error never moves a mean.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import ConfigDict, Field
from pydantic.dataclasses import dataclass

CLOSED = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
"""Configuration of every part of a study: unknown keys are errors, and no value is converted silently."""

Cell = str | int | float
"""A value as it stands in a data file: levels and missing codes are written like this in a study."""

SMALLEST_WIDTH, FARTHEST = 1e-12, 1e30
"""A range is at least so wide, and its ends are at most so far from zero: squares of its values are still numbers."""

Task = Literal["binary", "multiclass", "number"]


def can_be_a_range(low: float, high: float) -> bool:
    """Whether a number may be declared to lie from ``low`` to ``high``."""
    return -FARTHEST <= low < high <= FARTHEST and high - low >= SMALLEST_WIDTH


def _check_range(limits: tuple[float, float]) -> None:
    if not limits[0] < limits[1]:
        raise ValueError(f"range must grow: smallest < largest. Received: {list(limits)}")
    if not can_be_a_range(*limits):
        raise ValueError(
            f"range must be at least {SMALLEST_WIDTH:g} wide and lie between {-FARTHEST:g} and {FARTHEST:g}. Received:"
            f" {list(limits)}. Use another unit"
        )


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Column:
    """One column of the contract.

    type: ``number`` or ``category``.
    unit: free text such as ``mg/dl``; shown to people.
    range: smallest and largest plausible value of a number, both included.
    levels: every value that a category may take, in a fixed order.
    missing: codes that mean "not measured", besides an empty cell.
    description: what the column says, for the report.
    """

    type: Literal["number", "category"]
    unit: str = ""
    range: tuple[float, float] | None = None
    levels: tuple[Cell, ...] = ()
    missing: tuple[Cell, ...] = ()
    description: str = ""

    def __post_init__(self) -> None:
        if self.type == "number":
            if self.range is None:
                raise ValueError("a number needs range = [smallest, largest]")
            _check_range(self.range)
            if self.levels:
                raise ValueError("a number has a range, not levels")
        else:
            if len(self.levels) < 2:
                raise ValueError(f"a category needs at least two levels. Received: {len(self.levels)}")
            if len({level_key(level) for level in self.levels}) != len(self.levels):
                raise ValueError("levels must differ from each other")
            if self.range is not None:
                raise ValueError("a category has levels, not a range")


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Images:
    """What one image looks like.

    height, width: pixels.
    channels: 1 for grey, 3 for colour.
    range: smallest and largest pixel value in the files.
    """

    height: Annotated[int, Field(ge=4, le=4096)]
    width: Annotated[int, Field(ge=4, le=4096)]
    channels: Literal[1, 3] = 1
    range: tuple[float, float] = (0.0, 255.0)

    def __post_init__(self) -> None:
        _check_range(self.range)


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class DataContract:
    """The ``[data]`` part of a study.

    kind: ``table`` (rows and columns) or ``images``.
    label: the column to be predicted; it is declared under ``columns`` like every other.
    positive: the levels of the label that mean "yes"; makes a label with many levels binary.
    patient_id: column that says which rows belong to one patient; without it every row is a patient.
    test_fraction: share of patients held out for evaluation, chosen by keyed hash.
    split_column: column that says ``train`` or ``test`` instead.
    max_rows_per_site: the largest number of rows a site may bring; bounds every sum.
    columns: the contract of each column by name.
    images: the contract of the images, for ``kind = "images"``.
    """

    kind: Literal["table", "images"]
    label: str
    columns: dict[str, Column]
    positive: tuple[Cell, ...] = ()
    patient_id: str | None = None
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    split_column: str | None = None
    max_rows_per_site: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    images: Images | None = None

    def __post_init__(self) -> None:
        if self.label not in self.columns:
            raise ValueError(f"label {self.label!r} must be declared under [data.columns]")
        if (self.images is not None) != (self.kind == "images"):
            raise ValueError('kind = "images" goes with a [data.images] part, and kind = "table" with none')
        for role, name in (("patient_id", self.patient_id), ("split_column", self.split_column)):
            if name is not None and name in self.columns:
                raise ValueError(f"{role} {name!r} must not be declared under [data.columns]: it is not a feature")
        if self.kind == "table" and not self.features:
            raise ValueError("a table needs at least one column besides the label")
        if self.kind == "images" and self.features:
            raise ValueError(f"an image study declares the label only. Received also: {', '.join(self.features)}")
        levels = {level_key(level) for level in self.columns[self.label].levels}
        unknown = [level for level in self.positive if level_key(level) not in levels]
        if unknown:
            raise ValueError(f"positive must name levels of the label. Received: {unknown}")
        if self.positive and len(self.positive) >= len(levels):
            raise ValueError("positive must leave at least one level that means no")

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns that the model reads, in the order of the study file."""
        return tuple(name for name in self.columns if name != self.label)

    @property
    def task(self) -> Task:
        """What is predicted: one of two classes, one of several, or a number."""
        label = self.columns[self.label]
        if label.type == "number":
            return "number"
        return "binary" if self.positive or len(label.levels) == 2 else "multiclass"

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes by class index; empty for a number. In a binary study index 1 is the positive class."""
        label = self.columns[self.label]
        if label.type == "number":
            return ()
        if self.positive:
            yes = {level_key(level) for level in self.positive}
            negatives = [str(level) for level in label.levels if level_key(level) not in yes]
            return ("/".join(negatives), "/".join(str(level) for level in self.positive))
        return tuple(str(level) for level in label.levels)

    def class_of_level(self) -> dict[str, int]:
        """Return the class index of each level of the label, by ``level_key``."""
        levels = self.columns[self.label].levels
        if self.positive:
            yes = {level_key(level) for level in self.positive}
            return {level_key(level): int(level_key(level) in yes) for level in levels}
        return {level_key(level): index for index, level in enumerate(levels)}


def level_key(cell: object) -> str:
    """Return the text under which two ways of writing one level are equal: ``1`` and ``1.0`` are the same."""
    text = str(cell).strip()
    try:
        number = float(text)
    except ValueError:
        return text
    return repr(number) if math.isfinite(number) else text
