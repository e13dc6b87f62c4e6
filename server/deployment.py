"""One run of a study with real hospitals, in the ServerApp's process: from its folder to its report.

Everything that must outlive this process is in the run's folder: who takes part, the checkpoint, the journal, the
status. A process that finds them goes on from the last finished exchange; a round whose masked total was journaled is
finished from it. When too few sites are there, or one lost its secrets, the run is joined anew from the last
checkpoint, as often as it takes: only the coordinator gives a run up.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from server import checkpoint, jobs, journal, output
from server.exchange import Port
from server.jobs import Job
from server.outcome import RoundRecord
from server.preflight import Cohort, preflight
from server.secagg_state import Secured
from server.strategies import server_optimizer
from server.training import LOST_BY_SUBTRACTION, Observers, Progress, run_study
from server.transport import Transport
from shared import audit, files
from shared.errors import CheckpointError, ConsiliumError, NotWritten, RunAbandoned, SecretsLost
from shared.messages import Counts, Ended
from shared.methods.combinators import InTurn
from shared.plan import plan_of
from shared.reasons import CODE_ADVICE, code_advice
from shared.secagg.transcript import state_digest

log = logging.getLogger("consilium.server")

COHORT = "cohort.json"
_FIRST_WAIT_S, _LONGEST_WAIT_S = 2.0, 60.0
_APPROVAL_WAIT_S = 10.0
"""Longest wait before hospitals are asked again whether they have approved the study."""
_GATHER_S = 20.0
"""How long a new run waits for enrolled hospitals whose nodes are just coming online."""


@dataclass(frozen=True, eq=False)
class Aggregator:
    """What a run is done with.

    folder: the coordinator's.
    code: digest of the code that runs here.
    transport: reaches the sites.
    enrolled: identity by name of the sites that are enrolled now, in the order of enrolment.
    online: names of the sites whose nodes are there now.
    """

    folder: Path
    code: str
    transport: Transport
    enrolled: Callable[[], Mapping[str, bytes]]
    online: Callable[[], set[str]]
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], datetime] = lambda: datetime.now(UTC)


@checked(frozen=True, config=ConfigDict(extra="forbid", ser_json_bytes="hex", val_json_bytes="hex"))
class _Kept:
    """What is written down of who takes part: ``Cohort`` without what may change."""

    sites: dict[str, bytes]
    left_out: dict[str, str]
    counts: dict[str, Counts]


@dataclass(eq=False)
class _Run:
    """One run at work."""

    job: Job
    aggregator: Aggregator
    plan: InTurn
    identity: Mapping[str, str]
    ended: dict[str, Ended] = field(default_factory=dict)

    @property
    def checkpoints(self) -> Path:
        return self.job.folder / output.CHECKPOINT

    def say(self, state: jobs.State, message: str = "", **more: Any) -> None:
        """Tell the coordinator how the run stands."""
        jobs.changed(self.job, self.aggregator.now(), state, message, **more)

    def record(self, event: str, **fields: Any) -> None:
        """Append to the coordinator's record."""
        about = {"id": self.job.id, "name": self.job.name, "study": self.job.study.digest}
        audit.append(self.aggregator.folder, event, self.aggregator.now(), **about, **fields)


def serve(folder: Path, aggregator: Aggregator) -> None:
    """Do a run to its end, or go on with it; its status says how it ended.

    folder: of the run.

    Raises: ConsiliumError if it cannot go on without a person.
    """
    from threadpoolctl import threadpool_limits

    job = jobs.read(folder)
    files.make_folder(folder / output.CHECKPOINT)
    with output.locked(folder), output.logged(folder), threadpool_limits(limits=job.study.study.threads):
        if jobs.read_status(job).state in jobs.FINAL:
            return
        identity = {"run": job.id, "study": job.study.name, "digest": job.study.digest}
        run = _Run(job, aggregator, plan_of(job.study, server_optimizer(job.study)), identity)
        try:
            _serve(run)
        except NotWritten as error:
            log.warning("%s", error)
            # The keeper starts this process again, later and later. The status may lie on the same full disk.
            with contextlib.suppress(NotWritten):
                run.say("waiting", f"{error} The run then goes on by itself.")
            raise
        except ConsiliumError as error:
            log.exception("failed")
            run.say("failed", str(error), exit_code=error.exit_code)
            raise
        except Exception as error:
            log.exception("failed")
            run.say(
                "failed",
                f"an error of the aggregator itself ({type(error).__name__}): see {folder / output.LOG}",
                exit_code=1,
            )
            raise


def _serve(run: _Run) -> None:
    started = time.perf_counter()
    cohort = _cohort(run)
    progress = _resumed(run)
    wait_s = _FIRST_WAIT_S
    while not run.plan.finished(progress.state):
        _check_enrolled(run, cohort)
        before = len(progress.history)
        try:
            run.say("running", history=progress.history)
            progress = run_study(
                run.job.study, run.plan, cohort.sites, run.aggregator.transport, progress, _observers(run)
            )
        except RunAbandoned as error:
            log.warning("joined anew after: %s", error)
            run.record("interrupted", reason=str(error)[:300])
            progress = dataclasses.replace(_resumed(run), secured=None)
            if len(progress.history) > before or isinstance(error, SecretsLost):
                wait_s = _FIRST_WAIT_S
            else:
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
            _gather(run, cohort, str(error), wait_s)
    _finish(run, cohort, progress, time.perf_counter() - started)


