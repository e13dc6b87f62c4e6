"""Generalised linear models by sums: the pooled optimum and statsmodels' table, with masks on; separation is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression

from client.site import encode
from shared.bundle import load_bundle, write_bundle
from shared.errors import NoEstimate, StudyError
from shared.methods.base import PlainMean
from shared.methods.glm import Glm
from shared.methods.words import word_plan
from shared.randomness import for_site
from shared.study import Study
from tests.builders import examples_of
from tests.unit.shared.linear_models import COUNT, THREE, Fit, fit, prepared_by, secure_study


def study_of(family: str, features: int = 3, **changes: Any) -> Study:
    label = {"multinomial": {"data__columns__y": THREE}, "poisson": {"data__columns__y": COUNT}}.get(family, {})
    options = {"family": family, **changes.pop("options", {})}
    return secure_study("glm", features, **{**label, "method__options": options, **changes})


def rows(family: str = "logistic", n: int = 150) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, 3))
    eta = x @ [1.0, -0.7, 0.2] + 0.3
    if family == "poisson":
        return x, rng.poisson(np.exp(0.5 * eta)).astype(float)
    if family == "multinomial":
        return x, np.argmax(np.outer(eta, [0.0, 1.0, -0.5]) + rng.gumbel(size=(n, 3)), axis=1).astype(float)
    return x, (eta + rng.logistic(size=n) > 0).astype(float)


def columns(ours: Fit) -> np.ndarray:
    """Coefficient, standard error, statistic, p and interval of every row, shape (6, rows)."""
    return np.array(list(ours.table.values()), dtype=float)[:, :6].T


def of_statsmodels(oracle: Any) -> np.ndarray:
    return np.array([oracle.params, oracle.bse, oracle.tvalues, oracle.pvalues, *oracle.conf_int().T])


def test_the_logistic_table_is_that_of_statsmodels() -> None:
    x, y = rows()
    ours = fit(study_of("logistic"), x, y)
    oracle = sm.Logit(y, sm.add_constant(x)).fit(disp=0, tol=1e-14)
    assert of_statsmodels(oracle) == pytest.approx(columns(ours), rel=1e-7)
    assert np.exp(oracle.params) == pytest.approx([row[6] for row in ours.table.values()], rel=1e-7)
    said = {"log-likelihood": oracle.llf, "AIC": oracle.aic, "deviance without columns": -2 * oracle.llnull}
    assert said == pytest.approx({name: ours.said[name] for name in said}, rel=1e-9)


def test_the_multinomial_table_is_that_of_statsmodels() -> None:
    x, y = rows("multinomial")
    ours = fit(study_of("multinomial"), x, y)
    oracle = sm.MNLogit(y, sm.add_constant(x)).fit(disp=0, tol=1e-14, maxiter=100)
    table = ours.method.interpretation(ours.weights).tables[0]
    found = np.array([row[2:5] for row in table.rows], dtype=float).reshape(2, 4, 3)
    assert np.stack([oracle.params.T, oracle.bse.T, oracle.tvalues.T], axis=2) == pytest.approx(found, rel=1e-6)
    assert ("1 against 0", "(intercept)") == table.rows[0][:2]
    assert (oracle.llf, oracle.aic) == pytest.approx((ours.said["log-likelihood"], ours.said["AIC"]), rel=1e-9)


def test_poisson_with_offset_and_weights_is_that_of_statsmodels() -> None:
    x, y = rows("poisson")
    rng = np.random.default_rng(0)
    time, weight = rng.uniform(-1, 1, len(y)), rng.uniform(0, 3, len(y))
    ours = fit(
        study_of("poisson", 5, options={"offset": "x3", "weights": "x4"}, data__columns__x4=COUNT),
        np.column_stack([x, time, weight]),
        y,
    )
    oracle = sm.GLM(y, sm.add_constant(x), sm.families.Poisson(), offset=time, freq_weights=weight).fit(tol=1e-14)
    assert of_statsmodels(oracle) == pytest.approx(columns(ours), rel=1e-7)
    said = {"deviance": oracle.deviance, "log-likelihood": oracle.llf, "AIC": oracle.aic}
    assert said == pytest.approx({name: ours.said[name] for name in said}, rel=1e-9)
    assert oracle.fittedvalues == pytest.approx(ours.method.scores(ours.weights, ours)[:, 0], rel=1e-8)


def test_rows_without_weight_or_offset_do_not_count() -> None:
    x, y = rows()
    there = np.arange(len(y)) % 5 > 1
    weight = np.where(np.arange(len(y)) % 5 == 0, np.nan, 1.0)
    offset = np.where(np.arange(len(y)) % 5 == 1, np.nan, 0.0)
    study = study_of("logistic", 5, options={"offset": "x3", "weights": "x4"}, data__columns__x4=COUNT)
    ours = fit(study, np.column_stack([x, offset, weight]), y)
    oracle = sm.Logit(y[there], sm.add_constant(x[there])).fit(disp=0, tol=1e-14)
    assert of_statsmodels(oracle) == pytest.approx(columns(ours), rel=1e-7)


@pytest.mark.parametrize("family", ["logistic", "multinomial"])
def test_with_a_penalty_it_is_scikit_learns_optimum(family: str) -> None:
    x, y = rows(family)
    ours = fit(study_of(family, options={"l2": 2.0}), x, y)
    oracle = LogisticRegression(C=0.5, solver="newton-cholesky", tol=1e-14, max_iter=1000).fit(ours.x, y)
    assert oracle.coef_ == pytest.approx(ours.weights["coef"], abs=1e-10)
    assert oracle.intercept_ == pytest.approx(ours.weights["intercept"], abs=1e-10)
    log_odds = ours.method.scores(ours.weights, ours)
    assert oracle.predict_proba(ours.x) == pytest.approx(1 / (1 + np.exp(-log_odds)), abs=1e-10)


def test_breast_cancer_with_a_penalty_of_a_thousandth_takes_at_most_twelve_rounds() -> None:
    """scikit-learn's own takes more."""
    x, y = load_breast_cancer(return_X_y=True)
    ranges = {f"data__columns__x{k}": {"type": "number", "range": [0.0, float(x[:, k].max())]} for k in range(30)}
    ours = fit(study_of("logistic", 30, options={"l2": 1e-3}, **ranges), x, y.astype(float))
    oracle = LogisticRegression(C=1e3, solver="newton-cholesky", tol=1e-14, max_iter=1000).fit(ours.x, y)
    assert oracle.n_iter_[0] > 12
    assert oracle.coef_ == pytest.approx(ours.weights["coef"], abs=1e-8)
    assert ours.rounds <= 12


