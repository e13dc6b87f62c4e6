"""Canaries are patients whom the study's contract allows, as unlike each other as they can be."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from client.data.base import RawData
from shared.errors import StudyError
from shared.examples import Part
from shared.study import Study, parse_study
from simulations.attacks.canaries import Canaries, canaries_of
from simulations.attacks.observed import Observed, observe
from simulations.local import gather
from tests.unit.simulations.attacks.audited import insecure_entropy, private_study, three_hospitals

DATA = three_hospitals()


def made(study: Study, most: int = 6) -> tuple[Canaries, Observed]:
    trained = observe(study, DATA, insecure_entropy(1))
    return canaries_of(study, DATA, trained, most, np.random.default_rng(1)), trained


def test_values_lie_at_the_ends_of_the_declared_ranges_or_in_the_middle() -> None:
    canaries, _ = made(private_study())

    assert {-10.0, 0.0, 10.0} == {float(value) for rows in canaries.each for value in rows.values.ravel()}
    assert not any(rows.outside.any() for rows in canaries.each)


def test_each_canary_is_one_patient_of_its_own() -> None:
    canaries, _ = made(private_study())

    assert [1] * 6 == [len(rows) for rows in canaries.each]
    assert len({rows.patients[0] for rows in canaries.each}) == 6


def test_the_label_is_the_one_that_the_model_thinks_unlikely() -> None:
    canaries, trained = made(private_study())

    assert all((trained.log_odds(rows) <= 0.0).all() for rows in canaries.each)


def test_no_more_canaries_are_made_than_can_be_told_apart() -> None:
    """Nine numbers, eight features and the intercept, hold at most nine directions."""
    canaries, _ = made(private_study(), most=50)

    assert 5 <= len(canaries.each) <= 9


def test_canaries_that_are_present_are_among_the_training_patients_and_the_others_nowhere() -> None:
    canaries, _ = made(private_study())
    present = np.array([True, False, False, True, True, False])

    filled = canaries.put(DATA, present)

    patients = {name for site in filled.values() for part in site.parts.values() for name in part.patients.tolist()}
    here = {str(rows.patients[0]) for rows, there in zip(canaries.each, present, strict=True) if there}
    assert here == {name for name in patients if name.startswith("canary")}
    assert [62, 61, 60] == [len(site.parts[Part.TRAINING]) for site in filled.values()]
    assert [20, 20, 20] == [len(site.parts[Part.HELD_OUT]) for site in filled.values()]


def test_hospitals_that_are_full_are_told_which_key_makes_room() -> None:
    with pytest.raises(StudyError, match=r"expected room for 2 canaries at a. Received: 61"):
        made(private_study(data__max_rows_per_site=61))


def test_codes_levels_patient_ids_and_split_columns_are_written_as_the_contract_wants_them() -> None:
    columns: dict[str, Any] = {
        "age": {"type": "number", "range": [0.0, 100.0], "missing": ["?"]},
        "stage": {"type": "category", "levels": ["I", "II", "III"], "missing": [-9]},
        "sick": {"type": "category", "levels": [0, 1, 2, 3]},
    }
    study = parse_study(
        {
            "study": {"name": "small", "question": "Who is sick?"},
            "data": {
                "kind": "table",
                "label": "sick",
                "positive": [2, 3],
                "patient_id": "id",
                "split_column": "part",
                "columns": columns,
                "max_rows_per_site": 1000,
            },
            "method": {"name": "private-logistic-regression", "rounds": 2},
            "aggregation": {"min_sites": 3},
            "privacy": {"epsilon": 5.0, "delta": 1e-5},
        },
        "test",
    )
    rows = np.arange(40)
    raw = RawData(
        {
            "age": 20.0 + rows,
            "stage": np.array(["I", "II", "III", "-9"])[rows % 4],
            "sick": rows % 4,
            "id": rows,
            "part": np.where(rows < 30, "train", "test"),
        }
    )
    data = gather(study, {"a": raw, "b": raw, "c": raw}).data

    canaries = canaries_of(study, data, observe(study, data, insecure_entropy(1)), 50, np.random.default_rng(1))

    ages, stages = np.concatenate([each.values for each in canaries.each]).T
    assert {0.0, 50.0, 100.0} >= set(ages[~np.isnan(ages)].tolist())
    assert np.isnan(ages).any()
    assert {0.0, 1.0, 2.0} == set(stages[~np.isnan(stages)].tolist())


@pytest.mark.slow
@pytest.mark.skipif(find_spec("keras") is None, reason="networks need the extra keras")
def test_images_are_black_and_white() -> None:
    study = parse_study(
        {
            "study": {"name": "small", "question": "What is seen?"},
            "data": {
                "kind": "images",
                "label": "label",
                "columns": {"label": {"type": "category", "levels": [0, 1]}},
                "images": {"height": 6, "width": 5},
                "max_rows_per_site": 1000,
            },
            "method": {"name": "neural", "rounds": 1, "options": {"architecture": "image_cnn"}},
        },
        "test",
    )
    rng = np.random.default_rng(1)
    raw = {
        name: RawData({"label": np.arange(40) % 2, "patient_id": np.arange(40)}, rng.uniform(0, 255, (40, 6, 5, 1)))
        for name in "abc"
    }
    data = gather(study, raw).data
    trained = observe(study, data, insecure_entropy(1))

    canaries = canaries_of(study, data, trained, 7, rng)

    images = np.concatenate([rows.images for rows in canaries.each if rows.images is not None])
    assert (7, 6, 5, 1) == images.shape
    assert {0.0, 255.0} == set(images.ravel().tolist())
    assert all((trained.log_odds(rows) <= 0.0).all() for rows in canaries.each)
