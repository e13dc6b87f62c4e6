"""What the shipped studies of methods other than averaging promise: the real engine, on real data."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray

from server.training import Observers
from shared.bundle import Bundle
from shared.examples import Part, concatenate
from shared.metrics import Judgement, judge
from shared.plan import EVALUATE, EVERYONE, PREPARE, TRAIN
from shared.study import load_study
from simulations import comparison
from simulations.datasets import cancer_trial
from simulations.hospitals import hospitals_of
from simulations.local import Consortium, gather

STUDIES = Path(__file__).parents[2] / "simulations" / "studies"
pytestmark = pytest.mark.slow
OLD_PANDAS = pytest.mark.filterwarnings("ignore::pandas.errors.Pandas4Warning")
"""lifelines calls pandas in a way that version 4 will refuse."""


def gathered(name: str, data: Path | None, seed: int = 1, *options: tuple[str, str]) -> Consortium:
    changes = [("study.seed", str(seed)), ("simulation.compare", '["pooled"]'), *options]
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


def hazards(consortium: Consortium, intervals: int | None) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Return coefficients and standard errors, of the consortium and of lifelines on its pooled rows, and concordance.

    intervals: of the grid on which lifelines has its times; None for exact ones.
    """
    from lifelines import CoxPHFitter

    plan, progress = consortium.run(Observers(clock=time.perf_counter))
    results = plan.result(progress.state)
    table = plan.method(progress.state, TRAIN).interpretation(results[TRAIN]).tables[0].rows
    rows = concatenate([site.parts[Part.TRAINING] for site in consortium.data.values()])
    contract = consortium.study.data
    columns: dict[str, Any] = {}
    for name, cells in zip(contract.features, rows.values.T, strict=True):
        levels = contract.columns[name].levels[1:]
        columns |= {f"{name}={level}": cells == index for index, level in enumerate(levels, 1)} or {name: cells}
    assert list(columns) == [row[0] for row in table]
    length = contract.columns[contract.label].range[1]
    times = rows.labels if intervals is None else 1 + np.floor(rows.labels * intervals / length)
    frame = pd.DataFrame({**columns, "time": times, "event": rows.events}).astype(float)
    theirs = CoxPHFitter().fit(frame, "time", "event")
    judgement = results[EVALUATE][EVERYONE].judge(100, np.random.default_rng(0))
    return (
        np.array([row[1:3] for row in table], dtype=float),
        np.column_stack([theirs.params_, theirs.standard_errors_]),
        judgement.metrics["concordance"].value,
    )


@OLD_PANDAS
def test_recurrence_of_breast_cancer_on_a_grid_is_that_of_lifelines_on_the_pooled_women() -> None:
    options = [("method.options.ties", '"efron"'), ("method.options.min_subset_patients", "1")]
    ours, theirs, _ = hazards(gathered("breast_cancer_recurrence", None, 1, *options), 100)
    assert theirs == pytest.approx(ours, abs=1e-6)


@OLD_PANDAS
def test_recurrence_of_breast_cancer_over_ten_splits_is_near_that_of_exact_times() -> None:
    concordance = []
    for seed in range(1, 11):
        ours, theirs, value = hazards(gathered("breast_cancer_recurrence", None, seed), None)
        assert np.all(np.abs(ours[:, 0] - theirs[:, 0]) < 0.3 * theirs[:, 1])
        assert np.all(np.abs(np.exp(ours[:, 0] - theirs[:, 0]) - 1) < 0.05)
        concordance.append(value)
    assert np.mean(concordance) >= 0.65


def worth(consortium: Consortium, patients: cancer_trial.State) -> float:
    """Return what the consortium's policy is worth to new simulated patients, in the mean."""
    plan, progress = consortium.run(Observers(clock=time.perf_counter))
    results, study = plan.result(progress.state), consortium.study
    model = Bundle(study, "", results[PREPARE], results[TRAIN], "", study)
    return float(cancer_trial.followed(cancer_trial.dosing_of(model), patients).rewards.mean())


def test_a_policy_learned_from_simulated_records_is_better_in_new_patients_than_any_dose_and_any_hospitals_own() -> (
    None
):
    patients, chance = cancer_trial.new_patients(2000, 1), np.random.default_rng(1)
    doses = range(len(cancer_trial.DOSES))
    constant = [cancer_trial.followed(lambda *_, dose=dose: np.full(2000, dose), patients) for dose in doses]
    at_random = cancer_trial.followed(lambda *_: chance.integers(len(doses), size=2000), patients)
    found = {
        "best possible": float(cancer_trial.best(patients).rewards.mean()),
        "together": worth(gathered("cancer_trial_policy", None), patients),
        "at random, as recorded": float(at_random.rewards.mean()),
        **{f"always {cancer_trial.DOSES[dose]}": float(constant[dose].rewards.mean()) for dose in doses},
    }
    everybody = gathered(
        "cancer_trial_policy", None, 1, ("aggregation.secure", "false"), ("aggregation.min_sites", "1")
    )
    for name, site in everybody.data.items():
        found[f"{name} alone"] = worth(Consortium(everybody.study, {name: site}), patients)
    print({name: round(value, 1) for name, value in found.items()})
    best, together, *others = found.values()
    assert together < best
    assert together > max(others)
    assert together > found["at random, as recorded"] + 30
