"""A whole run at the aggregator: rounds of the study's plan until it is finished.

The loop holds no state of its own: ``Progress`` is everything, it is handed to ``save`` after every round, and a run
that starts from a saved one ends with the same bits as one that never stopped.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from server import secagg
from server.exchange import Port
from server.outcome import RoundRecord
from server.round import Question, RoundOutcome, run_round, wrong_sum
from server.secagg_state import Secured
from server.transport import Transport
from shared.errors import NoEstimate, ProtocolError, RunAbandoned, SecretsLost
from shared.examples import Arrays
from shared.messages import Ended, EndRequest, Heading
from shared.methods.combinators import InTurn
from shared.study import Study

log = logging.getLogger("consilium.server")


@dataclass(frozen=True, eq=False)
class Progress:
    """How far a run is.

    run: the run's id.
    state: of the plan, before the next round.
    history: every finished exchange.
    frozen: contributors of the last exact sum, by whose rows it was over; the sites accept no others.
    secured: where secure aggregation stands; None before the run is joined, and for bare words.
    """

    run: str
    state: Arrays
    history: tuple[RoundRecord, ...] = ()
    frozen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    secured: Secured | None = None


LOST_BY_SUBTRACTION = (
    "The hospitals refuse because an exact method keeps the hospitals of its first sum, and every method those of the"
    " same round in another run: a lost one's part could be found by subtraction."
)


def advice_in_simulation(reasons: str) -> str:
    """Return what a person can do about a simulated run that was given up. reasons: the error's text."""
    kept = "The last checkpoint is kept; go on with --resume once they are back."
    if "faulty" in reasons:
        return "The last checkpoint is kept; go on with --resume once the faulty one is found and mended."
    if "contributors-changed" not in reasons and "members-changed" not in reasons:
        return kept
    return (
        f"{LOST_BY_SUBTRACTION} {kept} To go on without it, every hospital must approve a new run, or its policy allow"
        " shrinking (in a simulation: [simulation] contributors_may_shrink = true)."
    )


@dataclass(frozen=True)
class Observers:
    """Who is told after every round.

    save: makes the progress durable; called before anybody else learns of it.
    journal: makes a round in progress durable, see ``run_round``.
    report: shows it to people.
    ended: gets what each site says at the end of the run.
    advice: what a person can do about a run that is given up, by the error's text.
    clock: seconds, from any zero.
    """

    clock: Callable[[], float]
    save: Callable[[Progress], None] = lambda _progress: None
    journal: Callable[[Secured], None] = lambda _secured: None
    report: Callable[[RoundRecord], None] = lambda _record: None
    ended: Callable[[Ended], None] = lambda _said: None
    advice: Callable[[str], str] = advice_in_simulation


def run_study(
    study: Study,
    plan: InTurn,
    sites: Mapping[str, bytes],
    transport: Transport,
    progress: Progress,
    observers: Observers,
) -> Progress:
    """Run the study to its end.

    plan: the study as one method (``shared.plan.plan_of``).
    sites: identity (Ed25519 public key) by name; every site is asked in every round.
    progress: where to start.

    Returns: the finished progress.
    Raises: RunAbandoned if a round has too few contributors; the sites are told, and forget the run's secrets.
    """
    if study.aggregation.secure and progress.secured is None:
        session = secagg.join(study, sites, Port(transport, study.aggregation.deadline_s))
        progress = dataclasses.replace(progress, run=session.run, secured=Secured(session))
        log.info("run=%s joined=%d of=%d", session.run, len(session.members), len(sites))
    try:
        while not plan.finished(progress.state):
            progress = _advance(study, plan, tuple(sites), transport, progress, observers)
    except SecretsLost:
        raise
    except RunAbandoned as error:
        _end(study, progress, tuple(sites), transport, finished=False, take=observers.ended)
        if isinstance(error, NoEstimate):
            raise  # made again, the same round would end the same way
        raise RunAbandoned(f"{error} {observers.advice(str(error))}".strip()) from None
    _end(study, progress, tuple(sites), transport, finished=True, take=observers.ended)
    return progress


def _advance(
    study: Study, plan: InTurn, sites: Sequence[str], transport: Transport, progress: Progress, observers: Observers
) -> Progress:
    """Make one round, save it, and tell about it."""
    started = observers.clock()
    port = Port(transport, study.aggregation.deadline_s)
    ask = plan.asks(progress.state)
    secured = progress.secured
    members = secured.session.members if secured else sites
    cohort = members
    if secured and ask.exact:
        cohort = progress.frozen.get(ask.part, cohort)
    question = Question(
        plan,
        progress.state,
        Heading(progress.run, study.digest, len(progress.history) + 1),
        len(members),
        {site: _last_counted(site, progress.history) for site in cohort},
        study.aggregation.min_sites,
    )
    outcome = run_round(question, port, secured, observers.journal)
    stage = plan.stage(progress.state)
    try:
        # A state with infinities would be saved, and no hospital answers it.
        with np.errstate(divide="raise", invalid="raise", over="raise"):
            state, measurements = plan.advance(progress.state, outcome.total)
    except (ArithmeticError, ValueError, IndexError, ProtocolError):
        # Sums of rows that cannot be, such as a weight of nothing.
        hint = f"the {stage} stage cannot go on from these sums"
        raise RunAbandoned(wrong_sum(question.heading.round, outcome.contributors, hint)) from None
    record = RoundRecord(
        stage=stage,
        round=1 + sum(record.stage == stage for record in progress.history),
        measurements=measurements,
        seconds=observers.clock() - started,
        contributors=outcome.contributors,
        dropped=_dropped(sites, outcome),
        noted=port.tally.noted,
        bytes_up=port.tally.bytes_up,
        bytes_down=port.tally.bytes_down,
    )
    progress = Progress(
        progress.run,
        state,
        (*progress.history, record),
        {**progress.frozen, ask.part: outcome.contributors} if secured and ask.exact else progress.frozen,
        outcome.secured,
    )
    observers.save(progress)
    log.info("stage=%s round=%d %s", stage, record.round, _fields(record))
    observers.report(record)
    return progress


def _dropped(sites: Sequence[str], outcome: RoundOutcome) -> dict[str, str]:
    """Return why each site is not in the sum; those that were not asked are out of the run, or of its exact sums."""
    return {site: outcome.dropped.get(site, "not-asked") for site in sites if site not in outcome.contributors}


def _end(
    study: Study,
    progress: Progress,
    sites: Sequence[str],
    transport: Transport,
    finished: bool,
    take: Callable[[Ended], None],
) -> None:
    """Tell the sites that the run is over; whoever does not hear it forgets with the next run."""
    members = progress.secured.session.members if progress.secured else sites
    request = EndRequest(Heading(progress.run, study.digest, len(progress.history)), finished)
    Port(transport, study.aggregation.deadline_s).ask(dict.fromkeys(members, request), Ended, take)


def _last_counted(site: str, history: Sequence[RoundRecord]) -> int:
    """Return the number of the last exchange that had this site in its sum, 0 for none."""
    return next((number for number in range(len(history), 0, -1) if site in history[number - 1].contributors), 0)


def _fields(record: RoundRecord) -> str:
    measured: Iterable[str] = (f"{name}={value:.6g}" for name, value in record.measurements.items())
    dropped = ",".join(f"{site}:{code}" for site, code in record.dropped.items()) or "0"
    return (
        f"contributors={len(record.contributors)} dropped={dropped} seconds={record.seconds:.3f} {' '.join(measured)}"
    )
