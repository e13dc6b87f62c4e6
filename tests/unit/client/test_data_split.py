"""A patient is held out by keyed hash, or by a column; never in part."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from client.data.base import RawData
from client.data.split import is_held_out, marked_held_out, site_data
from shared.errors import DataError
from shared.examples import Part
from shared.schema import Column, DataContract

PATIENTS = np.array([f"patient {number}" for number in range(2000)])


def contract(**changes: Any) -> DataContract:
    columns = {"x": Column(type="number", range=(0.0, 9.0)), "y": Column(type="category", levels=(0, 1))}
    return DataContract(**{"kind": "table", "label": "y", "columns": columns, **changes})


def raw(count: int, **columns: list[Any]) -> RawData:
    plain = {"x": np.ones(count), "y": np.zeros(count)}
    return RawData({**plain, **{name: np.array(cells) for name, cells in columns.items()}})


def test_about_the_wanted_share_is_held_out() -> None:
    """2000 patients at 0.2: 400 expected, deviation 18."""
    assert is_held_out(PATIENTS, 0.2, seed=1).sum() == pytest.approx(400, abs=3 * 18)


def test_the_answer_depends_on_seed_and_patient_alone() -> None:
    whole = is_held_out(PATIENTS, 0.2, seed=1)
    order = np.random.default_rng(0).permutation(2000)[:500]
    assert np.array_equal(is_held_out(PATIENTS[order], 0.2, seed=1), whole[order])
    assert not np.array_equal(is_held_out(PATIENTS, 0.2, seed=2), whole)


def test_the_answer_stays_the_same_in_every_version() -> None:
    """Another answer would move patients of a running study from one part to the other."""
    assert np.flatnonzero(is_held_out(PATIENTS[:20], 0.2, seed=1)).tolist() == [6, 7, 15]


def test_a_larger_share_only_adds_patients() -> None:
    small, large = (is_held_out(PATIENTS, fraction, seed=1) for fraction in (0.1, 0.3))
    assert large[small].all()


def test_rows_of_one_patient_stay_together() -> None:
    data = site_data(contract(patient_id="id"), raw(300, id=[f"p{row // 3}" for row in range(300)]), "a", seed=1)
    training, held_out = data.parts[Part.TRAINING], data.parts[Part.HELD_OUT]
    assert len(training) + len(held_out) == 300
    assert not set(training.patients) & set(held_out.patients)
    assert training.patient_count + held_out.patient_count == 100


def test_a_row_of_a_file_keeps_its_part_at_whatever_hospital_it_lands() -> None:
    whole = raw(200)
    everybody = set(site_data(contract(), whole, "all", seed=1).parts[Part.HELD_OUT].patients)
    half = whole.take(np.arange(199, 99, -1))
    here = set(site_data(contract(), half, "one", seed=1).parts[Part.HELD_OUT].patients)
    assert here == {patient for patient in everybody if int(patient) >= 100}


def test_a_column_says_who_is_held_out_and_validation_trains() -> None:
    marks = ["train", "TEST", " val ", "Validation", "valid", "test"]
    data = site_data(contract(split_column="part"), raw(6, part=marks), "a", seed=1)
    assert data.parts[Part.TRAINING].patients.tolist() == ["0", "2", "3", "4"]
    assert data.parts[Part.HELD_OUT].patients.tolist() == ["1", "5"]


def test_a_mark_that_is_neither_is_counted_and_not_shown() -> None:
    marks = np.array(["train", "Alice", "", "test"])
    with pytest.raises(DataError, match=r"a: column 'part': expected train or test .* Received: 2 row\(s\)") as caught:
        marked_held_out(marks, np.array(["1", "2", "3", "4"]), "part", "a")
    assert "Alice" not in str(caught.value)


def test_a_patient_in_both_parts_is_refused_by_number_not_by_name() -> None:
    marks, patients = np.array(["train", "test", "train", "test"]), np.array(["Alice", "Alice", "Bob", "Carol"])
    with pytest.raises(DataError, match=r"column 'part': .* Received: 1 patient\(s\) in both") as caught:
        marked_held_out(marks, patients, "part", "a")
    assert "Alice" not in str(caught.value)


def test_a_site_that_holds_nobody_out_takes_part_and_says_so() -> None:
    data = site_data(contract(split_column="part"), raw(2, part=["train", "train"]), "a", seed=1)
    assert len(data.parts[Part.HELD_OUT]) == 0
    assert data.notes == ("No patient was held out here, so nothing is evaluated on this hospital.",)


def test_a_site_with_nobody_to_train_on_is_refused() -> None:
    with pytest.raises(DataError, match=r"a: expected a patient to train on. Received: 2 patient\(s\), all held out"):
        site_data(contract(split_column="part"), raw(2, part=["test", "test"]), "a", seed=1)
    with pytest.raises(DataError, match=r"With test_fraction = 0.999 chance held everybody out"):
        site_data(contract(test_fraction=0.999), raw(2), "a", seed=1)


def test_findings_come_with_the_site() -> None:
    data = site_data(contract(), RawData({"x": np.array([1.0, 99.0] * 20), "y": np.zeros(40)}), "a", seed=1)
    assert data.findings.outside == {"x": 20}
