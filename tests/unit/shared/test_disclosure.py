"""No count of fewer rows than the smallest cell is shown, and none can be worked out."""

from __future__ import annotations

import numpy as np

from shared.disclosure import hidden_cells, hidden_totals


def shown(table: list[list[int]], least: int = 5) -> list[list[int | None]]:
    counts = np.array(table, dtype=float)
    mask = hidden_cells(counts, least)
    return [
        [None if gone else int(count) for count, gone in zip(*row, strict=True)]
        for row in zip(counts, mask, strict=True)
    ]


def test_a_table_without_small_counts_is_shown_whole() -> None:
    table = [[30, 10, 20], [25, 10, 15], [5, 0, 5]]
    assert table == shown(table)


def test_a_small_count_hides_its_neighbours_in_row_and_column() -> None:
    """30 - 20 and 10 - 7 would give the 3 away, and 50 - 40 the others."""
    table = [[100, 20, 30, 50], [70, 17, 23, 30], [30, 3, 7, 20]]
    assert [[100, 20, 30, 50], [70, None, None, 30], [30, None, None, 20]] == shown(table)


def test_a_small_total_of_a_part_hides_that_of_another_part() -> None:
    """All counts of 4 missing rows are small; those of the other part, and its total, would give them away."""
    assert [[30, 10, 20], [None, None, None], [None, None, None]] == shown([[30, 10, 20], [26, 9, 17], [4, 1, 3]])


def test_zeros_are_shown_where_they_give_nothing_away() -> None:
    assert [[60, 20, 20, 20], [46, None, 20, None], [14, None, 0, None]] == shown(
        [[60, 20, 20, 20], [46, 17, 20, 9], [14, 3, 0, 11]]
    )


def test_a_small_group_is_hidden_with_the_next_smallest() -> None:
    assert [False, True, True, False] == hidden_totals(np.array([60.0, 2.0, 8.0, 50.0]), 5).tolist()


def test_hidden_cells_are_of_enough_rows_together() -> None:
    """1 + 1 rows are as good as told when their sum is."""
    assert [False, True, True, True] == hidden_totals(np.array([52.0, 1.0, 1.0, 50.0]), 5).tolist()


def test_a_hidden_group_has_no_cell() -> None:
    table = [[60, 2, 8, 50], [30, 1, 4, 25], [30, 1, 4, 25]]
    assert [[60, None, None, 50], [30, None, None, 25], [30, None, None, 25]] == shown(table)


def test_no_hidden_count_is_determined_by_what_is_shown() -> None:
    """Of random tables: for each hidden cell there is another table of the same shown cells in which it differs."""
    rng = np.random.default_rng(5)
    for _ in range(20):
        inner = rng.poisson(rng.choice([1, 6, 30], size=(4, 3)))
        table = np.zeros((5, 4))
        table[1:, 1:] = inner
        table[0, 1:], table[:, 0] = inner.sum(axis=0), 0
        table[:, 0] = table[:, 1:].sum(axis=1)
        mask = hidden_cells(table, 5)
        assert mask[(table > 0) & (table < 5)].all()
        unknown = np.flatnonzero(mask)
        equations = np.zeros((9, 20))
        for row in range(5):
            equations[row, 4 * row : 4 * row + 4] = [1, -1, -1, -1]
        for column in range(4):
            equations[5 + column, column::4] = [1, -1, -1, -1, -1]
        left = equations[:, unknown]
        for place in range(len(unknown)):
            others = np.delete(left, place, axis=1)
            # A cell is determined if its own equations are not made up by the others.
            assert np.linalg.matrix_rank(others) == np.linalg.matrix_rank(left)
