"""Images without a label: who gets a class, what is taught of them, and what no count or sum may know of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from client.data.base import LABEL, PATIENT_ID, RawData
from client.data.split import SiteData, site_data
from client.differencing import check, cohorts_of, remember
from client.judgement import counts_of
from client.leaving import what_leaves
from shared.errors import DataError, Refusal, StudyError
from shared.examples import Examples, Part
from shared.models.pseudo_labels import PseudoLabels, joined
from shared.preparation import Prepared
from shared.study import Study
from simulations.local import gather
from tests.unit.shared.test_neural import contributed, image_study, images_of, prepared_method

SMALL = {"filters": [8], "dense_units": 4}


def semi_study(confidence: float = 0.5, after: int = 0, fewest: int = 5) -> Study:
    return image_study(
        data={"unlabelled": True},
        model=SMALL,
        augment=True,
        pseudo_labels={"confidence": confidence, "after": after, "min_subset_patients": fewest},
    )


def raw_of(labels: list[Any]) -> RawData:
    """One grey image for each label; each its own patient, held out or not by keyed hash."""
    patients = np.array([f"p{number}" for number in range(len(labels))])
    columns = {LABEL: np.array(labels, dtype=object), PATIENT_ID: patients}
    return RawData(columns, np.full((len(labels), 8, 8, 1), 0.5))


def half_labelled() -> SiteData:
    return site_data(semi_study().data, raw_of([0, 1, "", ""] * 10), "a", 7)


def with_unlabelled(labelled: Examples, unlabelled: Examples) -> Examples:
    nameless = dataclasses.replace(unlabelled, labels=np.full(len(unlabelled), np.nan))
    return dataclasses.replace(labelled, unlabelled=nameless)


def test_a_row_gets_the_likeliest_class_if_it_is_likely_enough() -> None:
    logits = np.log(np.array([[0.1, 0.9], [0.4, 0.6], [0.97, 0.03]]))
    rows = images_of(3)

    found = PseudoLabels(confidence=0.9 - 1e-9, min_subset_patients=2).sure(rows, logits)

    assert (rows.patients[[0, 2]].tolist(), [1.0, 0.0]) == (found.patients.tolist(), found.labels.tolist())


@pytest.mark.parametrize(("unlabelled", "times"), [(5, 2), (7, 4), (1, 1)])
def test_labelled_rows_fill_up_to_twice_the_rows_without_a_label(unlabelled: int, times: int) -> None:
    labelled = Prepared(np.zeros((2, 4, 4, 1), np.float32), np.array([0.0, 1.0]))

    taught = joined(labelled, Prepared(np.ones((5, 4, 4, 1), np.float32), np.ones(5)), unlabelled)

    assert [0.0, 1.0] * times + [1.0] * 5 == taught.y.tolist()
    assert [0.0] * 2 * times + [1.0] * 5 == taught.x[:, 0, 0, 0].tolist()


def test_rows_without_a_label_are_kept_to_train_on_and_never_to_judge_by() -> None:
    data = half_labelled()
    training, held_out = data.parts[Part.TRAINING], data.parts[Part.HELD_OUT]

    assert training.unlabelled is not None
    assert np.isnan(training.unlabelled.labels).all()
    assert 40 == len(training) + len(held_out) + len(training.unlabelled) + data.findings.no_label
    assert held_out.unlabelled is None
    assert not np.isnan(held_out.labels).any()
    assert len(training) == sum(counts_of(data, 2).class_rows)


def test_a_hospital_without_any_label_is_refused() -> None:
    with pytest.raises(DataError, match="a: label missing: column 'y' is empty in all rows to train on"):
        site_data(semi_study().data, raw_of([""] * 20), "a", 7)


def test_the_weight_of_a_site_counts_the_rows_that_it_trained_on() -> None:
    study = semi_study()
    examples = with_unlabelled(images_of(6), images_of(10, seed=1))
    method = prepared_method(study, examples)

    assert 6 == method.preparation.rows
    contribution = contributed(method, method.start(), examples)
    assert (16.0, 10) == (contribution.weight, contribution.smallest_subset)


@pytest.mark.parametrize("study", [semi_study(confidence=1.0), semi_study(after=1), semi_study(fewest=11)])
def test_rows_of_which_the_model_is_not_sure_or_too_few_or_too_early_only_count_steps(study: Study) -> None:
    labelled = images_of(6)
    method = prepared_method(study, labelled)
    expected = contributed(method, method.start(), with_unlabelled(labelled, images_of(10, seed=2)))

    found = contributed(method, method.start(), with_unlabelled(labelled, images_of(10, seed=1)))

    assert 6.0 == expected.weight == found.weight
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(array, found.arrays[name])


def test_a_hospital_that_has_labelled_every_image_trains_on_each_once() -> None:
    labelled = images_of(6)
    semi, plain = (prepared_method(each, labelled) for each in (semi_study(), image_study(model=SMALL, augment=True)))
    expected, found = (contributed(method, method.start(), labelled) for method in (plain, semi))

    assert 6 == found.smallest_subset
    for name, array in expected.arrays.items():
        np.testing.assert_array_equal(array, found.arrays[name])


def test_a_training_sum_is_described_as_over_the_patients_without_a_label_too() -> None:
    data = half_labelled()
    training = data.parts[Part.TRAINING]
    by_step = {each.step: each for each in what_leaves(semi_study(), data, 3).sums}

    assert training.patient_count == by_step["preparation"].patients
    assert training.whole().patient_count == by_step["training"].patients
    assert "images without a label count in these" in by_step["training"].contents[-1]


@pytest.mark.parametrize("labelled", [True, False])
def test_another_study_over_nearly_the_labelled_or_nearly_all_patients_is_refused(
    tmp_path: Any, labelled: bool
) -> None:
    data, contract, key = half_labelled(), semi_study().data, b"k" * 32
    remember(tmp_path, cohorts_of(data, contract, key), 5)
    training = data.parts[Part.TRAINING] if labelled else data.parts[Part.TRAINING].whole()
    fewer = training.take(np.arange(1, len(training)))
    other = SiteData("a", {**data.parts, Part.TRAINING: fewer})

    check(tmp_path, cohorts_of(data, contract, key), 5)
    with pytest.raises(Refusal, match="nearly the same patients"):
        check(tmp_path, cohorts_of(other, contract, key), 5)


def test_a_simulation_takes_labels_away_from_training_rows_alone() -> None:
    study = semi_study()
    share = dataclasses.replace(study.simulation, labelled_share=0.25)
    raw = {name: raw_of([0, 1] * 40) for name in "abc"}

    whole = gather(study, raw).data["a"].parts
    partly = gather(dataclasses.replace(study, simulation=share), raw).data["a"].parts

    kept, left = partly[Part.TRAINING], partly[Part.TRAINING].unlabelled
    assert left is not None
    assert len(whole[Part.TRAINING]) == len(kept) + len(left)
    assert 0 < len(kept) < len(left)
    assert np.isnan(left.labels).all()
    assert len(whole[Part.HELD_OUT]) == len(partly[Part.HELD_OUT])


def test_pseudo_labels_and_rows_without_a_label_come_together() -> None:
    with pytest.raises(StudyError, match="pseudo_labels goes with"):
        image_study(augment=True, pseudo_labels={})
    with pytest.raises(StudyError, match="pseudo_labels goes with augment = true"):
        image_study(data={"unlabelled": True}, pseudo_labels={})
    with pytest.raises(StudyError, match="only 'neural' with"):
        image_study(data={"unlabelled": True})
