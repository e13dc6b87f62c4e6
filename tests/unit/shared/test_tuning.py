"""Options chosen by cross-validation: a candidate reaches what the same steps over the rows themselves reach."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from client import policy
from client.question import parameters
from shared.errors import NoEstimate, StudyError
from shared.examples import Part
from shared.methods.base import PlainMean, Total
from shared.methods.logistic_regression import LogisticRegressionAveraging
from shared.methods.tuning import Candidate, _best, folds_of
from shared.plan import PREPARE, TRAIN, TUNE, chosen, exchanges, plan_of
from shared.study import Study
from shared.tuning import tuned
from tests.builders import Consortium, examples_of, site_of, table_study, ticking

FEATURES, FOLDS = 4, 3
C = [0.01, 1.0]


def study_of(**changes: Any) -> Study:
    given: dict[str, Any] = {
        "tuning__grid": {"C": C},
        "tuning__folds": FOLDS,
        "method__rounds": 1,
        "method__options": {"max_iter": 100},
    }
    return table_study(features=FEATURES, **{**given, **changes})


def rows_of(seed: int, n: int) -> Any:
    drawn = np.random.default_rng(seed)
    x = drawn.uniform(size=(n, FEATURES))
    chance = 1 / (1 + np.exp(-8 * (x[:, 0] - 0.5) - 2 * (x[:, 1] - 0.5)))
    return examples_of(x, (drawn.uniform(size=n) < chance).astype(float), first=1000 * seed)


@pytest.fixture(scope="module")
def run() -> tuple[Study, Any, Any, dict[str, Any]]:
    study = study_of()
    data = {f"site_{k}": site_of(f"site_{k}", rows_of(k, 60 + 20 * k), rows_of(10 + k, 20)) for k in range(3)}
    plan, progress = Consortium(study, data).run(ticking())
    return study, plan, progress, data


def test_each_candidate_reaches_what_its_steps_over_the_rows_reach(run: Any) -> None:
    study, plan, progress, data = run
    results = plan.result(progress.state)
    for options, candidate in zip(study.tuning.candidates, results[TUNE].candidates, strict=True):
        method = LogisticRegressionAveraging(tuned(study, options), results[PREPARE], PlainMean())
        for fold, value in enumerate(candidate.values):
            fitted, rows, scores, labels = [], [], [], []
            for each in data.values():
                examples = each.parts[Part.TRAINING]
                inside = folds_of(examples.patients, study.study.seed, FOLDS) == fold
                prepared = results[PREPARE].transform(examples.take(~inside))
                fitted.append(method._fit(method.result(method.start()), prepared))
                rows.append(len(prepared))
                scores.append(examples.take(inside))
                labels.append(examples.labels[inside])
            mean = {name: np.average([each[name] for each in fitted], axis=0, weights=rows) for name in fitted[0]}
            said = [method.scores(mean, results[PREPARE].transform(each))[:, 1] for each in scores]
            # In one bin of the score, rows are ties.
            assert roc_auc_score(np.concatenate(labels), np.concatenate(said)) == pytest.approx(value, abs=5e-3)


def test_the_best_mean_is_trained_and_the_held_out_patients_have_no_part_in_it(run: Any) -> None:
    study, plan, progress, _ = run
    choice = plan.result(progress.state)[TUNE]
    assert "auroc" == choice.metric
    assert max(each.mean for each in choice.candidates) == choice.candidates[choice.chosen].mean
    trained = chosen(study, plan.result(progress.state))
    assert (C[choice.chosen], None) == (trained.method.options.C, trained.tuning)
    assert trained.method.options == plan.method(progress.state, TRAIN).options
    assert ["prepare", "tune", "tune", "train", "evaluate"] == [record.stage for record in progress.history]
    assert exchanges(study) == len(progress.history)


def test_every_patient_is_in_one_fold_with_all_rows() -> None:
    patients = np.array(["a", "b", "a", "c", "b"])
    folds = folds_of(patients, 1, 5)
    assert (folds[0], folds[1]) == (folds[2], folds[4])
    many = np.array([str(patient) for patient in range(1000)])
    assert 0.16 < np.mean(folds_of(many, 1, 5) == folds_of(many, 2, 5)) < 0.24
    assert 160 < np.bincount(folds_of(many, 1, 5)).min()


def test_mean_and_deviation_leave_out_folds_without_a_value() -> None:
    candidate = Candidate((0.7, math.nan, 0.9))
    assert (0.8, pytest.approx(math.sqrt(0.02))) == (pytest.approx(candidate.mean), candidate.deviation)
    assert math.isnan(Candidate((0.7,)).deviation) and math.isnan(Candidate((math.nan,)).mean)


def test_a_candidate_without_a_model_is_not_chosen_and_the_others_are_judged() -> None:
    drawn = np.random.default_rng(4)
    data = {}
    for k in range(3):
        x = drawn.normal(size=(40, 2))
        # The first column tells the label without an error: there is no estimate without a penalty.
        data[f"s{k}"] = site_of(
            f"s{k}", examples_of(x, (x[:, 0] > 0).astype(float), first=1000 * k), examples_of(x[:9], np.arange(9) % 2)
        )
    study = table_study(
        features=2,
        method__name="glm",
        method__rounds=25,
        method__options={"family": "logistic"},
        tuning__grid={"l2": [0.0, 1.0]},
        tuning__folds=2,
    )
    plan, progress = Consortium(study, data).run(ticking())
    choice = plan.result(progress.state)[TUNE]
    assert [2, 0] == [each.failed for each in choice.candidates]
    assert (1, "auroc") == (choice.chosen, choice.metric)
    assert math.isnan(choice.candidates[0].mean) and 0.95 < choice.candidates[1].mean


def test_equal_candidates_leave_the_first_and_none_is_an_error() -> None:
    assert 1 == _best([math.nan, 0.8, 0.8])
    with pytest.raises(NoEstimate, match="no candidate could be judged on every fold"):
        _best([math.nan])


def test_a_hospital_counts_every_model_that_is_tried() -> None:
    plan = plan_of(study_of(), PlainMean())
    state = plan.start()
    total = {entry.name: np.zeros(entry.shape) for entry in plan.asks(state).entries}

    state, _ = plan.advance(state, Total(total, 0.0, 3))
    # Two candidates, three folds, four coefficients and an intercept.
    assert 2 * FOLDS * (FEATURES + 1) == parameters(state, plan)
    assert policy.simulated(study_of()).max_parameters_per_patient > 2 * FOLDS * (FEATURES + 1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tuning__grid": {"max_itr": [1]}}, "no option 'max_itr'. Did you mean 'max_iter'?"),
        ({"tuning__grid": {"C": [-1.0]}}, "with C = -1.0"),
        ({"tuning__grid": {"C": []}}, "expected at least 1 of them. Received: []"),
        ({"tuning__grid": {"C": [0.1, 0.1]}}, "expected each value of C once. Received: [0.1, 0.1]"),
        ({"tuning__grid": {"C": [float(k + 1) for k in range(101)]}}, "at most 100 combinations. Received: 101"),
        ({"tuning__folds": 1}, "folds"),
        ({"tuning__grid": {"min_subset_patients": [1, 5]}}, "protects patients; no fit chooses it"),
        (
            {
                "privacy__epsilon": 1.0,
                "privacy__delta": 1e-4,
                "method__name": "private-logistic-regression",
                "method__options": {},
            },
            "each would cost epsilon",
        ),
    ],
)
def test_what_cannot_be_tried_is_said_before_anything_runs(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError) as caught:
        study_of(**changes)
    assert said in str(caught.value)


def test_combinations_are_in_the_order_of_the_grid() -> None:
    study = study_of(tuning__grid={"C": [1.0, 2.0], "max_iter": [1, 5]})
    assert study.tuning is not None
    assert [(1.0, 1), (1.0, 5), (2.0, 1), (2.0, 5)] == [tuple(each.values()) for each in study.tuning.candidates]
