"""Federated preparation with noise: what one patient can change, and what no noise can break."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ProtocolError, StudyError
from shared.examples import Arrays, Examples, concatenate
from shared.layout import to_vector
from shared.methods.base import Total
from shared.methods.preparation_private import PrivatePreparationMethod, blank
from shared.preparation import Preparation
from shared.randomness import for_site
from shared.schema import DataContract
from tests.builders import examples_of, table_study

NEXT_TO_NONE = 1e-9
NUMBER = {"type": "number", "range": [-10.0, 10.0], "missing": [-99]}
SEX = {"type": "category", "levels": ["f", "m"], "missing": ["?"]}
PAIN = {"type": "category", "levels": [1, 2, 3], "missing": ["?"]}
TABLE = table_study(features=1, data__columns__age=NUMBER, data__columns__sex=SEX, data__columns__pain=PAIN).data
IMAGES = table_study(
    features=0,
    method__name="neural",
    method__options={"architecture": "image_cnn"},
    data__kind="images",
    data__images={"height": 4, "width": 4, "channels": 3, "range": [0, 10]},
).data


def vector_of(method: PrivatePreparationMethod, examples: Examples) -> np.ndarray[Any, Any]:
    contribution, _ = method.contribute(method.start(), examples, {}, for_site(1, "a", 1))
    return to_vector(method.asks(method.start()).entries, contribution.arrays)


def prepare(contract: DataContract, sites: list[Examples], noise_multiplier: float = NEXT_TO_NONE) -> Preparation:
    """Prepare without the sites' noise."""
    method = PrivatePreparationMethod(contract, noise_multiplier)
    parts = [method.contribute(method.start(), site, {}, for_site(1, "a", 1))[0] for site in sites]
    sums = {name: np.sum([part.arrays[name] for part in parts], axis=0) for name in parts[0].arrays}
    return finish(method, sums, len(parts))


def finish(method: PrivatePreparationMethod, sums: Arrays, sites: int = 1) -> Preparation:
    state, measurements = method.advance(method.start(), Total(sums, float(sites), sites))
    assert (method.finished(state), measurements) == (True, {})
    return method.result(state)


@st.composite
def patients(draw: st.DrawFn, count: int) -> Examples:
    """Rows of ``TABLE`` (x0, age, sex, pain), some beyond the ranges, of at most ``count`` patients."""
    number = st.one_of(st.just(np.nan), st.sampled_from([-10.0, 10.0, 1e9]), st.floats(-10.0, 10.0))
    row = st.tuples(number, number, st.sampled_from([0.0, 1.0, np.nan]), st.sampled_from([0.0, 1.0, 2.0, np.nan]))
    rows = draw(st.lists(st.tuples(st.integers(0, count - 1), row), min_size=1, max_size=12))
    examples = examples_of([values for _, values in rows], np.zeros(len(rows)))
    return dataclasses.replace(examples, patients=np.array([f"p{patient}" for patient, _ in rows]))


@given(patients(4))
def test_no_patient_changes_the_sums_by_more_than_the_influence(examples: Examples) -> None:
    method = PrivatePreparationMethod(TABLE, 1.0)
    whole = vector_of(method, examples)
    for patient in np.unique(examples.patients):
        change = whole - vector_of(method, examples.take(examples.patients != patient))
        assert np.abs(change).sum() <= method.influence.l1 + 1e-9
        assert np.linalg.norm(change) <= method.influence.l2 + 1e-9


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 255), st.integers(0, 255)), min_size=1, max_size=6))
def test_no_patient_changes_the_sums_over_images_by_more_than_the_influence(
    rows: list[tuple[int, int, int]],
) -> None:
    images = np.array([np.tile([[low], [high]], (8, 3)).reshape(4, 4, 3) for _, low, high in rows])
    none = np.zeros((len(rows), 0))
    examples = Examples(none, none.astype(bool), none.sum(axis=1), np.array([f"p{who}" for who, _, _ in rows]), images)
    method = PrivatePreparationMethod(IMAGES, 1.0)
    whole = vector_of(method, examples)
    for patient in np.unique(examples.patients):
        change = whole - vector_of(method, examples.take(examples.patients != patient))
        assert np.abs(change).sum() <= method.influence.l1 + 1e-9
        assert np.linalg.norm(change) <= method.influence.l2 + 1e-9


