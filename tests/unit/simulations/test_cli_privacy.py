"""The commands `sweep` and `audit` as a researcher types them, on a small table dealt to three hospitals."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from client import site
from shared.errors import DataError, OutputError, StudyError
from simulations import cli

RUNNER = CliRunner()
STUDY = """
[study]
name = "small"
question = "Who is sick?"
[data]
kind = "table"
label = "sick"
columns.age = { type = "number", range = [0, 100] }
columns.pressure = { type = "number", range = [50, 250] }
columns.sick = { type = "category", levels = [0, 1] }
max_rows_per_site = 1000
[method]
name = "private-logistic-regression"
rounds = 2
[aggregation]
min_sites = 3
[privacy]
epsilon = 1.0
delta = 1e-5
[simulation]
sites = 3
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    rng = np.random.default_rng(1)
    ages = rng.uniform(20, 90, 150)
    lines = [f"{age:.1f},{rng.uniform(90, 200):.1f},{int(age > 55)}" for age in ages]
    (tmp_path / "rows.csv").write_text("\n".join(["age,pressure,sick", *lines]))
    (tmp_path / "small.toml").write_text(STUDY)
    return tmp_path / "small.toml"


def run(command: str, study: Path, *arguments: str) -> Result:
    rows = ["--data", str(study.parent / "rows.csv"), "--output", str(study.parent / "found")]
    return RUNNER.invoke(cli.app, [command, str(study), *rows, *arguments])


def test_a_sweep_leaves_its_page_and_numbers_and_prints_the_table(study: Path) -> None:
    result = run("sweep", study, "--epsilon", "1,8", "--seeds", "2")

    assert result.exit_code == 0, result.output
    assert {"sweep.html", "sweep.json"} == {path.name for path in (study.parent / "found").iterdir()}
    assert "seed 2 (2 of 2): epsilon 8" in result.stderr
    assert "mean and standard deviation over 2 runs" in result.stdout


def test_an_audit_leaves_its_page_and_numbers_and_says_what_it_found(study: Path) -> None:
    result = run("audit", study, "--runs", "2", "--shadows", "2")

    assert result.exit_code == 0, result.output
    assert {"audit.html", "audit.json"} == {path.name for path in (study.parent / "found").iterdir()}
    assert "canaries: run 2 of 2" in result.stderr
    assert "Nothing found contradicts epsilon 1" in result.stdout


def test_an_audit_that_contradicts_the_study_ends_with_3_and_says_why(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three canaries in a run, which three hospitals without noise give away every time."""
    monkeypatch.setattr(site.mechanisms, "add_noise", lambda *_: None)
    result = run("audit", study, "--runs", "10", "--shadows", "0")

    assert result.exit_code == 3
    assert "error: The study promises epsilon 1 at delta 1e-05, and epsilon is above" in result.stderr
    assert json.loads((study.parent / "found" / "audit.json").read_text())["contradictions"]


def test_a_sweep_of_a_study_without_privacy_is_refused_with_what_to_write(study: Path) -> None:
    study.write_text(STUDY.replace("[privacy]\nepsilon = 1.0\ndelta = 1e-5\n", "").replace("private-", ""))

    error = run("sweep", study).exception

    assert isinstance(error, StudyError)
    assert "[privacy] with epsilon = 1.0 and delta = 1e-5" in str(error)


@pytest.mark.parametrize("command", ["sweep", "audit"])
def test_nothing_is_overwritten(study: Path, command: str) -> None:
    (study.parent / "found").mkdir()
    (study.parent / "found" / "notes.txt").write_text("mine")

    error = run(command, study).exception

    assert isinstance(error, OutputError)
    assert "found: exists and is not empty. Choose another --output." in str(error)


@pytest.mark.parametrize("command", ["sweep", "audit"])
def test_data_that_cannot_be_read_leave_no_folder_behind(study: Path, command: str) -> None:
    (study.parent / "rows.csv").unlink()

    assert isinstance(run(command, study).exception, DataError)
    assert not (study.parent / "found").exists()


@pytest.mark.parametrize("command", ["sweep", "audit"])
def test_without_an_output_folders_are_numbered(study: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(study.parent)
    few = ["--epsilon", "1", "--seeds", "1"] if command == "sweep" else ["--runs", "1", "--shadows", "0"]
    for _ in range(2):
        RUNNER.invoke(cli.app, [command, "small.toml", "--data", "rows.csv", *few], catch_exceptions=False)

    assert [f"small-{command}", f"small-{command}-2"] == sorted(path.name for path in Path("runs").iterdir())
