"""One table becomes several hospitals: every row at one of them, patients whole, and always the same way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from client.data.base import RawData
from shared.errors import DataError, StudyError
from shared.randomness import generator
from shared.schema import Column, DataContract
from simulations.partition import partition, site_name


def contract(**changes: Any) -> DataContract:
    columns = {"x": Column(type="number", range=(0.0, 1000.0)), "y": Column(type="category", levels=(0, 1))}
    return DataContract(**{"kind": "table", "label": "y", "columns": columns, **changes})


def raw(count: int, **columns: Any) -> RawData:
    plain = {"x": np.arange(count), "y": np.arange(count) % 2}
    return RawData({**plain, **{name: np.array(cells, dtype=object) for name, cells in columns.items()}})


def deal(table: RawData, spec: str, sites: int = 4, seed: int = 1, rules: DataContract | None = None) -> Any:
    return partition(table, rules or contract(), spec, sites, generator(seed, "partition"))


FORMS = ["iid", "dirichlet:0.5", "quantity:0.5", "column:hospital"]


@pytest.mark.parametrize("spec", FORMS)
def test_every_row_is_at_exactly_one_hospital(spec: str) -> None:
    sites = deal(raw(200, hospital=[f"h{row % 4}" for row in range(200)]), spec)
    assert sorted(np.concatenate([site.columns["x"] for site in sites.values()])) == list(range(200))


@pytest.mark.parametrize("spec", FORMS[:3])
def test_the_same_seed_deals_the_same_and_another_does_not(spec: str) -> None:
    first, again, other = deal(raw(200), spec), deal(raw(200), spec), deal(raw(200), spec, seed=2)
    assert list(first) == ["hospital_1", "hospital_2", "hospital_3", "hospital_4"]
    assert all(np.array_equal(first[site].names, again[site].names) for site in first)
    assert any(not np.array_equal(first[site].names, other[site].names) for site in first)


@pytest.mark.parametrize("spec", FORMS[:3])
def test_rows_of_one_patient_stay_together(spec: str) -> None:
    table = raw(300, patient=[f"p{row % 100}" for row in range(300)])
    sites = deal(table, spec, rules=contract(patient_id="patient"))
    patients = [set(site.columns["patient"]) for site in sites.values()]
    assert sum(len(some) for some in patients) == len(set().union(*patients)) == 100


def test_iid_sites_have_equal_sizes_and_about_equal_class_shares() -> None:
    sites = deal(raw(1000), "iid", sites=3)
    assert sorted(len(site) for site in sites.values()) == [333, 333, 334]
    assert [site.columns["y"].mean() for site in sites.values()] == pytest.approx([0.5] * 3, abs=0.1)


def test_a_small_dirichlet_number_separates_classes_and_a_large_one_does_not() -> None:
    def spread(spec: str) -> float:
        return float(np.ptp([site.columns["y"].mean() for site in deal(raw(2000), spec).values()]))

    assert spread("dirichlet:0.3") > 0.5
    assert spread("dirichlet:10000") < 0.1


def test_a_small_quantity_number_makes_sizes_unequal_but_not_class_shares() -> None:
    sites = deal(raw(2000), "quantity:0.5").values()
    assert max(len(site) for site in sites) > 4 * min(len(site) for site in sites)
    assert all(abs(site.columns["y"].mean() - 0.5) < 0.3 for site in sites)


def test_a_number_as_label_is_dealt_by_its_tenths() -> None:
    rules = contract(label="x")
    sites = deal(raw(1000), "dirichlet:0.1", rules=rules)
    means = [site.columns["x"].mean() for site in sites.values()]
    assert max(means) - min(means) > 150
    even = deal(raw(1000), "dirichlet:10000", rules=rules)
    assert [site.columns["x"].mean() for site in even.values()] == pytest.approx([499.5] * 4, abs=30)


@pytest.mark.parametrize("spec", ["dirichlet:0.01", "quantity:0.001"])
@pytest.mark.parametrize(("patients", "smallest"), [(200, 10), (20, 5), (4, 1)])
def test_no_site_is_left_with_fewer_patients_than_it_can_have(spec: str, patients: int, smallest: int) -> None:
    for seed in range(5):
        sites = deal(raw(patients), spec, seed=seed)
        assert min(len(site) for site in sites.values()) >= smallest


def test_rows_without_a_label_are_dealt_like_a_class_of_their_own() -> None:
    sites = deal(raw(100, y=["0", "1", "", "7"] * 25), "dirichlet:1")
    assert sum(len(site) for site in sites.values()) == 100


def test_a_column_brings_its_own_hospitals_in_the_order_of_the_file() -> None:
    sites = deal(raw(4, hospital=["Zürich/Basel", "St. Anna", "Zürich/Basel", 7.0]), "column:hospital", sites=99)
    assert {name: site.columns["x"].tolist() for name, site in sites.items()} == {
        "Zurich-Basel": [0, 2],
        "St.-Anna": [1],
        "7": [3],
    }


def test_the_same_patient_id_at_two_hospitals_is_two_patients() -> None:
    table = raw(2, hospital=["a", "b"], patient=["1", "1"])
    assert [len(site) for site in deal(table, "column:hospital", rules=contract(patient_id="patient")).values()] == [
        1,
        1,
    ]


@pytest.mark.parametrize(("value", "name"), [("Spital Zürich", "Spital-Zurich"), ("../etc", "etc"), ("///", "site")])
def test_site_names_are_safe_in_files(value: str, name: str) -> None:
    assert site_name(value) == name


@pytest.mark.parametrize("values", [["St Anna", "St/Anna"], ["anna", "Anna"]])
def test_two_hospitals_of_one_name_are_refused(values: list[str]) -> None:
    with pytest.raises(StudyError, match=r"column 'hospital': two values become the same site name"):
        deal(raw(2, hospital=values), "column:hospital")


def test_a_row_without_a_hospital_is_counted() -> None:
    with pytest.raises(DataError, match=r"column 'hospital': expected a hospital in every row. Received: 2 empty"):
        deal(raw(3, hospital=["a", "", None]), "column:hospital")


def test_an_absent_hospital_column_is_named_with_a_similar_one() -> None:
    with pytest.raises(StudyError, match=r"expected the column 'hospitl' .* Did you mean 'hospital'\?"):
        deal(raw(2, hospital=["a", "b"]), "column:hospitl")


def test_a_column_of_a_thousand_values_is_no_hospital() -> None:
    with pytest.raises(StudyError, match=r"column 'x': expected at most 1000 hospitals. Received: 1001"):
        deal(raw(1001), "column:x")


@pytest.mark.parametrize(
    "spec", ["", "random", "iid:3", "dirichlet", "dirichlet:", "dirichlet:x", "dirichlet:0", "quantity:-1", "column:"]
)
def test_an_unknown_form_names_the_four(spec: str) -> None:
    with pytest.raises(StudyError, match=r"expected iid, dirichlet:A, quantity:A .* or column:NAME. Received: '"):
        deal(raw(10), spec)


@pytest.mark.parametrize("spec", ["dirichlet:nan", "dirichlet:inf", "quantity:inf"])
def test_a_number_that_is_none_is_refused(spec: str) -> None:
    with pytest.raises(StudyError, match=r"with a number A > 0"):
        deal(raw(10), spec)


def test_more_hospitals_than_patients_are_refused() -> None:
    with pytest.raises(StudyError, match=r"sites: expected at most one for each of the 3 patients. Received: 4"):
        deal(raw(3), "iid")
