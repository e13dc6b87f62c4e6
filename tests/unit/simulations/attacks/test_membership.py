"""Who trained a model: scores checked by hand, and a model that remembers its patients."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from numpy.typing import NDArray

from client.data.split import SiteData
from shared.examples import Part
from shared.metrics import Interval
from shared.study import Study
from simulations.attacks.membership import Patients, infer, likelihood_ratios, measure
from simulations.attacks.observed import Observed, observe
from tests.builders import examples_of, site_of, table_study
from tests.unit.simulations.attacks.audited import insecure_entropy, three_hospitals


def test_the_score_is_the_logarithm_of_how_much_likelier_the_fit_is_with_the_patient() -> None:
    """With the patient 3 and 5, without 0 and 2: means 4 and 1, variance 1 each; a fit of 3: (-1 + 4) / 2."""
    present = np.array([[True], [True], [False], [False]])

    scores = likelihood_ratios(np.array([3.0]), np.array([[3.0], [5.0], [0.0], [2.0]]), present)

    assert [1.5] == scores.tolist()


def test_a_patient_whom_every_shadow_model_had_is_compared_with_what_presence_changes_on_average() -> None:
    """Presence lifts the first patient's fit by 2. The second's is 5 with, so 3 without it; it fits 4: no telling."""
    present = np.array([[True, True], [False, True]])

    scores = likelihood_ratios(np.array([2.0, 4.0]), np.array([[2.0, 5.0], [0.0, 5.0]]), present)

    assert scores[0] > 0.0
    assert scores[1] == pytest.approx(0.0, abs=1e-6 * scores[0])


def test_members_above_all_others_are_found_without_a_false_alarm() -> None:
    members = np.arange(300) < 100
    attack = measure(np.where(members, 2.0, 1.0), members, np.random.default_rng(1))

    assert (1.0, 1.0, 1.0) == (attack.auc.value, attack.auc.low, attack.auc.high)
    assert attack.low_rate.value == 1.0


def test_equal_scores_tell_nothing() -> None:
    members = np.arange(300) < 100
    attack = measure(np.zeros(300), members, np.random.default_rng(1))

    assert attack.auc.value == 0.5
    assert attack.low_rate.value == 0.0


def test_one_false_alarm_in_a_hundred_is_allowed() -> None:
    """The 200 others score 1 to 200: two may be above the threshold, 198; so 3 of the 4 members are found."""
    scores = np.array([*range(1, 201), 197.5, 198.5, 199.5, 300.0])
    attack = measure(scores, np.arange(204) >= 200, np.random.default_rng(1))

    assert attack.low_rate.value == 0.75


def test_the_interval_covers_what_the_scores_were_drawn_from() -> None:
    """Normal scores one deviation apart: the area is Phi(1 / sqrt 2) = 0.760."""
    rng = np.random.default_rng(3)
    members = np.arange(600) < 300
    attack = measure(rng.normal(size=600) + members, members, rng)

    assert attack.auc.low < 0.760 < attack.auc.high
    assert attack.auc.high - attack.auc.low < 0.1


def test_the_roc_curve_leads_from_nobody_to_everybody() -> None:
    members = np.array([True, True, False, False])
    attack = measure(np.array([3.0, 1.0, 2.0, 0.0]), members, np.random.default_rng(1))

    assert [0.0, 0.0, 0.5, 0.5, 1.0] == attack.false_positive_rate.tolist()
    assert [0.0, 0.5, 0.5, 1.0, 1.0] == attack.true_positive_rate.tolist()


def test_rows_of_one_patient_are_one_member() -> None:
    rows = examples_of(np.zeros((4, 2)), [0.0, 1.0, 0.0, 1.0])
    rows.patients[:] = ["p0", "p0", "p1", "p2"]
    data = {"a": site_of("a", rows.take(np.array([0, 1])), rows.take(np.array([2, 3])))}

    patients = Patients(data)
    dealt = patients.dealt(np.array([False, True, True]))

    assert [True, False, False] == patients.members.tolist()
    assert ["p0", "p0"] == dealt["a"].parts[Part.HELD_OUT].patients.tolist()


def test_every_hospital_has_a_patient_for_every_shadow_model() -> None:
    patients = Patients(three_hospitals())
    dealt = patients.dealt(patients.some(0.0, np.random.default_rng(1)))

    assert [1, 1, 1] == [len(site.parts[Part.TRAINING]) for site in dealt.values()]


def test_a_model_with_more_weights_than_patients_gives_its_patients_away() -> None:
    """Thirty patients with labels of pure chance and forty features: the model knows them by heart."""
    study = table_study(40, method__rounds=1, method__options__max_iter=50, method__options__C=100.0)
    rng = np.random.default_rng(1)
    rows = examples_of(rng.normal(size=(60, 40)), rng.integers(0, 2, 60).astype(float))
    data = {"a": site_of("a", rows.take(np.arange(30)), rows.take(np.arange(30, 60)))}

    def train(dealt: Mapping[str, SiteData]) -> Observed:
        return observe(study, dealt, insecure_entropy(1))

    found = infer(data, train(data), train, 8, np.random.default_rng(1))

    assert (30, 30) == (found.members, found.others)
    assert found.loss.auc.low > 0.8
    assert found.lira is not None
    assert found.lira.auc.value > found.loss.auc.value


def test_one_shadow_model_is_no_distribution() -> None:
    data = three_hospitals(held_out=10)
    study = table_study(8)

    def train(dealt: Mapping[str, SiteData]) -> Observed:
        return observe(study, dealt, insecure_entropy(1))

    assert infer(data, train(data), train, 1, np.random.default_rng(1)).lira is None


def told(study: Study, labels: NDArray[np.float64]) -> Interval:
    """AUC of the loss threshold against a model of labels that are pure chance; a third of the patients trained it."""
    third = len(labels) // 3
    rows = examples_of(np.random.default_rng(1).normal(size=(len(labels), len(study.data.features))), labels)
    data = {"a": site_of("a", rows.take(np.arange(third)), rows.take(np.arange(third, len(labels))))}

    def train(dealt: Mapping[str, SiteData]) -> Observed:
        return observe(study, dealt, insecure_entropy(1))

    return infer(data, train(data), train, 0, np.random.default_rng(1)).loss.auc


def forest(rows_of_a_leaf: int) -> Study:
    options = {"trees": 20, "min_samples_leaf": rows_of_a_leaf, "min_subset_patients": 1, "sample_fraction": 1.0}
    return table_study(4, method__name="random-forest", method__rounds=9, method__options=options)


def test_a_forest_whose_leaves_are_single_patients_gives_them_away() -> None:
    assert told(forest(rows_of_a_leaf=1), np.arange(120) % 2.0).low > 0.95


def test_a_forest_whose_leaves_are_many_patients_does_not() -> None:
    found = told(forest(rows_of_a_leaf=100), np.arange(600) % 2.0)

    assert found.low < 0.5 < found.high


def glm(columns: int) -> Study:
    options = {"family": "logistic", "l2": 0.1}
    return table_study(columns, method__name="glm", method__rounds=25, method__options=options)


def test_a_glm_of_nearly_as_many_columns_as_patients_gives_them_away() -> None:
    assert told(glm(columns=30), np.arange(120) % 2.0).low > 0.6


def test_a_glm_of_one_column_does_not() -> None:
    found = told(glm(columns=1), np.arange(120) % 2.0)

    assert found.low < 0.5 < found.high


def test_of_a_label_that_is_a_number_the_error_tells() -> None:
    study = table_study(
        30, method__name="linear-regression", method__rounds=3, data__columns__y={"type": "number", "range": [0, 1]}
    )

    assert told(study, np.random.default_rng(2).uniform(size=120)).low > 0.8


def test_a_shadow_model_without_an_estimate_is_left_out() -> None:
    data = three_hospitals(held_out=10)
    study = table_study(8, method__name="glm", method__rounds=30, method__options__family="logistic")
    fine = observe(study, data, insecure_entropy(1))
    separated = three_hospitals(held_out=10)
    for hospital in separated.values():
        hospital.parts[Part.TRAINING].labels[:] = hospital.parts[Part.TRAINING].values[:, 0] > 0
    models = iter([fine, observe(study, separated, insecure_entropy(1)), fine])

    found = infer(data, fine, lambda _dealt: next(models), 3, np.random.default_rng(1))

    assert 2 == found.shadows
    assert found.lira is not None
