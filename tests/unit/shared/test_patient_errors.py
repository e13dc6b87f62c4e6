"""Standard errors by patients: statsmodels' ``cov_type="cluster"`` on the pooled rows, with masks on."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm

from client.site import encode
from shared.errors import NoEstimate, StudyError
from shared.methods.base import PlainMean, Total
from shared.methods.glm import Glm
from shared.methods.linear_regression import LinearRegression
from shared.methods.words import word_plan
from shared.randomness import for_site
from shared.study import Study
from tests.builders import examples_of
from tests.unit.shared.linear_models import COUNT, NUMBER, THREE, Fit, fit, prepared_by, secure_study

LABELS = {"logistic": {}, "multinomial": {"data__columns__y": THREE}, "poisson": {"data__columns__y": COUNT}}


def study_of(family: str, features: int = 2, rounds: int = 25, **options: Any) -> Study:
    options = {"family": family, "standard_errors": "patients", **options}
    return secure_study("glm", features, rounds, method__options=options, **LABELS[family])


def least_squares(**changes: Any) -> Study:
    options = {"standard_errors": "patients", **changes.pop("options", {})}
    return secure_study("linear-regression", 2, **{"data__columns__y": NUMBER, "method__options": options, **changes})


def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns, a linear score with a part of each patient's own, and whose row it is: 1 to 9 rows of 36 patients."""
    rng = np.random.default_rng(1)
    patients = np.concatenate([rng.integers(0, 12, size=50) + 12 * hospital for hospital in range(3)])
    x = rng.normal(size=(150, 2)) + 0.7 * rng.normal(size=(36, 2))[patients]
    return x, x @ [0.8, -0.5] + rng.normal(size=36)[patients], patients


def by_patients(model: Any, patients: np.ndarray, **options: Any) -> Any:
    return model.fit(cov_type="cluster", cov_kwds={"groups": patients}, **options)


def columns(ours: Fit) -> np.ndarray:
    return np.array(list(ours.table.values()), dtype=float)[:, :6].T


def of_statsmodels(oracle: Any) -> np.ndarray:
    return np.array([oracle.params, oracle.bse, oracle.tvalues, oracle.pvalues, *oracle.conf_int().T])


def test_least_squares_have_the_table_of_statsmodels() -> None:
    x, score, patients = rows()
    y = score + np.random.default_rng(2).normal(size=150)
    ours = fit(least_squares(), x, y, patients=patients)
    oracle = by_patients(sm.OLS(y, sm.add_constant(x)), patients)
    assert of_statsmodels(oracle) == pytest.approx(columns(ours), rel=1e-9, abs=1e-15)
    said = {"R squared": oracle.rsquared, "adjusted R squared": oracle.rsquared_adj, "training patients": 36}
    assert said == pytest.approx({name: ours.said[name] for name in said}, rel=1e-9)
    assert "F" not in ours.said


def test_the_logistic_table_is_that_of_statsmodels() -> None:
    x, score, patients = rows()
    y = (score + np.random.default_rng(2).logistic(size=150) > 0).astype(float)
    ours = fit(study_of("logistic"), x, y, patients=patients)
    oracle = by_patients(sm.Logit(y, sm.add_constant(x)), patients, disp=0, tol=1e-14)
    assert of_statsmodels(oracle) == pytest.approx(columns(ours), rel=1e-7)


def test_the_multinomial_table_is_that_of_statsmodels() -> None:
    x, score, patients = rows()
    drawn = np.random.default_rng(2).gumbel(size=(150, 3))
    y = np.argmax(np.outer(score, [0.0, 1.0, -0.5]) + drawn, axis=1).astype(float)
    ours = fit(study_of("multinomial"), x, y, patients=patients)
    oracle = by_patients(sm.MNLogit(y, sm.add_constant(x)), patients, disp=0, tol=1e-14, maxiter=100)
    table = ours.method.interpretation(ours.weights).tables[0]
    found = np.array([row[2:5] for row in table.rows], dtype=float).reshape(2, 3, 3)
    assert np.stack([oracle.params.T, oracle.bse.T, oracle.tvalues.T], axis=2) == pytest.approx(found, rel=1e-6)


@pytest.mark.filterwarnings("ignore:cov_type not fully supported with freq_weights")
def test_poisson_with_offset_and_weights_is_that_of_statsmodels() -> None:
    """Rows without a weight, and patients without another row, do not count."""
    x, score, patients = rows()
    rng = np.random.default_rng(2)
    y, time, weight = rng.poisson(np.exp(0.5 * score)), rng.uniform(-1, 1, 150), rng.uniform(0.1, 3, 150)
    there = patients % 6 > 0
    study = secure_study(
        "glm",
        4,
        method__options={"family": "poisson", "offset": "x2", "weights": "x3", "standard_errors": "patients"},
        data__columns__x3=COUNT,
        **LABELS["poisson"],
    )
    given = np.column_stack([x, time, np.where(there, weight, np.nan)])
    ours = fit(study, given, y.astype(float), patients=patients)
    model = sm.GLM(
        y[there],
        sm.add_constant(x[there]),
        sm.families.Poisson(),
        offset=time[there],
        freq_weights=weight[there],
    )
    oracle = by_patients(model, patients[there], tol=1e-14)
    assert of_statsmodels(oracle) == pytest.approx(columns(ours), rel=1e-7)
    assert ours.said["training patients"] == 30


