"""The contract decides what a cell means; what lies outside is counted, and no message shows a value."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from client.data.base import RawData
from client.data.conform import Conformed, conform
from shared.cells import OUTSIDE, read_column, text_of
from shared.errors import DataError
from shared.schema import Column, DataContract, Images

AGE = Column(type="number", range=(18.0, 100.0), missing=("?", -9))
SEX = Column(type="category", levels=("f", "m"), missing=("unknown",))
SICK = Column(type="category", levels=(0, 1, 2))
NAN = float("nan")


def contract(**changes: Any) -> DataContract:
    settings: dict[str, Any] = {
        "kind": "table",
        "label": "sick",
        "columns": {"age": AGE, "sex": SEX, "sick": SICK},
        "positive": (1, 2),
    }
    return DataContract(**{**settings, **changes})


def table(**columns: list[Any]) -> RawData:
    return RawData({name: np.array(cells, dtype=object) for name, cells in columns.items()})


def conformed(rules: DataContract | None = None, **columns: list[Any]) -> Conformed:
    count = len(next(iter(columns.values())))
    plain: dict[str, list[Any]] = {"age": ["50"] * count, "sex": ["f"] * count, "sick": ["0"] * count}
    return conform(rules or contract(), table(**{**plain, **columns}), "Geneva")


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("63", 63.0),
        (" 63.0 ", 63.0),
        ("6.3e1", 63.0),
        (63, 63.0),
        ("18", 18.0),
        ("100", 100.0),
        ("", NAN),
        ("  ", NAN),
        (None, NAN),
        (NAN, NAN),
        ("?", NAN),
        ("-9", NAN),
        (-9.0, NAN),
        ("17.9", OUTSIDE),
        ("101", OUTSIDE),
        ("63,5", OUTSIDE),
        ("6_3", OUTSIDE),
        ("63 years", OUTSIDE),
        ("nan", OUTSIDE),
        ("inf", OUTSIDE),
        (True, OUTSIDE),
    ],
)
def test_a_number_is_a_decimal_number_within_the_range(cell: object, expected: float) -> None:
    cells = np.array([cell, "20"], dtype=object)
    assert read_column(AGE, cells)[0] == pytest.approx(expected, nan_ok=True)


def test_a_numeric_array_is_read_like_text() -> None:
    values = np.array([63.0, -9.0, np.nan, 17.0, np.inf, -np.inf])
    expected = [63.0, NAN, NAN, OUTSIDE, OUTSIDE, OUTSIDE]
    assert read_column(AGE, values) == pytest.approx(expected, nan_ok=True)
    assert read_column(AGE, np.array([20, -9])) == pytest.approx([20.0, NAN], nan_ok=True)


@pytest.mark.parametrize(
    ("cell", "expected"), [("f", 0.0), (" m ", 1.0), ("", NAN), (None, NAN), ("unknown", NAN), ("F", OUTSIDE)]
)
def test_a_level_is_known_by_its_place_in_the_contract(cell: object, expected: float) -> None:
    assert read_column(SEX, np.array([cell, "m"], dtype=object))[0] == pytest.approx(expected, nan_ok=True)


@pytest.mark.parametrize("cell", ["1", "1.0", " 1 ", 1, 1.0])
def test_two_ways_of_writing_one_level_are_one_level(cell: object) -> None:
    assert read_column(SICK, np.array([cell], dtype=object)).tolist() == [1.0]
    assert read_column(SICK, np.array([cell])).tolist() == [1.0]


def test_text_has_no_space_around_it_and_whole_numbers_no_point() -> None:
    assert text_of(np.array([" a ", None, NAN, 7.0, 7.5, 8], dtype=object)).tolist() == ["a", "", "", "7", "7.5", "8"]
    assert text_of(np.array([7.0, NAN])).tolist() == ["7", ""]
    assert text_of(np.array([7, 8])).tolist() == ["7", "8"]


def test_values_outside_the_contract_are_counted_by_column_and_missing() -> None:
    result = conformed(age=["50", "500", "?", "abc"], sex=["f", "m", "x", ""])
    assert np.array_equal(result.examples.values, [[50, 0], [NAN, 1], [NAN, NAN], [NAN, NAN]], equal_nan=True)
    assert result.examples.outside.tolist() == [[False, False], [True, False], [False, True], [True, False]]
    assert result.findings.outside == {"age": 2, "sex": 1}
    assert result.findings.notes == ()


def test_positive_levels_are_one_class() -> None:
    assert conformed(sick=["0", "1", "2.0"]).examples.labels.tolist() == [0.0, 1.0, 1.0]


def test_rows_without_a_usable_label_or_patient_are_left_out_and_counted_once() -> None:
    rules = contract(patient_id="id")
    result = conformed(
        rules, sick=["0", "", "7", "1", ""], id=["a", "b", "c", "", ""], age=["20", "500", "9", "9", "9"]
    )
    assert result.examples.patients.tolist() == ["a"]
    assert (result.findings.no_patient, result.findings.no_label, result.findings.label_outside) == (2, 1, 1)
    assert result.findings.outside == {}  # of the rows that are used
    assert result.findings.notes == (
        "Left out: 2 row(s) without a patient id.",
        "Left out: 1 row(s) without a label.",
        "Left out: 1 row(s) whose label lies outside the contract.",
    )


def test_a_column_whose_every_observed_value_lies_outside_is_pointed_out() -> None:
    result = conformed(age=["5.2", "", "4.1"])
    assert result.findings.wholly_outside == ("age",)
    assert "Column age: every observed value lies outside the contract" in result.findings.notes[0]
    assert conformed(age=["", "?", "-9"]).findings.wholly_outside == ()


def test_without_a_patient_id_every_row_is_a_patient_that_keeps_its_name_in_any_part() -> None:
    raw = table(age=["50"] * 4, sex=["f"] * 4, sick=["0", "1", "", "1"])
    assert conform(contract(), raw, "Geneva").examples.patients.tolist() == ["0", "1", "3"]
    assert conform(contract(), raw.take(np.array([3, 1])), "Geneva").examples.patients.tolist() == ["3", "1"]


def test_a_patient_id_is_the_same_as_number_and_as_text() -> None:
    for cells in (["7", "8 "], [7, 8], [7.0, 8.0]):
        assert conformed(contract(patient_id="id"), id=cells).examples.patients.tolist() == ["7", "8"]


def test_texts_far_too_long_are_no_patient_ids() -> None:
    with pytest.raises(DataError, match=r"Geneva: column 'id': expected patient ids of at most 200 letters"):
        conformed(contract(patient_id="id"), id=["x" * 201])


def test_a_time_is_used_with_how_it_ended_and_without_it_is_left_out() -> None:
    time, end = Column(type="number", range=(0.0, 9.0)), Column(type="category", levels=("alive", "dead"))
    rules = contract(columns={"age": AGE, "sick": time, "end": end}, event="end", positive=())
    made = conformed(rules, sick=["1", "2", "3", "4"], end=["dead", "", "gone", "alive"])
    assert made.examples.events is not None
    assert [(1.0, True), (4.0, False)] == [*zip(made.examples.labels, made.examples.events, strict=True)]
    assert (1, 1) == (made.findings.no_label, made.findings.label_outside)


def test_a_number_as_label_is_kept_within_its_range() -> None:
    rules = contract(label="age", positive=())
    result = conformed(rules, age=["50", "?", "500", "60"], sick=["0"] * 4)
    assert result.examples.labels.tolist() == [50.0, 60.0]
    assert (result.findings.no_label, result.findings.label_outside) == (1, 1)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"Age": ["50"]}, r"Geneva: expected the column 'age' \(feature\). .* Did you mean 'Age'\?"),
        ({"63.0": ["Alice"]}, r"expected the column 'age' .* Is the first line of the file the line of column names\?"),
        ({"agee": ["50"]}, r"expected the column 'age' .* Did you mean 'agee'\?"),
    ],
)
def test_an_absent_column_is_named_with_a_similar_one_but_never_with_a_value(
    columns: dict[str, list[Any]], message: str
) -> None:
    with pytest.raises(DataError, match=message) as caught:
        conform(contract(), table(**{**columns, "sex": ["f"], "sick": ["0"]}), "Geneva")
    assert "Alice" not in str(caught.value)
    assert "63.0" not in str(caught.value)


def test_in_a_file_without_a_header_line_no_name_is_suggested() -> None:
    """Of three declared columns none is there: what looks like a column name may be a patient's."""
    columns = {"Agee": ["50"], "61": ["1"], "Sicke": ["0"]}
    with pytest.raises(DataError, match=r"Is the first line of the file the line of column names\?") as caught:
        conform(contract(), table(**columns), "Geneva")
    assert "Agee" not in str(caught.value)
    assert "Sicke" not in str(caught.value)


