"""What the sums of a run say of who was in the data, to somebody who knows everything else.

The adversary of differential privacy: it knows every patient of every hospital and every canary, sees every state and
every sum, and lacks only the coins by which canaries were put in. What a canary adds to a sum is a known vector, a; the
others' part is known and subtracted; so a sum says y = A s + noise of the canaries' s in {0, 1}. With Gaussian noise of
variance v and each s - 1/2 taken as of mean 0 and variance 1/4, the best linear guess of s - 1/2, and its variance, are

    G = A'A / v + 4 I,    x = G^-1 A'(y - A 1/2) / v,    e = diag(G^-1),

and x / e is the logarithm of the odds that a canary was in (Verdu 1998, "Multiuser Detection", section 6.2). The canary
that is surest is then taken as known, if it is sure enough, and the others are looked at again without it. v is taken
from what of y no canary explains: where noise is missing, the adversary notices.

What a canary adds is worked out by the hospitals' own functions (``presence.py``). Where it depends on who else is
there, a is what it adds to its hospital's real patients, and how canaries change what others of them add is among the
noise. A method that averages trained weights is not linear in its patients: there a vector is how the canary alone
would move the weights, of a length that is learned from y, and directions in which others would move them are left out,
because nobody knows which patients a step of training drew.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data.split import SiteData
from shared import layout
from shared.examples import Arrays, Examples, Part, concatenate
from shared.methods.base import NOTHING, Ask, Influence
from shared.methods.neural import Neural
from shared.methods.neural_private import PrivateNeural
from simulations.attacks.canaries import Canaries
from simulations.attacks.observed import Observed
from simulations.attacks.presence import NO_CHANCE, Asked, Floats, Person, Rows, asked_of

_OTHERS = 200
"""Rows of real patients whose directions are left out, where a method averages weights."""
_NO_PART = 1e-6
_LEAST_NOISE = 1e-4
"""Standard deviation of noise, as a share of what the largest canary adds, below which noise counts as this."""
_CERTAIN = 6.0
"""Logarithm of the odds, 400 to 1, from which on a canary counts as known."""


@dataclass(eq=False)
class Evidence:
    """Running sums over what one or more sums of a run showed, in units of the noise that should be there.

    gram: A'A, shape (k, k).
    match: A'(y - A 1/2), shape (k,).
    square: |y - A 1/2|**2.
    numbers: how many numbers were seen.
    known_length: whether A is known, or only the directions of its columns and how long they are to each other.
    """

    gram: Floats
    match: Floats
    square: float = 0.0
    numbers: int = 0
    known_length: bool = True

    def add(self, said: Floats, moved: Floats, deviation: float) -> None:
        """Take one sum into account.

        said: y less the others' part, shape (d,).
        moved: A', shape (k, d).
        deviation: of the noise that should be in each number.
        """
        rest, moved = (said - 0.5 * moved.sum(axis=0)) / deviation, moved / deviation
        self.gram += moved @ moved.T
        self.match += moved @ rest
        self.square += float(rest @ rest)
        self.numbers += rest.size

    def weighed(self) -> tuple[Floats, Floats]:
        """Return A'A / v and A'(y - A 1/2) / v.

        v, the noise's variance, follows from what of y the canaries do not explain; it is 1 where they leave nothing
        over. How long A is follows, where it is not known, from how much they explain beyond what noise would.
        """
        largest = float(self.gram.diagonal().max())
        if largest == 0.0:
            return self.gram, self.match
        explained = float(np.linalg.lstsq(self.gram, self.match, rcond=1e-10)[0] @ self.match)
        rank = int(np.linalg.matrix_rank(self.gram, hermitian=True))
        free = self.numbers - rank
        variance = (self.square - explained) / free if free > 0 else 1.0
        # Less is rounding in float64, which would be taken for knowledge.
        variance = max(variance, _LEAST_NOISE**2 * largest)
        length = 1.0
        if not self.known_length:
            length = math.sqrt(max(4.0 * (explained - rank * variance), 0.0) / float(np.trace(self.gram)))
        return self.gram * length**2 / variance, self.match * length / variance


def log_odds(stages: Sequence[Evidence]) -> Floats:
    """Return for each canary the logarithm of the odds that it was in, by all stages together, shape (k,)."""
    weighed = [stage.weighed() for stage in stages]
    gram, match = (np.sum(parts, axis=0) for parts in zip(*weighed, strict=True))
    odds, unsure = np.zeros(len(match)), np.arange(len(match))
    while unsure.size:
        spread = np.linalg.inv(gram[np.ix_(unsure, unsure)] + 4.0 * np.eye(unsure.size))
        odds[unsure] = spread @ match[unsure] / np.diag(spread)
        surest = unsure[np.abs(odds[unsure]).argmax()]
        if abs(odds[surest]) < _CERTAIN:
            break
        match = match - 0.5 * np.sign(odds[surest]) * gram[surest]
        unsure = unsure[unsure != surest]
    return odds


@dataclass(frozen=True)
class Reach:
    """How much one canary changed one kind of sum, against what the accountant takes for granted.

    l1, l2: largest norms over canaries and sums.
    influence: the norms that the method declares.
    """

    l1: float
    l2: float
    influence: Influence

    @property
    def ratio(self) -> float:
        """Largest share of the declared norms; above 1 the accounting does not hold."""
        return max(self.l1 / self.influence.l1, self.l2 / self.influence.l2)


@dataclass(frozen=True, eq=False)
class Reading:
    """What one run gave away.

    log_odds: that a canary was in, by all sums; shape (k,).
    by_stage: the same, by the sums of one stage alone.
    reaches: by stage, where the method declares an influence and its sums add up.
    """

    log_odds: Floats
    by_stage: Mapping[str, Floats]
    reaches: Mapping[str, Reach] = field(default_factory=dict)


def read(observed: Observed, others: Mapping[str, SiteData], canaries: Canaries) -> Reading:
    """Return what all sums of a run say of the canaries.

    others: the sites' data without any canary.
    """
    stages: dict[str, list[Evidence]] = {}
    reaches: dict[str, Reach] = {}
    sites = {name: Rows(site.parts[Part.TRAINING]) for name, site in others.items()}
    people = [Person(rows, sites[home], joins=True) for rows, home in zip(canaries.each, canaries.homes, strict=True)]
    for asked in asked_of(observed):
        ask, found = asked.ask, stages.setdefault(asked.stage, [])
        # Canaries that change what others add leave more unexplained in one sum than in another: each has its own v.
        if not found or ask.data_dependent_subsets:
            found.append(Evidence(np.zeros((len(people), len(people))), np.zeros(len(people))))
        if asked.averages:
            known = [site.rows for site in sites.values()]
            found[-1].add(*_averaged(asked, known, canaries.each), 1.0)
            found[-1].known_length = False
        else:
            said, moved = _added(asked, list(sites.values()), people)
            found[-1].add(said, moved, _deviation(ask))
            if ask.influence:
                reaches[asked.stage] = _farthest(reaches.get(asked.stage), moved, ask.influence)
    by_stage = {name: log_odds(found) for name, found in stages.items()}
    return Reading(log_odds(list(itertools.chain(*stages.values()))), by_stage, reaches)


def _deviation(ask: Ask) -> float:
    """Return the standard deviation of the noise that the accountant counts on; where there is none, of rounding."""
    if ask.noise_multiplier is None or ask.influence is None:
        return min(entry.precision for entry in ask.entries)
    return ask.noise_multiplier * ask.influence.l2


def _farthest(before: Reach | None, moved: Floats, influence: Influence) -> Reach:
    l1, l2 = float(np.abs(moved).sum(axis=1).max()), float(np.linalg.norm(moved, axis=1).max())
    return Reach(max(l1, before.l1), max(l2, before.l2), influence) if before else Reach(l1, l2, influence)


def _added(asked: Asked, sites: Sequence[Rows], canaries: Sequence[Person]) -> tuple[Floats, Floats]:
    """Return a sum less what the others added, and what each canary adds."""
    said = asked.total - np.sum([site.part(asked) for site in sites], axis=0)
    if not asked.ask.data_dependent_subsets:
        return said, np.array([canary.adds(asked) for canary in canaries])
    # Trees sum a million numbers, of which a canary has part in a few.
    places, values = zip(*(_part_of(canary.adds(asked)) for canary in canaries), strict=True)
    touched = np.unique(np.concatenate(places))
    moved = np.zeros((len(canaries), len(touched)))
    for row, where, what in zip(moved, places, values, strict=True):
        row[np.searchsorted(touched, where)] = what
    return said[touched], moved


def _part_of(vector: Floats) -> tuple[NDArray[np.intp], Floats]:
    """Return where a vector is not zero, and what it is there."""
    places = np.flatnonzero(vector)
    return places, vector[places]


def _averaged(asked: Asked, known: Sequence[Examples], canaries: Sequence[Examples]) -> tuple[Floats, Floats]:
    """Return how the mean moved, and how each canary alone would move it, both without the others' direction."""
    method: Any = asked.method

    def direction(rows: Examples) -> Floats:
        # Without noise: the adversary computes a gradient, it does not send one.
        step = Neural.contribute if isinstance(method, Neural) else type(method).contribute
        contribution, _ = step(method, asked.state, rows, NOTHING, NO_CHANCE)
        return _flat(contribution.arrays) / contribution.weight

    said = _flat(layout.from_vector(asked.ask.entries, asked.total)) / asked.weight
    moved = np.array([direction(rows) for rows in canaries])
    if isinstance(method, PrivateNeural):
        longest = method.options.learning_rate * method.privacy.clipping_norm
        moved *= np.minimum(1.0, longest / np.maximum(np.linalg.norm(moved, axis=1), longest))[:, None]
    everybody = concatenate(list(known))
    some = np.unique(np.linspace(0, len(everybody) - 1, _OTHERS).astype(np.int64))
    others = np.array([direction(everybody.take(np.array([row]))) for row in some])
    # What all canaries do together would be told apart from what the others do only by how much there is of it.
    common = _span(np.vstack([others, moved.sum(axis=0)]))
    return said - (common @ said) @ common, moved - (moved @ common.T) @ common


def _span(vectors: Floats) -> Floats:
    """Return orthonormal rows that span the vectors, at most half of all directions: those of the largest part."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    _, sizes, directions = np.linalg.svd(vectors / np.maximum(lengths, 1e-300), full_matrices=False)
    return np.asarray(directions[: vectors.shape[1] // 2][sizes[: vectors.shape[1] // 2] > _NO_PART * sizes[0]])


def _flat(arrays: Arrays) -> Floats:
    return np.concatenate([array.ravel() for name, array in sorted(arrays.items()) if name.startswith("update/")])
