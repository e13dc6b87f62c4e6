"""What one hospital's rows say of actions and rewards: a patient's path, what a row is worth, which rows are summed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shared.examples import Examples
from shared.methods import subsets
from shared.methods.subsets import Indices
from shared.methods.unsupervised import Floats
from shared.schema import DataContract


class Paths(NamedTuple):
    """How n rows follow each other; shape (n,) each.

    patients: whose row it is, from 0.
    place: rows of the patient before it.
    following: index of the patient's next row; -1 after the last one.
    actions: index of the level; the number of levels where it is missing.
    """

    patients: Indices
    place: Indices
    following: Indices
    actions: Indices


def paths_of(examples: Examples, contract: DataContract, action: str) -> Paths:
    """Return the paths of rows that are all rows of their patients; rows of equal order follow as they stand.

    action: the category column of the actions.
    """
    assert contract.steps is not None
    order = examples.values[:, contract.features.index(contract.steps.order)]
    taken = examples.values[:, contract.features.index(action)]
    levels = len(contract.columns[action].levels)
    patients = examples.patient_index
    by_time = np.lexsort((order, patients))
    sorted_patients = patients[by_time]
    place, following = np.zeros_like(patients), np.full_like(patients, -1)
    place[by_time] = np.arange(len(patients)) - np.searchsorted(sorted_patients, sorted_patients)
    same = sorted_patients[1:] == sorted_patients[:-1]
    following[by_time[:-1][same]] = by_time[1:][same]
    return Paths(patients, place, following, np.where(np.isnan(taken), levels, taken).astype(np.int64))


def summed_groups(paths: Paths, count: int, least: int) -> Indices:
    """Return the action with which each row is summed, shape (n,); ``count`` where the hospital leaves it out.

    Left out are rows without an action, actions of fewer than ``least`` patients, and the next smallest ones until all
    that is left out is of so many patients, or nothing.
    """
    counts = subsets.patients_in(paths.actions, paths.patients, count + 1)
    order = [int(action) for action in np.argsort(counts[:count], kind="stable") if counts[action]]
    out = [count]
    while order:
        missing = len(np.unique(paths.patients[np.isin(paths.actions, out)]))
        if counts[order[0]] >= least and not 0 < missing < least:
            break
        out.append(order.pop(0))
    return np.where(np.isin(paths.actions, out), count, paths.actions)


@dataclass(frozen=True)
class Rewards:
    """What rewards in [low, high] add up to, with a discount."""

    low: float
    high: float
    discount: float

    def limits(self, steps: int) -> tuple[float, float]:
        """Return the smallest and largest value of at most so many rewards."""
        horizon = sum(self.discount**step for step in range(steps))
        return min(self.low, 0.0) * horizon, max(self.high, 0.0) * horizon

    def largest(self, steps: int) -> float:
        """Return the largest absolute value of at most so many rewards."""
        return max(map(abs, self.limits(steps)))

    def targets(self, rewards: Floats, best: Floats, following: Indices, steps: int) -> Floats:
        """Return r + discount V(s') of each row, shape (n,), with V cut to what so many rewards can be.

        best: estimated value of the best action in each row, shape (n,).
        """
        cut = np.clip(best, *self.limits(steps))
        return np.asarray(rewards + self.discount * np.where(following >= 0, cut[following], 0.0))
