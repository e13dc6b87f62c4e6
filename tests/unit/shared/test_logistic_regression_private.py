"""Private logistic regression: what one patient can change, what it converges to, and what it refuses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of
from sklearn.linear_model import LogisticRegression

from shared.errors import StudyError
from shared.examples import Arrays, Examples
from shared.methods.base import ROOM, PlainMean, Total, broadcast
from shared.methods.logistic_regression import penalised_loss
from shared.methods.logistic_regression_private import PrivateLogisticRegression, clipped_sum
from shared.methods.preparation_private import blank
from shared.randomness import for_site
from shared.scores import probabilities
from shared.study import Study
from tests.builders import examples_of, table_study

RANDOMNESS = for_site(1, "a", 1)
SMALL = st.floats(-1e3, 1e3)


def private(classes: int = 2, rounds: int = 3, clipping_norm: float = 1.0, **changes: Any) -> Study:
    return table_study(
        **{
            "privacy": {"epsilon": 5.0, "delta": 1e-4, "clipping_norm": clipping_norm},
            "aggregation": {},
            "method": {"name": "private-logistic-regression", "rounds": rounds},
            "data__columns__y": {"type": "category", "levels": list(range(classes))},
            **changes,
        }
    )


def method_of(study: Study, patients: int = 0, noise_multiplier: float | None = 1.0) -> PrivateLogisticRegression:
    """The method on columns that are scaled to deviation 1."""
    preparation = dataclasses.replace(blank(study.data), rows=patients)
    columns = [dataclasses.replace(column, scale=1.0) for column in preparation.columns]
    preparation = dataclasses.replace(preparation, columns=tuple(columns))
    return PrivateLogisticRegression.create(study, preparation, PlainMean(), noise_multiplier)


def sample(classes: int, n: int) -> Examples:
    rng = np.random.default_rng(classes)
    x = rng.normal(size=(n, 2))
    return examples_of(x, np.argmax(x @ rng.normal(size=(2, classes)) + rng.normal(size=(n, classes)), axis=1))


def total_of(gradient: Any) -> Total:
    return Total({"gradient": np.asarray(gradient, dtype=np.float64)}, 1.0, 1)


def run(method: PrivateLogisticRegression, examples: Examples, noise: float = 0.0) -> Arrays:
    rng = np.random.default_rng(0)
    state = method.start()
    while not method.finished(state):
        assert method.asks(state).state_norm <= method.state_norm_bound
        contribution, _ = method.contribute(broadcast(state), examples, {}, RANDOMNESS)
        gradient = contribution.arrays["gradient"]
        state, measurements = method.advance(state, total_of(gradient + noise * rng.normal(size=gradient.shape)))
        assert measurements == {}
    return method.result(broadcast(state))


@given(
    arrays_of.arrays(np.float64, (6, 3), elements=SMALL),
    arrays_of.arrays(np.float64, (6, 4), elements=SMALL),
    st.lists(st.integers(0, 5), min_size=6, max_size=6),
    st.floats(1e-3, 1e3),
)
def test_no_patient_changes_the_sum_by_more_than_the_clipping_norm(
    residuals: Any, rows: Any, owners: list[int], clipping_norm: float
) -> None:
    patients = np.array(owners)
    whole = clipped_sum(residuals, rows, patients, clipping_norm)
    for patient in owners:
        others = patients != patient
        change = whole - clipped_sum(residuals[others], rows[others], patients[others], clipping_norm)
        assert np.linalg.norm(change) <= clipping_norm * (1 + 1e-9)


def test_a_gradient_is_residual_times_row_and_clipped_as_one() -> None:
    residuals, rows = np.array([[0.5], [-1.0]]), np.array([[3.0, 4.0], [0.6, 0.8]])
    # The first has norm 2.5 and is clipped to 2; the second has norm 1 and stays.
    expected = [[2 * 0.6 - 0.6, 2 * 0.8 - 0.8]]
    assert clipped_sum(residuals, rows, np.array([0, 1]), 2.0) == pytest.approx(np.array(expected))


def test_rows_of_one_patient_are_averaged_before_they_are_clipped() -> None:
    residuals, rows = np.array([[1.0], [1.0], [-1.0]]), np.array([[9.0, 0.0], [-8.0, 0.0], [0.0, 0.25]])
    # (9 - 8) / 2 is below the norm of 1, though each of the two rows is beyond it.
    assert clipped_sum(residuals, rows, np.array([0, 0, 1]), 1.0).tolist() == [[0.5, -0.25]]


def test_a_row_given_twice_is_the_patient_of_one_row() -> None:
    rng = np.random.default_rng(1)
    residuals, rows, patients = rng.normal(size=(20, 3)), rng.normal(size=(20, 4)), np.arange(20)
    twice = clipped_sum(np.tile(residuals, (2, 1)), np.tile(rows, (2, 1)), np.tile(patients, 2), 0.7)
    assert clipped_sum(residuals, rows, patients, 0.7) == pytest.approx(twice)


@pytest.mark.parametrize("classes", [2, 3])
def test_the_unclipped_sum_is_the_gradient_of_the_log_loss(classes: int) -> None:
    method, examples = method_of(private(classes, clipping_norm=1e6)), sample(classes, 40)
    rng = np.random.default_rng(2)
    state = {name: array + rng.normal(size=array.shape) for name, array in method.start().items()}
    contribution, _ = method.contribute(broadcast(state), examples, {}, RANDOMNESS)
    weights = np.column_stack([state["weights/coef"], state["weights/intercept"]])
    target = examples.labels if classes == 2 else np.eye(classes)[examples.labels.astype(int)]
    _, slope = penalised_loss(weights.ravel(), examples.values, target, 0.0)
    assert contribution.arrays["gradient"].ravel() == pytest.approx(40 * slope)


@pytest.mark.parametrize("classes", [2, 3])
def test_without_clipping_and_noise_it_reaches_the_optimum_of_scikit_learn(classes: int) -> None:
    options = {"learning_rate": 0.5, "C": 0.3}
    study = private(classes, rounds=800, clipping_norm=1e6, method__options=options)
    examples = sample(classes, 60)
    method = method_of(study, patients=60)
    prepared = method.preparation.transform(examples)
    said = probabilities(method.scores(run(method, examples), prepared))
    oracle = LogisticRegression(C=0.3, tol=1e-9, max_iter=1000).fit(prepared.x, prepared.y)
    assert said == pytest.approx(oracle.predict_proba(prepared.x), abs=1e-5)


def test_a_step_is_momentum_and_the_result_the_mean_of_the_last_half() -> None:
    study = private(rounds=4, method__options={"learning_rate": 0.1, "momentum": 0.5, "C": 1e9})
    method = method_of(study, patients=10)
    state = method.start()
    for _ in range(4):
        state, _ = method.advance(state, total_of([[10.0, 0.0, -20.0]]))
    # Velocities 1, 1.5, 1.75, 1.875; weights -0.1, -0.25, -0.425, -0.6125, of which the last two count.
    weights = method.result(broadcast(state))
    assert weights["coef"] == pytest.approx(np.array([[-(0.425 + 0.6125) / 2, 0.0]]), abs=1e-7)
    assert weights["intercept"] == pytest.approx([0.425 + 0.6125], abs=1e-7)


def test_the_penalty_spares_the_intercept() -> None:
    method = method_of(private(method__options={"learning_rate": 1.0, "C": 0.5}), patients=4)
    start = {**method.start(), "weights/coef": np.array([[1.0, 2.0]]), "weights/intercept": np.array([3.0])}
    state, _ = method.advance(start, total_of(np.zeros((1, 3))))
    assert state["weights/coef"] == pytest.approx(np.array([[0.5, 1.0]]))  # 1 - 1 / (0.5 * 4) is left
    assert state["weights/intercept"].tolist() == [3.0]


def test_overwhelming_noise_leaves_weights_that_sites_accept() -> None:
    weights = run(method_of(private(rounds=20, method__options={"C": 1e-3}), patients=1), sample(2, 10), noise=1e12)
    assert np.isfinite(weights["coef"]).all()


def test_noise_of_a_few_patients_does_little_harm() -> None:
    examples = sample(2, 400)
    method = method_of(private(rounds=30), patients=400)
    weights = run(method, examples, noise=4.0)
    prepared = method.preparation.transform(examples)
    exact = LogisticRegression().fit(prepared.x, prepared.y)
    right = np.mean((method.scores(weights, prepared)[:, 1] > 0) == prepared.y)
    assert right >= exact.score(prepared.x, prepared.y) - 0.01


def test_it_asks_for_noise_on_one_sum_of_gradients_and_a_constant_weight() -> None:
    method = method_of(private(3, clipping_norm=2.0), noise_multiplier=7.0)
    ask = method.asks(method.start())
    assert ask.influence is not None
    assert (ask.noise_multiplier, ask.influence.l2, ask.influence.l1, ask.exact) == (7.0, 2.0, 2.0 * 3.0, False)
    assert [(entry.name, entry.shape, entry.bound) for entry in ask.entries] == [("gradient", (3, 3), 2000.0 * ROOM)]
    contribution, _ = method.contribute(method.start(), sample(3, 5), {}, RANDOMNESS)
    assert (set(contribution.arrays), contribution.weight) == ({"gradient"}, 1.0)


def test_without_a_noise_multiplier_nothing_is_asked() -> None:
    method = method_of(private(), noise_multiplier=None)
    with pytest.raises(ValueError, match="without noise"):
        method.asks(method.start())


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"privacy": None}, r"needs a \[privacy\] part"),
        ({"data__columns__y": {"type": "number", "range": [0, 1]}}, "predicts classes"),
        ({"aggregation": {"strategy": "FedAvgM"}}, "moves its weights itself"),
        ({"method": {"name": "logistic-regression", "rounds": 3}}, "private-logistic-regression"),
        ({"method__options": {"max_iter": 2}}, "max_iter"),
    ],
)
def test_what_does_not_go_together_is_refused(changes: Mapping[str, Any], reason: str) -> None:
    with pytest.raises(StudyError, match=reason):
        private(**changes)


def test_in_one_place_it_is_logistic_regression_without_privacy() -> None:
    study = private(method__options={"C": 0.25})
    alone = PrivateLogisticRegression.centralised(study)
    assert (alone.method.name, alone.method.options.C, alone.privacy) == ("logistic-regression", 0.25, None)
