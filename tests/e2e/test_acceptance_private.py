"""What a private study still finds out, with the studies as shipped, over 20 splits: noise drawn anew in every run."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from server.training import Observers
from shared.judgement import judge
from shared.plan import EVALUATE, EVERYONE
from shared.study import load_study
from simulations import comparison
from simulations.hospitals import hospitals_of
from simulations.local import gather

STUDIES = Path(__file__).parents[2] / "simulations" / "studies"
SPLITS = range(1, 21)
pytestmark = pytest.mark.slow


def metric_over_splits(name: str, metric: str, data_dir: Path | None, splits: range = SPLITS) -> list[float]:
    """Run a study once for each split, and return the exact metric of each released model on all held-out rows."""
    found = []
    for seed in splits:
        study = load_study(STUDIES / f"{name}.toml", [("study.seed", str(seed))])
        consortium = gather(study, hospitals_of(study, data_dir, None, []).raw)
        plan, progress = consortium.run(Observers(clock=time.perf_counter))
        if study.privacy:
            sums = comparison.exact_sums(consortium, plan, progress, list(consortium.data))
        else:
            sums = plan.result(progress.state)[EVALUATE][EVERYONE]
        found.append(judge(study, "exact", sums).metrics[metric].value)
    return found


def test_heart_disease_at_epsilon_5_is_nearly_as_good_as_without_noise(medical_data: Path) -> None:
    private = metric_over_splits("heart_disease_private", "auroc", medical_data)
    exact = metric_over_splits("heart_disease", "auroc", medical_data)

    assert np.mean(private) >= 0.885
    assert np.mean(private) >= np.mean(exact) - 0.015


def test_breast_cancer_at_epsilon_2_is_right_in_93_of_100() -> None:
    assert np.mean(metric_over_splits("breast_cancer_private", "accuracy", None)) >= 0.93


def test_pneumonia_at_epsilon_8(medical_data: Path) -> None:
    assert np.mean(metric_over_splits("pneumonia_cnn_private", "auroc", medical_data, range(1, 4))) >= 0.92