def test_every_absent_column_is_named_at_once_with_its_role() -> None:
    rules = contract(patient_id="id", split_column="part")
    with pytest.raises(DataError) as caught:
        conform(rules, table(age=["50"], sex=["f"]), "Geneva")
    assert [line.split(" Received")[0] for line in str(caught.value).splitlines()] == [
        "Geneva: expected the column 'sick' (label).",
        "Geneva: expected the column 'id' (patient id).",
        "Geneva: expected the column 'part' (split column).",
    ]


def test_of_many_absent_columns_the_first_are_named() -> None:
    columns = {**{f"x{number}": AGE for number in range(9)}, "sick": SICK}
    with pytest.raises(DataError, match=r"4 more column\(s\) are absent. Is this the right file\?") as caught:
        conform(contract(columns=columns), table(sick=["0"]), "Geneva")
    assert len(str(caught.value).splitlines()) == 6


@pytest.mark.parametrize(
    ("sick", "message"),
    [
        ([], r"Geneva: empty site: expected at least one row. Received: none"),
        (["", ""], r"Geneva: label missing: column 'sick' is empty in all 2 rows"),
        (["7", "Alice"], r"column 'sick': expected levels \[0, 1, 2\]. Received: 2 other value\(s\)"),
        (["0"] * 4, r"expected at most max_rows_per_site = 3 rows. Received: 4"),
    ],
)
def test_data_that_cannot_be_used_say_why(sick: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        conformed(contract(max_rows_per_site=3), sick=sick)
    assert "Alice" not in str(caught.value)


FINDING = Column(type="category", levels=("no", "yes"))


def image_contract(**changes: Any) -> DataContract:
    settings: dict[str, Any] = {"kind": "images", "label": "finding", "columns": {"finding": FINDING}}
    return DataContract(**{**settings, "images": Images(height=4, width=4, range=(0.0, 9.0)), **changes})


def images(*values: float, **columns: list[Any]) -> RawData:
    pixels = np.zeros((len(values), 4, 4, 1))
    pixels[:, 0, 0, 0] = values
    labels = {"label": np.array(["yes"] * len(values))}
    return RawData({**labels, **{name: np.array(cells) for name, cells in columns.items()}}, pixels)


def test_images_take_label_patient_and_split_from_the_sources_own_columns() -> None:
    raw = images(1, 2, patient_id=["a", "a"], split=["train", "test"])
    result = conform(image_contract(split_column="part"), raw, "Geneva")
    assert result.examples.labels.tolist() == [1.0, 1.0]
    assert result.examples.patients.tolist() == ["a", "a"]
    assert result.marks is not None
    assert result.marks.tolist() == ["train", "test"]
    assert result.examples.values.shape == (2, 0)


def test_images_with_pixels_outside_the_range_are_left_out() -> None:
    result = conform(image_contract(), images(9, 10, -1, NAN, 0), "Geneva")
    assert result.examples.patients.tolist() == ["0", "4"]
    assert result.findings.pixels_outside == 3


def test_images_whose_type_cannot_leave_the_range_are_taken_as_they_are() -> None:
    rules = image_contract(images=Images(height=4, width=4))
    raw = RawData({"label": np.array(["yes"])}, np.full((1, 4, 4, 1), 255, dtype=np.uint8))
    assert len(conform(rules, raw, "Geneva").examples) == 1


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (RawData({"finding": np.array(["yes"])}), r"the study is about images. Received: a table"),
        (
            RawData({"label": np.array(["yes"])}, np.zeros((1, 5, 4, 1))),
            r"expected images of \(height, width, channels\) = \(4, 4, 1\). Received: \(5, 4, 1\)",
        ),
        (images(99), r"Geneva: no row can be used: expected a pixel within \[data.images\] range"),
    ],
)
def test_images_of_another_form_say_what_is_expected(raw: RawData, message: str) -> None:
    with pytest.raises(DataError, match=message):
        conform(image_contract(), raw, "Geneva")
