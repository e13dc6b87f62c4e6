"""Several hospitals in one process: the aggregator's loop and the sites' steps, without a network between them."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from client.budget import Budget, Spending, plan_cost
from client.contributors import Sums, kept_for
from client.data.base import RawData
from client.data.split import SiteData, site_data
from client.policy import simulated
from client.secagg_state import Member
from client.site import Site, SiteState, answer, cost
from server.strategies import server_optimizer
from server.training import Observers, Progress, run_study
from server.transport import Arrival, Transport
from shared.errors import DataError, ProtocolError, StudyError
from shared.examples import Part, concatenate
from shared.messages import Contributed, ContributeRequest, Refused, Reply, Request
from shared.methods import METHODS
from shared.methods.base import Total
from shared.methods.combinators import InTurn
from shared.methods.words import word_plan
from shared.patients import words_of
from shared.plan import plan_of
from shared.privacy import mechanisms
from shared.secagg import roster
from shared.secagg.keys import Entropy, SigningKey
from shared.study import Study
from simulations import faults


class LocalTransport:
    """Calls each site's steps directly, one site after the other, in the cohort's order.

    sites: each simulated hospital, by name.
    sums: what they remember of earlier sums over their patients.

    In a study with ``[privacy]`` each has the study's own epsilon and delta as its budget, for the study's own
    unit, and keeps account in memory.
    """

    def __init__(self, sites: Mapping[str, Site], sums: Sums | None = None) -> None:
        self.sites = dict(sites)
        self.states = {name: SiteState(sums=sums or Sums()) for name in sites}
        self.spent: dict[str, tuple[Spending, ...]] = dict.fromkeys(sites, ())

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        """Yield each site's answer."""
        for name, request in requests.items():
            reply, state = answer(request, self.states[name], self.sites[name])
            unpaid = self._pay(request, reply)
            if unpaid is None:
                self.states[name] = state
            yield Arrival(name, unpaid or reply)

    def _pay(self, request: Request, reply: Reply) -> Refused | None:
        """Charge what a reply costs the study's unit of privacy; return a refusal if that is too much.

        A hospital's node charges its ledger in the same way what it costs one patient.
        """
        privacy = self.sites[reply.site].member.study.privacy
        if privacy is None or not isinstance(request, ContributeRequest) or not isinstance(reply, Contributed):
            return None
        spent = cost(request, self.sites[reply.site], privacy.unit)
        assert spent is not None
        part, event = spent
        # A hospital is in both parts, a patient in one.
        planned = Spending(split="simulated", parts=tuple(Part) if privacy.unit == "site" else (part,), events=(event,))
        budget = Budget(epsilon=privacy.epsilon, delta=privacy.delta)
        if not plan_cost(self.spent[reply.site], [planned], budget).fits:
            return Refused(reply.site, request.heading, "budget-exhausted", "the study's own epsilon is used up")
        self.spent[reply.site] += (planned,)
        return None


def local_sites(
    study: Study, plan: InTurn, data: Mapping[str, SiteData], entropy: Entropy = secrets.token_bytes
) -> dict[str, Site]:
    """Return simulated hospitals that have drawn identities and pinned each other's.

    study, plan: the same as the aggregator's.
    data: each site's own data, by name.
    """
    signing = {name: SigningKey(entropy(32)) for name in data}
    pinned = {name: key.public for name, key in signing.items()}
    policy = simulated(study)
    return {
        name: Site(Member(name, signing[name], pinned, policy, study, entropy), own, plan) for name, own in data.items()
    }


Engine = Callable[[Mapping[str, Site], Sums, Callable[[Transport], Progress]], Progress]
"""Brings simulated hospitals up, with what they remember of earlier sums, and does the aggregator's work with them."""


def in_turn(sites: Mapping[str, Site], sums: Sums, work: Callable[[Transport], Progress]) -> Progress:
    """Do the aggregator's work with all hospitals in this process; ``simulations.ray.on_ray`` is the other engine."""
    return work(LocalTransport(sites, sums))


@dataclass(frozen=True, eq=False)
class Consortium:
    """Simulated hospitals that are ready to run a study.

    data: each site's checked and split data, by name.
    """

    study: Study
    data: Mapping[str, SiteData]

    def run(
        self, observers: Observers, progress: Progress | None = None, engine: Engine = in_turn
    ) -> tuple[InTurn, Progress]:
        """Run the study, from ``progress`` or from the start; return its plan and the finished progress.

        Raises: RunAbandoned if a round has fewer contributors than the study demands; StudyError if a fault cannot be.
        """
        plan = plan_of(self.study, server_optimizer(self.study))
        sites = local_sites(self.study, plan, self.data)
        start = progress or Progress(run=uuid.uuid4().hex, state=plan.start())
        planned = faults.planned(self.study, list(self.data))
        identities = {name: site.member.signing.public for name, site in sites.items()}

        def work(transport: Transport) -> Progress:
            if planned:
                transport = faults.FaultyTransport(transport, planned)
            return run_study(self.study, plan, identities, transport, start, observers)

        return plan, engine(sites, _remembered(start), work)