def test_a_column_that_is_not_estimated_has_no_standard_error() -> None:
    x, score, patients = rows()
    y = score + np.random.default_rng(2).normal(size=150)
    study = secure_study(
        "linear-regression", 3, method__options={"standard_errors": "patients"}, data__columns__y=NUMBER
    )
    ours = fit(study, np.column_stack([x, x[:, 0] - x[:, 1]]), y, patients=patients)
    oracle = by_patients(sm.OLS(y, sm.add_constant(x)), patients)
    assert oracle.bse == pytest.approx(columns(ours)[1, :3], rel=1e-9)
    assert {None} == set(ours.table["x2"])


def test_no_more_patients_than_coefficients_are_an_error() -> None:
    x, score, patients = rows()
    with pytest.raises(NoEstimate, match=r"more patients than coefficients\. Received: 3 patients and 3"):
        fit(least_squares(), x, score, patients=patients // 12)


def test_wide_ranges_cost_no_digit() -> None:
    """Squares of sums are bounded 1e33 above what they are."""
    x, score, patients = rows()
    y = np.random.default_rng(2).poisson(np.exp(0.5 * score)).astype(float)
    given, errors = np.column_stack([x, np.ones(150)]), []
    for most, reach, largest in ((2, 10, 50), (1000, 1000, 1000)):
        number = {"type": "number", "range": [-reach, reach]}
        weights = {"type": "number", "range": [0, most]}
        label = {"type": "number", "range": [0, largest]}
        study = secure_study(
            "glm",
            3,
            method__options={"family": "poisson", "weights": "x2", "standard_errors": "patients"},
            data__max_rows_per_site=1_000_000,
            **{"data__columns__y": label, "data__columns__x0": number, "data__columns__x1": number},
            data__columns__x2=weights,
        )
        errors.append(columns(fit(study, given, y, patients=patients))[1])
    assert errors[0] == pytest.approx(errors[1], rel=1e-9)


def test_a_hospital_that_is_lost_before_the_last_sum_is_an_error() -> None:
    x, score, patients = rows()
    examples = dataclasses.replace(examples_of(x, score), patients=patients.astype(np.str_))
    study = least_squares()
    method = LinearRegression.create(study, prepared_by(study, examples), PlainMean())
    state = method.start()
    while "scores" not in state:
        made, _ = method.contribute(state, examples, {}, for_site(7, "a", 2))
        state, _ = method.advance(state, Total(made.arrays, made.weight, 3))
    made, _ = method.contribute(state, examples.take(np.arange(100)), {}, for_site(7, "a", 2))
    with pytest.raises(NoEstimate, match="a hospital was lost"):
        method.advance(state, Total(made.arrays, made.weight, 2))


def test_without_a_round_left_there_is_no_result() -> None:
    x, score, patients = rows()
    y = (score > 0.3 * np.random.default_rng(2).normal(size=150)).astype(float)
    rounds = fit(study_of("logistic"), x, y, patients=patients).rounds
    with pytest.raises(NoEstimate, match=f"at its minimum after {rounds - 1} rounds, and .* take one more"):
        fit(study_of("logistic", rounds=rounds - 1), x, y, patients=patients)


def test_a_hospital_is_told_of_the_products_where_they_are_the_largest_sum() -> None:
    study = study_of("multinomial", 10)
    examples = examples_of(np.random.default_rng(0).normal(size=(3, 10)), [0.0, 1.0, 2.0])
    forecast = Glm.create(study, prepared_by(study, examples), PlainMean()).forecast()
    # Two outputs of 11 columns: 22 x 23 / 2 products, and 3 x 66 numbers of the Hessian.
    assert [253] * 3 == [entry.size for entry in forecast.ask.entries if "products" in entry.name]
    assert "products of two slopes, each summed over one patient's rows" == forecast.contents[-1]


@pytest.mark.parametrize("family", LABELS)
def test_a_patient_with_all_rows_at_the_ends_of_their_ranges_is_within_the_bounds(family: str) -> None:
    options = {"family": family, "standard_errors": "patients"}
    study = secure_study("glm", 2, method__options=options, data__max_rows_per_site=6, **LABELS[family])
    examples = examples_of([[-10.0, 10.0]] * 5 + [[10.0, 10.0]], [1.0] * 5 + [0.0])
    method = Glm.create(study, prepared_by(study, examples), PlainMean())
    coefficients = {name: array - 3.0 for name, array in method.start().items() if name == "weights/coef"}
    state = {**method.start(), **coefficients, "round": np.array(9), "scores": np.array(1)}
    one_patient = dataclasses.replace(examples, patients=np.array(["p"] * 6))
    contribution, _ = method.contribute(state, one_patient, {}, for_site(7, "a", 2))
    assert np.abs(contribution.arrays["products"]).max() > 0
    encode(word_plan(method.asks(state), 5), contribution, None)


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: study_of("logistic", l2=1.0), "no standard errors under a penalty. Received: .* l2 = 1"),
        (lambda: least_squares(options={"alpha": 2.0}), "no standard errors under a penalty. Received: .* alpha = 2"),
        (lambda: least_squares(method__rounds=2), "needs rounds = 3 at least"),
        (lambda: least_squares(tuning={"grid": {"alpha": [0.0, 1.0]}}), "for a model that is not tuned"),
    ],
)
def test_what_cannot_be_is_refused(made: Any, message: str) -> None:
    with pytest.raises(StudyError, match=message):
        made()
