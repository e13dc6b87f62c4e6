"""How rows of one hospital fall into clusters such that no sum over few of its patients leaves.

Dropping a small cluster's rows would not hide them: sums over all rows are known from the preparation, and what lacks
in the clusters is their sum. So rows move instead, and every row is always in some cluster:

- a cluster with fewer than ``least`` patients of the hospital is dissolved, the smallest first: its rows go to the
  nearest of the centres that are left;
- between two rounds, rows move only so that by no sum over some of the clusters the two rounds differ by fewer than
  ``least`` patients: or the difference would be the one patient who moved. With the clusters as nodes, and as weight of
  an edge the patients who move along it, each cut through what moves must weigh so much; where one does not, what would
  cross it stays (Stoer and Wagner 1997, "A simple min-cut algorithm", J. ACM 44(4)). Where that would leave a cluster
  too small, nothing moves.

With ``least`` 1 each row is in the cluster of its nearest centre, always.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]


def patients_in(groups: Indices, patients: Indices, count: int) -> Indices:
    """Return how many different patients have a row in each of ``count`` groups.

    groups, patients: arrays of shape (n,): the group of each row, and whose row it is, from 0.
    """
    several = int(patients.max(initial=0)) + 1
    return np.asarray(np.bincount(np.unique(groups * several + patients) // several, minlength=count))


def nearest(distances: Floats, patients: Indices, least: int) -> Indices:
    """Return the cluster of each row, the nearest one that is not too small.

    distances: shape (n, clusters).
    """
    left = distances.copy()
    while True:
        groups: Indices = left.argmin(axis=1)
        counts = patients_in(groups, patients, left.shape[1])
        used = np.flatnonzero(counts)
        if len(used) < 2 or counts[used].min() >= least:
            return groups
        left[:, used[counts[used].argmin()]] = np.inf


def moved(before: Indices, wanted: Indices, patients: Indices, clusters: int, least: int) -> tuple[Indices, float]:
    """Return the clusters after a round, as wanted but for moves of too few, and the smallest cut; infinity without.

    A patient whose rows move along several edges counts in each for a share.
    """
    away = before != wanted
    low, high = np.minimum(before, wanted)[away], np.maximum(before, wanted)[away]
    several = int(patients.max(initial=0)) + 1
    edges, whose = np.divmod(np.unique((low * clusters + high) * several + patients[away]), several)
    weights = np.zeros((clusters, clusters))
    np.add.at(weights.reshape(-1), edges, 1.0 / np.bincount(whose, minlength=several)[whose])
    weights += weights.T
    together, smallest, parts = np.eye(clusters, dtype=bool), np.inf, [np.flatnonzero(weights.any(axis=0))]
    while parts:
        part = parts.pop()
        if len(part) < 2:
            continue
        cut, side = smallest_cut(weights[np.ix_(part, part)])
        # Shares of a patient add up to 1 but for the last digits.
        if cut < least - 1e-9:
            # What would cross an empty cut is nothing: such a part falls apart as it is.
            parts += [part[side], part[~side]]
            continue
        together[np.ix_(part, part)] = True
        smallest = min(smallest, cut)
    after: Indices = np.where(together[before, wanted], wanted, before)
    if fewest(after, patients) < min(least, fewest(before, patients)):
        return before, np.inf
    return after, smallest


def smallest_cut(weights: Floats) -> tuple[float, NDArray[np.bool_]]:
    """Return the weight of the smallest cut, and the nodes on one side of it.

    weights: of the edges, shape (n, n), symmetric, zero on the diagonal; n at least 2.
    """
    weights, best, side = weights.copy(), np.inf, np.zeros(len(weights), dtype=bool)
    merged, left = np.eye(len(weights), dtype=bool), np.ones(len(weights), dtype=bool)
    while left.sum() > 1:
        waiting = left.copy()
        pull = np.zeros(len(weights))
        order: list[int] = []
        while waiting.any():
            following = int(np.where(waiting, pull, -1.0).argmax())
            waiting[following] = False
            order.append(following)
            cut = float(pull[following])
            pull = pull + weights[following]
        into, last = order[-2:]
        if cut < best:
            best, side = cut, merged[last].copy()
        weights[into] += weights[last]
        weights[:, into] += weights[:, last]
        weights[into, into] = 0.0
        merged[into] |= merged[last]
        left[last] = False
    return best, side


def fewest(groups: Indices, patients: Indices) -> int:
    """Return the fewest patients in a group, empty ones apart; 0 without rows."""
    counts = patients_in(groups, patients, int(groups.max(initial=0)) + 1)
    return int(counts[counts > 0].min()) if len(groups) else 0


def told(groups: Indices, labels: Indices, patients: Indices, shape: tuple[int, int], least: int) -> tuple[Floats, int]:
    """Return rows by cluster and class, shape (clusters, classes + 1), and the fewest patients behind one number.

    The last column is of classes that are not told apart.

    These are the classes with fewer than ``least`` patients in the cluster, and the next smallest ones until together
    they have so many. A cluster's rows are all in its line, so nothing is found by subtraction.

    shape: (clusters, classes).
    """
    clusters, classes = shape
    table = np.zeros((clusters, classes + 1))
    columns = np.array(labels)
    for cluster in range(clusters):
        here = groups == cluster
        own, whose = labels[here], patients[here]
        counts = patients_in(own, whose, classes)
        rows = np.bincount(own, minlength=classes)
        order = [int(index) for index in np.argsort(counts, kind="stable") if counts[index]]
        hidden: list[int] = []
        while order and (counts[order[0]] < least or (hidden and len(np.unique(whose[np.isin(own, hidden)])) < least)):
            hidden.append(order.pop(0))
        table[cluster, order] = rows[order]
        table[cluster, classes] = rows[hidden].sum()
        columns[here & np.isin(labels, hidden)] = classes
    return table, fewest(groups * (classes + 1) + columns, patients)
