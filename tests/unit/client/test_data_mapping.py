"""From the hospital's columns, units and codes to the study's, and who opted out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from client import settings
from client.data import mapping
from client.data.base import RawData
from client.data.conform import conform
from client.data.mapping import Mapped
from client.settings import DataSet
from shared.cells import read_column
from shared.errors import SettingsError
from shared.schema import DataContract
from shared.study import parse_study

WHERE = "site.toml: [data.heart]"

COLUMNS: dict[str, Any] = {
    "chol": {"type": "number", "unit": "mg/dl", "range": [50, 700], "missing": ["?", 0]},
    "temp": {"type": "number", "unit": "F", "range": [80, 120], "missing": [-9]},
    "sex": {"type": "category", "levels": [0, 1], "missing": ["?"]},
    "sick": {"type": "category", "levels": ["no", "yes"]},
}


def contract(**changes: Any) -> DataContract:
    data = {"kind": "table", "label": "sick", "patient_id": "patient", "columns": COLUMNS, **changes}
    raw = {
        "study": {"name": "heart", "question": "?"},
        "data": data,
        "method": {"name": "logistic-regression", "rounds": 1},
    }
    return parse_study(raw, "test").data


def rules(**parts: Any) -> DataSet:
    return settings.parse({"data": {"heart": {"path": "a.csv", **parts}}}, "site.toml").data["heart"]


def table(**columns: list[Any]) -> RawData:
    return RawData({name: np.array(cells, dtype=object) for name, cells in columns.items()})


def two_rows(**changes: list[Any]) -> RawData:
    columns: dict[str, list[Any]] = {
        **{"patient": ["p1", "p2"], "chol": ["200", "?"], "temp": ["98.6", ""], "sex": ["0", "1"]},
        **{"sick": ["no", "yes"], **changes},
    }
    return table(**columns)


def mapped(raw: RawData, study: DataContract | None = None, **parts: Any) -> Mapped:
    study = study or contract()
    mapping.check(rules(**parts), study, WHERE)
    return mapping.mapped(raw, rules(**parts), study, WHERE)


def fault(study: DataContract | None = None, **parts: Any) -> list[str]:
    with pytest.raises(SettingsError) as raised:
        mapping.check(rules(**parts), study or contract(), WHERE)
    return str(raised.value).splitlines()


def read(found: Mapped, name: str) -> list[float]:
    return read_column(contract().columns[name], found.raw.columns[name]).tolist()


def test_without_a_mapping_the_data_stay_as_they_are() -> None:
    raw = two_rows()

    assert {name: cells.tolist() for name, cells in raw.columns.items()} == {
        name: cells.tolist() for name, cells in mapped(raw).raw.columns.items()
    }


def test_a_column_is_found_under_the_hospitals_name() -> None:
    found = mapped(table(CHOLESTEROL=["210"], sick=["no"]), columns={"chol": "CHOLESTEROL"})

    assert ["210"] == found.raw.columns["chol"].tolist()
    assert "CHOLESTEROL" not in found.raw.columns


def test_a_mapped_column_stands_for_one_that_is_called_alike() -> None:
    found = mapped(table(chol=["1"], TOTAL=["210"]), columns={"chol": "TOTAL"})

    assert ["210"] == found.raw.columns["chol"].tolist()


def test_two_columns_may_change_names_with_each_other() -> None:
    found = mapped(table(chol=["98.6"], temp=["210"]), columns={"chol": "temp", "temp": "chol"})

    assert (["210"], ["98.6"]) == (found.raw.columns["chol"].tolist(), found.raw.columns["temp"].tolist())


def test_units_are_converted_and_missing_codes_and_other_texts_are_not() -> None:
    cells = ["5.0", " 5.0 ", "0", "?", "", None, "five", "1_0", True, 5]
    found = mapped(table(chol=cells), units={"chol": "mmol/l of cholesterol"})

    assert pytest.approx([193.35, 193.35]) == found.raw.columns["chol"].tolist()[:2]
    assert ["0", "?", "", None, "five", "1_0", True] == found.raw.columns["chol"].tolist()[2:9]
    assert 193.35 == pytest.approx(found.raw.columns["chol"][9])


def test_a_missing_code_is_not_moved_by_an_offset() -> None:
    found = mapped(table(temp=[37.0, -9.0, float("nan")]), units={"temp": "C"})

    assert pytest.approx([98.6, np.nan, np.nan], nan_ok=True) == read(found, "temp")


def test_a_column_of_numbers_is_converted_as_one_of_texts_is() -> None:
    found = mapped(RawData({"chol": np.array([5.0, 0.0, np.nan])}), units={"chol": "mmol/l of cholesterol"})

    assert pytest.approx([193.35, np.nan, np.nan], nan_ok=True) == read(found, "chol")


def test_a_conversion_is_factor_times_value_plus_offset() -> None:
    found = mapped(table(chol=["2.5"]), conversions={"chol": {"factor": 40.0, "offset": 1.5}})

    assert [101.5] == found.raw.columns["chol"].tolist()


def test_codes_become_levels_and_an_empty_meaning_is_missing() -> None:
    found = mapped(table(sex=["M", "F", "unknown", "", "?"]), codes={"sex": {"M": 1, "F": 0, "unknown": ""}})

    assert pytest.approx([1.0, 0.0, np.nan, np.nan, np.nan], nan_ok=True) == read(found, "sex")


def test_a_code_that_is_not_listed_does_not_pass_for_a_level_that_is_written_alike() -> None:
    # This hospital writes 1 for men and 2 for women; a 0 is neither.
    found = mapped(table(sex=["1", "2", "0"]), codes={"sex": {"1": 1, "2": 0}})

    assert [1.0, 0.0, np.inf] == read(found, "sex")


def test_a_code_is_found_however_the_number_is_written() -> None:
    assert [1.0, 1.0] == read(mapped(table(sex=["2.0", 2]), codes={"sex": {"2": 1}}), "sex")


def test_the_split_columns_words_may_be_coded() -> None:
    found = mapped(table(part=["A", "B"]), contract(split_column="part"), codes={"part": {"A": "train", "B": "test"}})

    assert ["train", "test"] == found.raw.columns["part"].tolist()


def test_folder_names_of_images_are_codes_of_the_label() -> None:
    images = _images()
    raw = RawData({"label": np.array(["NORMAL", "SICK"], dtype=object)}, np.zeros((2, 16, 16, 1), np.uint8))
    found = mapped(raw, images, codes={"finding": {"NORMAL": 0, "SICK": 1}})

    assert [0.0, 1.0] == conform(images, found.raw, "north").examples.labels.tolist()


def _images() -> DataContract:
    raw = {
        "study": {"name": "heart", "question": "?"},
        "data": {
            "kind": "images",
            "label": "finding",
            "columns": {"finding": {"type": "category", "levels": [0, 1]}},
            "images": {"height": 16, "width": 16},
        },
        "method": {"name": "neural", "rounds": 1, "options": {"architecture": "image_cnn"}},
    }
    return parse_study(raw, "test").data


def test_every_row_of_a_patient_who_opted_out_is_dropped() -> None:
    raw = table(patient=["p1", "p2", "p1", "p3"], out=["", "no", "YES", "no"], sick=["no"] * 4)
    found = mapped(raw, opt_out={"column": "out", "values": ["yes"]})

    assert ["p2", "p3"] == found.raw.columns["patient"].tolist()
    assert (1, 2) == (found.opted_out_patients, found.opted_out_rows)


def test_a_row_without_patient_id_is_dropped_alone() -> None:
    raw = table(patient=["", "", "p1"], out=["1", "0", "0"])
    found = mapped(raw, opt_out={"column": "out", "values": [1]})

    assert ["", "p1"] == found.raw.columns["patient"].tolist()
    assert (1, 1) == (found.opted_out_patients, found.opted_out_rows)


def test_without_a_patient_id_in_the_study_every_row_is_a_patient() -> None:
    found = mapped(table(out=["1", "0", "1"]), contract(patient_id=None), opt_out={"column": "out", "values": [1]})

    assert (["1"], 2) == (found.raw.names.tolist(), found.opted_out_patients)


def test_consent_uses_only_patients_whose_every_row_says_so() -> None:
    raw = table(patient=["p1", "p1", "p2", "p3"], consent=["given", "", "given", "refused"])
    found = mapped(raw, consent={"column": "consent", "values": ["given"]})

    assert ["p2"] == found.raw.columns["patient"].tolist()
    assert (2, 3) == (found.opted_out_patients, found.opted_out_rows)


def test_patients_of_images_opt_out_by_their_id() -> None:
    raw = RawData(
        {"label": np.array([0, 1, 1]), "patient_id": np.array(["p1", "p2", "p1"])}, np.zeros((3, 16, 16, 1), np.uint8)
    )
    found = mapped(raw, _images(), opt_out={"column": "patient_id", "values": ["p1"]})

    assert (["p2"], 1) == (found.raw.columns["patient_id"].tolist(), len(found.raw.images))  # type: ignore[arg-type]


def test_a_mapped_patient_id_counts() -> None:
    raw = table(CASE=["c1", "c2", "c1"], out=["1", "", ""])
    found = mapped(raw, columns={"patient": "CASE"}, opt_out={"column": "out", "values": [1]})

    assert ["c2"] == found.raw.columns["patient"].tolist()


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ({"columns": {"chl": "A"}}, "columns: the study has no column 'chl'. Did you mean 'chol'?"),
        ({"units": {"chl": "kPa"}}, "units: the study has no column 'chl'. Did you mean 'chol'?"),
        ({"conversions": {"tmp": {"factor": 2.0}}}, "conversions: the study has no column 'tmp'. Did you mean 'temp'?"),
        ({"codes": {"sx": {"M": 1}}}, "codes: the study has no column 'sx'. Did you mean 'sex'?"),
        ({"units": {"sex": "kPa"}}, "units: 'sex' is a category in the study: it has codes, not units."),
        (
            {"codes": {"chol": {"a": 1}}},
            "codes: 'chol' is a number in the study: it has units or a conversion, not codes.",
        ),
        ({"codes": {"patient": {"a": 1}}}, "codes: 'patient' says which rows are one patient: it has no codes."),
        ({"codes": {"sick": {"J": "ja"}}}, 'codes: sick: expected one of no, yes, or "" for missing. Received: ja.'),
        ({"codes": {"sex": {"1": 1, "1.0": 0}}}, "codes: sex: one code is written twice, in two ways."),
        (
            {"units": {"chol": "mmol/l"}},
            "units: chol: say of which substance: 'mmol/l' with ' of ' and one of cholesterol, glucose.",
        ),
    ],
)
def test_a_mapping_that_does_not_fit_the_study_is_refused(parts: dict[str, Any], expected: str) -> None:
    assert [f"{WHERE} {expected}"] == fault(**parts)


def test_all_faults_are_said_at_once() -> None:
    assert 2 == len(fault(columns={"chl": "A"}, units={"tmp": "C"}))


def test_an_absent_column_is_named_with_the_nearest_one_where_the_file_has_a_header() -> None:
    with pytest.raises(SettingsError) as raised:
        mapped(two_rows(CHOLESTEROL_TOT=["1", "2"]), columns={"chol": "CHOLESTEROL_TOTAL"})

    expected = "columns: chol: the data have no column 'CHOLESTEROL_TOTAL'. Did you mean 'CHOLESTEROL_TOT'?"
    assert f"{WHERE} {expected}" == str(raised.value)


def test_an_absent_opt_out_column_is_an_error_and_nobody_is_taken() -> None:
    with pytest.raises(SettingsError, match="opt_out: column: the data have no column 'OPT_OUT'"):
        mapped(two_rows(), opt_out={"column": "OPT_OUT", "values": [1]})


def test_a_first_row_of_patients_is_not_shown_as_column_names() -> None:
    raw = table(**{"Jane Doe": ["John Roe"], "212": ["198"], "yes": ["no"]})
    with pytest.raises(SettingsError) as raised:
        mapped(raw, columns={"chol": "Jane Do"})

    assert "Is the first line of the file the line of column names?" in str(raised.value)
    assert "Jane Doe" not in str(raised.value)


def test_a_text_is_found_under_the_hospitals_name_and_has_no_codes() -> None:
    genes = contract(texts={"gene": {"letters": "ACGT", "length": 2}})
    found = mapped(two_rows(SEQ=["AC", "GT"]), genes, columns={"gene": "SEQ"})
    assert ["AC", "GT"] == found.raw.columns["gene"].tolist()
    assert [f"{WHERE} codes: 'gene' is a text of letters: it has no codes."] == fault(genes, codes={"gene": {"x": "A"}})
    assert "the study has no column 'gene 1'" in fault(genes, columns={"gene 1": "SEQ"})[0]