def test_a_patient_at_the_ends_of_all_ranges_has_the_whole_influence() -> None:
    method = PrivatePreparationMethod(TABLE, 1.0)
    vector = vector_of(method, examples_of([[10.0, -10.0, 1.0, 0.0]], [0.0]))
    # 1 for the patient, (1/2, 1, 1) for each of two numbers, 1/2 for the sex, nothing for the pain.
    assert np.abs(vector).sum() == method.influence.l1 == 1 + 2 * 2.5 + 0.5
    assert np.linalg.norm(vector) == method.influence.l2 == np.sqrt(1 + 2 * 2.25 + 0.25)


def test_a_patient_of_many_rows_counts_once() -> None:
    examples = examples_of([[1.0, 0.0], [3.0, 0.0], [6.0, 0.0]], [0, 0, 0])
    examples = dataclasses.replace(examples, patients=np.array(["a", "a", "b"]))
    preparation = prepare(table_study().data, [examples])
    assert preparation.rows == 2
    assert preparation.columns[0].center == pytest.approx((2 + 6) / 2)


def test_with_next_to_no_noise_mean_and_deviation_are_those_of_the_pooled_patients() -> None:
    rng = np.random.default_rng(1)
    sites = [examples_of(rng.normal(size=(n, 2)) * [1, 3] + n / 20, np.zeros(n)) for n in (3, 20, 50)]
    sites[1].values[:5, 0] = np.nan
    pooled = concatenate(sites).values
    columns = prepare(table_study().data, sites).columns
    assert [c.center for c in columns] == pytest.approx(np.nanmean(pooled, axis=0), abs=1e-6)
    assert [c.scale for c in columns] == pytest.approx(np.nanstd(pooled, axis=0), abs=1e-6)
    assert [c.fill for c in columns] == [c.center for c in columns]


def test_with_next_to_no_noise_images_are_scaled_by_channel() -> None:
    images = np.zeros((2, 4, 4, 3))
    images[1] = [10, 5, 0]
    none = np.zeros((2, 0))
    site = Examples(none, none.astype(bool), np.zeros(2), np.array(["a", "b"]), images)
    preparation = prepare(IMAGES, [site])
    assert preparation.image_mean == pytest.approx((0.5, 0.25, 0.0))
    # The last channel is constant, and has the least deviation that is taken for true.
    assert preparation.image_deviation == pytest.approx((0.5, 0.25, 0.01), abs=1e-6)


def test_two_levels_are_filled_by_their_share() -> None:
    rows = examples_of([[0.0, 0.0, 1.0, 0.0]] * 3 + [[0.0, 0.0, 0.0, 0.0]], np.zeros(4))
    assert prepare(TABLE, [rows]).columns[2].fill == pytest.approx(3 / 4)


@given(
    st.floats(1e-3, 1e9),
    st.lists(st.one_of(st.floats(-1e12, 1e12), st.floats(-10, 10)), min_size=9, max_size=9),
    st.integers(1, 100),
)
def test_whatever_the_noise_the_preparation_is_a_possible_one(
    noise_multiplier: float, sums: list[float], sites: int
) -> None:
    arrays = {
        "patients": np.array(sums[0]),
        "measured": np.array(sums[1:3]),
        "moments": np.array(sums[3:7]).reshape(2, 2),
        "levels": np.array([sums[7:9]]),
    }
    preparation = finish(PrivatePreparationMethod(TABLE, noise_multiplier), arrays, sites)
    assert 1 <= preparation.rows <= 1000 * sites
    for column in preparation.columns[:2]:
        assert (-10 <= column.center <= 10, 0.2 <= column.scale <= 10) == (True, True)
    assert 0 < preparation.columns[2].fill < 1


