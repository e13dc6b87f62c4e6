"""Bad input: one clear message, exit code 2, and nothing half-written."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import pytest

from tests.integration.cli import simulate
from tests.integration.forked import forked, limit_files, without_keras

NEIGHBOURS = ("--site", "north=good.csv", "--site", "west=good.csv")
"""Two hospitals whose data are good."""

SHIPPED = Path(__file__).parents[2] / "simulations" / "studies"


def refused(folder: Path, *arguments: str, **environment: str) -> str:
    """Run, check that the user gets one error and no output folder, and return the message."""
    before = sorted(folder.rglob("*"))
    process = forked("run", *arguments, cwd=folder, **environment)
    assert process.returncode == 2, (process.returncode, process.stderr)
    assert "Traceback" not in process.stderr
    assert process.stdout == ""
    assert sorted(folder.rglob("*")) == before, "something was left behind"
    return process.stderr


def table(folder: Path, name: str, lines: list[str]) -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A folder with a study about ``age`` and ``sick``, and a good hospital's table."""
    (tmp_path / "own.toml").write_text(
        """
[study]
name = "own"
question = "Who is sick?"
[data]
kind = "table"
label = "sick"
patient_id = "patient"
[data.columns.age]
type = "number"
range = [0, 120]
[data.columns.sick]
type = "category"
levels = [0, 1]
[method]
name = "logistic-regression"
rounds = 2
"""
    )
    table(tmp_path, "good.csv", ["patient,age,sick", *(f"p{i},{30 + i % 50},{i % 2}" for i in range(100))])
    return tmp_path


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ("method.roundz=3", "[method] roundz: unknown key. Did you mean 'rounds'?"),
        ("method.rounds=ten", "[method] rounds: expected a valid integer. Received: 'ten'"),
        ("simulation.partition=dirichlet", "dirichlet:A"),
        ("simulation.partition=column:ward", "ward"),
        ("simulation.dataset=hart_disease", "heart_disease"),
        ("data.max_rows_per_site=10", "max_rows_per_site"),
    ],
)
def test_a_study_that_cannot_be(tmp_path: Path, change: str, expected: str) -> None:
    assert expected in refused(tmp_path, "breast_cancer", "--set", change)


def test_a_study_that_does_not_exist(tmp_path: Path) -> None:
    assert "consilium-simulate list" in refused(tmp_path, "breast_canser")


def test_a_missing_data_set_says_which_file_where_from_and_what_to_type(tmp_path: Path) -> None:
    message = refused(tmp_path, "heart_disease", CONSILIUM_DATA="/nowhere", XDG_CACHE_HOME=str(tmp_path))
    assert "processed.cleveland.data" in message
    assert "https://archive.ics.uci.edu" in message
    assert "consilium-simulate fetch heart_disease" in message


def test_a_missing_file_of_ones_own(own: Path) -> None:
    assert "absent.csv" in refused(own, "own.toml", "--data", "absent.csv")


def test_a_label_missing_at_one_site_names_the_site_and_the_column(own: Path) -> None:
    table(own, "bad.csv", ["patient,age", "q1,30", "q2,40"])
    message = refused(own, "own.toml", *NEIGHBOURS, "--site", "south=bad.csv")
    assert "south" in message
    assert "sick" in message


def test_an_empty_site_is_named(own: Path) -> None:
    table(own, "bad.csv", ["patient,age,sick"])
    assert "south" in refused(own, "own.toml", *NEIGHBOURS, "--site", "south=bad.csv")


def test_a_patient_in_both_parts_is_counted_never_named(own: Path) -> None:
    rows = ["patient,age,sick,part", "secret-7,30,0,train", "secret-7,31,1,test", "p3,40,1,train", "p4,50,0,test"]
    table(own, "bad.csv", rows)
    sites = [argument for name in ("south", "north", "west") for argument in ("--site", f"{name}=bad.csv")]
    message = refused(own, "own.toml", *sites, "--set", "data.split_column=part")
    assert "secret-7" not in message
    assert "1 patient" in message


