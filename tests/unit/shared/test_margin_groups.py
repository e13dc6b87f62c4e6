"""Groups of patients that cross a margin together: where they may be cut, and where they are not."""

from __future__ import annotations

import numpy as np

from shared.methods.margin_groups import chosen, inside
from tests.builders import examples_of

SIX = np.arange(6)
ONE_GROUP = np.zeros(6, dtype=np.int64)


def test_a_group_is_cut_at_the_margin_where_both_parts_have_enough_patients() -> None:
    short = np.array([1.0, -4.0, 3.0, -1.0, 2.0, -2.0])
    assert [True, False, True, False, True, False] == inside(short, ONE_GROUP, SIX, 3).tolist()


def test_a_group_is_cut_beside_the_margin_where_a_part_would_be_too_small() -> None:
    """One row is outside; the nearest one goes with it, which costs 0.01 where keeping both costs 9."""
    short = np.array([0.1, 2.0, 3.0, -3.0, 1.0, 2.5])
    assert [False, True, True, False, True, True] == inside(short, ONE_GROUP, SIX, 2).tolist()


def test_a_group_stays_whole_where_a_cut_would_cost_more() -> None:
    short = np.array([2.0, 2.0, 3.0, -0.1, 2.0, 2.5])
    assert [True] * 6 == inside(short, ONE_GROUP, SIX, 2).tolist()


def test_a_group_that_may_not_be_cut_goes_where_it_costs_less() -> None:
    short = np.array([3.0, 1.0, -1.0, -1.0, -1.0, -5.0])
    assert [True] * 4 + [False] * 2 == inside(short, np.array([0, 0, 0, 0, 1, 1]), SIX, 4).tolist()


def test_a_patient_with_several_rows_counts_once() -> None:
    """The two rows outside are one patient's."""
    short = np.array([2.0, 2.0, 2.0, -1.0, -1.0, 2.0])
    assert [True] * 6 == inside(short, ONE_GROUP, np.array([0, 1, 2, 3, 3, 4]), 2).tolist()


def test_groups_are_never_joined_again() -> None:
    """First the first three are outside, then the first and the last two: nobody moves alone."""
    examples = examples_of(np.zeros((6, 1)), [0] * 6)
    first, fewest, memory = chosen(np.array([[-1.0]] * 3 + [[1.0]] * 3), examples, {}, 3)
    assert (3, [False] * 3 + [True] * 3) == (fewest, first[:, 0].tolist())
    short = np.array([[-1.0], [5.0], [5.0], [5.0], [-1.0], [-1.0]])
    second, fewest, _ = chosen(short, examples, memory, 3)
    assert (3, [True] * 6) == (fewest, second[:, 0].tolist())


def test_where_a_class_has_too_few_patients_every_row_is_summed() -> None:
    examples = examples_of(np.zeros((6, 1)), [0, 0, 0, 0, 0, 1])
    rows, fewest, memory = chosen(np.array([[-1.0]] * 6), examples, {}, 2)
    assert (6, [True] * 6, {}) == (fewest, rows[:, 0].tolist(), memory)
