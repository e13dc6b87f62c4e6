"""Logistic regression by averaging: agrees with scikit-learn, and survives what hospitals lack."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from shared.methods.base import Total
from shared.methods.logistic_regression import penalised_loss
from shared.plan import PREPARE, TRAIN
from shared.preparation import Prepared
from shared.randomness import for_site
from tests.builders import Consortium, examples_of, random_consortium, site_of, table_study, ticking


def test_one_site_with_many_iterations_is_scikit_learn() -> None:
    study = table_study(method__rounds=1, method__options={"max_iter": 1000, "C": 0.5})
    consortium = random_consortium(study, {"a": 60})
    plan, progress = consortium.run(ticking())
    results = plan.result(progress.state)
    prepared = results[PREPARE].transform(consortium.data["a"].parts["training"])
    oracle = LogisticRegression(C=0.5, max_iter=1000).fit(prepared.x, prepared.y)
    assert results[TRAIN]["coef"] == pytest.approx(oracle.coef_, abs=1e-6)
    assert results[TRAIN]["intercept"] == pytest.approx(oracle.intercept_, abs=1e-6)


def test_one_round_is_the_mean_of_local_fits_weighted_by_rows() -> None:
    study = table_study(method__rounds=1)
    consortium = random_consortium(study, {"a": 10, "b": 30})
    plan, progress = consortium.run(ticking())
    results = plan.result(progress.state)
    fits = []
    for site in consortium.data.values():
        prepared = results[PREPARE].transform(site.parts["training"])
        with pytest.warns(match="failed to converge"):
            fits.append(LogisticRegression(C=1.0, max_iter=1).fit(prepared.x, prepared.y).coef_)
    assert results[TRAIN]["coef"] == pytest.approx((10 * fits[0] + 30 * fits[1]) / 40, abs=1e-7)


def test_a_site_with_one_class_trains_on() -> None:
    study = table_study(features=1, method__rounds=2)
    data = {
        "mixed": site_of("mixed", examples_of([[-1.0], [1.0], [2.0]], [0, 1, 1])),
        "all_sick": site_of("all_sick", examples_of([[0.5], [1.5]], [1, 1], first=10)),
    }
    _, progress = Consortium(study, data).run(ticking())
    assert [record.contributors for record in progress.history] == [("mixed", "all_sick")] * 4


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("max_iter", [1, 5, 1000])
@pytest.mark.parametrize("absent", [False, True])
def test_the_local_step_is_that_of_scikit_learn(classes: int, max_iter: int, absent: bool) -> None:
    """Warm-started from weights that are not zero; an absent class stands as a row of weight zero there."""
    rng = np.random.default_rng(classes)
    x = rng.normal(size=(50, 4))
    y = rng.integers(0, classes - absent, 50).astype(float)
    start = {
        "coef": rng.normal(size=(1 if classes == 2 else classes, 4)),
        "intercept": rng.normal(size=max(classes - 1, 1) if classes == 2 else classes),
    }
    changes = {"data__columns__y": {"type": "category", "levels": list(range(classes))}}
    study = table_study(features=4, method__options={"max_iter": max_iter, "C": 0.7}, **changes)
    plan, progress = Consortium(study, {"a": site_of("a", examples_of(x, y))}).run(ticking())
    ours = plan.method(progress.state, TRAIN)._fit(start, Prepared(x, y))  # type: ignore[attr-defined]
    oracle = LogisticRegression(C=0.7, max_iter=max_iter, warm_start=True)
    oracle.classes_ = np.arange(float(classes))
    oracle.coef_, oracle.intercept_ = start["coef"].copy(), start["intercept"].copy()
    rows = np.vstack([x, np.zeros((classes, 4))])
    weight = np.concatenate([np.ones(50), np.zeros(classes)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        oracle.fit(rows, np.concatenate([y, np.arange(float(classes))]), sample_weight=weight)
    assert ours["coef"] == pytest.approx(oracle.coef_, rel=1e-6, abs=1e-8)
    assert ours["intercept"] == pytest.approx(oracle.intercept_, rel=1e-6, abs=1e-8)


def test_the_gradient_is_the_slope_of_the_loss() -> None:
    rng = np.random.default_rng(5)
    x, w = rng.normal(size=(20, 3)), rng.normal(size=8)
    target = np.eye(2)[rng.integers(0, 2, 20)]
    _, gradient = penalised_loss(w, x, target, 0.3)
    steps = 1e-6 * np.eye(8)
    slopes = [
        (penalised_loss(w + s, x, target, 0.3)[0] - penalised_loss(w - s, x, target, 0.3)[0]) / 2e-6 for s in steps
    ]
    assert gradient == pytest.approx(slopes, abs=1e-8)


def test_the_loss_is_that_of_the_broadcast_weights() -> None:
    study = table_study(method__rounds=1)
    _, progress = random_consortium(study, {"a": 10, "b": 30}).run(ticking())
    assert progress.history[1].measurements["loss"] == pytest.approx(np.log(2), abs=1e-6)  # zeros say one half


def test_several_classes_are_multinomial() -> None:
    study = table_study(
        method__rounds=1, method__options={"max_iter": 1000}, data__columns__y={"type": "category", "levels": [0, 1, 2]}
    )
    rng = np.random.default_rng(3)
    x = rng.normal(size=(90, 2))
    y = np.argmax(x @ rng.normal(size=(2, 3)) + rng.normal(size=(90, 3)), axis=1).astype(float)
    consortium = Consortium(study, {"a": site_of("a", examples_of(x, y))})
    plan, progress = consortium.run(ticking())
    results = plan.result(progress.state)
    prepared = results[PREPARE].transform(consortium.data["a"].parts["training"])
    oracle = LogisticRegression(max_iter=1000).fit(prepared.x, y)
    method = plan.method(progress.state, TRAIN)
    odds = method.scores(results[TRAIN], prepared)
    assert 1 / (1 + np.exp(-odds)) == pytest.approx(oracle.predict_proba(prepared.x), abs=1e-6)


def test_contributing_is_pure() -> None:
    study = table_study()
    consortium = random_consortium(study, {"a": 10})
    plan, progress = consortium.run(ticking())
    state = {**plan.start(), **progress.state, "stage": np.array(1), "train/round": np.array(0)}
    examples = consortium.data["a"].parts["training"]
    first, _ = plan.contribute(state, examples, {}, for_site(7, "a", 2))
    second, _ = plan.contribute(state, examples, {}, for_site(7, "a", 2))
    assert all(np.array_equal(first.arrays[name], second.arrays[name]) for name in first.arrays)
    moved, _ = plan.advance(state, Total(first.arrays, first.weight, 1))
    assert int(moved["train/round"]) == 1
