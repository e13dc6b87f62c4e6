"""How a treatment policy is judged on the recorded paths of held-out patients: retrospectively, and so not a trial.

- Bellman error: of a row, |r + discount max_b Q(s', b) - Q(s, a)|: how far the values contradict themselves.
- value: max_a Q of the patient's first row, what the values themselves promise; beside it the recorded return, the
  discounted sum of the rewards of as many rows as the values look ahead. The difference is no effect of the policy: the
  values are fitted to records in which sicker patients were treated otherwise, and the best of several estimates is too
  high (Thrun and Schwartz 1993, "Issues in Using Function Approximation for Reinforcement Learning").
- agreement: share of the rows in which the recorded action is the recommended one.

Each is a mean over patients of the patient's own mean, so intervals are those of a mean over independent patients.
Values are cut to what rewards within their range can add up to.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from shared.examples import Arrays, Examples
from shared.methods.measures import Summed
from shared.methods.treatment_policy_paths import Paths, Rewards
from shared.methods.unsupervised import Floats
from shared.metrics import Interval, Judgement

NAMES = ("bellman_error", "policy_value", "observed_return", "policy_agreement")


class Valuing(Protocol):
    """What gives each action a value in each state."""

    def paths(self, examples: Examples) -> Paths:
        """Return how the rows follow each other."""
        ...

    def rows(self, examples: Examples) -> Floats:
        """Return the states."""
        ...

    def values(self, weights: Arrays, rows: Floats) -> Floats:
        """Return the value of each action in each state, shape (n, actions)."""
        ...


@dataclass(frozen=True, eq=False)
class PolicySums:
    """Sums over the patients of n rows, in the order of ``NAMES``, of shares of what a number can be.

    patients, known: how many there are, and have a row with an action; the others have no Bellman error or agreement.
    totals, squares: of the patients' shares, and of their squares; shape (4,) each.
    ends: smallest and largest value of each of the four.
    """

    n: int
    patients: int
    known: int
    totals: Floats
    squares: Floats
    ends: tuple[tuple[float, float], ...]

    def judge(self, replicates: int, generator: np.random.Generator) -> Judgement:
        """Return the means with normal 95 % intervals; no resamples are needed."""
        counts = (self.known, self.patients, self.patients, self.known)
        found = zip(NAMES, counts, self.totals.tolist(), self.squares.tolist(), self.ends, strict=True)
        return Judgement({name: _mean(*each) for name, *each in found}, self.patients, curves=(), by_patient=True)


def _mean(count: int, total: float, squares: float, ends: tuple[float, float]) -> Interval:
    if not count:
        return Interval(math.nan, math.nan, math.nan)
    mean = total / count
    half = 1.96 * math.sqrt(max(squares / count - mean * mean, 0.0) / count)
    low, width = ends[0], ends[1] - ends[0]
    return Interval(*(low + width * value for value in (mean, max(mean - half, 0.0), min(mean + half, 1.0))))


@dataclass(frozen=True, eq=False)
class PolicyMeasure:
    """How a policy is judged: a ``Measure``.

    steps: rows that the values look ahead.
    """

    policy: Valuing
    rewards: Rewards
    steps: int

    @property
    def ends(self) -> tuple[tuple[float, float], ...]:
        """Smallest and largest value of each metric, in the order of ``NAMES``."""
        low, high = self.rewards.limits(self.steps + 1)
        limits = self.rewards.limits(self.steps)
        return ((0.0, high - low), limits, limits, (0.0, 1.0))

    def layout(self) -> list[Summed]:
        """Return what is summed; a patient, who has a row at least, adds a share of the largest value."""
        return [
            Summed("counts", (3,), 1.0, True),
            Summed("totals", (len(NAMES),), 1.0, False),
            Summed("squares", (len(NAMES),), 1.0, False),
        ]

    def contents(self) -> tuple[str, ...]:
        """Return what the numbers are."""
        return (
            "how many rows and patients there are, and summed over the patients: how far the values contradict"
            " themselves, the value of the first row, the recorded return, and how often the recorded action is the"
            " recommended one (and their squares)",
        )

    def count(self, weights: Arrays, examples: Examples) -> PolicySums:
        """Return the sums over the patients of some rows."""
        paths, values = self.policy.paths(examples), self.policy.values(weights, self.policy.rows(examples))
        low, high = self.rewards.limits(self.steps)
        there, best = paths.actions < values.shape[1], values.max(axis=1)
        own = np.clip(values[there, paths.actions[there]], low, high)
        targets = self.rewards.targets(examples.labels, best, paths.following, self.steps)[there]
        agreed = values[there].argmax(axis=1) == paths.actions[there]
        error = _by_patient(np.abs(targets - own), paths.patients[there])
        agreement = _by_patient(agreed.astype(np.float64), paths.patients[there])
        ahead = paths.place < self.steps
        rewards = np.where(ahead, self.rewards.discount ** np.where(ahead, paths.place, 0) * examples.labels, 0.0)
        returned = np.bincount(paths.patients, weights=rewards)
        first = np.clip(best[paths.place == 0], low, high)
        shares = [
            np.clip((each - end[0]) / (end[1] - end[0]), 0.0, 1.0)
            for each, end in zip((error, first, returned, agreement), self.ends, strict=True)
        ]
        totals, squares = (np.array([made.sum() for made in each]) for each in (shares, map(np.square, shares)))
        return PolicySums(len(examples), len(first), len(error), totals, squares, self.ends)

    def arrays(self, sums: Any) -> Arrays:
        """Return sums as arrays."""
        counts = np.array([sums.n, sums.patients, sums.known], dtype=np.float64)
        return {"counts": counts, "totals": sums.totals, "squares": sums.squares}

    def sums(self, arrays: Arrays) -> PolicySums:
        """Return the sums over the contributing hospitals."""
        n, patients, known = (round(float(count)) for count in arrays["counts"])
        return PolicySums(n, patients, known, arrays["totals"], arrays["squares"], self.ends)


def _by_patient(values: Floats, patients: Any) -> Floats:
    """Return the mean of each patient who has a row, shape (patients with rows,)."""
    counts = np.bincount(patients)
    return np.asarray(np.bincount(patients, weights=values)[counts > 0] / counts[counts > 0])