def test_a_count_below_its_noise_is_taken_for_the_noise() -> None:
    method = PrivatePreparationMethod(TABLE, 100.0)
    nobody = {name: np.zeros(shape) for name, shape in [("measured", 2), ("moments", (2, 2)), ("levels", (1, 2))]}
    assert finish(method, {**nobody, "patients": np.array(-7.0)}).rows == int(100 * method.influence.l2)


def test_under_much_noise_all_columns_have_their_common_deviation_and_under_little_their_own() -> None:
    rng = np.random.default_rng(3)
    site = examples_of(rng.normal(size=(100, 3)) * [1, 2, 3], np.zeros(100))
    contract = table_study(features=3).data
    much = [column.scale for column in prepare(contract, [site], noise_multiplier=5.0).columns]
    little = [column.scale for column in prepare(contract, [site], noise_multiplier=0.01).columns]
    assert much == pytest.approx([np.sqrt(14 / 3)] * 3, rel=0.1)
    assert little == pytest.approx([1, 2, 3], rel=0.1)


def test_what_the_model_reads_follows_from_the_contract_alone() -> None:
    everything = examples_of([[1.0, 2.0, 0.0, 1.0]] * 3, np.zeros(3))
    nothing = examples_of([[np.nan] * 4] * 3, np.zeros(3))
    names = ("x0", "age", "age missing", "sex=m", "sex missing", "pain=1", "pain=2", "pain=3")
    for preparation in (blank(TABLE), prepare(TABLE, [everything]), prepare(TABLE, [nothing])):
        assert (preparation.feature_names, preparation.input_shape) == (names, (8,))
        assert np.isfinite(preparation.transform(nothing).x).all()


def test_a_blank_preparation_scales_by_the_declared_range() -> None:
    column = blank(TABLE).columns[0]
    assert (column.center, column.scale, column.fill) == (0.0, 20 / 8, 0.0)
    assert blank(IMAGES).image_mean == (0.5, 0.5, 0.5)


def test_nothing_that_was_not_noised_is_told() -> None:
    preparation = prepare(TABLE, [examples_of([[1.0, np.nan, 0.0, 1.0]], [1.0])])
    assert (preparation.missing, preparation.outside, preparation.class_rows) == ({}, {}, ())


def test_it_asks_for_noise_and_a_constant_weight() -> None:
    method = PrivatePreparationMethod(TABLE, 3.0)
    ask = method.asks(method.start())
    assert (ask.noise_multiplier, ask.influence, ask.exact) == (3.0, method.influence, False)
    contribution, _ = method.contribute(
        method.start(), examples_of([[0.0] * 4] * 5, np.zeros(5)), {}, for_site(1, "a", 1)
    )
    assert (contribution.weight, ask.weight_bound) == (1.0, 1.0)


def test_a_label_that_is_a_number_is_refused() -> None:
    contract = dataclasses.replace(TABLE, label="age")
    with pytest.raises(StudyError, match="expected a label of type category"):
        PrivatePreparationMethod(contract, 1.0)
    with pytest.raises(StudyError, match="expected a label of type category"):
        blank(contract)


def test_a_state_that_no_sums_give_is_refused() -> None:
    method = PrivatePreparationMethod(table_study().data, 1.0)
    sums = {"patients": np.array(9.0), "measured": np.zeros(2), "moments": np.zeros((2, 2))}
    state, _ = method.advance(method.start(), Total(sums, 1.0, 1))
    table = state["table"].copy()
    table[0, 1] = 1e-9
    with pytest.raises(ProtocolError, match="bad-preparation"):
        method.result({**state, "table": table})
