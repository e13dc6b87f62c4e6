"""How rows of one hospital are dealt into subsets such that no sum over few of its patients leaves.

Dropping the rows of a subset that is too small would not hide them: sums over all rows are known from the preparation,
and what lacks in the subsets is their sum. And a subset that is large enough may differ by one patient from another
one, of another round, which tells of that patient as much. So patients are put into groups of at least ``least`` who
are like each other, before anything is asked, and a group is in a subset as a whole: then every sum over subsets, and
every sum or difference of such sums, is over whole groups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.examples import Examples

if TYPE_CHECKING:
    from shared.study import Study

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

_TOGETHER = 4096
"""Patients of whom each may be in a group with each: it takes the square of their number."""


def patients_in(groups: Indices, patients: Indices, count: int) -> Indices:
    """Return how many different patients have a row in each of ``count`` groups.

    groups, patients: arrays of shape (n,): the group of each row, and whose row it is, from 0.
    """
    several = int(patients.max(initial=0)) + 1
    return np.asarray(np.bincount(np.unique(groups * several + patients) // several, minlength=count))


def check_tuning(study: Study) -> None:
    """Raise ValueError for a study that tunes a method whose groups follow from the rows that it is trained on."""
    if study.tuning and study.method.options.min_subset_patients > 1:
        raise ValueError(
            f"{study.method.name} can be tuned only with min_subset_patients = 1, which few hospitals allow: each fold"
            " has groups of its own, and sums of different folds could be subtracted, and leave few patients. Received:"
            " a [tuning] part; leave it out"
        )


def alike(values: Floats, places: Indices, patients: Indices, least: int) -> Indices:
    """Return groups of rows of one place whose values are nearly the same: of each row, its group from 0.

    The rows of a place stand in the order of their values and are cut as soon as ``least`` patients have a row in a
    group; the last ones are with those before (Domingo-Ferrer and Mateo-Sanz 2002, "Practical data-oriented
    microaggregation for statistical disclosure control", IEEE Trans. Knowl. Data Eng. 14(1)). A patient's rows need not
    be in one group: they may be of different classes. Where a place has fewer patients, its rows are one group.

    values, places, patients: arrays of shape (n,).
    """
    # Equal values by patient: rows in another order are in the same groups.
    order = np.lexsort((patients, values, places))
    first = np.flatnonzero(np.diff(places[order], prepend=-1))
    begins, groups = np.zeros(len(order), np.int64), np.empty(len(order), np.int64)
    for start, own in zip(first.tolist(), np.split(patients[order], first[1:]), strict=False):
        begins[[start + cut for cut in _cuts(own.tolist(), least)]] = 1
    groups[order] = np.cumsum(begins) - 1
    return groups


def _cuts(patients: list[int], least: int) -> list[int]:
    """Return where each group begins."""
    cuts, seen = [0], set[int]()
    for place, patient in enumerate(patients):
        if len(seen) >= least:
            cuts.append(place)
            seen = set()
        seen.add(patient)
    if len(cuts) > 1 and len(seen) < least:
        del cuts[-1]
    return cuts


def similar(columns: Floats, kinds: Indices, patients: Indices, least: int) -> Indices:
    """Return groups of at least ``least`` patients who are like each other: of each row, its group from 0.

    The patient farthest from the mean of those who are left, and the nearest of the same kind, are a group; then the
    next; the last ones are all one (MDAV: Domingo-Ferrer and Torra 2005, "Ordinal, continuous and heterogeneous
    k-anonymity through microaggregation", Data Mining and Knowledge Discovery 11(2)). Where fewer of a kind are left,
    patients of other kinds are in the group. Very many patients are first cut in halves, at the middle of the column in
    which they differ most. A patient's columns are the means of the rows, and the kind is the lowest.

    columns: array of shape (n, d), finite, in scales that can be compared. kinds, patients: arrays of shape (n,).
    """
    _, of, rows = np.unique(patients, return_inverse=True, return_counts=True)
    people, kind = np.zeros((len(rows), columns.shape[1])), np.full(len(rows), kinds.max(initial=0))
    np.add.at(people, of, columns / rows[of][:, None])
    np.minimum.at(kind, of, kinds)
    groups, count, waiting = np.zeros(len(rows), np.int64), 0, [np.arange(len(rows))]
    while waiting:
        left = waiting.pop()
        if len(left) > max(_TOGETHER, 2 * least):
            column = people[left, people[left].var(axis=0).argmax()]
            waiting += np.array_split(left[np.argsort(column, kind="stable")], 2)
            continue
        while len(left) >= 2 * least:
            middle = people[left].mean(axis=0)
            farthest = left[np.square(people[left] - middle).sum(axis=1).argmax()]
            away = np.square(people[left] - people[farthest]).sum(axis=1)
            order = np.lexsort((away, kind[left] != kind[farthest]))
            groups[left[order[:least]]] = count
            count, left = count + 1, np.sort(left[order[least:]])
        groups[left] = count
        count += 1
    return np.asarray(groups[of])


def columns_of(examples: Examples) -> Floats:
    """Return what groups of similar rows are made of, shape (n, d): pixels, or columns by their deviation.

    It follows from these rows alone and from nothing that a hospital is asked, so groups are the same in every sum.
    """
    if examples.images is not None:
        return np.asarray(examples.images.reshape(len(examples), -1), dtype=np.float64)
    return np.column_stack([scaled(column) for column in examples.values.T])


def scaled(column: Floats) -> Floats:
    """Return a column from its mean by its deviation, 0 where it is missing; shape (n,)."""
    seen = np.isfinite(column)
    found = np.zeros(len(column))
    if seen.any() and np.ptp(column[seen]) > 0:
        found[seen] = column[seen] - column[seen].mean()
        found /= found.std()
    return found


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
