"""Patients of a hospital are in subsets by groups, so that no sum is over few of them, and no difference of sums."""

from __future__ import annotations

import numpy as np

from shared.methods import subsets
from tests.builders import examples_of

SINGLE = np.arange(6)
"""Six rows of six patients."""


def alike(values: list[float], places: list[int], patients: np.ndarray = SINGLE, least: int = 3) -> list[int]:
    return subsets.alike(np.array(values), np.array(places), patients, least).tolist()


def test_patients_of_nearly_the_same_value_are_one_group() -> None:
    assert [1, 0, 0, 1, 0, 1] == alike([5, 1, 2, 6, 3, 4], [0] * 6)


def test_patients_of_two_places_are_in_no_group_together() -> None:
    assert [0, 1, 0, 1, 0, 1] == alike([1, 2, 3, 4, 5, 6], [0, 1] * 3)


def test_a_group_has_so_many_patients_and_not_rows() -> None:
    assert [0] * 6 == alike([1, 2, 3, 4, 5, 6], [0] * 6, np.array([0, 0, 1, 1, 2, 2]))


def test_rows_of_one_patient_with_different_values_are_in_different_groups() -> None:
    """Or a patient with a row of each class would say nothing of either."""
    assert [0, 1, 0, 1, 0, 1] == alike([0, 9, 1, 8, 2, 7], [0] * 6, np.array([0, 0, 1, 1, 2, 2]))


def test_rows_that_are_left_over_are_with_those_before() -> None:
    assert [0, 0, 1, 1, 1] == alike([1, 2, 3, 4, 5], [0] * 5, np.arange(5), 2)


def similar(places: list[float], kinds: list[int], least: int = 2) -> list[int]:
    found = subsets.similar(np.array(places)[:, None], np.array(kinds), np.arange(len(kinds)), least)
    return np.unique(found, return_inverse=True)[1].tolist()


def test_the_farthest_patient_and_the_nearest_to_it_are_a_group_and_the_last_ones_are_all_one() -> None:
    """From the mean 11 the farthest is 30; from what is left, 4.2, it is 9."""
    assert [2, 2, 2, 1, 1, 0, 0] == similar([1, 2, 3, 7, 9, 25, 30], [0] * 7)


def test_patients_of_one_kind_are_a_group_while_there_are_enough() -> None:
    assert [0, 1, 0, 1] == similar([1, 2, 3, 4], [0, 1, 0, 1])
    assert [0, 0, 0] == similar([1, 2, 3], [0, 0, 1])


def test_very_many_patients_are_in_groups_of_so_many() -> None:
    places = np.random.default_rng(0).normal(size=(9000, 1))
    found = subsets.similar(places, np.zeros(9000, int), np.arange(9000), 100)
    assert 100 <= np.bincount(found).min() and np.bincount(found).max() < 200


def test_a_group_is_of_patients_and_all_rows_of_one_are_in_it() -> None:
    patients = np.array([0, 0, 1, 2, 3, 3])
    found = subsets.similar(np.array([[0.0], [9.0], [5.0], [8.0], [9.0], [9.0]]), np.zeros(6, int), patients, 2)
    assert [1, 1, 1, 0, 0, 0] == np.unique(found, return_inverse=True)[1].tolist()[:6]


def test_groups_do_not_depend_on_the_order_of_the_rows() -> None:
    """A hospital that approves a study anew may read them in another one; the first patient has rows of two kinds."""
    rows = np.array([[6.0], [8], [1], [3], [12]]), np.array([0, 1, 0, 1, 1]), np.array([0, 0, 1, 2, 3])
    for order in (np.arange(5), np.arange(5)[::-1]):
        found = subsets.similar(*(each[order] for each in rows), 2)
        assert [1, 1, 1, 0, 0] == found[order].tolist()


def test_columns_are_compared_by_their_deviation_and_what_is_missing_is_the_mean() -> None:
    examples = examples_of([[0, 7, np.nan], [40, 7, np.nan], [np.nan, 7, np.nan]], [0, 0, 1])
    root = 1.5**0.5
    assert np.allclose([[-root, 0, 0], [root, 0, 0], [0, 0, 0]], subsets.columns_of(examples), atol=1e-12)


def test_a_class_of_few_hides_the_next_smallest_with_it() -> None:
    groups, labels = np.zeros(9, dtype=int), np.array([0, 0, 0, 0, 0, 1, 1, 1, 2])
    table, smallest = subsets.told(groups, labels, np.arange(9), (1, 3), 2)
    assert [[5, 0, 0, 4]] == table.tolist()
    assert 4 == smallest


def test_every_class_is_told_where_one_patient_is_enough() -> None:
    table, smallest = subsets.told(np.array([0, 0, 1]), np.array([0, 1, 1]), np.arange(3), (2, 2), 1)
    assert [[1, 1, 0], [0, 1, 0]] == table.tolist()
    assert 1 == smallest
