"""The support vector machine by sums: ``LinearSVC`` on the pooled rows, with masks on, and a Gaussian kernel."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from shared.errors import StudyError
from shared.examples import Examples
from shared.methods import two_words
from shared.methods.base import PlainMean, Total
from shared.methods.svm import Svm, _cosines, _features
from shared.randomness import for_site
from tests.builders import examples_of
from tests.unit.shared.linear_models import NUMBER, THREE, fit, prepared_by, secure_study


def rows(classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(2)
    x = rng.normal(size=(120, 3))
    return x, np.argmax(x @ rng.normal(size=(3, classes)) + rng.gumbel(size=(120, classes)), axis=1).astype(float)


@pytest.mark.parametrize("classes", [2, 3])
def test_where_one_patient_may_move_it_is_scikit_learns_machine_on_the_pooled_rows(classes: int) -> None:
    label = {"data__columns__y": THREE} if classes == 3 else {}
    x, y = rows(classes)
    ours = fit(secure_study("svm", method__options={"C": 0.6, "min_subset_patients": 1}, **label), x, y)
    oracle = LinearSVC(C=0.6, dual=False, tol=1e-10, max_iter=10_000).fit(ours.x, y)
    assert oracle.coef_ == pytest.approx(ours.weights["coef"], abs=1e-6)
    assert oracle.intercept_ == pytest.approx(ours.weights["intercept"], abs=1e-6)


def test_where_five_patients_move_together_the_machine_is_nearly_the_same() -> None:
    x, y = rows()
    ours = fit(secure_study("svm"), x, y)
    own = fit(secure_study("svm", method__options={"min_subset_patients": 1}), x, y)
    assert own.weights["coef"] == pytest.approx(ours.weights["coef"], abs=0.05)
    assert own.weights["coef"] != pytest.approx(ours.weights["coef"], abs=1e-3)


def one_hospital(x: np.ndarray, y: np.ndarray, patients: int, **changes: Any) -> tuple[Svm, Examples]:
    """The method and the rows, dealt to so many patients in turn."""
    of = np.array([f"p{k % patients}" for k in range(len(y))])
    examples, study = dataclasses.replace(examples_of(x, y), patients=of), secure_study("svm", **changes)
    return Svm.create(study, prepared_by(study, examples), PlainMean()), examples


def test_whatever_is_made_of_a_hospitals_sums_is_about_five_patients_or_nobody() -> None:
    """Rows that are in the same sums, with the same label, cannot be told apart; two rows a patient, three classes."""
    x, y = rows(3)
    method, examples = one_hospital(x, y, 60, data__columns__y=THREE)
    state, memory, sets = method.start(), {}, []
    for drawn in np.random.default_rng(3).normal(size=(12, 3, 3)):
        sets.append(method.targets_at(method._parameters(state), examples, memory)[0].y != 0)
        contribution, memory = method.contribute(state, examples, memory, for_site(7, "a", 2))
        hessian = two_words.join(method._parts(state), contribution.arrays)["hessian"]
        assert sets[-1].sum(axis=0) == pytest.approx(hessian[:, 0] / 2.0)
        state = {**state, "weights/coef": drawn, "round": np.array(1)}
    together = np.unique(np.vstack([y, *(each.T for each in sets)]), axis=1, return_inverse=True)[1].ravel()
    assert together.max() > 5
    assert min(len(np.unique(examples.patients[together == k])) for k in range(together.max() + 1)) >= 5
    halves = [rows & half for each in sets for rows in each.T for half in (y == 0, y == 1, y == 2, y >= 0)]
    apart = [one ^ other for one, other in itertools.combinations(halves, 2) if (one != other).any()]
    assert min(len(np.unique(examples.patients[rows])) for rows in apart) >= 5


def test_asked_again_in_another_run_a_hospital_sums_over_the_same_rows() -> None:
    """Its groups are smaller then."""
    x = np.random.default_rng(1).normal(size=(90, 3))
    method, examples = one_hospital(x, (x.sum(axis=1) > 0).astype(float), 90, method__options={"C": 100.0})
    memory, runs = {}, []
    for _ in range(2):
        state, sums = method.start(), []
        while not method.finished(state):
            contribution, memory = method.contribute(state, examples, memory, for_site(7, "a", 2))
            sums.append(contribution.arrays["hessian"].tobytes())
            state, _ = method.advance(state, Total(contribution.arrays, contribution.weight, 1))
        runs.append(sums)
    assert len(set(runs[0])) > 2
    assert runs[0] == runs[1]


def test_the_fewest_patients_who_move_together_are_told_to_the_policy() -> None:
    """Seven of fourteen of a class are beyond the margin, and so are all of the other."""
    x = np.array([-1.0] * 9 + [1.0] * 7 + [0.0] * 7)[:, None]
    study = secure_study("svm", 1)
    examples = examples_of(x, [0] * 9 + [1] * 14)
    method = Svm.create(study, prepared_by(study, examples), PlainMean())
    state = {**method.start(), "weights/coef": np.full((1, 1), 2.0)}
    assert 5 == method.asks(state).subset_patients
    assert 7 == method.contribute(state, examples, {}, for_site(7, "a", 2))[0].smallest_subset


def told_alone(least: int, seed: int) -> int:
    """Patients whose row is the difference of two rounds' sums, of an honest run of three hospitals with 80 each."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(240, 4))
    y = (x @ rng.normal(size=4) + rng.logistic(size=240) > 0).astype(float)
    pooled, study = examples_of(x, y), secure_study("svm", 4, method__options={"min_subset_patients": least})
    method = Svm.create(study, prepared_by(study, pooled), PlainMean())
    sites, memories = [pooled.take(each) for each in np.split(np.arange(240), 3)], [{}, {}, {}]
    state, told = method.start(), []
    while not method.finished(state):
        total = None
        for k, examples in enumerate(sites):
            made, memories[k] = method.contribute(state, examples, memories[k], for_site(7, "a", 2))
            total = made.arrays if total is None else {name: total[name] + made.arrays[name] for name in total}
        sums = method._sums(two_words.join(method._parts(state), total), method._parameters(state))
        point = method._parameters(state).ravel()
        squares = (sums.hessian - np.eye(5)) / 2.0
        labels = squares @ point - (sums.gradient - point) / 2.0
        # Of all rows summed, of those of each class, and of both with the sign of the label.
        told.append(np.stack([squares[0], labels, (squares[0] + labels) / 2.0, (squares[0] - labels) / 2.0]))
        state, _ = method.advance(state, Total(total, 240.0, 3))
    matrix, found = method.matrix(pooled), set()
    for one, other in itertools.combinations(told, 2):
        for difference in one - other:
            if abs(difference[0]) > 0.5:
                away = np.abs(matrix - difference[1:] / difference[0]).max(axis=1)
                found |= set(np.flatnonzero(away < 1e-6))
    return len(found)


