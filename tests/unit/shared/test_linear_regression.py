"""Linear regression by sums: scikit-learn's and statsmodels' on the pooled rows, with masks on."""

from __future__ import annotations

import numpy as np
import pytest
import statsmodels.api as sm
from sklearn.linear_model import LinearRegression, Ridge

from shared.errors import NoEstimate, StudyError
from tests.unit.shared.linear_models import NUMBER, fit, secure_study


def rows(noise: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 3))
    return x, x @ [1.0, -2.0, 0.5] + 3.0 + noise * rng.normal(size=90)


def test_the_whole_table_is_that_of_statsmodels() -> None:
    x, y = rows()
    ours = fit(secure_study("linear-regression", data__columns__y=NUMBER), x, y)
    oracle = sm.OLS(y, sm.add_constant(x)).fit()
    low, high = oracle.conf_int().T
    columns = np.array(list(ours.table.values()), dtype=float).T
    assert columns == pytest.approx(
        np.array([oracle.params, oracle.bse, oracle.tvalues, oracle.pvalues, low, high]), rel=1e-9, abs=1e-15
    )
    said = {
        "R squared": oracle.rsquared,
        "adjusted R squared": oracle.rsquared_adj,
        "F": oracle.fvalue,
        "p of F": oracle.f_pvalue,
        "residual standard error": np.sqrt(oracle.scale),
        "AIC": oracle.aic,
    }
    assert said == pytest.approx({name: ours.said[name] for name in said}, rel=1e-9)


def test_ridge_is_that_of_scikit_learn_and_has_no_standard_errors() -> None:
    x, y = rows()
    study = secure_study("linear-regression", data__columns__y=NUMBER, method__options={"alpha": 5.0})
    ours = fit(study, x, y)
    oracle = Ridge(alpha=5.0).fit(ours.x, y)
    coef = ours.weights["coef"][0] * ours.preparation.label_deviation
    assert oracle.coef_ == pytest.approx(coef, abs=1e-12)
    assert oracle.score(ours.x, y) == pytest.approx(ours.said["R squared"], abs=1e-12)
    assert ("column", "coefficient") == ours.method.interpretation(ours.weights).tables[0].head


def test_nearly_collinear_columns_have_the_pooled_coefficients() -> None:
    """Condition 5e4: the normal equations' is 2.5e9."""
    x, y = rows(noise=1e-3)
    x[:, 1] = x[:, 0] + 4e-5 * x[:, 1]
    ours = fit(secure_study("linear-regression", data__columns__y=NUMBER), x, y)
    oracle = LinearRegression().fit(ours.x, y)
    assert np.linalg.cond(ours.x) > 4e4
    assert oracle.coef_ == pytest.approx(ours.weights["coef"][0] * ours.preparation.label_deviation, abs=1e-8)


def test_units_that_are_far_apart_change_nothing() -> None:
    x, y = rows()
    x *= [1e-3, 1.0, 1e5]
    wide = {"type": "number", "range": [-1e7, 1e7]}
    ours = fit(secure_study("linear-regression", data__columns__y=NUMBER, data__columns__x2=wide), x, y)
    oracle = sm.OLS(y, sm.add_constant(x)).fit()
    own = np.array([row[:2] for row in ours.table.values()], dtype=float).T
    assert own == pytest.approx(np.array([oracle.params, oracle.bse]), rel=1e-8)


def test_predictions_are_in_the_labels_unit() -> None:
    x, y = rows(noise=0.0)
    ours = fit(secure_study("linear-regression", data__columns__y=NUMBER), x, y)
    said = ours.method.scores(ours.weights, ours)
    assert y == pytest.approx(said[:, 0], abs=1e-9)


def test_a_column_that_others_determine_is_named_and_the_others_estimated() -> None:
    x, y = rows()
    x[:, 2] = x[:, 0] - 2.0 * x[:, 1]
    ours = fit(secure_study("linear-regression", data__columns__y=NUMBER), x, y)
    oracle = LinearRegression().fit(x[:, :2], y)
    assert oracle.coef_ == pytest.approx([ours.table["x0"][0], ours.table["x1"][0]], abs=1e-9)
    assert {None} == set(ours.table["x2"])
    assert "x2" in ours.method.interpretation(ours.weights).sentences[0]


def test_as_many_coefficients_as_rows_is_no_estimate() -> None:
    x, y = rows()
    with pytest.raises(NoEstimate, match="4 rows and 4 coefficients"):
        fit(secure_study("linear-regression", data__columns__y=NUMBER), x[:4], y[:4])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "predicts a number. Received: a label of type category"),
        ({"data__columns__y": NUMBER, "method__rounds": 1}, "needs rounds = 2 at least"),
        ({"data__columns__y": NUMBER, "aggregation__strategy": "FedAvgM"}, 'expected .* strategy = "FedAvg"'),
    ],
)
def test_what_it_cannot_serve_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        secure_study("linear-regression", **changes)
