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

from shared.errors import nearest

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
class Text:
    """A column of texts of one length, such as genes. Each position becomes a category: ``gene 1``, ``gene 2``, ...

    letters: all letters that are told apart, in a fixed order: ``ACGT``.
    length: of every text; a text of another length lies outside the contract at every position.
    unknown: letters that mean "not read".
    description: what the text says, for the report.
    """

    letters: Annotated[str, Field(min_length=2)]
    length: Annotated[int, Field(ge=1, le=2000)]
    unknown: str = ""
    description: str = ""

    def __post_init__(self) -> None:
        every = self.letters + self.unknown
        if len({level_key(letter) for letter in every} - {""}) < len(every):
            raise ValueError(f"letters and unknown must differ from each other and from space. Received: {every!r}")

    def columns(self, name: str) -> dict[str, Column]:
        """Return the categories that the text of this name stands for."""
        levels, missing = tuple(self.letters), tuple(self.unknown)
        return {
            f"{name} {place}": Column(type="category", levels=levels, missing=missing, description=self.description)
            for place in range(1, self.length + 1)
        }


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Steps:
    """A patient's rows in their order: visits, or what a sensor says.

    order: the number column by which a patient's rows follow each other; a feature like every other.
    count: how many rows are read at most, the row itself and the last ones before it; of a table, the row alone.
    """

    order: str
    count: Annotated[int, Field(ge=1, le=1000)] = 1


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class DataContract:
    """The ``[data]`` part of a study.

    kind: ``table`` (rows and columns), ``images``, or ``sequences`` (of the letters of a text, or of a patient's rows).
    label: the column to be predicted; it is declared under ``columns`` like every other.
    positive: the levels of the label that mean "yes"; makes a label with many levels binary.
    event: where the label is a time, the category whose second level says that it ended with the event; the first says
        that nothing had happened until then (censored). It belongs to the label and is no feature.
    patient_id: column that says which rows belong to one patient; without it every row is a patient.
    test_fraction: share of patients held out for evaluation, chosen by keyed hash.
    split_column: column that says ``train`` or ``test`` instead.
    max_rows_per_site: the largest number of rows a site may bring; bounds every sum.
    columns: the contract of each column by name.
    images: the contract of the images, for ``kind = "images"``.
    texts: the contract of each column of texts by name; ``columns`` holds their categories, too.
    steps: how a patient's rows follow each other; ``kind = "sequences"`` without a text needs it.
    unlabelled: whether images without a label are kept to train on.
    """

    kind: Literal["table", "images", "sequences"]
    label: str
    columns: dict[str, Column]
    positive: tuple[Cell, ...] = ()
    event: str | None = None
    patient_id: str | None = None
    test_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.2
    split_column: str | None = None
    max_rows_per_site: Annotated[int, Field(ge=1, le=10_000_000)] = 100_000
    images: Images | None = None
    texts: dict[str, Text] = Field(default_factory=dict)
    steps: Steps | None = None
    unlabelled: bool = False

    def __post_init__(self) -> None:
        self._spell()
        if self.label not in self.columns:
            raise ValueError(f"label {self.label!r} must be declared under [data.columns]")
        if (self.images is not None) != (self.kind == "images"):
            raise ValueError('kind = "images" goes with a [data.images] part, and another kind with none')
        for role, name in (("patient_id", self.patient_id), ("split_column", self.split_column)):
            if name is not None and (name in self.columns or name in self.texts):
                raise ValueError(f"{role} {name!r} must not be declared under [data.columns]: it is not a feature")
        if self.kind == "table" and not self.features:
            raise ValueError("a table needs at least one column besides the label")
        if self.kind == "images" and self.features:
            raise ValueError(f"an image study declares the label only. Received also: {', '.join(self.features)}")
        self._check_sequences()
        self._check_event()
        if self.unlabelled and (self.kind != "images" or self.task == "number"):
            raise ValueError('unlabelled goes with kind = "images" and a label of type category')
        levels = {level_key(level) for level in self.columns[self.label].levels}
        unknown = [level for level in self.positive if level_key(level) not in levels]
        if unknown:
            raise ValueError(f"positive must name levels of the label. Received: {unknown}")
        if self.positive and len(self.positive) >= len(levels):
            raise ValueError("positive must leave at least one level that means no")

    def _spell(self) -> None:
        """Declare the categories that the texts stand for; a contract that was read back declares them already."""
        for name, text in self.texts.items():
            spelt = text.columns(name)
            known = {place: self.columns[place] for place in spelt if place in self.columns}
            if name in self.columns or known not in ({}, spelt):
                raise ValueError(f"text {name!r} must not be declared under [data.columns]: its positions are columns")
            object.__setattr__(self, "columns", {**self.columns, **spelt})

    def _check_sequences(self) -> None:
        sequences = self.kind == "sequences"
        if self.steps is None:
            if sequences and (len(self.texts) != 1 or len(self.features) != self.sequence_length):
                raise ValueError(
                    'kind = "sequences" reads one of [data.texts], beside which only the label is declared, or rows in'
                    f" the order that [data.steps] names. Received: {len(self.texts)} text(s), no steps, and"
                    f" {len(self.features)} columns that are features"
                )
        elif (self.steps.count > 1) != sequences or self.kind == "images":
            raise ValueError(
                '[data.steps] count goes with kind = "sequences", of 2 at least, and order alone with kind = "table".'
                f" Received: kind = {self.kind!r}, count = {self.steps.count}"
            )
        elif sequences and self.texts:
            raise ValueError("[data.steps] reads rows of numbers and categories. Received also: [data.texts]")
        elif self.patient_id is None:
            raise ValueError("[data.steps] needs patient_id, which says whose rows follow each other. Received: none")
        elif self.steps.order not in self.features or self.columns[self.steps.order].type != "number":
            numbers = [name for name in self.features if self.columns[name].type == "number"]
            raise ValueError(
                "[data.steps] order must name a number column other than the label. Received:"
                f" {self.steps.order!r}. {nearest(self.steps.order, numbers)}"
            )

    def _check_event(self) -> None:
        if self.event is None:
            return
        declared = self.columns.get(self.event)
        if declared is None or len(declared.levels) != 2 or self.event == self.label:
            raise ValueError(
                "event must name a category of [data.columns] with two levels, the first for censored, the second for"
                f" the event. Received: {self.event!r}"
            )
        if self.kind != "table" or self.columns[self.label].type != "number":
            raise ValueError(
                'event goes with kind = "table" and a label of type number, the time until it. Received: kind ='
                f" {self.kind!r}, a label of type {self.columns[self.label].type}"
            )

    @property
    def sequence_length(self) -> int:
        """Number of steps that a model of sequences reads: letters, or rows at most; 0 for other kinds."""
        if self.kind != "sequences":
            return 0
        return self.histories or sum(text.length for text in self.texts.values())

    @property
    def histories(self) -> int:
        """Number of rows in a row's history, the row itself included; 0 where rows are read alone."""
        return self.steps.count if self.steps and self.kind == "sequences" else 0

    @property
    def written(self) -> tuple[str, ...]:
        """Names of label and features as they stand in a hospital's file: a text is one column there."""
        spelt = {place for name, text in self.texts.items() for place in text.columns(name)}
        return (*(name for name in self.columns if name not in spelt), *self.texts)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of the columns that the model reads, in the order of the study file."""
        return tuple(name for name in self.columns if name not in (self.label, self.event))

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
