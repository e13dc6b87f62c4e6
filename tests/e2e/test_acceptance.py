"""What this release promises, with the studies as shipped: the real command or the real engine, on real data."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from server.training import Observers
from shared.metrics import judge
from shared.plan import EVALUATE, EVERYONE
from shared.study import load_study
from simulations import comparison
from simulations.hospitals import hospitals_of
from simulations.local import gather
from tests.integration.cli import command, simulate

STUDIES = Path(__file__).parents[2] / "simulations" / "studies"
pytestmark = pytest.mark.slow


def test_heart_disease_over_ten_splits_is_within_a_hundredth_of_pooled(medical_data: Path) -> None:
    federated, pooled = [], []
    for seed in range(1, 11):
        study = load_study(
            STUDIES / "heart_disease.toml", [("study.seed", str(seed)), ("simulation.compare", '["pooled"]')]
        )
        consortium = gather(study, hospitals_of(study, medical_data, None, []).raw)
        plan, progress = consortium.run(Observers(clock=time.perf_counter))
        sums = plan.result(progress.state)[EVALUATE][EVERYONE]
        federated.append(judge(sums, 100, np.random.default_rng(0)).metrics["auroc"].value)
        compared = comparison.compare(consortium, list(consortium.data), time.perf_counter, lambda _what: None).pooled
        assert compared is not None
        pooled.append(compared.metrics["auroc"].value)
    assert np.mean(federated) >= 0.88
    assert np.mean(federated) >= np.mean(pooled) - 0.01


def test_pneumonia(medical_data: Path, tmp_path: Path) -> None:
    process = simulate("run", "pneumonia_cnn", "--json", "--data-dir", medical_data, cwd=tmp_path, timeout_s=900)
    assert process.returncode == 0, process.stderr
    metrics = json.loads(process.stdout)
    assert metrics["federated"]["n"] == 624
    assert metrics["federated"]["auroc"] >= 0.94
    assert metrics["federated"]["accuracy"] >= 0.80


def test_digits(tmp_path: Path) -> None:
    process = simulate("run", "digits_cnn", "--json", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert json.loads(process.stdout)["federated"]["accuracy"] >= 0.95


def test_a_network_killed_and_resumed_ends_with_the_same_bits(tmp_path: Path) -> None:
    arguments = [
        "run",
        "digits_cnn",
        "--set",
        "simulation.compare=[]",
        "--set",
        "aggregation.strategy=FedAdam",
        "--output",
    ]
    whole = simulate(*arguments, "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    killed = [*command(), *arguments, "killed"]
    with subprocess.Popen(killed, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("train round 6"):
                process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    resumed = simulate(*arguments, "killed", "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    files = [(tmp_path / folder / "model" / "weights.npz") for folder in ("whole", "killed")]
    with np.load(files[0]) as first, np.load(files[1]) as second:
        assert first.files == second.files
        for name in first.files:
            assert first[name].tobytes() == second[name].tobytes(), name


def test_the_demo_ends_with_two_reports(tmp_path: Path) -> None:
    process = simulate("demo", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert sorted(path.parent.name for path in tmp_path.glob("runs/demo/*/report.html")) == [
        "breast_cancer",
        "digits_cnn",
    ]
    again = simulate("demo", cwd=tmp_path)
    assert again.returncode == 2
    assert "choose another --output" in again.stderr
