"""What the shipped studies of methods other than averaging promise: the real engine, on real data."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from server.training import Observers
from shared.examples import Part
from shared.metrics import Judgement, judge
from shared.plan import EVALUATE, EVERYONE
from shared.study import load_study
from simulations import comparison
from simulations.hospitals import hospitals_of
from simulations.local import Consortium, gather

STUDIES = Path(__file__).parents[2] / "simulations" / "studies"
pytestmark = pytest.mark.slow


def gathered(name: str, data: Path, seed: int = 1) -> Consortium:
    changes = [("study.seed", str(seed)), ("simulation.compare", '["pooled"]')]
    study = load_study(STUDIES / f"{name}.toml", changes)
    return gather(study, hospitals_of(study, data, None, []).raw)


def judged(consortium: Consortium) -> Judgement:
    plan, progress = consortium.run(Observers(clock=time.perf_counter))
    return judge(plan.result(progress.state)[EVALUATE][EVERYONE], 100, np.random.default_rng(0))


def pooled(consortium: Consortium) -> Judgement:
    found = comparison.compare(consortium, list(consortium.data), time.perf_counter, lambda _what: None).pooled
    assert found is not None
    return found


def test_parkinsons_late_scores_over_ten_splits_by_patient_are_better_than_the_last_score_carried_on(
    medical_data: Path,
) -> None:
    ours, carried = [], []
    for seed in range(1, 11):
        consortium = gathered("parkinsons_progression", medical_data, seed)
        ours.append(judged(consortium).metrics["mae"].value)
        held_out = [site.parts[Part.HELD_OUT] for site in consortium.data.values()]
        last = consortium.study.data.features.index("last_total_UPDRS")
        carried.append(np.mean(np.concatenate([np.abs(rows.values[:, last] - rows.labels) for rows in held_out])))
    assert np.mean(ours) <= 2.0
    assert np.all(np.array(ours) < np.array(carried))


def test_splice_junctions_by_multinomial_regression_are_those_of_pooled_genes(medical_data: Path) -> None:
    consortium = gathered("splice_multinomial", medical_data)
    ours, together = judged(consortium), pooled(consortium)
    assert ours.metrics["accuracy"].value >= 0.95
    assert ours.metrics["log_loss"].value == pytest.approx(together.metrics["log_loss"].value, rel=1e-6)


def test_splice_junctions_by_a_network_along_the_sequence(medical_data: Path) -> None:
    assert judged(gathered("splice_cnn", medical_data)).metrics["accuracy"].value >= 0.95


def test_visits_read_in_their_order_forecast_better_than_the_last_score_carried_on(medical_data: Path) -> None:
    consortium = gathered("parkinsons_visits", medical_data)
    held_out = [site.parts[Part.HELD_OUT] for site in consortium.data.values()]
    last = consortium.study.data.features.index("total_UPDRS")
    carried = np.mean(np.concatenate([np.abs(rows.values[:, last] - rows.labels) for rows in held_out]))
    assert judged(consortium).metrics["mae"].value < carried


def test_diabetes_by_ridge_is_that_of_pooled_patients(medical_data: Path) -> None:
    consortium = gathered("diabetes_ridge", medical_data)
    ours, together = judged(consortium), pooled(consortium)
    assert ours.metrics["mae"].value == pytest.approx(together.metrics["mae"].value, rel=1e-6)
    assert ours.metrics["r2"].value >= 0.4
