"""Several hospitals in one process: the aggregator's loop and the sites' steps, without a network between them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from client.data.base import RawData
from client.data.split import SiteData, site_data
from client.site import SiteState, answer
from server.strategies import server_optimizer
from server.training import Observers, Progress, run_study
from server.transport import Arrival, Transport
from shared.errors import DataError
from shared.examples import Part
from shared.messages import ContributeRequest
from shared.methods import METHODS
from shared.methods.combinators import InTurn
from shared.plan import plan_of
from shared.study import Study
from simulations import faults


class LocalTransport:
    """Calls each site's steps directly, one site after the other, in the cohort's order.

    study, plan: the same as the aggregator's.
    data: each site's own data, by name.
    """

    def __init__(self, study: Study, plan: InTurn, data: Mapping[str, SiteData]) -> None:
        self._study = study
        self._plan = plan
        self._data = dict(data)
        self._states = {site: SiteState() for site in data}

    def exchange(self, requests: Mapping[str, ContributeRequest], deadline_s: float) -> Iterator[Arrival]:
        """Yield each site's answer."""
        for site, request in requests.items():
            reply, self._states[site] = answer(request, self._states[site], self._data[site], self._study, self._plan)
            yield Arrival(site, reply)


@dataclass(frozen=True, eq=False)
class Consortium:
    """Simulated hospitals that are ready to run a study.

    data: each site's checked and split data, by name.
    """

    study: Study
    data: Mapping[str, SiteData]

    def run(self, observers: Observers, progress: Progress | None = None) -> tuple[InTurn, Progress]:
        """Run the study, from ``progress`` or from the start; return its plan and the finished progress.

        Raises: RunAbandoned if a round has fewer contributors than the study demands.
        """
        plan = plan_of(self.study, server_optimizer(self.study))
        transport: Transport = LocalTransport(self.study, plan, self.data)
        planned = [faults.parse(text, list(self.data)) for text in self.study.simulation.faults]
        if planned:
            transport = faults.FaultyTransport(transport, planned)
        progress = progress or Progress(run=uuid.uuid4().hex, state=plan.start())
        return plan, run_study(self.study, plan, list(self.data), transport, progress, observers)


def gather(study: Study, raw: Mapping[str, RawData], tell: Callable[[str], None] = lambda _site: None) -> Consortium:
    """Let every site check and split its data.

    raw: what each hospital's files hold, by site name.
    tell: called with each site's name before it starts.

    Raises: DataError naming every site that cannot take part, and why; DependencyMissing if the method cannot run here.
    """
    METHODS[study.method.name].require()
    data: dict[str, SiteData] = {}
    problems: list[str] = []
    for site, table in raw.items():
        tell(site)
        try:
            data[site] = site_data(study.data, table, site, study.study.seed)
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    if not any(len(site.parts[Part.HELD_OUT]) for site in data.values()):
        raise DataError(
            "no patient is held out at any site, so the model could not be judged. Bring more patients, or raise"
            " [data] test_fraction."
        )
    return Consortium(study, data)


def only(consortium: Consortium, sites: Sequence[str], study: Study) -> Consortium:
    """Return the consortium of some of the sites, running another study over the same data."""
    return Consortium(study, {site: consortium.data[site] for site in sites})
