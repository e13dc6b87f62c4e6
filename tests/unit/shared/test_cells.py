"""What a cell means under a column's contract, whichever way it is written."""

from __future__ import annotations

import numpy as np
import pytest

from shared.cells import OUTSIDE, read_column, text_of
from shared.schema import Column

CHOLESTEROL = Column(type="number", range=(50.0, 700.0), missing=("?", 0))
PAIN = Column(type="category", levels=(1, 2, "none"), missing=("?",))


@pytest.mark.parametrize(
    ("cell", "value"),
    [("246", 246.0), (" 246.0 ", 246.0), ("2.46e2", 246.0), ("50", 50.0), ("700", 700.0)],
)
def test_numbers_are_read_as_written(cell: str, value: float) -> None:
    assert read_column(CHOLESTEROL, np.array([cell], dtype=object)).tolist() == [value]


@pytest.mark.parametrize("cell", ["", " ", "?", "0", "0.0", "0.00", 0, 0.0, None, np.nan])
def test_empty_null_and_missing_codes_are_missing(cell: object) -> None:
    assert np.isnan(read_column(CHOLESTEROL, np.array([cell], dtype=object))).all()


@pytest.mark.parametrize("cell", ["49.9", "701", "high", "1_00", "inf", "1,5", True])
def test_everything_else_lies_outside(cell: object) -> None:
    assert read_column(CHOLESTEROL, np.array([cell], dtype=object)).tolist() == [OUTSIDE]


def test_a_level_is_the_same_however_it_is_written() -> None:
    cells = np.array(["1", "1.0", " 2 ", "none", 2, "?", "3"], dtype=object)
    assert read_column(PAIN, cells)[:5].tolist() == [0.0, 0.0, 1.0, 2.0, 1.0]
    assert np.isnan(read_column(PAIN, cells)[5])
    assert read_column(PAIN, cells)[6] == OUTSIDE


def test_typed_columns_read_like_text() -> None:
    typed, text = np.array([0.0, 120.0, 900.0]), np.array(["0", "120", "900"], dtype=object)
    assert (
        read_column(CHOLESTEROL, typed)[1:].tolist() == read_column(CHOLESTEROL, text)[1:].tolist() == [120.0, OUTSIDE]
    )
    assert np.isnan(read_column(CHOLESTEROL, typed)[0])


def test_ids_of_whole_numbers_have_no_decimal_point() -> None:
    assert text_of(np.array([7.0, np.nan, " x "], dtype=object)).tolist() == ["7", "", "x"]
    assert text_of(np.array([7, 8])).tolist() == ["7", "8"]


def test_a_huge_float_is_no_integer_of_three_hundred_digits() -> None:
    assert text_of(np.array([1e300, 2.0**53 - 1, 1e15])).tolist() == ["1e+300", "9007199254740991", "1000000000000000"]
