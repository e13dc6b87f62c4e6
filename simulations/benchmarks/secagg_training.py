"""Training rounds of the CNN (``work``) with masks and without, by the same engine on the same images."""

from __future__ import annotations

import dataclasses
import time
import uuid
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from client.data.split import SiteData
from server.outcome import RoundRecord
from server.strategies import server_optimizer
from server.training import Observers, Progress, run_study
from shared.examples import Examples, Part
from shared.models import runtime
from shared.plan import plan_of
from shared.study import Study
from simulations.benchmarks import work
from simulations.local import LocalTransport, local_sites


class StudyRun:
    """A run of a study in one process that can be made round by round, as if it were resumed after each."""

    def __init__(self, study: Study, data: Mapping[str, SiteData]) -> None:
        self._study = study
        self._plan = plan_of(study, server_optimizer(study))
        sites = local_sites(study, self._plan, data)
        self._identities = {name: site.member.signing.public for name, site in sites.items()}
        self._transport = LocalTransport(sites)
        self.progress = Progress(run=uuid.uuid4().hex, state=self._plan.start())

    def round(self) -> RoundRecord:
        """Make one exchange of sums, by the engine's own loop, and return its record."""
        observers = Observers(clock=time.perf_counter, save=_stop)
        try:
            run_study(self._study, self._plan, self._identities, self._transport, self.progress, observers)
        except _Stopped as stopped:
            self.progress = stopped.progress
        return self.progress.history[-1]


class _Stopped(Exception):
    def __init__(self, progress: Progress) -> None:
        self.progress = progress


def _stop(progress: Progress) -> None:
    raise _Stopped(progress)


def cnn(repeats: int) -> tuple[list[RoundRecord], list[RoundRecord]]:
    """Return the training rounds of so many runs with masks, and of as many without, made in turns.

    Rounds before the first are not counted: they compile the graph.
    """
    study, data = work.cnn_study(), cnn_data()
    runtime.start(study.study.threads)
    side_by_side(study, data)
    masked: list[RoundRecord] = []
    bare: list[RoundRecord] = []
    for _ in range(repeats):
        for one, other in side_by_side(study, data):
            masked.append(one)
            bare.append(other)
    return masked, bare


def side_by_side(study: Study, data: Mapping[str, SiteData]) -> list[tuple[RoundRecord, RoundRecord]]:
    """Make a study's training rounds with masks and without, in turns; preparation goes before."""
    runs = [StudyRun(with_masks(study, secure), data) for secure in (True, False)]
    for run in runs:
        run.round()
    return [(runs[0].round(), runs[1].round()) for _ in range(study.method.rounds)]


def with_masks(study: Study, secure: bool) -> Study:
    """Return the study with or without secure aggregation."""
    return dataclasses.replace(study, aggregation=dataclasses.replace(study.aggregation, secure=secure))


def cnn_data() -> dict[str, SiteData]:
    """Return each site's images, by name; the held-out ones are dealt to the sites."""
    x, y = work.cnn_site(work.HELD_OUT)
    dealt = np.array_split(np.arange(len(y)), work.SITES)
    return {
        f"site_{number}": SiteData(
            f"site_{number}",
            {
                Part.TRAINING: _examples(*work.cnn_site(number), f"t{number}"),
                Part.HELD_OUT: _examples(x[rows], y[rows], f"h{number}"),
            },
        )
        for number, rows in enumerate(dealt)
    }


def _examples(x: NDArray[np.float32], y: NDArray[np.int64], prefix: str) -> Examples:
    none = np.zeros((len(y), 0))
    patients = np.array([f"{prefix}-{row}" for row in range(len(y))])
    return Examples(none, none.astype(bool), y.astype(np.float64), patients, images=x)