def test_an_exact_gradient_less_the_hessian_tells_no_row_but_where_one_patient_may_move() -> None:
    assert sum(told_alone(1, seed) for seed in range(20)) > 0
    assert 0 == sum(told_alone(5, seed) for seed in range(20))


def test_where_rows_go_in_and_out_for_ever_the_search_ends_all_the_same() -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(90, 20))
    y = (x @ rng.normal(size=20) > 0).astype(float)
    ours = fit(secure_study("svm", 20, 40, method__options={"C": 1e4, "min_subset_patients": 2}), x, y)
    assert 6 < ours.rounds < 40
    assert np.mean((ours.method.scores(ours.weights, ours)[:, 1] > 0) == y) > 0.9


def test_what_stands_as_log_odds_is_twice_the_margin() -> None:
    x, y = rows()
    ours = fit(secure_study("svm"), x, y)
    margin = ours.x @ ours.weights["coef"][0] + ours.weights["intercept"][0]
    assert np.column_stack([-2 * margin, 2 * margin]) == pytest.approx(ours.method.scores(ours.weights, ours))


def test_a_class_inside_a_ring_is_told_apart_with_a_kernel() -> None:
    rng = np.random.default_rng(0)
    angle, radius = rng.uniform(0, 2 * np.pi, 300), np.repeat([0.5, 2.0, 0.5, 2.0, 0.5, 2.0], 50)
    x = np.column_stack([radius * np.cos(angle), radius * np.sin(angle)])
    y = (radius > 1).astype(float)
    ours = fit(secure_study("svm", 2, method__options={"rbf_features": 50}), x, y)
    assert np.array_equal(y, ours.method.scores(ours.weights, ours)[:, 1] > 0)


def test_cosines_multiply_to_the_gaussian_kernel() -> None:
    x = np.random.default_rng(1).normal(size=(6, 3))
    features = _features(x, _cosines(1, 3, 20_000, 0.4))
    squares = np.square(x[:, None] - x[None]).sum(axis=2)
    assert np.exp(-0.4 * squares) == pytest.approx(features @ features.T, abs=0.03)


def test_the_weights_of_a_linear_machine_are_told_by_column() -> None:
    ours = fit(secure_study("svm"), *rows())
    table = ours.method.interpretation(ours.weights).tables[0]
    assert ("1", "x0", pytest.approx(ours.weights["coef"][0, 0])) == table.rows[1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__columns__y": NUMBER}, "svm predicts classes"),
        ({"method__options": {"gamma": 0.1}}, "expected rbf_features with it"),
        ({"tuning": {"grid": {"C": [0.1, 1.0]}}}, "min_subset_patients = 1, which few hospitals allow"),
    ],
)
def test_what_it_cannot_serve_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        secure_study("svm", **changes)
