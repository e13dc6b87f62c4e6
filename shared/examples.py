"""The rows of one part (training or held-out) of one hospital, in the terms of the study's contract.

Nothing here was computed from another row: numbers are in the contract's units, categories are level indices, what is
missing is NaN. Preparation (``shared/preparation.py``) turns this into what a model reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]
"""Named arrays: a state, a contribution before it is laid out, a set of weights."""

T = TypeVar("T")


class Part(StrEnum):
    """Which patients a sum is over. Preparation and training see the first, evaluation the second, no sum both."""

    TRAINING = "training"
    HELD_OUT = "held-out"


@dataclass(frozen=True, eq=False)
class Examples:
    """n rows with p features.

    values: array of shape (n, p), float64; a number, or the index of a level; NaN where missing or out of contract.
    outside: array of shape (n, p), bool; True where the file held a value outside the contract.
    labels: array of shape (n,), float64; a class index or a number. Never missing.
    patients: array of shape (n,), text; which patient a row belongs to.
    images: array of shape (n, height, width, channels) in the pixel values of the files; or (n, steps, p), the row
        itself and those before it as in ``values`` (``shared/sequences.py``); or None.
    events: array of shape (n,), bool; whether the time that the label is ended with the event, or was censored; None
        where the label is no such time.
    unlabelled: more rows of the same part, whose labels are NaN, or None. They are no rows of this table: no length,
        count or sum knows of them but ``whole``, and what trains on them asks for them by name.
    """

    values: NDArray[np.float64]
    outside: NDArray[np.bool_]
    labels: NDArray[np.float64]
    patients: NDArray[np.str_]
    images: NDArray[Any] | None = None
    events: NDArray[np.bool_] | None = None
    unlabelled: Examples | None = None
    _memo: dict[str, tuple[object, Any]] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        n = len(self.labels)
        lengths = {
            len(self.values),
            len(self.outside),
            len(self.patients),
            n if self.images is None else len(self.images),
            n if self.events is None else len(self.events),
        }
        if lengths != {n} or self.values.shape != self.outside.shape or self.values.ndim != 2:
            raise ValueError(f"columns of one table must have one length. Received: {sorted(lengths | {n})}")

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def patient_index(self) -> NDArray[np.int64]:
        """Whose row it is, as a number from 0: array of shape (n,)."""
        return self.derived(
            "patient index", None, lambda: np.unique(self.patients, return_inverse=True)[1].astype(np.int64)
        )

    @property
    def patient_count(self) -> int:
        """Number of different patients."""
        return int(self.patient_index.max(initial=-1)) + 1

    def whole(self) -> Examples:
        """Return all rows, those without a label last: whose patients a sum is about."""
        return concatenate([replace(self, unlabelled=None), self.unlabelled]) if self.unlabelled else self

    def take(self, rows: NDArray[Any]) -> Examples:
        """Return the rows chosen by an index or a mask, and none without a label."""
        return Examples(
            self.values[rows],
            self.outside[rows],
            self.labels[rows],
            self.patients[rows],
            None if self.images is None else self.images[rows],
            None if self.events is None else self.events[rows],
        )

    def dealt(self, column: int, rows: NDArray[np.int64]) -> Examples:
        """Return a new table in which one column is that of other rows; of sequences, throughout the rows' histories.

        rows: for each row, the one whose values it gets; array of shape (n,).
        """
        values, images = self.values.copy(), self.images
        values[:, column] = values[rows, column]
        if images is not None and images.ndim == 3:
            images = images.copy()
            own, others = images[:, :, column], images[rows, :, column]
            # A row keeps its number of steps: what the other's shorter history lacks is missing.
            images[:, :, column] = np.where(np.isposinf(own), own, np.where(np.isposinf(others), np.nan, others))
        return replace(self, values=values, images=images)

    def derived(self, name: str, key: object, make: Callable[[], T]) -> T:
        """Return ``make()``, remembered while ``key`` stays equal: one value for each name, so memory stays bounded."""
        known = self._memo.get(name)
        if known is None or known[0] != key:
            known = (key, make())
            self._memo[name] = known
        return cast(T, known[1])


def concatenate(parts: list[Examples]) -> Examples:
    """Return the rows of all parts, in order."""
    images = [part.images for part in parts if part.images is not None]
    events = [part.events for part in parts if part.events is not None]
    unlabelled = [part.unlabelled for part in parts if part.unlabelled is not None]
    return Examples(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.outside for part in parts]),
        np.concatenate([part.labels for part in parts]),
        np.concatenate([part.patients for part in parts]),
        np.concatenate(images) if images else None,
        np.concatenate(events) if events else None,
        concatenate(unlabelled) if unlabelled else None,
    )