def _observers(run: _Run) -> Observers:
    def save(progress: Progress) -> None:
        checkpoint.write(run.checkpoints, run.identity, progress)
        last = progress.history[-1]
        run.record(
            "exchange",
            run=progress.run,
            number=len(progress.history),
            stage=last.stage,
            contributors=list(last.contributors),
            dropped=dict(last.dropped),
            state=state_digest(progress.state).hex(),
        )
        run.say("running", history=progress.history)

    def write_down(secured: Secured) -> None:
        journal.write(run.checkpoints, secured)

    def end(said: Ended) -> None:
        run.ended[said.site] = said

    return Observers(clock=run.aggregator.clock, save=save, journal=write_down, ended=end, advice=_advice)


def _advice(reasons: str) -> str:
    """Return what can be done about hospitals that are missing; the run itself tries again.

    reasons: the error's text, which names their codes.
    """
    advice = [code_advice(code) for code in CODE_ADVICE if f"({code})" in reasons]
    if "(contributors-changed)" in reasons or "(members-changed)" in reasons:
        advice.append(
            f"{LOST_BY_SUBTRACTION} The run goes on once the missing one answers. To do without it, stop the run: every"
            " hospital has to approve the study again with a roster without it, or to allow shrinking in its policy."
        )
    return " ".join(advice)


def _resumed(run: _Run) -> Progress:
    """Return how far the run is on the disk."""
    progress = checkpoint.read(run.checkpoints, run.identity)
    if progress is None:
        return Progress(run=run.job.id, state=run.plan.start())
    secured = journal.read(run.checkpoints)
    if secured is None or secured.session.run != progress.run:
        return progress
    return dataclasses.replace(progress, secured=secured)


def _cohort(run: _Run) -> Cohort:
    """Return who takes part: as written down, or by asking every enrolled site."""
    path = run.job.folder / COHORT
    if path.exists():
        try:
            kept = TypeAdapter(_Kept).validate_json(path.read_bytes())
        except (OSError, ValidationError) as error:
            raise CheckpointError(f"{path}: not readable ({type(error).__name__}).") from None
        return Cohort(kept.sites, kept.left_out, kept.counts)
    aggregator, study = run.aggregator, run.job.study
    wait_s = _FIRST_WAIT_S
    while True:
        enrolled = aggregator.enrolled()
        _wait_for(run, set(enrolled), _GATHER_S)
        online = {name: key for name, key in enrolled.items() if name in aggregator.online()}
        try:
            port = Port(aggregator.transport, study.aggregation.deadline_s)
            cohort = preflight(study, online, aggregator.code, port, run.job.at_least)
            break
        except RunAbandoned as error:
            away = sorted(set(enrolled) - set(online))
            run.say("waiting", " ".join(filter(None, [str(error), _advice(str(error)), _not_connected(away)])))
            aggregator.sleep(wait_s)
            wait_s = min(2 * wait_s, _APPROVAL_WAIT_S)
    left_out = {name: cohort.left_out.get(name, "offline") for name in enrolled if name not in cohort.sites}
    kept = _Kept(dict(cohort.sites), left_out, dict(cohort.counts))
    try:
        files.replace_bytes(path, TypeAdapter(_Kept).dump_json(kept, indent=1))
    except OSError as error:
        raise NotWritten(path, error) from None
    run.record(
        "begun", sites={name: key.hex() for name, key in kept.sites.items()}, left_out=left_out, code=aggregator.code
    )
    jobs.left_out(run.job, aggregator.now(), left_out)
    return Cohort(kept.sites, kept.left_out, kept.counts)


def _gather(run: _Run, cohort: Cohort, why: str, within_s: float) -> None:
    """Wait until all sites of the run are there again, or for so long."""
    away = sorted(set(cohort.sites) - run.aggregator.online())
    if away:
        run.say("waiting", f"{why} {_not_connected(away)}")
        _wait_for(run, set(cohort.sites), within_s)
    else:
        run.say("waiting", why)
        run.aggregator.sleep(min(within_s, _LONGEST_WAIT_S) if within_s > _FIRST_WAIT_S else 0.0)


def _not_connected(names: Sequence[str]) -> str:
    return f"Not connected: {', '.join(names)}." if names else ""


def _wait_for(run: _Run, names: set[str], within_s: float) -> None:
    end = run.aggregator.clock() + within_s
    while run.aggregator.clock() < end and not names <= run.aggregator.online():
        run.aggregator.sleep(0.5)


def _check_enrolled(run: _Run, cohort: Cohort) -> None:
    """Raise RunAbandoned for good if a site of the run was revoked, or has another identity now."""
    enrolled = run.aggregator.enrolled()
    gone = [name for name, identity in cohort.sites.items() if enrolled.get(name) != identity]
    allowed = max(run.job.study.aggregation.min_sites, 3)
    if gone and len(cohort.sites) - len(gone) < allowed:
        raise RunAbandoned(f"{', '.join(gone)} is not enrolled any more, and too few hospitals are left for the run.")


def _finish(run: _Run, cohort: Cohort, progress: Progress, seconds: float) -> None:
    """Write what the run leaves, and say that it is finished."""
    from server.release import outcome_of

    spent = max(seconds, sum(record.seconds for record in progress.history))
    outcome = outcome_of(run.job.study, run.plan, progress, cohort, run.ended, spent)
    output.write(outcome, run.job.folder)
    run.record("finished", exchanges=len(progress.history), state=state_digest(progress.state).hex())
    run.say("finished", history=progress.history)


def last_round(history: tuple[RoundRecord, ...]) -> str:
    """Return how far a run is, in words."""
    if not history:
        return "no exchange finished yet"
    last = history[-1]
    return f"{last.stage} {last.round}, {len(last.contributors)} hospitals"
