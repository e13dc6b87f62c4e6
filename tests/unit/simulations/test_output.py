"""An output folder belongs to one run."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import CheckpointError, OutputError
from simulations import output
from tests.builders import random_consortium, table_study

IDENTITY = {"study": "small", "digest": "abc", "data": "def"}


def test_a_new_folder_says_whose_it_is(tmp_path: Path) -> None:
    output.claim(tmp_path / "deep" / "out", IDENTITY, resume=False)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]
    output.claim(tmp_path / "deep" / "out", IDENTITY, resume=True)


def test_resume_in_a_folder_that_is_not_there_starts_one(tmp_path: Path) -> None:
    output.claim(tmp_path / "out", IDENTITY, resume=True)
    assert (tmp_path / "out" / "checkpoint" / "run.json").exists()


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    output.claim(tmp_path / "out", IDENTITY, resume=False)


def test_a_process_killed_while_it_made_the_folder_leaves_nothing_in_the_way(tmp_path: Path) -> None:
    (tmp_path / ".out.part" / "checkpoint").mkdir(parents=True)
    output.claim(tmp_path / "out", IDENTITY, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_another_runs_folder_is_refused_by_name_of_what_differs(tmp_path: Path) -> None:
    output.claim(tmp_path / "out", IDENTITY, resume=False)
    with pytest.raises(CheckpointError, match="data is 'def' there, and 'xyz' here"):
        output.claim(tmp_path / "out", {**IDENTITY, "data": "xyz"}, resume=True)
    with pytest.raises(OutputError, match="go on with --resume"):
        output.claim(tmp_path / "out", IDENTITY, resume=False)


@pytest.mark.parametrize("resume", [True, False])
def test_a_folder_of_something_else_is_never_touched(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "thesis.txt").write_text("precious")
    with pytest.raises(OutputError, match="not a run's folder"):
        output.claim(tmp_path, IDENTITY, resume)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_processes_cannot_work_in_one_folder(tmp_path: Path) -> None:
    output.claim(tmp_path / "out", IDENTITY, resume=False)
    with (
        output.locked(tmp_path / "out"),
        pytest.raises(OutputError, match="another process is running here"),
        output.locked(tmp_path / "out"),
    ):
        pass


def test_runs_are_numbered_and_resume_takes_the_newest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    study = table_study()
    assert output.choose(study, None, resume=True) == Path("runs/small")
    for name in ("small", "small-2"):
        (tmp_path / "runs" / name).mkdir(parents=True)
    assert output.choose(study, None, resume=False) == Path("runs/small-3")
    assert output.choose(study, None, resume=True) == Path("runs/small-2")


def test_the_identity_changes_with_one_value_at_one_site() -> None:
    study = table_study()
    data = random_consortium(study, {"a": 5, "b": 5}).data
    first = output.identity_of(study, data)
    assert output.identity_of(study, random_consortium(study, {"a": 5, "b": 5}).data) == first
    data["b"].parts["training"].values[0, 0] += 1e-9
    assert output.identity_of(study, data)["data"] != first["data"]
