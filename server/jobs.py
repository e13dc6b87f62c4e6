"""The coordinator's runs: one folder each, what is wanted of it, and how far it is.

``run.json`` says what the coordinator wants and never changes but to be stopped: the run's own id, its study, the sites
that it was begun with. ``status.json`` says how far it is, and is replaced after every exchange. Whoever keeps the
processes running (``server/keeper.py``) starts a run that is wanted and does not run, as often as it takes; so a run
outlives every process, and Flower's own runs.
"""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from server.outcome import RoundRecord
from shared import files
from shared.errors import DeploymentError, NotWritten
from shared.study import Study, load_study

RUNS = "runs"
STUDY, RUN, STATUS = "study.toml", "run.json", "status.json"
_FORMAT = 1

State = Literal["wanted", "running", "waiting", "finished", "failed", "stopped"]
FINAL: tuple[State, ...] = ("finished", "failed", "stopped")


@dataclass(frozen=True)
class Job:
    """One run that the coordinator wants.

    folder: ``runs/NAME``.
    id: the run's own, which outlives Flower's.
    at_least: hospitals that must be able to take part before it begins; the study's own number is asked for anyway.
    """

    folder: Path
    id: str
    study: Study
    created_at: str
    at_least: int = 0

    @property
    def name(self) -> str:
        """Of the folder."""
        return self.folder.name


@checked(frozen=True, config=ConfigDict(extra="forbid"))
class Status:
    """How far a run is.

    state: ``wanted`` until a process has taken it; ``waiting`` for sites; ``failed`` for good.
    message: one sentence for people.
    history: finished exchanges.
    left_out: reason code by name of enrolled sites that do not take part.
    exit_code: of ``consilium-server run``.
    updated_at: RFC 3339, UTC.
    """

    state: State = "wanted"
    message: str = ""
    history: tuple[RoundRecord, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)
    exit_code: int = 0
    updated_at: str = ""


def create(folder: Path, path: Path, now: datetime, at_least: int = 0) -> Job:
    """Make the folder of a new run and return it.

    folder: the coordinator's.
    path: the study file.
    at_least: see ``Job``.

    Raises: StudyError; DeploymentError if a run of the study is not over, or the folder cannot be written.
    """
    study = load_study(path)
    for job in read_all(folder):
        if job.study.digest == study.digest and read_status(job).state not in FINAL:
            raise DeploymentError(
                f"{job.folder}: a run of this study is not over, and its hospitals remember one run of a study at a"
                f" time. Wait for it, or: consilium-server stop {folder} {job.name}"
            )
    runs = folder / RUNS
    try:
        text = path.read_text(encoding="utf-8")
        runs.mkdir(exist_ok=True)
        made = _empty(runs, study.name)
        files.replace_text(made / STUDY, text)
        content = {"format": _FORMAT, "id": uuid.uuid4().hex, "study": study.name, "digest": study.digest}
        files.replace_json(made / RUN, {**content, "created_at": _time(now), "at_least": at_least})
    except OSError as error:
        raise DeploymentError(f"{runs}: cannot be written: {error.strerror}.") from None
    return read(made)


def _empty(runs: Path, name: str) -> Path:
    """Return a new folder called after the study, numbered from the second on."""
    number = 1
    while True:
        made = runs / (name if number == 1 else f"{name}-{number}")
        try:
            made.mkdir()
        except FileExistsError:
            number += 1
        else:
            return made


def read(folder: Path) -> Job:
    """Return the run in a folder.

    Raises: DeploymentError if there is none; StudyError if its study was changed.
    """
    plain = files.read_json(folder / RUN, DeploymentError, "Is this the folder of a run?")
    study = load_study(folder / STUDY)
    if plain.get("format") != _FORMAT or plain.get("digest") != study.digest:
        raise DeploymentError(f"{folder}: the study in it is not the one that the run was begun with.")
    return Job(folder, str(plain["id"]), study, str(plain["created_at"]), int(plain["at_least"]))


def read_all(folder: Path) -> list[Job]:
    """Return all runs of the coordinator's folder, oldest first."""
    found = [read(path.parent) for path in (folder / RUNS).glob(f"*/{RUN}")]
    return sorted(found, key=lambda job: (job.created_at, job.name))


def read_status(job: Job) -> Status:
    """Return how far a run is.

    Raises: DeploymentError if the file is damaged.
    """
    path = job.folder / STATUS
    if not path.exists():
        return Status()
    try:
        return TypeAdapter(Status).validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise DeploymentError(f"{path}: not readable ({type(error).__name__}).") from None


def write_status(job: Job, status: Status, now: datetime) -> None:
    """Replace a run's status. Raises: NotWritten."""
    status = dataclasses.replace(status, updated_at=_time(now))
    try:
        files.replace_bytes(job.folder / STATUS, TypeAdapter(Status).dump_json(status, indent=1))
    except OSError as error:
        raise NotWritten(job.folder / STATUS, error) from None


def changed(
    job: Job,
    now: datetime,
    state: State,
    message: str = "",
    history: Sequence[RoundRecord] | None = None,
    **more: Any,
) -> None:
    """Replace what is given of a run's status; a run that was stopped stays so."""
    status = read_status(job)
    if status.state == "stopped":
        return
    kept = status.history if history is None else tuple(history)
    write_status(job, dataclasses.replace(status, state=state, message=message, history=kept, **more), now)


def left_out(job: Job, now: datetime, codes: Mapping[str, str]) -> None:
    """Write down which enrolled sites do not take part, and why."""
    write_status(job, dataclasses.replace(read_status(job), left_out=dict(codes)), now)


def _time(now: datetime) -> str:
    return now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
