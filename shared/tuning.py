"""The ``[tuning]`` part of a study file: which options are chosen by cross-validation, from which values."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass

from shared.schema import CLOSED

if TYPE_CHECKING:
    from shared.study import Study

MOST = 100
"""Candidates of one grid, at most: all of them travel in one exchange."""

PROTECTING = ("min_subset_patients", "min_cell")
"""Options that protect patients: a fit is always best with the least protection, so none of them is chosen by it."""

Value = str | int | float | bool


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Tuning:
    """Options of the method that are chosen before it is trained.

    grid: by name of an option, the values to try; every combination is a candidate.
    folds: parts into which each hospital's training patients fall; each is judged by a model of the others.
    """

    grid: Annotated[dict[str, Annotated[tuple[Value, ...], Field(min_length=1)]], Field(min_length=1)]
    folds: Annotated[int, Field(ge=2, le=20)] = 5

    def __post_init__(self) -> None:
        if len(self.candidates) > MOST:
            raise ValueError(f"grid: expected at most {MOST} combinations. Received: {len(self.candidates)}")
        for name, values in self.grid.items():
            if name in PROTECTING:
                raise ValueError(f"grid: {name} protects patients; no fit chooses it. Set it under [method.options]")
            if len(set(map(str, values))) < len(values):
                raise ValueError(f"grid: expected each value of {name} once. Received: {list(values)}")

    @property
    def models(self) -> int:
        """How many models are trained: every candidate without each fold."""
        return len(self.candidates) * self.folds

    @property
    def candidates(self) -> tuple[Mapping[str, Value], ...]:
        """Every combination of values, the last option changing fastest."""
        names = tuple(self.grid)
        return tuple(dict(zip(names, values, strict=True)) for values in itertools.product(*self.grid.values()))


def tuned(study: Study, candidate: Mapping[str, Any]) -> Study:
    """Return the study that is done with one candidate's options, and tunes nothing.

    Raises: pydantic's ValidationError or ValueError if such options cannot be.
    """
    from shared.methods import METHODS

    kind = METHODS[study.method.name]
    options = {**dataclasses.asdict(study.method.options), **candidate}
    parsed = TypeAdapter(kind.Options).validate_json(json.dumps(options))
    chosen = dataclasses.replace(study, method=dataclasses.replace(study.method, options=parsed), tuning=None)
    kind.check(chosen)
    return chosen


def words(candidate: Mapping[str, Any]) -> str:
    """Return ``C = 0.1, max_iter = 1``."""
    return ", ".join(f"{name} = {value}" for name, value in candidate.items())
