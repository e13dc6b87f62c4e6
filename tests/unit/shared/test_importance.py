"""Permutation importance: a column that the model does not read has none, and the others what rows themselves say."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from server.judged import judged_of
from shared.errors import StudyError
from shared.interpretation import Interpretation
from shared.plan import EVALUATE
from shared.randomness import generator
from shared.study import Study, approved_parts
from tests.builders import Consortium, examples_of, site_of, table_study, ticking

FEATURES = 3


def study_of(**changes: object) -> Study:
    return table_study(
        features=FEATURES, evaluation__importance=True, method__rounds=2, evaluation__histogram_bins=4000, **changes
    )


def rows_of(seed: int, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    drawn = np.random.default_rng(seed)
    x = drawn.uniform(0.1, 0.9, size=(n, FEATURES))
    x[:, 2] = 0.5  # says nothing: its coefficient is zero
    return x, (drawn.uniform(size=n) < np.where(x[:, 0] > 0.5, 0.9, 0.1)).astype(float)


def test_the_table_says_what_the_rows_themselves_say() -> None:
    study = study_of()
    held_out = {f"site_{k}": rows_of(10 + k, 150) for k in range(3)}
    data = {
        name: site_of(name, examples_of(*rows_of(k, 200)), examples_of(*held_out[name], first=1000))
        for k, name in enumerate(held_out)
    }
    plan, progress = Consortium(study, data).run(ticking())
    results = plan.result(progress.state)
    judged = judged_of(study, results)
    (table,) = judged.with_importance(Interpretation()).tables
    losses = {row[0]: row[1] for row in table.rows}

    first = plan.method({**progress.state, "stage": np.array(2)}, EVALUATE).methods["everyone"]  # type: ignore[attr-defined]
    for column in range(2):
        scores, labels = [], []
        for name, (x, y) in held_out.items():
            drawn = generator(study.study.seed, "importance", name, column)
            for _ in range(5):
                dealt = x.copy()
                dealt[:, column] = drawn.permutation(dealt[:, column])
                said = first.method.scores(first.weights, first.preparation.transform(examples_of(dealt, y)))
                scores.append(said[:, 1])
                labels.append(y)
        own = judged.everyone.metrics["auroc"].value
        assert own - roc_auc_score(np.concatenate(labels), np.concatenate(scores)) == pytest.approx(
            losses[f"x{column}"], abs=2e-3
        )
    assert 0.2 < losses["x0"]
    assert pytest.approx(0.0, abs=1e-3) == losses["x2"]
    assert table.rows[0][0] == "x0"
    assert judged.dealt["x0"].n == judged.everyone.n == 450


def test_a_study_that_does_not_ask_for_it_is_approved_as_it_was_before() -> None:
    unasked = table_study(features=FEATURES)
    assert "importance" not in approved_parts(unasked)["evaluation"]
    assert approved_parts(study_of())["evaluation"]["importance"] is True


def test_it_is_refused_where_it_would_cost_epsilon() -> None:
    with pytest.raises(StudyError, match=r"importance judges .* epsilon"):
        study_of(privacy__epsilon=1.0, privacy__delta=1e-4, method__name="private-logistic-regression")
