"""Checkpoints: replaced in one step, and only for their own run."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest

from server import checkpoint
from server.outcome import RoundRecord
from server.training import Progress
from shared.errors import CheckpointError, NotWritten

IDENTITY = {"study": "small", "digest": "abc"}
RECORD = RoundRecord("train", 1, {"loss": 0.5}, 1.5, ("a", "b"), {"c": "late"}, {"a": "replied-twice"}, 10, 20)
PROGRESS = Progress("run-1", {"w": np.array([1.0, 2.0], dtype=np.float32), "train/round": np.array(1)}, (RECORD,))


def test_what_was_written_is_read(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, IDENTITY, PROGRESS)
    read = checkpoint.read(tmp_path, IDENTITY)
    assert read is not None
    assert (read.run, read.history) == (PROGRESS.run, PROGRESS.history)
    assert read.state["w"].dtype == np.float32
    assert {name: array.tolist() for name, array in read.state.items()} == {"w": [1.0, 2.0], "train/round": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.npz"]


def test_no_checkpoint_is_no_progress(tmp_path: Path) -> None:
    assert checkpoint.read(tmp_path, IDENTITY) is None


def test_another_study_is_named(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, IDENTITY, PROGRESS)
    with pytest.raises(CheckpointError, match="belongs to another run: digest is 'abc' there, and 'xyz' here"):
        checkpoint.read(tmp_path, {**IDENTITY, "digest": "xyz"})


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is put where a full disk shows, at the flush; the e2e test limits the real file size."""
    checkpoint.write(tmp_path, IDENTITY, PROGRESS)
    before = (tmp_path / checkpoint.FILE).read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NotWritten, match=r"No space left on device; what was there before is untouched\. Make room\."):
        checkpoint.write(tmp_path, IDENTITY, PROGRESS)
    assert (tmp_path / checkpoint.FILE).read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["last.npz"]


def test_a_damaged_file_is_named_not_guessed_at(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, IDENTITY, PROGRESS)
    path = tmp_path / checkpoint.FILE
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        checkpoint.read(tmp_path, IDENTITY)


def saved_meta(folder: Path, text: bytes) -> None:
    np.savez(folder / checkpoint.FILE, **{"meta.json": np.frombuffer(text, dtype=np.uint8)})


META = {"format": 1, "identity": IDENTITY, "run": "run-1", "history": []}


@pytest.mark.parametrize(
    "meta",
    [
        b"[]",
        b"3",
        b"\xff{}",
        b"{}",
        json.dumps({**META, "format": 2}).encode(),
        json.dumps({key: value for key, value in META.items() if key != "identity"}).encode(),
        json.dumps({**META, "identity": None}).encode(),
        json.dumps({**META, "identity": []}).encode(),
        json.dumps({**META, "run": 7}).encode(),
        json.dumps({**META, "history": 7}).encode(),
        json.dumps({**META, "history": [{"contributors": [], "unknown": 1}]}).encode(),
    ],
)
def test_an_archive_with_another_text_is_no_checkpoint(tmp_path: Path, meta: bytes) -> None:
    saved_meta(tmp_path, meta)
    with pytest.raises(CheckpointError, match=r"last\.npz"):
        checkpoint.read(tmp_path, IDENTITY)


def test_an_empty_file_and_a_lone_array_are_no_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / checkpoint.FILE
    path.touch()
    with pytest.raises(CheckpointError, match=r"not a readable checkpoint \(EOFError\)"):
        checkpoint.read(tmp_path, IDENTITY)
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(CheckpointError, match="not a readable checkpoint"):
        checkpoint.read(tmp_path, IDENTITY)


def test_any_changed_byte_is_read_or_refused(tmp_path: Path) -> None:
    checkpoint.write(tmp_path, IDENTITY, PROGRESS)
    path = tmp_path / checkpoint.FILE
    whole = path.read_bytes()
    for place in range(0, len(whole), 7):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            checkpoint.read(tmp_path, IDENTITY)
        except CheckpointError:
            continue


def test_a_folder_that_may_not_be_written_is_not_told_to_make_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(_descriptor: int) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "fsync", forbidden)
    with pytest.raises(NotWritten, match=r"Permission denied; .*Make the folder writable\."):
        checkpoint.write(tmp_path, IDENTITY, PROGRESS)
