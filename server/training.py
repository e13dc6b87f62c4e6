"""A whole run at the aggregator: rounds of the study's plan until it is finished.

The loop holds no state of its own: ``Progress`` is everything, it is handed to ``save`` after every round, and a run
that starts from a saved one ends with the same bits as one that never stopped.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from server.outcome import RoundRecord
from server.round import Heading, run_round
from server.transport import Transport
from shared.examples import Arrays
from shared.methods.combinators import InTurn
from shared.study import Study

log = logging.getLogger("consilium.server")


@dataclass(frozen=True, eq=False)
class Progress:
    """How far a run is.

    run: the run's id.
    state: of the plan, before the next round.
    history: every finished exchange.
    """

    run: str
    state: Arrays
    history: tuple[RoundRecord, ...] = ()


@dataclass(frozen=True)
class Observers:
    """Who is told after every round.

    save: makes the progress durable; called before anybody else learns of it.
    report: shows it to people.
    clock: seconds, from any zero.
    """

    clock: Callable[[], float]
    save: Callable[[Progress], None] = lambda _progress: None
    report: Callable[[RoundRecord], None] = lambda _record: None


def run_study(
    study: Study, plan: InTurn, sites: Sequence[str], transport: Transport, progress: Progress, observers: Observers
) -> Progress:
    """Run the study to its end.

    plan: the study as one method (``shared.plan.plan_of``).
    sites: the cohort; every site is asked in every round.
    progress: where to start.

    Returns: the finished progress.
    Raises: RunAbandoned if a round has fewer contributors than ``min_sites``.
    """
    while not plan.finished(progress.state):
        started = observers.clock()
        heading = Heading(progress.run, study.digest, len(progress.history) + 1)
        outcome = run_round(
            plan,
            progress.state,
            heading,
            {site: _last_counted(site, progress.history) for site in sites},
            transport,
            study.aggregation.min_sites,
            study.aggregation.deadline_s,
        )
        stage = plan.stage(progress.state)
        state, measurements = plan.advance(progress.state, outcome.total)
        record = RoundRecord(
            stage=stage,
            round=1 + sum(record.stage == stage for record in progress.history),
            measurements=measurements,
            seconds=observers.clock() - started,
            contributors=outcome.contributors,
            dropped=outcome.dropped,
            noted=outcome.noted,
            bytes_up=outcome.bytes_up,
            bytes_down=outcome.bytes_down,
        )
        progress = Progress(progress.run, state, (*progress.history, record))
        observers.save(progress)
        log.info("stage=%s round=%d %s", stage, record.round, _fields(record))
        observers.report(record)
    return progress


def _last_counted(site: str, history: Sequence[RoundRecord]) -> int:
    """Return the number of the last exchange that had this site in its sum, 0 for none."""
    return next((number for number in range(len(history), 0, -1) if site in history[number - 1].contributors), 0)


def _fields(record: RoundRecord) -> str:
    measured: Iterable[str] = (f"{name}={value:.6g}" for name, value in record.measurements.items())
    dropped = ",".join(f"{site}:{code}" for site, code in record.dropped.items()) or "0"
    return (
        f"contributors={len(record.contributors)} dropped={dropped} seconds={record.seconds:.3f} {' '.join(measured)}"
    )
