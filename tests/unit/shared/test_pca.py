"""Principal components over hospitals are scikit-learn's on the pooled prepared rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.decomposition import PCA

from shared.errors import NoEstimate, StudyError
from shared.examples import Examples, Part
from shared.plan import EVALUATE, EVERYONE, PREPARE, TRAIN
from shared.study import Study
from simulations.local import Consortium
from tests.builders import examples_of, random_consortium, site_of, table_study, ticking


def study_of(features: int, components: int, **changes: Any) -> Study:
    method = {"name": "pca", "rounds": 1, "options": {"components": components}}
    return table_study(features, method=method, aggregation__secure=True, aggregation__min_sites=3, **changes)


def columns(rng: np.random.Generator, rows: int) -> Examples:
    """Numbers of unequal spread that go together, and a category of three levels of which some are missing."""
    x = rng.normal(size=(rows, 4)) @ rng.normal(size=(4, 4)) * 0.5
    level = rng.integers(0, 3, rows).astype(float)
    level[::7] = np.nan
    return examples_of(np.column_stack([np.clip(x, -10, 10), level]), rng.integers(0, 2, rows))


def test_components_variances_and_shares_are_those_of_the_pooled_rows() -> None:
    rng = np.random.default_rng(3)
    study = study_of(5, 3, data__columns__x4={"type": "category", "levels": ["a", "b", "c"]})
    data = {name: site_of(name, columns(rng, 60)) for name in "abc"}
    plan, progress = Consortium(study, data).run(ticking())
    results = plan.result(progress.state)
    rows = [results[PREPARE].transform(site.parts[Part.TRAINING]).x for site in data.values()]
    oracle = PCA(3).fit(np.vstack(rows))
    signs = np.sign(oracle.components_[np.arange(3), np.abs(oracle.components_).argmax(axis=1)])

    weights = results[TRAIN]
    assert weights["components"] == pytest.approx(oracle.components_ * signs[:, None], abs=1e-8)
    assert weights["fit/variance"] == pytest.approx(oracle.explained_variance_, abs=1e-8)
    assert weights["fit/variance"] / weights["fit/total"] == pytest.approx(oracle.explained_variance_ratio_, abs=1e-8)
    assert weights["mean"] == pytest.approx(oracle.mean_, abs=1e-10)
    assert np.vstack(
        [plan.method(progress.state, TRAIN).scores(weights, results[PREPARE].transform(data["a"].parts[Part.TRAINING]))]
    ) == pytest.approx(oracle.transform(rows[0]) * signs, abs=1e-8)


def test_the_share_explained_of_held_out_rows_is_one_less_what_the_components_miss() -> None:
    consortium = random_consortium(study_of(3, 1), {"a": 30, "b": 30, "c": 30})
    plan, progress = consortium.run(ticking())
    results = plan.result(progress.state)
    rows = np.vstack([results[PREPARE].transform(site.parts[Part.HELD_OUT]).x for site in consortium.data.values()])
    oracle = PCA(1).fit(rows)  # held-out rows are the training rows here
    missed = ((rows - oracle.inverse_transform(oracle.transform(rows))) ** 2).sum()

    judged = results[EVALUATE][EVERYONE].judge(0, np.random.default_rng(0)).metrics["variance_explained"]
    assert judged.value == pytest.approx(1 - missed / ((rows - rows.mean(axis=0)) ** 2).sum(), abs=1e-9)
    assert judged.low < judged.value < judged.high


def test_a_number_without_spread_in_training_is_not_read() -> None:
    """Unscaled, the held-out 7 would be a distance of 49."""
    training, held_out = examples_of([[-1, 2], [1, 2]], [0, 1]), examples_of([[-1, 2], [1, 7]], [0, 1])
    data = {name: site_of(name, training, held_out) for name in "abc"}
    plan, progress = Consortium(study_of(2, 1), data).run(ticking())
    judged = plan.result(progress.state)[EVALUATE][EVERYONE].judge(0, np.random.default_rng(0)).metrics

    assert plan.result(progress.state)[TRAIN]["components"] == pytest.approx(np.array([[1.0, 0.0]]))
    assert judged["mean_squared_distance"].value == pytest.approx(0.0)
    assert judged["variance_explained"].value == pytest.approx(1.0)


def test_more_components_than_rows_have_no_estimate() -> None:
    consortium = random_consortium(study_of(5, 4), {"a": 1, "b": 1, "c": 2})
    with pytest.raises(NoEstimate, match="4 components need more than 4 training rows"):
        consortium.run(ticking())


def test_more_components_than_columns_are_refused() -> None:
    with pytest.raises(StudyError, match="at most as many components"):
        study_of(2, 3)


def test_a_study_with_privacy_is_refused() -> None:
    with pytest.raises(StudyError, match="pca adds no noise"):
        study_of(2, 1, privacy={"epsilon": 1.0, "delta": 1e-5})
