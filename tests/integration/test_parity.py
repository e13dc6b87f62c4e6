"""The same study on both engines of ``consilium-simulate run``: the same bits, secure aggregation included.

The engine ``ray`` is Flower's own simulation. Against real processes on a network the same is shown in ``tests/e2e``.
"""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from tests.integration.cli import simulate

BARE = ("--set", "simulation.compare=[]")
BY_RUN = {"seconds_total", "seconds_rounds", "peak_memory_bytes"}
"""What differs between any two runs: times, and memory."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed here: `make test-ray` installs it"),
]


def run(folder: Path, *arguments: str) -> dict[str, Any]:
    """Run a study to its end; return its metrics without what differs between any two runs."""
    process = simulate("run", *arguments, "--json", "--output", folder, *BARE, cwd=folder.parent)
    assert process.returncode == 0, process.stderr
    metrics = json.loads(process.stdout)
    assert metrics == json.loads((folder / "metrics.json").read_text())
    for entry in metrics["history"]:
        del entry["seconds"]
    return {key: value for key, value in metrics.items() if key not in BY_RUN}


def model(folder: Path) -> dict[str, bytes]:
    """Return every file of a released model."""
    return {path.name: path.read_bytes() for path in sorted((folder / "model").iterdir())}


@pytest.mark.parametrize(
    "study",
    [
        ("breast_cancer", "--rounds", "4"),
        ("digits_cnn", "--rounds", "2"),
    ],
    ids=lambda study: study[0],
)
def test_the_same_bits_from_both_engines(study: tuple[str, ...], tmp_path: Path) -> None:
    """NumPy and scikit-learn; Keras with the threads that the study fixes."""
    if study[0] == "digits_cnn" and find_spec("keras") is None:
        pytest.skip("networks need the extra keras")
    here, there = run(tmp_path / "local", *study), run(tmp_path / "ray", *study, "--engine", "ray")

    assert here == there
    assert model(tmp_path / "local") == model(tmp_path / "ray")
    assert sorted(path.name for path in (tmp_path / "local").iterdir()) == sorted(
        path.name for path in (tmp_path / "ray").iterdir()
    )


def test_a_run_that_was_given_up_on_one_engine_goes_on_on_the_other(tmp_path: Path) -> None:
    """A hospital's own error ends an exact method; what it logged is in the run's log, though its process is gone."""
    study = ("breast_cancer", "--rounds", "4")
    whole = run(tmp_path / "whole", *study)
    fault = ("--set", 'simulation.faults=["hospital_3 4 exception"]')
    given_up = simulate(*("run", *study, *fault, "--engine", "ray", "--output", "halves", *BARE), cwd=tmp_path)
    assert given_up.returncode == 3, given_up.stderr
    assert "hospital_3 (bad-state)" in given_up.stderr
    assert "site=hospital_3 round=4 KeyError" in (tmp_path / "halves" / "run.log").read_text()
    resumed = run(tmp_path / "halves", *study, "--resume")

    assert whole["federated"] == resumed["federated"]
    assert model(tmp_path / "whole")["weights.npz"] == model(tmp_path / "halves")["weights.npz"]


def test_another_projects_packages_in_the_working_folder_are_not_imported(tmp_path: Path) -> None:
    """Ray puts the working folder first; two projects with a folder ``client`` would be mixed (measured)."""
    for name in ("client", "server", "shared", "simulations"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('another project')\n")
    metrics = run(tmp_path / "out", "breast_cancer", "--rounds", "1", "--engine", "ray")

    assert 1 == metrics["rounds_completed"]