def test_resuming_in_another_studys_folder(own: Path) -> None:
    arguments = ["own.toml", "--data", "good.csv", "--sites", "3", "--output", "out"]
    first = forked("run", *arguments, cwd=own)
    assert first.returncode == 0, first.stderr
    message = refused(own, *arguments, "--resume", "--rounds", "3")
    assert "belongs to another run: digest" in message


def test_a_used_folder_without_resume(own: Path) -> None:
    (own / "out").mkdir()
    table(own / "out", "precious.txt", ["keep me"])
    assert "choose another --output" in refused(
        own, "own.toml", "--data", "good.csv", "--sites", "3", "--output", "out"
    )


@pytest.mark.parametrize("count", [2, 101])
def test_a_number_of_sites_that_masks_cannot_serve_is_refused_with_a_way_on(own: Path, count: int) -> None:
    table(own, "many.csv", ["patient,age,sick", *(f"p{i},{30 + i % 50},{i % 2}" for i in range(1010))])
    message = refused(own, "own.toml", "--data", "many.csv", "--sites", str(count))
    assert f"expected 3 to 100 sites. Received: {count}" in message
    assert "--set aggregation.secure=false" in message


def test_a_threshold_that_the_sites_cannot_reach_is_refused(own: Path) -> None:
    message = refused(own, "own.toml", "--data", "good.csv", "--sites", "3", "--set", "aggregation.threshold=9")
    assert "threshold" in message


@pytest.mark.parametrize(
    ("arguments", "code", "said"), [(["run", "digits_cnn"], 2, "consilium[keras"), (["list"], 0, "digits_cnn")]
)
def test_without_keras_a_study_that_needs_it_says_what_to_type(
    tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    process = forked(*arguments, cwd=tmp_path, prepare=without_keras)
    assert process.returncode == code, process.stderr
    assert said in process.stdout + process.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_last_good_checkpoint(tmp_path: Path) -> None:
    """The operating system limits the size of files, so that writing the checkpoint really fails."""
    whole = forked("run", "breast_cancer", "--rounds", "6", "--output", "whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    size = (tmp_path / "whole" / "checkpoint" / "last.npz").stat().st_size
    # Room for the first checkpoints, not for the last ones: the history makes them grow.
    full = partial(limit_files, size - 1500)
    ended = forked("run", "breast_cancer", "--rounds", "6", "--output", "out", cwd=tmp_path, prepare=full)
    assert ended.returncode == 2, ended.stderr
    assert "what was there before is untouched. Make room. Then go on with --resume." in ended.stderr
    assert [path.name for path in (tmp_path / "out" / "checkpoint").iterdir() if path.name.startswith(".")] == []
    resumed = forked("run", "breast_cancer", "--rounds", "6", "--output", "out", "--resume", "--json", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    metrics = json.loads((tmp_path / "whole" / "metrics.json").read_text())
    assert json.loads(resumed.stdout)["federated"] == metrics["federated"]


def test_help_teaches_and_version_answers(tmp_path: Path) -> None:
    for arguments in (["--help"], ["run", "--help"], ["fetch", "--help"], ["study", "new", "--help"]):
        process = simulate(*arguments, cwd=tmp_path)
        assert process.returncode == 0
        assert "Usage" in process.stdout
    assert simulate("--version", cwd=tmp_path).stdout.startswith("consilium-simulate 0.")


def test_an_unknown_option_has_exit_code_2(tmp_path: Path) -> None:
    assert forked("run", "breast_cancer", "--round", "3", cwd=tmp_path).returncode == 2


def test_shipped_studies_can_be_copied_and_run_from_a_file(tmp_path: Path) -> None:
    shutil.copy(SHIPPED / "breast_cancer.toml", tmp_path / "mine.toml")
    process = forked("run", "mine.toml", "--rounds", "1", "--set", "simulation.compare=[]", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
