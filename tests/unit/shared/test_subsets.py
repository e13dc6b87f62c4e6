"""Clusters of few patients of a hospital are never summed, nor are differences of few patients between two rounds."""

from __future__ import annotations

import numpy as np

from shared.methods import subsets

SINGLE = np.arange(6)
"""Six rows of six patients."""


def apart(*places: float, centres: tuple[float, ...] = (0.0, 1.0, 10.0)) -> np.ndarray:
    return np.abs(np.subtract.outer(np.array(places), np.array(centres)))


def test_each_row_is_in_the_nearest_cluster_where_one_patient_is_enough() -> None:
    assert [0, 0, 0, 1, 1, 2] == subsets.nearest(apart(0, 0, 0, 1, 1, 9), SINGLE, 1).tolist()


def test_a_cluster_of_too_few_is_dissolved_into_the_nearest_that_is_left() -> None:
    assert [0, 0, 0, 1, 1, 1] == subsets.nearest(apart(0, 0, 0, 1, 1, 9), SINGLE, 2).tolist()


def test_patients_count_and_not_rows() -> None:
    patients = np.array([0, 1, 2, 3, 4, 4])
    assert [0, 0, 1, 1, 1, 1] == subsets.nearest(apart(0, 0, 1, 1, 9, 9), patients, 2).tolist()


BEFORE = np.array([0, 0, 0, 1, 1, 1])


def after(wanted: list[int], least: int) -> list[int]:
    return subsets.moved(BEFORE, np.array(wanted), SINGLE, 3, least)[0].tolist()


def test_one_patient_alone_does_not_move() -> None:
    assert [0, 0, 0, 1, 1, 1] == after([0, 0, 1, 1, 1, 1], 2)
    assert [0, 0, 1, 1, 1, 1] == after([0, 0, 1, 1, 1, 1], 1)


def test_two_patients_who_change_places_do() -> None:
    assert [0, 0, 1, 0, 1, 1] == after([0, 0, 1, 0, 1, 1], 2)


def test_nothing_moves_where_one_patient_would_stay_behind() -> None:
    assert [0, 0, 0, 1, 1, 1] == after([0, 1, 1, 1, 1, 1], 2)
    assert [1, 1, 1, 1, 1, 1] == after([1, 1, 1, 1, 1, 1], 2)


def test_who_crosses_the_smallest_cut_stays_and_the_others_move() -> None:
    """Between clusters 0 and 1, and 2 and 3, two patients move; from 1 to 2 one alone does."""
    before = np.array([0, 0, 1, 1, 1, 2, 2, 3, 3])
    wanted = np.array([1, 0, 0, 1, 2, 3, 2, 2, 3])
    found, cut = subsets.moved(before, wanted, np.arange(9), 4, 2)
    assert [1, 0, 0, 1, 1, 3, 2, 2, 3] == found.tolist()
    assert 2 == cut


def test_the_smallest_cut_is_that_of_the_paper() -> None:
    """Figure 1 of Stoer and Wagner 1997: weight 4, between nodes 3, 4, 7, 8 and 1, 2, 5, 6."""
    edges = {(1, 2): 2, (1, 5): 3, (2, 3): 3, (2, 5): 2, (2, 6): 2, (3, 4): 4, (3, 7): 2, (4, 7): 2, (4, 8): 2}
    edges |= {(5, 6): 3, (6, 7): 1, (7, 8): 3}
    weights = np.zeros((8, 8))
    for (a, b), weight in edges.items():
        weights[a - 1, b - 1] = weights[b - 1, a - 1] = weight
    cut, side = subsets.smallest_cut(weights)
    assert 4 == cut
    assert [3, 4, 7, 8] in [(np.flatnonzero(each) + 1).tolist() for each in (side, ~side)]


def test_a_class_of_few_hides_the_next_smallest_with_it() -> None:
    groups, labels = np.zeros(9, dtype=int), np.array([0, 0, 0, 0, 0, 1, 1, 1, 2])
    table, smallest = subsets.told(groups, labels, np.arange(9), (1, 3), 2)
    assert [[5, 0, 0, 4]] == table.tolist()
    assert 4 == smallest


def test_every_class_is_told_where_one_patient_is_enough() -> None:
    table, smallest = subsets.told(np.array([0, 0, 1]), np.array([0, 1, 1]), np.arange(3), (2, 2), 1)
    assert [[1, 1, 0], [0, 1, 0]] == table.tolist()
    assert 1 == smallest
