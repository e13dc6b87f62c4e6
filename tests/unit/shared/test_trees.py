"""Trees as arrays: what a state may hold, how rows walk, and what is read off without rows."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from shared.errors import ProtocolError
from shared.methods import tree_bins, tree_growth, tree_reading, trees
from shared.methods.tree_bins import GRID, Bins
from shared.plan import PREPARE
from tests.builders import random_consortium, table_study, ticking

BINS = Bins(np.array([[1.0, 2.0, 3.0], [0.5, 0.5, 0.5]]))
"""Column 0 has bins 0 to 3, column 1 has 0 and 1."""


def arrays_of(feature: list[int], cut: list[int], left: list[int], value: list[float], rows: list[float]) -> Any:
    whole = {"feature": feature, "bin": cut, "left": left, "fit/weight": rows, "fit/gain": [0] * len(rows)}
    return {"value": np.array(value)[:, None], **{name: np.array(each, float) for name, each in whole.items()}}


def one_tree(**changes: Any) -> Any:
    """Column 0 parts bins 0 and 1 from 2 and 3; on the right, column 1 parts 0 from 1. Leaves say 1, 2 and 4."""
    plain = {"feature": [0, -1, 1, -1, -1], "cut": [1, 0, 0, 0, 0], "left": [1, 0, 3, 0, 0]}
    return arrays_of(**{**plain, "value": [0.0, 1.0, 0.0, 2.0, 4.0], "rows": [8, 4, 4, 1, 3], **changes})


def test_a_row_goes_left_up_to_the_nodes_bin() -> None:
    grown = trees.read(one_tree(), BINS, 1, 2)
    codes = BINS.codes(np.array([[0.0, 1.0], [1.9, 0.0], [2.0, 0.0], [9.0, 1.0]]))
    [(_, said)] = trees.predict(grown, [0], BINS, codes)
    assert said[:, 0].tolist() == [1.0, 1.0, 2.0, 4.0]


def test_tree_depth_and_path_follow_from_the_children() -> None:
    grown = trees.read(one_tree(), BINS, 1, 2)
    assert grown.depth.tolist() == [0, 1, 1, 2, 2]
    assert grown.path.tolist() == [0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"feature": [2, -1, 1, -1, -1]}, "columns exist"),
        ({"feature": [-3, -1, 1, -1, -1]}, "columns exist"),
        ({"feature": [0.5, -1, 1, -1, -1]}, "whole numbers"),
        ({"cut": [3, 0, 0, 0, 0]}, "both sides"),
        ({"left": [0, 0, 3, 0, 0]}, "after their parents"),
        ({"left": [1, 0, 2, 0, 0]}, "after their parents"),
        ({"left": [1, 0, 4, 0, 0]}, "after their parents"),
        ({"left": [2, 0, 3, 0, 0]}, "one parent"),
        ({"value": [0.0, np.nan, 0.0, 2.0, 4.0]}, "finite"),
        ({"rows": [8, -4, 4, 1, 3]}, "not negative"),
        ({"rows": [8]}, "shapes"),
    ],
)
def test_what_is_no_tree_is_refused(changes: Any, expected: str) -> None:
    broken = {**one_tree(), "fit/gain": np.zeros(5)}
    for name, array in one_tree(**changes).items():
        broken[name] = array if name != "fit/gain" else broken[name]
    with pytest.raises(ProtocolError, match=expected):
        trees.read(broken, BINS, 1, 2)


def test_a_tree_deeper_than_the_study_says_is_refused() -> None:
    with pytest.raises(ProtocolError, match="deeper than 1"):
        trees.read(one_tree(), BINS, 1, 1)


def rows_of(columns: list[list[float]], patients: list[str]) -> tree_growth.Rows:
    names, numbers = np.unique(np.array(patients), return_inverse=True)
    return tree_growth.Rows(BINS, BINS.codes(np.array(columns)), numbers, names)


def walked(rows: tree_growth.Rows, min_patients: int) -> list[int]:
    """Return at which node each row waits where both leaves of the right side, 3 and 4, are open; -1 for none."""
    grown = trees.read(one_tree(feature=[0, -1, 1, -2, -2]), BINS, 1, 2)
    everybody = np.arange(len(rows.codes))
    own, node = tree_growth.walk(grown, rows, lambda _tree: everybody, min_patients)[0]
    found = np.full(len(everybody), -1)
    found[own] = node
    return found.tolist()


LEFT, RIGHT_LOW, RIGHT_HIGH = [0.0, 0.0], [9.0, 0.0], [9.0, 1.0]


def test_rows_walk_to_the_open_nodes() -> None:
    rows = rows_of([LEFT, LEFT, RIGHT_LOW, RIGHT_HIGH, RIGHT_HIGH], list("abcde"))
    assert walked(rows, 1) == [-1, -1, 3, 4, 4]


def test_where_a_part_would_be_too_small_all_rows_of_the_node_leave_the_tree() -> None:
    """Two and three patients part at the root; of the three, one would be alone."""
    rows = rows_of([LEFT, LEFT, RIGHT_LOW, RIGHT_HIGH, RIGHT_HIGH], list("abcde"))
    assert walked(rows, 2) == [-1] * 5


def test_an_empty_part_is_not_too_small() -> None:
    rows = rows_of([LEFT, LEFT, RIGHT_HIGH, RIGHT_HIGH, RIGHT_HIGH], list("abcde"))
    assert walked(rows, 2) == [-1, -1, 4, 4, 4]


def test_patients_are_counted_and_not_their_rows() -> None:
    """Two rows of one patient are one patient: at the root, the others leave with that one."""
    rows = rows_of([LEFT, LEFT, RIGHT_HIGH, RIGHT_HIGH, RIGHT_HIGH], list("aacde"))
    assert walked(rows, 2) == [-1] * 5


def test_a_group_goes_to_the_side_where_most_of_its_rows_belong() -> None:
    rows = rows_of([LEFT, RIGHT_HIGH, RIGHT_HIGH, RIGHT_HIGH, RIGHT_LOW, LEFT, LEFT], list("abcdefg"))
    assert walked(dataclasses.replace(rows, groups=np.array([0, 0, 0, 0, 1, 1, 1])), 3) == [4, 4, 4, 4, -1, -1, -1]


def test_a_hospital_with_too_few_patients_for_a_tree_is_not_in_it() -> None:
    assert walked(rows_of([LEFT, LEFT], list("ab")), 3) == [-1, -1]


def test_walking_on_from_the_last_level_ends_where_walking_anew_does() -> None:
    rows = rows_of([LEFT, LEFT, RIGHT_LOW, RIGHT_HIGH, RIGHT_HIGH], list("abcde"))
    root = trees.read(arrays_of([-2], [0], [0], [0.0], [0]), BINS, 1, 2)
    tree_growth.walk(root, rows, lambda _tree: np.arange(5), 1)
    assert walked(rows, 1) == [-1, -1, 3, 4, 4]


def test_the_walk_begins_anew_in_other_trees() -> None:
    rows = rows_of([LEFT, LEFT, RIGHT_LOW, RIGHT_HIGH, RIGHT_HIGH], list("abcde"))
    other = trees.read(arrays_of([1, -2, -2], [0, 0, 0], [1, 0, 0], [0.0] * 3, [0] * 3), BINS, 1, 2)
    tree_growth.walk(other, rows, lambda _tree: np.arange(5), 1)
    assert walked(rows, 1) == [-1, -1, 3, 4, 4]


def test_the_split_is_that_of_the_lowest_column_and_bin_among_equal_ones() -> None:
    """Four rows of class 0 in bin 0, four of class 1 in bin 3: bins 0, 1 and 2 part them; so does column 1."""
    layout = tree_growth.layout(np.array([0]), np.array([[0, 1]]), BINS)
    total = np.array([[4, 0], [0, 0], [0, 0], [0, 4], [4, 0], [0, 4]], dtype=float)
    criterion = tree_growth.Criterion(lambda s: (s**2).sum(axis=1) / s.sum(axis=1), lambda s: s.sum(axis=1), 1, 1.0)
    split = tree_growth.best(layout, BINS, total, criterion)
    assert (split.feature.tolist(), split.bin.tolist(), split.gain.tolist()) == ([0], [0], [4.0])
    assert (split.left.tolist(), split.right.tolist()) == ([[4.0, 0.0]], [[0.0, 4.0]])


def test_a_side_with_too_few_rows_is_no_split() -> None:
    layout = tree_growth.layout(np.array([0]), np.array([[1]]), BINS)
    criterion = tree_growth.Criterion(lambda s: (s**2).sum(axis=1) / s.sum(axis=1), lambda s: s.sum(axis=1), 2, 1.0)
    split = tree_growth.best(layout, BINS, np.array([[1.0, 0.0], [0.0, 4.0]]), criterion)
    assert split.feature.tolist() == [trees.LEAF]


def test_edges_lie_in_the_middle_between_occupied_cells() -> None:
    preparation = prepared()
    counts = np.zeros((2, GRID))
    counts[0, [0, 10, 20]] = 5  # three values: both gaps are edges
    counts[1, ::4] = 1  # many values: the quartiles
    edges = tree_bins.edges(preparation, counts, 4)
    column = preparation.columns[0]
    cells = (edges[0] * column.scale + column.center + 10.0) / 20.0 * GRID
    assert cells.tolist() == pytest.approx([5.5, 15.5, 15.5])
    column = preparation.columns[1]
    cells = (edges[1] * column.scale + column.center + 10.0) / 20.0 * GRID
    assert cells.tolist() == pytest.approx([GRID / 4 - 1.5, GRID / 2 - 1.5, 3 * GRID / 4 - 1.5])


def test_a_column_of_one_value_has_an_edge_that_parts_nobody() -> None:
    counts = np.zeros((2, GRID))
    counts[:, 7] = 5
    edges = tree_bins.edges(prepared(), counts, 4)
    assert tree_bins.Bins(edges).codes(np.zeros((1, 2))).tolist() == [[1, 3]]


@pytest.mark.parametrize("spoiled", [np.nan, 1e9])
def test_edges_that_are_no_edges_are_refused(spoiled: float) -> None:
    edges = np.array([[1.0, 2.0, 3.0], [0.5, 0.5, 0.5]])
    edges[0, 1] = spoiled
    with pytest.raises(ProtocolError, match="bad-bins"):
        tree_bins.read(edges, prepared(), 4)


def prepared() -> Any:
    plan, progress = random_consortium(table_study(method__rounds=1), {"a": 20}).run(ticking())
    return plan.result(progress.state)[PREPARE]


def test_importance_is_the_share_of_what_splits_gained() -> None:
    arrays = {**one_tree(), "fit/gain": np.array([6.0, 0.0, 2.0, 0.0, 0.0])}
    grown = trees.read(arrays, BINS, 1, 2)
    assert tree_reading.importances(grown, 3).tolist() == [0.75, 0.25, 0.0]


def test_partial_dependence_weighs_both_sides_of_other_columns_by_rows() -> None:
    """Bins 0 and 1 end in the leaf that says 1; bins 2 and 3 reach 2 with one row of four and 4 with three."""
    grown = trees.read(one_tree(), BINS, 1, 2)
    speech = tree_reading.Speech(("y",), grown.value, np.array([10.0]))
    found = tree_reading.partial_dependence(grown, speech, 0, np.array([0, 1, 2, 3]))
    assert found[:, 0].tolist() == [11.0, 11.0, 13.5, 13.5]
    # Half the rows go left whatever column 1 says.
    found = tree_reading.partial_dependence(grown, speech, 1, np.array([0, 1]))
    assert found[:, 0].tolist() == [11.5, 12.5]