def _remembered(progress: Progress) -> Sums:
    """Return what the hospitals of a run that goes on would remember of it, had their process not ended."""
    frozen = {kept_for(Part(part), True, 0): frozenset(names) for part, names in progress.frozen.items()}
    return Sums(frozen=frozen).next_run()


def gather(study: Study, raw: Mapping[str, RawData], tell: Callable[[str], None] = lambda _site: None) -> Consortium:
    """Let every site check and split its data.

    raw: what each hospital's files hold, by site name.
    tell: called with each site's name before it starts.

    Raises: DataError naming every site that cannot take part, and why; DependencyMissing if the method cannot run here;
        StudyError if the study cannot be run with so many sites, or plans faults that cannot be.
    """
    METHODS[study.method.name].require()
    faults.planned(study, list(raw))
    check_secure(study, len(raw))
    if study.aggregation.min_sites > len(raw):
        raise StudyError(
            f"[aggregation] min_sites: expected at most the number of sites, {len(raw)}. Received:"
            f" {study.aggregation.min_sites}. Lower it, or bring more sites."
        )
    data: dict[str, SiteData] = {}
    problems: list[str] = []
    for site, table in raw.items():
        tell(site)
        try:
            data[site] = _partly_labelled(study, site_data(study.data, table, site, study.study.seed))
        except DataError as error:
            problems.append(str(error))
    if problems:
        raise DataError("\n".join(problems))
    if not any(len(site.parts[Part.HELD_OUT]) for site in data.values()):
        raise DataError(
            "no patient is held out at any site, so the model could not be judged. Bring more patients, or raise"
            " [data] test_fraction."
        )
    prove_sums(study, len(data))
    return Consortium(study, data)


def _partly_labelled(study: Study, data: SiteData) -> SiteData:
    """Return the data with the labels that ``[simulation] labelled_share`` leaves; the held-out rows keep theirs."""
    share, training = study.simulation.labelled_share, data.parts[Part.TRAINING]
    if share == 1:
        return data
    kept = words_of(training.patients, study.study.seed, "labels") < np.uint64(round(share * 2**64))
    if not kept.any():
        raise DataError(f"{data.name}: no patient to train on keeps a label. Raise [simulation] labelled_share.")
    labelled, left = training.take(kept), training.take(~kept)
    if training.unlabelled is not None:
        left = replace(left, labels=np.full(len(left), np.nan))
        labelled = replace(labelled, unlabelled=concatenate([left, training.unlabelled]))
    return replace(data, parts={**data.parts, Part.TRAINING: labelled})


def check_secure(study: Study, sites: int) -> None:
    """Raise StudyError if so many sites cannot aggregate securely, or bear so many colluding ones in the noise."""
    aggregation = study.aggregation
    if not aggregation.secure:
        return
    if not roster.SMALLEST <= sites <= roster.LARGEST:
        raise StudyError(
            f"[aggregation] secure: expected {roster.SMALLEST} to {roster.LARGEST} sites. Received: {sites}. Two would"
            " learn each other's part from their sum. Bring other numbers of sites, or simulate without masks:"
            " --set aggregation.secure=false"
        )
    try:
        threshold = roster.threshold_of(sites, aggregation.threshold)
    except ProtocolError as error:
        raise StudyError(f"[aggregation] threshold: {error.hint}") from None
    if study.privacy:
        mechanisms.sharing(sites, max(threshold, aggregation.min_sites), study.privacy.colluding_sites)


def prove_sums(study: Study, sites: int) -> None:
    """Prove that the sums of preparation and training cannot wrap, before a hospital computes anything.

    The layout of the training follows from the preparation; one of no patients stands in for it here. Indicators of
    missing values, which only real data bring, widen the layout without changing a bound.

    Raises: StudyError naming the sum that does not fit.
    """
    plan = plan_of(study, server_optimizer(study))
    state = plan.start()
    ask = plan.asks(state)
    word_plan(ask, sites)
    nothing = Total({entry.name: np.zeros(entry.shape) for entry in ask.entries}, 0.0, sites)
    state, _ = plan.advance(state, nothing)
    word_plan(plan.asks(state), sites)
