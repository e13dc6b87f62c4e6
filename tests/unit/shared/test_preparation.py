"""Federated preparation: the same numbers as on pooled data, whatever single sites lack."""

from __future__ import annotations

import json

import numpy as np
import pytest

from shared.examples import Examples, concatenate
from shared.methods.base import Total
from shared.methods.preparation import PreparationMethod
from shared.preparation import Preparation
from shared.randomness import for_site
from shared.study import Study
from tests.builders import examples_of, table_study


def prepare(study: Study, sites: list[Examples]) -> Preparation:
    method = PreparationMethod(study.data)
    state = method.start()
    parts = [method.contribute(state, site, {}, for_site(1, "a", 1))[0] for site in sites]
    arrays = {name: sum(part.arrays[name] for part in parts) for name in parts[0].arrays}
    state, _ = method.advance(state, Total(arrays, sum(part.weight for part in parts), len(parts)))
    assert method.finished(state)
    return method.result(state)


def test_mean_and_deviation_are_those_of_pooled_numpy() -> None:
    rng = np.random.default_rng(1)
    sites = [examples_of(rng.normal(size=(n, 2)) + n / 10, np.zeros(n)) for n in (3, 20, 50)]
    pooled = concatenate(sites).values
    columns = prepare(table_study(), sites).columns
    assert [c.center for c in columns] == pytest.approx(pooled.mean(axis=0), abs=1e-9)
    assert [c.scale for c in columns] == pytest.approx(pooled.std(axis=0), abs=1e-9)


def test_the_median_is_right_to_one_bin_of_the_declared_range() -> None:
    rng = np.random.default_rng(2)
    values = rng.normal(size=(101, 2))
    columns = prepare(
        table_study(), [examples_of(values[:40], np.zeros(40)), examples_of(values[40:], np.zeros(61))]
    ).columns
    assert [c.fill for c in columns] == pytest.approx(np.median(values, axis=0), abs=20 / 1000)


def test_a_column_wholly_missing_at_one_site_takes_its_numbers_from_the_others() -> None:
    here = examples_of([[1.0, np.nan], [3.0, np.nan]], [0, 1])
    there = examples_of([[5.0, 2.0], [7.0, 4.0]], [0, 1])
    preparation = prepare(table_study(), [here, there])
    assert preparation.feature_names == ("x0", "x1", "x1 missing")
    assert preparation.missing == {"x0": 0, "x1": 2}
    # x1: mean 3, deviation 1 over the two observed values; the median is 3 up to the bin width of 0.02.
    x = preparation.transform(here).x
    assert x[:, 1] == pytest.approx([0.0, 0.0], abs=0.03)
    assert x[:, 2].tolist() == [1.0, 1.0]
    assert preparation.transform(there).x[:, 1] == pytest.approx([-1.0, 1.0])


def test_a_column_that_is_constant_or_missing_everywhere_becomes_zero() -> None:
    site = examples_of([[4.0, np.nan], [4.0, np.nan]], [0, 1])
    preparation = prepare(table_study(), [site, site])
    assert preparation.feature_names == ("x0", "x1")  # an indicator that is always one says nothing
    assert np.abs(preparation.transform(site).x).max() == pytest.approx(0.0, abs=1e-9)


def test_levels_become_columns_and_two_levels_one() -> None:
    study = table_study(
        features=0,
        data__columns__sex={"type": "category", "levels": ["f", "m"]},
        data__columns__pain={"type": "category", "levels": [1, 2, 3]},
    )
    site = examples_of([[0.0, 0.0], [1.0, 2.0], [1.0, np.nan], [np.nan, 1.0]], [0, 1, 0, 1])
    preparation = prepare(study, [site])
    assert preparation.feature_names == ("sex=m", "sex missing", "pain=1", "pain=2", "pain=3", "pain missing")
    third = 2 / 3  # share of "m" among the three observed
    expected = [[0, 0, 1, 0, 0, 0], [1, 0, 0, 0, 1, 0], [1, 0, 0, 0, 0, 1], [third, 1, 0, 1, 0, 0]]
    assert preparation.transform(site).x == pytest.approx(np.array(expected))


def test_images_are_scaled_by_channel() -> None:
    study = table_study(
        features=0,
        method__name="neural",
        method__options={"architecture": "image_cnn"},
        data__kind="images",
        data__images={"height": 4, "width": 4, "range": [0, 10]},
    )
    images = np.zeros((2, 4, 4, 1), dtype=np.uint8)
    images[1] = 10
    site = Examples(np.zeros((2, 0)), np.zeros((2, 0), bool), np.array([0.0, 1.0]), np.array(["a", "b"]), images)
    preparation = prepare(study, [site])
    assert preparation.image_mean == pytest.approx((0.5,))
    assert preparation.image_deviation == pytest.approx((0.5,))
    x = preparation.transform(site).x
    assert (x.shape, x.dtype) == ((2, 4, 4, 1), np.float32)
    assert x[:, 0, 0, 0] == pytest.approx([-1.0, 1.0])


def test_classes_and_out_of_contract_values_are_counted() -> None:
    outside = Examples(
        np.array([[np.nan, 1.0], [2.0, 2.0]]),
        np.array([[True, False], [False, False]]),
        np.array([0.0, 1.0]),
        np.array(["a", "b"]),
    )
    preparation = prepare(table_study(), [outside, examples_of([[1.0, 1.0]], [1])])
    assert preparation.outside == {"x0": 1, "x1": 0}
    assert preparation.class_rows == (1, 2)


def test_it_survives_json() -> None:
    study = table_study()
    preparation = prepare(study, [examples_of([[1.0, np.nan], [3.0, 2.0]], [0, 1])])
    plain = json.loads(json.dumps(preparation.as_plain()))
    assert Preparation.from_plain(study.data, plain) == preparation
