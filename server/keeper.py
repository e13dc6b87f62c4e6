"""What ``consilium-server start`` does beside keeping processes alive: it makes the world as the folder says.

Nodes of enrolled hospitals are registered with SuperLink, those of revoked ones are not any more; every run that is
wanted has a ServerApp at work. It looks and mends, again and again, so that enrolling, revoking, starting and stopping
are changes of files, which work whatever is running, and a run needs nobody after any process was killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from server import enrolment, jobs
from server.jobs import Job
from server.superlink import Control
from shared import files
from shared.errors import ConsiliumError, DeploymentError
from shared.processes import born

log = logging.getLogger("consilium.keeper")

PROCESS, FLOWER = "process.json", "flower.json"
_EVERY_S, _ASK_S = 0.5, 5.0
"""Between two looks at the folder, and between two questions to SuperLink while every run is at work."""
_PRUNE_S = 60.0
_FIRST_DELAY_S, _LONGEST_DELAY_S = 1.0, 60.0
_STARTING_S = 30.0
"""How long Flower's run may be there without a process of ours that has taken it."""
_ENDING_S = 20.0
"""How long a process may take to end once its run is finished."""
_QUICK_S = 20.0
"""A process that ended sooner than this after its start delays the next one."""


@dataclass
class _Tries:
    """How one run has been started so far."""

    flower: int = 0
    started: float = float("-inf")
    delay_s: float = _FIRST_DELAY_S
    due: float = float("-inf")
    ending: float = float("inf")


@dataclass(eq=False)
class Keeper:
    """Looks and mends.

    folder: the coordinator's.
    control: SuperLink's Control API.
    """

    folder: Path
    control: Control
    clock: Callable[[], float] = time.monotonic
    _tries: dict[str, _Tries] = field(default_factory=dict)
    _registered: dict[str, int] | None = None
    _due: float = float("-inf")
    _ask: float = float("-inf")
    _prune_due: float = float("-inf")

    def step(self) -> None:
        """Look once, if it is time; SuperLink may be away."""
        now = self.clock()
        if now < self._due:
            return
        self._due = now + _EVERY_S
        try:
            self._prune(now)
            self._nodes(self.control)
            self._runs(self.control, now)
        except DeploymentError as error:
            log.info("%s", error)
            self._registered = None
        except ConsiliumError as error:
            log.warning("%s", error)

    def _prune(self, now: float) -> None:
        """Forget keys and certificates whose time of overlap is over."""
        if now >= self._prune_due:
            self._prune_due = now + _PRUNE_S
            enrolment.prune(self.folder, datetime.now(UTC))

    def _nodes(self, control: Control) -> None:
        """Register who is enrolled, and nobody else."""
        wanted = enrolment.read(self.folder).nodes
        if self._registered is None or set(self._registered) != set(wanted):
            self._registered = dict(control.nodes())
        for key, node in list(self._registered.items()):
            if key not in wanted:
                control.unregister(node)
                del self._registered[key]
                log.info("node=%d unregistered", node)
        for key, name in wanted.items():
            if key not in self._registered:
                self._registered[key] = control.register(key, name)
                log.info("site=%s node=%d registered", name, self._registered[key])

    def _runs(self, control: Control, now: float) -> None:
        wanted = [job for job in jobs.read_all(self.folder) if jobs.read_status(job).state not in jobs.FINAL]
        if not wanted and not self._tries:
            return
        names = {job.name for job in wanted}
        if now < self._ask and names == set(self._tries) and all(running(job.folder) for job in wanted):
            return
        self._ask = now + _ASK_S
        there = control.runs()
        for name in set(self._tries) - names:
            if self._ending(name, now):
                continue
            flower = there.get(self._tries.pop(name).flower)
            if flower and not flower.over:
                control.stop(flower.id)
            end_process(self.folder / jobs.RUNS / name)
        for job in wanted:
            tries = self._tries.setdefault(job.name, _Tries(flower=_known(job)))
            flower = there.get(tries.flower)
            if flower and not flower.over and self._at_work(job, tries, now):
                continue
            if now < tries.due:
                continue
            if flower and not flower.over:
                log.info("run=%s its process is gone", job.name)
                with contextlib.suppress(DeploymentError):
                    control.stop(flower.id)
            self._start(control, job, tries, now)

    def _ending(self, name: str, now: float) -> bool:
        """Whether the process of a run that came to its end is still given time to end by itself."""
        tries, run = self._tries[name], self.folder / jobs.RUNS / name
        tries.ending = min(tries.ending, now)
        finished = run.exists() and jobs.read_status(jobs.read(run)).state == "finished"
        return finished and running(run) and now - tries.ending < _ENDING_S

    def _at_work(self, job: Job, tries: _Tries, now: float) -> bool:
        """Whether a process does the run, or may still be starting."""
        if running(job.folder):
            return True
        taken = (job.folder / PROCESS).exists() and _of(job) == tries.flower
        return not taken and now - tries.started < _STARTING_S

    def _start(self, control: Control, job: Job, tries: _Tries, now: float) -> None:
        end_process(job.folder)
        quick = now - tries.started < tries.delay_s + _QUICK_S
        tries.delay_s = min(2 * tries.delay_s, _LONGEST_DELAY_S) if quick else _FIRST_DELAY_S
        tries.started, tries.due = now, now + tries.delay_s
        tries.flower = control.start(job.name)
        files.replace_json(job.folder / FLOWER, {"flower": tries.flower})
        log.info("run=%s flower=%d started", job.name, tries.flower)


def _known(job: Job) -> int:
    """Return Flower's id of the run that was started last, by this process or one before; 0 for none."""
    with contextlib.suppress(ConsiliumError, KeyError, ValueError):
        return int(files.read_json(job.folder / FLOWER, DeploymentError, "")["flower"])
    return 0


def write_process(run: Path, flower: int) -> None:
    """Write down which process does a run: this one.

    run: the run's folder.
    flower: Flower's id of the run.
    """
    pid = os.getpid()
    files.replace_json(run / PROCESS, {"pid": pid, "born": born(pid), "flower": flower})


def _process(run: Path) -> dict[str, Any]:
    with contextlib.suppress(ConsiliumError):
        return files.read_json(run / PROCESS, DeploymentError, "")
    return {}


def _of(job: Job) -> int:
    return int(_process(job.folder).get("flower", 0))


def running(run: Path) -> bool:
    """Whether the process that does a run is there."""
    process = _process(run)
    pid = process.get("pid")
    return isinstance(pid, int) and process.get("born") is not None and born(pid) == process["born"]


def end_process(run: Path) -> None:
    """Kill the process that does a run, if it is there: two would answer for one another."""
    process = _process(run)
    if running(run):
        log.info("run=%s pid=%d killed", run.name, process["pid"])
        with contextlib.suppress(ProcessLookupError):
            os.kill(process["pid"], signal.SIGKILL)
