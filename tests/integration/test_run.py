"""``consilium-simulate run`` from data to report, as a process."""

from __future__ import annotations

import json
import re
import subprocess
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from simulations import cli
from tests.integration.cli import simulate
from tests.integration.forked import forked, refuse_tensorflow, started

FILES = ["checkpoint", "metrics.json", "model", "report.html", "run.log"]
KEYS = {
    "study", "digest", "method", "sites", "rounds_completed", "federated", "pooled", "local", "per_site", "history",
    "bytes_up", "bytes_down", "seconds_total", "seconds_rounds", "peak_memory_bytes", "versions",
}  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    folder = tmp_path_factory.mktemp("run")
    return folder, simulate("run", "breast_cancer", "--json", "--output", "out", cwd=folder)


def test_the_output_folder_holds_everything_and_nothing_else(
    finished: tuple[Path, subprocess.CompletedProcess[str]],
) -> None:
    folder, process = finished
    assert process.returncode == 0, process.stderr
    assert sorted(path.name for path in (folder / "out").iterdir()) == FILES


def test_json_is_the_metrics_file_and_nothing_else(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    folder, process = finished
    assert json.loads(process.stdout) == json.loads((folder / "out" / "metrics.json").read_text())


def test_the_metrics_are_those_that_are_promised(finished: tuple[Path, subprocess.CompletedProcess[str]]) -> None:
    metrics = json.loads(finished[1].stdout)
    assert set(metrics) >= KEYS
    assert metrics["federated"]["auroc"] > 0.98
    assert set(metrics["federated"]) == {"auroc", "average_precision", "accuracy", "brier", "log_loss", "n"}
    assert len(metrics["sites"]) == len(metrics["local"]) == len(metrics["per_site"]) == 5
    assert sum(site["patients"] for site in metrics["sites"].values()) == 569
    assert metrics["rounds_completed"] == len(metrics["history"])
    assert sum(site["n"] for site in metrics["per_site"].values()) == metrics["federated"]["n"]
    rows = [site["rows"] for site in metrics["sites"].values()]
    assert max(rows) > 1.5 * min(rows)  # unequal by design


def test_tensorflow_is_not_imported(tmp_path: Path) -> None:
    process = forked("run", "breast_cancer", "--rounds", "2", "--json", cwd=tmp_path, prepare=refuse_tensorflow)
    assert process.returncode == 0, process.stderr


def test_the_same_seed_gives_the_same_numbers_and_another_seed_others(tmp_path: Path) -> None:
    def federated(*more: str) -> dict[str, float]:
        process = forked(
            "run", "breast_cancer", "--rounds", "4", "--json", "--set", "simulation.compare=[]", *more, cwd=tmp_path
        )
        assert process.returncode == 0, process.stderr
        return json.loads(process.stdout)["federated"]

    once = federated()
    assert once == federated()
    assert once != federated("--seed", "99")


def test_the_second_run_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    for _ in range(2):
        process = forked("run", "breast_cancer", "--rounds", "1", "--set", "simulation.compare=[]", cwd=tmp_path)
        assert process.returncode == 0, process.stderr
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["breast_cancer", "breast_cancer-2"]


def test_killed_and_resumed_ends_with_the_same_bits(tmp_path: Path) -> None:
    """SIGKILL at several moments; the last run ends with the weights of one that nobody killed."""
    arguments = ["run", "breast_cancer", "--rounds", "40", "--set", 'simulation.compare=["local"]', "--output"]
    whole = forked(*arguments, "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    killed = 0
    for moment in ("stage=prepare", "stage=train round=8 ", "stage=train round=30 ", "comparing with="):
        process = started(*arguments, "killed", "--resume", cwd=tmp_path, streams=tmp_path)
        _wait_for(tmp_path / "killed" / "run.log", moment, process)
        if process.is_alive():
            process.kill()
            killed += 1
        process.join(60)
    assert killed >= 2
    resumed = forked(*arguments, "killed", "--resume", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    for name, array in _arrays(tmp_path / "whole").items():
        assert array.tobytes() == _arrays(tmp_path / "killed")[name].tobytes(), name


def _wait_for(log: Path, text: str, process: BaseProcess) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until and process.is_alive():
        if log.exists() and text in log.read_text():
            return
        time.sleep(0.01)


def _arrays(folder: Path) -> dict[str, np.ndarray]:
    with np.load(folder / "model" / "weights.npz", allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def test_a_bad_site_does_not_end_the_run_and_is_named_in_the_metrics(tmp_path: Path) -> None:
    faults = ["hospital_2 3 nan", "hospital_4 4 exception", "hospital_1 2 twice", "hospital_5 6 lost"]
    changes = ["--set", f"simulation.faults={json.dumps(faults)}", "--set", "simulation.contributors_may_shrink=true"]
    process = forked("run", "breast_cancer", "--rounds", "4", "--json", *changes, cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    metrics = json.loads(process.stdout)
    assert metrics["dropped"] == {
        "train 2": {"hospital_2": "wrong-type"},
        # A hospital that an exact method has lost stays out: back again, its part could be found by subtraction.
        "train 3": {"hospital_2": "not-asked", "hospital_4": "bad-state"},
        "train 4": {"hospital_2": "not-asked", "hospital_4": "not-asked"},
        "evaluate 1": {"hospital_5": "no-reply"},
    }
    # All models are judged on the rows of the sites that were there.
    assert metrics["federated"]["n"] == metrics["pooled"]["n"] == metrics["local"]["hospital_5"]["n"]
    assert (
        "Missing when the models were judged: hospital_5" in (tmp_path / "runs/breast_cancer/report.html").read_text()
    )
    assert metrics["noted"] == {"train 1": {"hospital_1": "replied-twice"}}
    assert metrics["history"][1]["dropped"] == {"hospital_2": "wrong-type"}
    assert metrics["sites"]["hospital_2"]["contributed_rounds"] == 1


def test_a_hospital_lost_from_an_exact_method_ends_the_run_by_name_and_nobody_is_judged(tmp_path: Path) -> None:
    change = ["--set", 'simulation.faults=["hospital_2 3 lost"]']
    process = forked("run", "breast_cancer", "--rounds", "4", "--output", "out", *change, cwd=tmp_path)
    assert process.returncode == 3, process.stderr
    assert "hospital_2 (no-reply)" in process.stderr
    assert "contributors_may_shrink" in process.stderr
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_too_few_sites_give_the_run_up_with_exit_code_3_and_a_way_on(tmp_path: Path) -> None:
    faults = [f'"hospital_{site} 3 lost"' for site in (1, 2, 3, 4)]
    change = ["--set", f"simulation.faults=[{', '.join(faults)}]"]
    arguments = ["run", "breast_cancer", "--rounds", "3", "--output", "out"]
    process = forked(*arguments, *change, cwd=tmp_path)
    assert process.returncode == 3
    assert re.search(r"error: exchange 3: 1 of 5 sites contributed.*hospital_1 \(no-reply\)", process.stderr)
    assert not (tmp_path / "out" / "metrics.json").exists()
    again = forked(*arguments, "--resume", cwd=tmp_path)
    assert again.returncode == 0, again.stderr


def test_own_data_in_one_table_and_by_hospital(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines = ["patient,ward,age,crp,sepsis"]
    for index in range(240):
        age, crp = rng.integers(20, 90), rng.gamma(2, 40)
        lines.append(f"p{index},{'ABC'[index % 3]},{age},{crp:.1f},{'yes' if crp + rng.normal() * 30 > 80 else 'no'}")
    (tmp_path / "own.csv").write_text("\n".join(lines) + "\n")
    drafted = forked("study", "new", "--from", "own.csv", cwd=tmp_path)
    assert drafted.returncode == 0, drafted.stderr
    whole = forked(
        "run", "own.toml", "--data", "own.csv", "--partition", "column:ward", "--rounds", "5", "--json", cwd=tmp_path
    )
    assert whole.returncode == 0, whole.stderr
    assert set(json.loads(whole.stdout)["sites"]) == {"A", "B", "C"}
    for ward in "ABC":
        rows = [lines[0], *(line for line in lines[1:] if line.split(",")[1] == ward)]
        (tmp_path / f"{ward}.csv").write_text("\n".join(rows) + "\n")
    sites = ["--site", "north=A.csv", "--site", "south=B.csv", "--site", "west=C.csv"]
    apart = forked("run", "own.toml", *sites, "--rounds", "5", "--json", cwd=tmp_path)
    assert apart.returncode == 0, apart.stderr
    assert set(json.loads(apart.stdout)["sites"]) == {"north", "south", "west"}
    bare = ["--set", "aggregation.secure=false", "--set", "aggregation.min_sites=1"]
    alone = forked("run", "own.toml", *sites[:2], *bare, "--rounds", "5", "--json", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    assert set(json.loads(alone.stdout)["sites"]) == {"north"}


@pytest.mark.parametrize("kind", ["parquet", "npz", "folder"])
def test_own_data_of_every_other_kind(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Drafted, then run, without touching the draft; in this process, which has loaded TensorFlow already."""
    source = _own_data(tmp_path, kind)
    monkeypatch.chdir(tmp_path)
    drafted = CliRunner().invoke(cli.app, ["study", "new", "--from", source, "--output", "own.toml"])
    assert drafted.exit_code == 0, drafted.output
    changes = ["--sites", "3", "--rounds", "1", "--set", "simulation.compare=[]"]
    ran = CliRunner().invoke(cli.app, ["run", "own.toml", "--data", source, *changes, "--json"])
    assert ran.exit_code == 0, ran.output
    metrics = json.loads(ran.stdout)
    assert sum(site["rows"] for site in metrics["sites"].values()) == 120
    assert sum(site["patients"] for site in metrics["sites"].values()) == (60 if kind == "npz" else 120)


def _own_data(folder: Path, kind: str) -> str:
    """Write 120 rows of two classes; in the archive, two images belong to one patient."""
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    images = (rng.integers(0, 100, (120, 8, 8)) + 100 * labels[:, None, None]).astype(np.uint8)
    if kind == "parquet":
        table = pd.DataFrame({"crp": images.mean(axis=(1, 2)), "age": rng.integers(20, 90, 120), "sepsis": labels})
        table.to_parquet(folder / "own.parquet")
        return "own.parquet"
    if kind == "npz":
        patients = np.array([f"p{row // 2}" for row in range(120)])
        np.savez(folder / "own.npz", images=images, labels=labels, patient_ids=patients)
        return "own.npz"
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        (folder / "own" / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / "own" / str(label) / f"{row}.png")
    return "own"
