"""The whole plan on scikit-learn's breast cancer data lands where four other federated systems land."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from sklearn.model_selection import train_test_split

from shared.metrics import judge
from shared.plan import EVALUATE, EVERYONE, TRAIN
from tests.builders import Consortium, examples_of, site_of, table_study, ticking


@pytest.fixture(scope="module")
def split() -> tuple[np.ndarray, ...]:
    x, y = load_breast_cancer(return_X_y=True)
    return tuple(train_test_split(x, y, test_size=0.2, stratify=y, random_state=42))


@pytest.fixture(scope="module")
def parts() -> list[np.ndarray]:
    return np.array_split(np.random.RandomState(0).permutation(455), 5)


def test_accuracy_auroc_and_log_loss_to_four_digits(split: tuple[np.ndarray, ...], parts: list[np.ndarray]) -> None:
    x_train, x_test, y_train, y_test = split
    most = np.vstack([x_train, x_test]).max(axis=0)
    columns = {f"x{i}": {"type": "number", "range": [0.0, float(most[i])]} for i in range(30)}
    study = table_study(
        features=30, method__rounds=20, **{f"data__columns__{name}": column for name, column in columns.items()}
    )
    held_out = [(x_test, y_test)] + [(np.zeros((0, 30)), [])] * 4
    data = {
        f"site_{k}": site_of(
            f"site_{k}", examples_of(x_train[rows], y_train[rows]), examples_of(*held_out[k], first=1000)
        )
        for k, rows in enumerate(parts)
    }
    plan, progress = Consortium(study, data).run(ticking())
    results = plan.result(progress.state)
    metrics = judge(results[EVALUATE][EVERYONE], 100, np.random.default_rng(0)).metrics
    assert round(metrics["accuracy"].value, 4) == 0.9825
    assert round(metrics["auroc"].value, 4) == 0.9957
    assert round(metrics["log_loss"].value, 4) == 0.0938
    coef, intercept = _plain_loop(x_train, y_train, parts)
    assert results[TRAIN]["coef"] == pytest.approx(coef, abs=1e-6)
    assert results[TRAIN]["intercept"] == pytest.approx(intercept, abs=1e-6)


def test_the_oracle_itself(split: tuple[np.ndarray, ...], parts: list[np.ndarray]) -> None:
    """The same loop in plain floats and scikit-learn alone gives these numbers."""
    x_train, x_test, y_train, y_test = split
    coef, intercept = _plain_loop(x_train, y_train, parts)
    decision = _scaled(x_test, x_train) @ coef[0] + intercept[0]
    assert round(accuracy_score(y_test, decision > 0), 4) == 0.9825
    assert round(roc_auc_score(y_test, decision), 4) == 0.9957
    assert round(log_loss(y_test, 1 / (1 + np.exp(-decision))), 4) == 0.0938


def _scaled(x: np.ndarray, reference: np.ndarray) -> np.ndarray:
    return (x - reference.mean(axis=0)) / reference.std(axis=0)


def _plain_loop(x_train: np.ndarray, y_train: np.ndarray, parts: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    x = _scaled(x_train, x_train)
    coef, intercept = np.zeros((1, 30)), np.zeros(1)
    for _ in range(20):
        fits = []
        for rows in parts:
            model = LogisticRegression(C=1, max_iter=1, warm_start=True)
            model.classes_, model.coef_, model.intercept_ = np.array([0, 1]), coef.copy(), intercept.copy()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                model.fit(x[rows], y_train[rows])
            fits.append((len(rows), model.coef_, model.intercept_))
        coef = sum(n * c for n, c, _ in fits) / 455
        intercept = sum(n * i for n, _, i in fits) / 455
    return coef, intercept
