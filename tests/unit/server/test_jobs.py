"""The coordinator's runs as folders: one of a study at a time, and a status that outlives every process."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from server import jobs
from server.outcome import RoundRecord
from shared.errors import DeploymentError
from tests.architecture import ROOT

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
STUDY = ROOT / "simulations" / "studies" / "breast_cancer.toml"
RECORD = RoundRecord("train", 1, {"loss": 0.5}, 1.25, ("a", "b"), {"c": "late"}, {}, 10, 20)


def test_a_new_run_is_wanted_and_has_the_studys_digest(tmp_path: Path) -> None:
    job = jobs.create(tmp_path, STUDY, NOW)
    assert ("breast_cancer", "wanted") == (job.name, jobs.read_status(job).state)
    assert jobs.read(job.folder) == job
    assert (job.folder / "study.toml").read_text() == STUDY.read_text()


def test_a_second_run_of_a_study_waits_until_the_first_is_over(tmp_path: Path) -> None:
    job = jobs.create(tmp_path, STUDY, NOW)
    with pytest.raises(DeploymentError, match="a run of this study is not over"):
        jobs.create(tmp_path, STUDY, NOW)
    jobs.changed(job, NOW, "finished")
    again = jobs.create(tmp_path, STUDY, NOW + timedelta(minutes=1))
    assert again.name == "breast_cancer-2"
    assert again.id != job.id
    assert [each.name for each in jobs.read_all(tmp_path)] == ["breast_cancer", "breast_cancer-2"]


def test_a_status_keeps_what_is_not_changed(tmp_path: Path) -> None:
    job = jobs.create(tmp_path, STUDY, NOW)
    jobs.left_out(job, NOW, {"d": "not-approved"})
    jobs.changed(job, NOW, "running", history=(RECORD,))
    jobs.changed(job, NOW, "waiting", "for a")
    status = jobs.read_status(job)
    assert (status.state, status.message, status.left_out) == ("waiting", "for a", {"d": "not-approved"})
    assert status.history == (RECORD,)
    assert status.updated_at == "2026-11-21T12:00:00Z"


def test_a_stopped_run_stays_stopped(tmp_path: Path) -> None:
    job = jobs.create(tmp_path, STUDY, NOW)
    jobs.changed(job, NOW, "stopped", "by the coordinator", exit_code=3)
    jobs.changed(job, NOW, "running")
    assert ("stopped", 3) == (jobs.read_status(job).state, jobs.read_status(job).exit_code)


def test_a_run_whose_study_was_changed_is_refused(tmp_path: Path) -> None:
    job = jobs.create(tmp_path, STUDY, NOW)
    path = job.folder / "study.toml"
    path.write_text(path.read_text().replace("rounds = ", "rounds = 1"))
    with pytest.raises(DeploymentError, match="not the one that the run was begun with"):
        jobs.read(job.folder)


def test_a_damaged_status_is_named(tmp_path: Path) -> None:
    job = jobs.create(tmp_path, STUDY, NOW)
    (job.folder / "status.json").write_text("{")
    with pytest.raises(DeploymentError, match=r"status\.json: not readable"):
        jobs.read_status(job)


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="Is this the folder of a run"):
        jobs.read(tmp_path)
