"""Which rows of one hospital are summed as inside a margin, such that no sum tells few of its patients apart.

Sums over sets of rows can be added and subtracted, those of many rounds too. So rows move in groups: every set that a
hospital sums is made of whole groups, and whatever follows from its sums follows from sums over groups. First each
class is one group. A group is cut in two only where both parts have rows of ``least`` patients, and is never joined
again. Where a group may not be cut at the margin, it is cut at the nearest place where it may, or not at all.

So a hospital remembers its groups. At a point at which it summed before, it sums the same rows: with one row a patient
a cut is the best of all that the group allows, and cuts that came later were allowed then.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays, Examples
from shared.methods import subsets
from shared.methods.base import NOTHING

Floats = NDArray[np.float64]
Rows = NDArray[np.bool_]
Indices = NDArray[np.int64]


def chosen(short: Floats, examples: Examples, memory: Arrays, least: int) -> tuple[Rows, int, Arrays]:
    """Return the rows to sum for each output, shape (n, outputs), the fewest patients of a group, and the memory.

    Where a class has fewer patients than ``least``, but some, every row is summed at every point: no row crosses the
    margin then, and how few patients a class may have is another of a hospital's rules (``min_class_patients``).

    short: by how much each row is short of the margin, shape (n, outputs); below zero outside.
    memory: as it was returned for the point before; empty at first.
    """
    patients = examples.patient_index
    groups: Indices = memory["groups"] if memory else examples.labels.astype(np.int64)
    if subsets.fewest(groups, patients) < least:
        return np.ones(short.shape, dtype=bool), examples.patient_count, NOTHING
    rows = np.zeros(short.shape, dtype=bool)
    for output in range(short.shape[1]):
        rows[:, output] = inside(short[:, output], groups, patients, least)
        groups = np.unique(2 * groups + rows[:, output], return_inverse=True)[1].astype(np.int64)
    return rows, subsets.fewest(groups, patients), {"groups": groups}


def inside(short: Floats, groups: Indices, patients: Indices, least: int) -> Rows:
    """Return a set of rows that cuts no group but into parts of enough patients.

    Of such sets it is the one with the least sum of ``short``**2, the loss of a row, over rows that are inside the
    margin and not in the set, or in the set and not inside.

    short, groups, patients: shape (n,).
    """
    found = np.zeros(len(short), dtype=bool)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        rows = rows[np.argsort(-short[rows], kind="stable")]
        first, last = _patients_of_first(patients[rows]), _patients_of_first(patients[rows[::-1]])[::-1]
        may = ((first == 0) | (first >= least)) & ((last == 0) | (last >= least))
        gain = np.append(0.0, np.cumsum(np.sign(short[rows]) * np.square(short[rows])))
        found[rows[: np.where(may, gain, -np.inf).argmax()]] = True
    return found


def _patients_of_first(patients: Indices) -> Indices:
    """Return how many different patients the first k rows have, for k from 0 to n."""
    new = np.zeros(len(patients) + 1, dtype=np.int64)
    new[np.unique(patients, return_index=True)[1] + 1] = 1
    return np.cumsum(new)
