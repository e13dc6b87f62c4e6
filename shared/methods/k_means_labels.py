"""How the label is distributed in clusters: rows by class, or mean and deviation of a number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from shared.examples import Examples
from shared.methods import subsets
from shared.schema import DataContract

Floats = NDArray[np.float64]


def width(contract: DataContract) -> int:
    """Return how many numbers there are of each cluster: of each class, and not told apart; or two of a number."""
    return len(contract.classes) + 1 if contract.classes else 2


def sums(
    contract: DataContract,
    groups: subsets.Indices,
    examples: Examples,
    patients: subsets.Indices,
    clusters: int,
    least: int,
) -> tuple[Floats, int]:
    """Return one site's sums, shape (clusters, width), and the fewest patients behind one of them.

    Rows by class, as ``subsets.told``; or sums of the label as a share of its range, and of its square.
    """
    if contract.classes:
        shape = (clusters, len(contract.classes))
        return subsets.told(groups, examples.labels.astype(np.int64), patients, shape, least)
    low, high = _range(contract)
    unit = (examples.labels - low) / (high - low)
    return np.eye(clusters)[groups].T @ np.column_stack([unit, np.square(unit)]), subsets.fewest(groups, patients)


def told(contract: DataContract, rows: Floats, total: Floats) -> Floats:
    """Return what is released of a total: the rows by class, or mean and population deviation of a number.

    rows: in each cluster.
    """
    if contract.classes:
        return np.array(total)
    low, high = _range(contract)
    mean, square = total.T / np.maximum(rows, 1.0)
    deviation = np.sqrt(np.maximum(square - mean * mean, 0.0))
    return np.column_stack([low + (high - low) * mean, (high - low) * deviation])


def _range(contract: DataContract) -> tuple[float, float]:
    declared = contract.columns[contract.label].range
    assert declared is not None
    return declared
