"""What one patient's presence adds to the sums of a run, worked out by somebody who knows all other patients.

By the hospitals' own functions, and nothing else of a method. Where sums are over subsets that the data choose
(``Ask.data_dependent_subsets``), what a patient adds depends on who else is there: it is the hospital's contribution
with him less the one without him, in every round, with what the hospital would remember in either case. Other sums add
up patient by patient, and it is the contribution of his rows alone.

Methods that average trained weights (``AveragingMethod``) are neither; ``evidence.py`` has a rougher way for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data.split import SiteData
from shared import layout
from shared.examples import Arrays, Examples, Part, concatenate
from shared.methods.averaging import AveragingMethod
from shared.methods.base import NOTHING, Ask, Method, within
from shared.plan import TUNE
from shared.randomness import Randomness, for_site
from simulations.attacks.observed import Observed

Floats = NDArray[np.float64]

_HALVES = 20
"""Halves of the patients: half of these are without any one, and two numbers that cancel do so in few of them."""
NO_CHANCE: Randomness = for_site(0, "adversary", 0)
"""What the adversary's own computations draw from: sums draw nothing, a network the order of one canary's rows."""


@dataclass(frozen=True, eq=False)
class Asked:
    """One sum of a run, and how it was asked for.

    stage: name of the stage of the study.
    method: of the stage; state: its part of what was broadcast.
    total: the sum, in the order of ``ask.entries``, shape (d,); weight: its weight.
    """

    stage: str
    method: Method[Any]
    state: Arrays
    ask: Ask
    total: Floats
    weight: float

    @property
    def averages(self) -> bool:
        """Whether the sum is of trained weights, which do not add up patient by patient."""
        return isinstance(self.method, AveragingMethod)


def asked_of(observed: Observed) -> list[Asked]:
    """Return the sums of preparation and training, in order; those by which options are tuned are left out."""
    made = []
    for seen in observed.seen:
        stage = observed.plan.stage(seen.state)
        if stage == TUNE:
            continue
        method, state = observed.plan.method(seen.state, stage), within(stage, seen.state)
        ask = method.asks(state)
        total = layout.to_vector(ask.entries, {entry.name: seen.total.arrays[entry.name] for entry in ask.entries})
        made.append(Asked(stage, method, state, ask, total, seen.total.weight))
    return made


class Rows:
    """Rows that might be at a hospital, and what it would have sent and remembered, had it been so from the start."""

    def __init__(self, rows: Examples) -> None:
        self.rows = rows
        self._memory: Arrays = NOTHING
        self._last: tuple[Asked, Floats] | None = None

    def part(self, asked: Asked) -> Floats:
        """Return the contribution to a sum, shape (d,); sums come in order."""
        if self._last is None or self._last[0] is not asked:
            contribution, self._memory = asked.method.contribute(asked.state, self.rows, self._memory, NO_CHANCE)
            self._last = (asked, layout.to_vector(asked.ask.entries, contribution.arrays))
        return self._last[1]


class Person:
    """A patient who joins a hospital's others, or who is one of them and might not be.

    own: his rows. home: his hospital's as they are: without him if he joins, else with him.
    """

    def __init__(self, own: Examples, home: Rows, joins: bool) -> None:
        self._own = Rows(own)
        self._home = home
        self._joins = joins

    def adds(self, asked: Asked) -> Floats:
        """Return what his presence adds to a sum, shape (d,)."""
        if not asked.ask.data_dependent_subsets:
            return self._own.part(asked)
        change = self._otherwise.part(asked) - self._home.part(asked)
        return change if self._joins else -change

    def is_in(self, rows: Rows) -> bool:
        """Whether he is among the patients of some rows of his hospital."""
        return bool(np.isin(self._own.rows.patients[:1], rows.rows.patients)[0])

    @cached_property
    def _otherwise(self) -> Rows:
        home, own = self._home.rows, self._own.rows
        return Rows(concatenate([home, own]) if self._joins else home.take(~np.isin(home.patients, own.patients)))


@dataclass(frozen=True)
class Alone:
    """How many of some patients stand alone: nobody else adds to some number of a total, which so is theirs."""

    patients: int
    alone: int


def standing_alone(
    observed: Observed, data: Mapping[str, SiteData], most: int, drawn: np.random.Generator
) -> dict[str, Alone]:
    """Return by stage how many training patients stand alone in one of its totals, where these have no noise.

    What all others add is nothing then, and not because it cancels: what halves of them add is nothing, too.

    data: the patients of the run.
    most: so many of them are looked at, by chance.
    """
    people, halves = _some_people(data, most, drawn), [_half(data, drawn) for _ in range(_HALVES)]
    found: dict[str, NDArray[np.bool_]] = {}
    for asked in asked_of(observed):
        if asked.averages or asked.ask.noise_multiplier is not None:
            continue
        sizes = [entry.size for entry in asked.ask.entries]
        nothing = np.repeat([entry.precision for entry in asked.ask.entries], sizes)
        parts = [np.abs(np.sum([rows.part(asked) for rows in half.values()], axis=0)) > nothing for half in halves]
        here = np.zeros(len(people), dtype=bool)
        for number, (home, person) in enumerate(people):
            added = person.adds(asked)
            own = np.flatnonzero((np.abs(added) > nothing) & (np.abs(asked.total - added) <= nothing))
            for half, adds in zip(halves, parts, strict=True):
                if own.size and not person.is_in(half[home]):
                    own = own[~adds[own]]
            here[number] = own.size > 0
        found[asked.stage] = here | found.get(asked.stage, False)
    return {stage: Alone(len(people), int(alone.sum())) for stage, alone in found.items()}


def _half(data: Mapping[str, SiteData], drawn: np.random.Generator) -> dict[str, Rows]:
    """Return each hospital's rows of half of its patients, by chance."""
    halves = {}
    for name, site in data.items():
        rows = site.parts[Part.TRAINING]
        patients, whose = np.unique(rows.patients, return_inverse=True)
        halves[name] = Rows(rows.take((drawn.random(len(patients)) < 0.5)[whose]))
    return halves


def _some_people(data: Mapping[str, SiteData], most: int, drawn: np.random.Generator) -> list[tuple[str, Person]]:
    """Return patients by chance, each with his hospital's name: somebody else may have the same id at another."""
    sites = {name: site.parts[Part.TRAINING] for name, site in data.items()}
    named = [(name, patient) for name, rows in sites.items() for patient in np.unique(rows.patients).tolist()]
    chosen = np.sort(drawn.permutation(len(named))[:most])
    homes = {name: Rows(rows) for name, rows in sites.items()}
    return [
        (name, Person(sites[name].take(sites[name].patients == patient), homes[name], joins=False))
        for name, patient in (named[index] for index in chosen.tolist())
    ]