def test_a_site_without_a_class_and_missing_values_change_nothing() -> None:
    x, y = rows()
    order = np.argsort(y, kind="stable")
    x, y = x[order], y[order]
    x[::7, 1] = np.nan
    ours = fit(study_of("logistic"), x, y)
    filled = np.where(np.isnan(x), ours.preparation.columns[1].fill, x)
    oracle = sm.Logit(y, sm.add_constant(np.column_stack([filled, np.isnan(x[:, 1])]))).fit(disp=0, tol=1e-14)
    # The indicator stands beside its column.
    assert oracle.params[[0, 1, 2, 4, 3]] == pytest.approx(columns(ours)[0], rel=1e-8)
    assert ["(intercept)", "x0", "x1", "x1 missing", "x2"] == list(ours.table)


def test_levels_are_compared_with_the_first() -> None:
    x, y = rows()
    x[:, 2] = np.arange(len(y)) % 3
    study = study_of("logistic", data__columns__x2={"type": "category", "levels": ["a", "b", "c"]})
    ours = fit(study, x, y)
    level = x[:, 2:] == [1, 2]
    oracle = sm.Logit(y, sm.add_constant(np.column_stack([x[:, :2], level]))).fit(disp=0, tol=1e-14)
    assert of_statsmodels(oracle) == pytest.approx(columns(ours), rel=1e-7)
    assert ["(intercept)", "x0", "x1", "x2=b", "x2=c"] == list(ours.table)
    assert "x2=a" in ours.method.interpretation(ours.weights).sentences[0]


def test_a_constant_and_a_collinear_column_are_named_and_the_others_estimated() -> None:
    x, y = rows()
    x[:, 2] = 2.0 * x[:, 0] - x[:, 1]
    ours = fit(study_of("logistic", 4), np.column_stack([x, np.full(len(y), 5.0)]), y)
    oracle = sm.Logit(y, sm.add_constant(x[:, :2])).fit(disp=0, tol=1e-14)
    assert of_statsmodels(oracle) == pytest.approx(columns(ours)[:, :3], rel=1e-7)
    assert "x2, x3" in ours.method.interpretation(ours.weights).sentences[0]


def separated(family: str) -> tuple[np.ndarray, np.ndarray]:
    """Rows of which x2 is 0 or 1, and a label that is the same wherever it is 1."""
    x, y = rows(family)
    x[:, 2] = np.arange(len(y)) % 6 == 0
    return x, np.where(x[:, 2] == 1, 0.0, y)


@pytest.mark.parametrize("family", ["logistic", "multinomial", "poisson"])
def test_a_level_with_one_label_alone_is_named(family: str) -> None:
    with pytest.raises(NoEstimate, match=r"coefficients of x2 grow.*separation.* l2 = 1\.0"):
        fit(study_of(family), *separated(family))


def test_classes_that_columns_tell_apart_are_no_estimate() -> None:
    x, _ = rows()
    with pytest.raises(NoEstimate, match=r"coefficients of x[01], x[01] grow\. "):
        fit(study_of("logistic"), x, (x[:, 0] - x[:, 1] > 0.2).astype(float))


