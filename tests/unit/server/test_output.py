"""An output folder belongs to one run."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from server import output
from shared.errors import CheckpointError, OutputError
from simulations.run import identity_of
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
    first = identity_of(study, data)
    assert identity_of(study, random_consortium(study, {"a": 5, "b": 5}).data) == first
    data["b"].parts["training"].values[0, 0] += 1e-9
    assert identity_of(study, data)["data"] != first["data"]


@pytest.mark.parametrize("content", [b"", b'{"study": "sm', b"\xff\x00", b"[]", b"3", b'"text"', b"null"])
def test_a_damaged_mark_is_refused_with_its_name(tmp_path: Path, content: bytes) -> None:
    output.claim(tmp_path / "out", IDENTITY, resume=False)
    (tmp_path / "out" / "checkpoint" / "run.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"run\.json: does not say whose run this is"):
        output.claim(tmp_path / "out", IDENTITY, resume=True)


def test_the_current_folder_may_be_used_and_stays_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    output.claim(Path(), IDENTITY, resume=False)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]
    assert Path("checkpoint/run.json").exists()
    output.claim(Path(), IDENTITY, resume=True)


def test_a_link_to_an_empty_folder_is_followed_and_one_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "far")
    (tmp_path / "lost").symlink_to(tmp_path / "nowhere")
    output.claim(tmp_path / "out", IDENTITY, resume=False)
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "far" / "checkpoint" / "run.json").exists()
    with pytest.raises(OutputError, match=r"lost: is a link to nothing. Choose another --output"):
        output.claim(tmp_path / "lost", IDENTITY, resume=False)


def test_a_process_killed_while_it_took_an_empty_folder_leaves_it_empty_for_the_next(tmp_path: Path) -> None:
    (tmp_path / ".checkpoint.part").mkdir()
    output.claim(tmp_path, IDENTITY, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.mark.parametrize("exists", [True, False])
def test_a_folder_that_cannot_be_made_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exists: bool
) -> None:
    def forbidden(_self: Path, _target: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    folder = tmp_path / "out"
    if exists:
        folder.mkdir()
    monkeypatch.setattr(Path, "replace", forbidden)
    with pytest.raises(OutputError, match=r"out: cannot be written: Permission denied. Choose another --output."):
        output.claim(folder, IDENTITY, resume=False)
    assert [path.name for path in tmp_path.rglob("*")] == (["out"] if exists else [])


def test_a_folder_that_cannot_be_locked_says_why(tmp_path: Path) -> None:
    output.claim(tmp_path / "out", IDENTITY, resume=False)
    (tmp_path / "out" / "checkpoint" / "lock").mkdir()
    with pytest.raises(OutputError, match=r"out: cannot be locked: Is a directory"), output.locked(tmp_path / "out"):
        pass


def test_an_error_while_the_folder_is_held_stays_what_it_is(tmp_path: Path) -> None:
    output.claim(tmp_path / "out", IDENTITY, resume=False)
    with pytest.raises(FileExistsError), output.locked(tmp_path / "out"):
        raise FileExistsError
