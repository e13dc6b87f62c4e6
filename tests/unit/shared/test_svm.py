"""The support vector machine by sums: ``LinearSVC`` on the pooled rows, with masks on, and a Gaussian kernel."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from shared.errors import StudyError
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
def test_it_is_scikit_learns_machine_on_the_pooled_rows(classes: int) -> None:
    label = {"data__columns__y": THREE} if classes == 3 else {}
    x, y = rows(classes)
    ours = fit(secure_study("svm", method__options={"C": 0.6}, **label), x, y)
    oracle = LinearSVC(C=0.6, dual=False, tol=1e-10, max_iter=10_000).fit(ours.x, y)
    assert oracle.coef_ == pytest.approx(ours.weights["coef"], abs=1e-6)
    assert oracle.intercept_ == pytest.approx(ours.weights["intercept"], abs=1e-6)


def test_with_newtons_own_hessian_it_is_the_same_machine_sooner() -> None:
    x, y = rows()
    held = fit(secure_study("svm"), x, y)
    own = fit(secure_study("svm", method__options={"min_subset_patients": 1}), x, y)
    assert own.weights["coef"] == pytest.approx(held.weights["coef"], abs=1e-8)
    assert own.rounds < held.rounds


def test_hessians_of_two_rounds_differ_by_enough_patients_or_by_none() -> None:
    """Two rows a patient, so five patients are five to ten rows."""
    x, y = rows()
    examples = dataclasses.replace(examples_of(x, y), patients=np.repeat([f"p{k}" for k in range(60)], 2))
    method = Svm.create(secure_study("svm"), prepared_by(secure_study("svm"), examples), PlainMean())
    state, memory, hessians = method.start(), {}, []
    for size in np.linspace(0.0, 1.0, 40):
        at = {**state, "weights/coef": np.full((1, 3), size), "round": np.array(round(39 * size))}
        contribution, memory = method.contribute(at, examples, memory, for_site(7, "a", 2))
        hessians.append(contribution.arrays["hessian"][0, 0])
    sets = np.unique(memory["summed"][:, :, 0], axis=0)
    apart = [int((one ^ other).reshape(60, 2).any(axis=1).sum()) for one, other in itertools.combinations(sets, 2)]
    assert len(sets) > 3
    assert min(apart) >= 5
    assert len(set(hessians)) <= len(sets)


def test_with_the_memory_of_a_run_another_one_sums_over_the_same_rows() -> None:
    x, y = rows()
    examples = examples_of(x, y)
    method = Svm.create(secure_study("svm"), prepared_by(secure_study("svm"), examples), PlainMean())
    memory, runs = {}, []
    for _ in range(2):
        state, hessians = method.start(), []
        while not method.finished(state):
            contribution, memory = method.contribute(state, examples, memory, for_site(7, "a", 2))
            hessians.append(contribution.arrays["hessian"].tobytes())
            state, _ = method.advance(state, Total(contribution.arrays, contribution.weight, 1))
        runs.append(hessians)
    assert runs[0] == runs[1]


def test_the_fewest_patients_inside_the_margin_are_told_to_the_policy() -> None:
    examples = examples_of([[-9.0], [0.1], [9.0]], [0, 1, 1])
    study = secure_study("svm", 1)
    method = Svm.create(study, prepared_by(study, examples), PlainMean())
    state = {**method.start(), "weights/coef": np.full((1, 1), 5.0)}
    assert method.asks(state).data_dependent_subsets
    assert method.contribute(state, examples, {}, for_site(7, "a", 2))[0].smallest_subset == 1


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
    ],
)
def test_what_it_cannot_serve_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        secure_study("svm", **changes)
