"""What the coordinator sees: a run as it goes on, and how everything stands."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from server import enrolment, jobs, output
from server.display import LiveLine, rounds_of
from server.jobs import Job, Status
from server.running import PROCESSES
from shared import process_status
from shared.errors import ConsiliumError
from shared.reasons import code_advice, code_meaning

_LOOK_S = 0.3
SEEN = "seen.json"


def follow(
    job: Job, display: LiveLine, running: Callable[[], bool], sleep: Callable[[float], None] = time.sleep
) -> Status:
    """Show a run until it is over, and return how it ended.

    running: whether the aggregator runs; while it does not, the run waits, and people are told.
    """
    shown, message = 0, ""
    while True:
        status = jobs.read_status(job)
        for record in status.history[shown:]:
            display.round(record)
        shown = max(shown, len(status.history))
        now = status.message if status.state in ("waiting", "failed") else ""
        if not running():
            now = "the aggregator does not run; the run begins or goes on with: consilium-server start"
        if now and now != message:
            display.say(now)
        message = now
        if status.state in jobs.FINAL:
            return status
        sleep(_LOOK_S)


def aggregator_runs(folder: Path) -> bool:
    """Whether ``consilium-server start`` is at work in a coordinator's folder."""
    return process_status.supervisor_pid(folder / PROCESSES) is not None


def metrics(job: Job) -> dict[str, Any]:
    """Return the content of a finished run's ``metrics.json``."""
    content: dict[str, Any] = json.loads((job.folder / output.METRICS).read_text(encoding="utf-8"))
    return content


@dataclass(frozen=True)
class Standing:
    """How everything stands, as ``status`` shows it: rows of texts.

    processes: name, state, since, restarts, last end.
    sites: name, enrolled, last seen.
    runs: name, state, how far, message.
    left_out: run, hospital, reason code, why and what to do; of the runs that are not over, or else of the last one.
    """

    processes: tuple[tuple[str, ...], ...]
    sites: tuple[tuple[str, ...], ...]
    runs: tuple[tuple[str, ...], ...]
    left_out: tuple[tuple[str, ...], ...]


def standing(folder: Path) -> Standing:
    """Return how the processes, the enrolled sites and the runs of a coordinator's folder stand.

    Raises: ConsiliumError if something there cannot be read.
    """
    processes = tuple(
        (
            each.name,
            "ready" if each.ready else "starting" if each.running else "not running",
            each.started_at.isoformat(timespec="seconds") if each.started_at else "",
            str(each.restarts),
            each.last_exit or "",
        )
        for each in process_status.status(folder / PROCESSES)
    )
    seen = _seen(folder)
    sites = tuple(
        (
            site.name,
            f"revoked {site.revoked_at:%Y-%m-%d}" if site.revoked_at else "enrolled",
            seen.get(site.name, "never"),
        )
        for site in enrolment.read(folder).sites
    )
    known = [(job, jobs.read_status(job)) for job in jobs.read_all(folder)]
    runs = tuple((job.name, status.state, how_far(job, status), status.message) for job, status in known)
    at_work = [(job, status) for job, status in known if status.state not in jobs.FINAL]
    missing = tuple((job.name, *row) for job, status in at_work or known[-1:] for row in left_out(status))
    return Standing(processes, sites, runs, missing)


def left_out(status: Status) -> list[tuple[str, str, str]]:
    """Return who does not take part in a run: the hospital, the reason code, why and what to do in words."""
    return [
        (site, code, f"{code_meaning(code)}. {code_advice(code)}".strip()) for site, code in status.left_out.items()
    ]


def how_far(job: Job, status: Status) -> str:
    """Return how far a run is, in words."""
    if not status.history:
        return "no exchange yet"
    last = status.history[-1]
    most = rounds_of(last.stage, job.study.method.rounds)
    number = f" {last.round} of {most}" if most else ""
    return f"{last.stage}{number}, {len(last.contributors)} hospitals"


def _seen(folder: Path) -> Mapping[str, str]:
    path = folder / SEEN
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def summary(content: Mapping[str, Any]) -> list[str]:
    """Return a finished run's numbers in a few lines.

    content: of ``metrics.json``.
    """
    lines = [f"judged on {content['federated']['n']} held-out cases of {len(content['sites'])} hospitals"]
    for name, value in content["federated"].items():
        if name == "n" or value is None:
            continue
        low, high = content["intervals"].get(name, (None, None))
        between = f" ({low:.3f} to {high:.3f})" if low is not None and high is not None else ""
        lines.append(f"{name.replace('_', ' '):<24} {value:.3f}{between}")
    return lines


def refuse_unfinished(job: Job) -> None:
    """Raise the error that a run which did not finish ends with."""
    status = jobs.read_status(job)
    if status.state != "finished":
        error = ConsiliumError(f"{job.name}: {status.state}. {status.message}")
        error.exit_code = status.exit_code or 3
        raise error