def test_one_row_against_separation_is_an_estimate() -> None:
    x, y = separated("logistic")
    y[0] = 1.0
    ours = fit(study_of("logistic"), x, y)
    oracle = sm.Logit(y, sm.add_constant(x)).fit(disp=0, tol=1e-14, maxiter=100)
    assert of_statsmodels(oracle) == pytest.approx(columns(ours), rel=1e-6)


def test_a_level_that_tells_a_rare_class_is_an_estimate() -> None:
    """By the curvature of the start it is 1500 log-odds away: 8 of its ten rows, and 3 of the other 19,990."""
    x, y = np.zeros((20_000, 1)), np.zeros(20_000)
    x[::2_000], y[:16_000:2_000], y[1:4] = 1.0, 1.0, 1.0
    level = {"type": "category", "levels": [0, 1]}
    ours = fit(study_of("logistic", 1, data__columns__x0=level, data__max_rows_per_site=20_000), x, y)
    expected = np.log(8 / 2) - np.log(3 / 19_987)
    assert expected == pytest.approx(ours.weights["coef"][0, 0], rel=1e-9)
    assert ours.rounds < 15


def test_weights_far_apart_are_no_separation() -> None:
    """1 of 1e6 in 20 rows: a log-odds of -log(1e6 - 1), of standard error 1."""
    x, y = np.column_stack([np.full(20, 1.0), np.ones(20)]), np.zeros(20)
    y[3], x[:, 1] = 1.0, np.where(np.arange(20) == 3, 1.0, (1e6 - 1.0) / 19.0)
    weight = {"type": "number", "range": [0.0, 1e6]}
    ours = fit(study_of("logistic", 2, data__columns__x1=weight, options={"weights": "x1"}), x, y)
    assert (-np.log(1e6 - 1.0), 1.0) == pytest.approx(ours.table["(intercept)"][:2], rel=1e-5)


def test_a_penalty_makes_an_estimate_of_separated_classes() -> None:
    x, y = separated("logistic")
    ours = fit(study_of("logistic", options={"l2": 1.0}), x, y)
    oracle = LogisticRegression(solver="newton-cholesky", tol=1e-14).fit(ours.x, y)
    assert oracle.coef_ == pytest.approx(ours.weights["coef"], abs=1e-9)


def test_a_class_that_nobody_has_is_named() -> None:
    x, y = rows("multinomial")
    with pytest.raises(NoEstimate, match="no training row is of class 2"):
        fit(study_of("multinomial"), x, np.minimum(y, 1.0))


def test_too_few_rounds_are_an_error_and_no_result() -> None:
    with pytest.raises(NoEstimate, match=r"not at its minimum after 3 rounds\. Raise \[method\] rounds"):
        fit(study_of("logistic", rounds=3), *rows())


def test_a_released_model_says_what_the_run_said(tmp_path: Path) -> None:
    study = study_of("logistic")
    ours = fit(study, *rows())
    write_bundle(tmp_path / "model", study, ours.preparation, ours.weights, "card")
    bundle = load_bundle(tmp_path / "model")
    again = Glm.create(bundle.study, bundle.preparation, PlainMean()).interpretation(bundle.weights)
    assert ours.method.interpretation(ours.weights) == again


ENDS = st.sampled_from([-10.0, 10.0, 0.0, 1e-3, float("nan")])


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(["logistic", "multinomial", "poisson"]),
    st.lists(st.tuples(ENDS, ENDS, st.integers(0, 2)), min_size=1, max_size=8),
    st.floats(0.0, 5e3),
)
def test_no_row_of_the_contract_is_beyond_the_bounds(family: str, drawn: list[Any], size: float) -> None:
    """Values at the ends of their ranges, and coefficients as large as a site accepts."""
    study = study_of(family, 2, data__max_rows_per_site=8)
    if family == "logistic":
        drawn = [(one, two, label % 2) for one, two, label in drawn]
    examples = examples_of([row[:2] for row in drawn], [float(row[2]) for row in drawn])
    method = Glm.create(study, prepared_by(study, examples), PlainMean())
    state = {name: array + (size if name.startswith("weights/") else 0) for name, array in method.start().items()}
    contribution, _ = method.contribute(state, examples, {}, for_site(7, "a", 2))
    encode(word_plan(method.asks(state), 5), contribution, None)


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("logistic", {"data__columns__y": THREE}, "needs a label of two classes. Received: three classes or more"),
        ("poisson", {"data__columns__y": {"type": "number", "range": [-1, 5]}}, "range begins at 0 or above"),
        ("logistic", {"options": {"offset": "x9"}}, "offset must name a number column .* Received: 'x9'"),
        ("logistic", {"options": {"weights": "x0"}}, "weights: expected a column whose range begins at 0"),
        ("logistic", {"options": {"l2": -1.0}}, "l2"),
        ("logistic", {"aggregation__strategy": "FedAvgM"}, 'expected .* strategy = "FedAvg"'),
        ("logistic", {"privacy": {"epsilon": 1.0, "delta": 1e-5}}, "glm adds no noise"),
    ],
)
def test_what_it_cannot_serve_is_refused(family: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        study_of(family, **changes)
