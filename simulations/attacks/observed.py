"""A study's preparation and training at real sites, and all that its aggregator sees: every state and every sum.

This is who an audit plays: an aggregator that follows the protocol, keeps everything, and takes its time afterwards.
The sites run the code that hospitals run, from the checks of a request to the noise inside the masked words. Nothing is
judged, so held-out patients are not touched.
"""

from __future__ import annotations

import secrets
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data.split import SiteData
from client.site import Site, SiteState, answer
from server.strategies import server_optimizer
from server.training import Observers, Progress, run_study
from server.transport import Arrival
from shared.errors import NoEstimate
from shared.examples import Arrays, Examples
from shared.messages import Request
from shared.methods.base import Measurements, Total, within
from shared.methods.combinators import InTurn
from shared.plan import EVALUATE, TRAIN, plan_of
from shared.secagg.keys import Entropy
from shared.study import Study
from simulations.local import local_sites


@dataclass(frozen=True, eq=False)
class Seen:
    """One sum, as the aggregator sees it.

    state: what was broadcast.
    total: the sum, with the noise that is in it.
    """

    state: Arrays
    total: Total


@dataclass(frozen=True, eq=False)
class Observed:
    """A trained study.

    plan: the study as one method.
    state: after the training, or the last one that was broadcast.
    seen: every sum of preparation and training, in order.
    no_estimate: why there is no model, if there is none: extreme patients can bring that about. Sums were seen.
    """

    plan: InTurn
    state: Arrays
    seen: tuple[Seen, ...]
    no_estimate: NoEstimate | None = None

    @cached_property
    def method(self) -> Any:
        """What was trained, a ``ModelMethod`` that knows its preparation."""
        return self.plan.method(self.state, TRAIN)

    @cached_property
    def weights(self) -> Arrays:
        """The weights that would be released.

        Raises: NoEstimate.
        """
        if self.no_estimate:
            raise self.no_estimate
        weights: Arrays = self.method.result(within(TRAIN, self.state))
        return weights

    def log_odds(self, examples: Examples) -> NDArray[np.float64]:
        """Return the log-odds of each row's true class, as the released model sees it; array of shape (n,).

        Where the label is a number: minus the absolute error, in the label's unit.
        """
        said = self.method.scores(self.weights, self.method.preparation.transform(examples))
        if said.shape[1] == 1:
            return np.asarray(-np.abs(said[:, 0] - examples.labels))
        return np.asarray(said[np.arange(len(examples)), examples.labels.astype(np.int64)])


class _UpToTraining(InTurn):
    """A study's plan that ends before the evaluation, and takes note of every sum."""

    def __init__(self, plan: InTurn) -> None:
        super().__init__(plan.stages)
        self.seen: list[Seen] = []

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        self.seen.append(Seen(state, total))
        return super().advance(state, total)

    def finished(self, state: Arrays) -> bool:
        return int(state["stage"]) >= [stage.name for stage in self.stages].index(EVALUATE)


class _Sites:
    """Calls the sites one after the other; nobody keeps a ledger, which changes nothing that leaves."""

    def __init__(self, sites: Mapping[str, Site]) -> None:
        self.sites = sites
        self.states = {name: SiteState() for name in sites}

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        for name, request in requests.items():
            reply, self.states[name] = answer(request, self.states[name], self.sites[name])
            yield Arrival(name, reply)


def observe(study: Study, data: Mapping[str, SiteData], entropy: Entropy = secrets.token_bytes) -> Observed:
    """Prepare and train a study, and return all that its aggregator sees.

    data: each site's checked and split data, by name.
    entropy: the sites' source of keys and noise.

    Raises: RunAbandoned if the sites refuse.
    """
    plan = _UpToTraining(plan_of(study, server_optimizer(study)))
    sites = local_sites(study, plan, data, entropy)
    identities = {name: site.member.signing.public for name, site in sites.items()}
    start = Progress(run=uuid.uuid4().hex, state=plan.start())
    try:
        progress = run_study(study, plan, identities, _Sites(sites), start, Observers(clock=time.perf_counter))
    except NoEstimate as error:
        return Observed(plan, plan.seen[-1].state, tuple(plan.seen), error)
    return Observed(plan, progress.state, tuple(plan.seen))
