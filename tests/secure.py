"""Hospitals under secure aggregation that sum given rows, and transports that lose, record and spoil messages.

The sites and the aggregator are the real ones; only their method is small and their secrets are reproducible.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from client.secagg_state import Member
from client.site import Site, SiteState
from server.secagg_state import MaskedTotal, Secured
from server.training import Observers, Progress, run_study
from server.transport import Arrival, Transport
from shared.examples import Arrays, Examples, Part
from shared.layout import Entry
from shared.messages import (
    ContributeRequest,
    EndRequest,
    JoinRequest,
    KeysRequest,
    Reply,
    Request,
    RevealRequest,
    SharesRequest,
)
from shared.methods.base import NOTHING, Ask, Contribution, Measurements, Total
from shared.methods.combinators import InTurn, Stage
from shared.methods.words import word_plan
from shared.plan import exchanges
from shared.randomness import Randomness
from shared.secagg.keys import SigningKey
from shared.study import Study
from simulations.local import LocalTransport, local_sites
from tests.builders import examples_of, site_of, table_study, ticking

NAMES = "abcdefghi"
BOUND = 1024.0
"""Largest number in a row."""

Step = Literal["join", "keys", "shares", "contribute", "reveal", "end"]
STEPS: dict[type[Any], Step] = {
    JoinRequest: "join",
    KeysRequest: "keys",
    SharesRequest: "shares",
    ContributeRequest: "contribute",
    RevealRequest: "reveal",
    EndRequest: "end",
}


class InsecureEntropy:
    """Reproducible "secrets": for tests alone."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)

    def __call__(self, size: int) -> bytes:
        return self._rng.bytes(size)


@dataclass(frozen=True)
class Rows:
    """A method in which a site contributes, in round r, row r of its table: shape (rounds, columns)."""

    columns: int
    rounds: int
    word_bits: int = 64
    exact: bool = False
    bound: float = BOUND

    def start(self) -> Arrays:
        return {"round": np.array(0)}

    def asks(self, state: Arrays) -> Ask:
        # The norm stands for that of a model's weights.
        norm = float(state["round"])
        entries = (Entry("row", (self.columns,), self.bound, self.bound),)
        return Ask(Part.TRAINING, entries, 1.0, self.word_bits, False, norm, 1000.0, self.exact)

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        return Contribution({"row": examples.values[int(state["round"])]}, 1.0), NOTHING

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        return {"round": np.array(int(state["round"]) + 1)}, {"first": float(total.arrays["row"][0])}

    def finished(self, state: Arrays) -> bool:
        return int(state["round"]) >= self.rounds

    def result(self, state: Arrays) -> None:
        return None

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> None:
        return None


def secure_study(**changes: Any) -> Study:
    """A study of three sums at most that are masked, of three sites at least."""
    basis = {"method__rounds": 1, "aggregation": {"secure": True, "min_sites": 3}}
    return table_study(**{**basis, **changes})


@dataclass(eq=False)
class Hospitals:
    """Sites with given rows, and where each of them stands.

    rows: shape (rounds, columns) by name.
    """

    study: Study
    rows: Mapping[str, NDArray[np.float64]]
    method: Rows
    sites: dict[str, Site] = field(init=False)
    plan: InTurn = field(init=False)
    local: LocalTransport = field(init=False)

    def __post_init__(self) -> None:
        self.plan = InTurn([Stage("sum", lambda _results: self.method)])
        data = {name: site_of(name, examples_of(rows, [0.0] * len(rows))) for name, rows in self.rows.items()}
        self.sites = local_sites(self.study, self.plan, data, InsecureEntropy(0))
        for number, (name, site) in enumerate(self.sites.items(), start=1):
            # One source for each site: what one of them draws does not depend on how often another was asked.
            member = dataclasses.replace(site.member, entropy=InsecureEntropy(number))
            self.sites[name] = dataclasses.replace(site, member=member)
        self.local = LocalTransport(self.sites)

    @property
    def identities(self) -> dict[str, bytes]:
        """Every site's public key."""
        return {name: site.member.signing.public for name, site in self.sites.items()}

    def member(self, name: str) -> Member:
        """One site's own secrets: what a corrupt site can do with its identity."""
        return self.sites[name].member

    def signing(self, name: str) -> SigningKey:
        """One site's identity."""
        return self.sites[name].member.signing

    def run(
        self, transport: Transport | None = None, observers: Observers | None = None, progress: Progress | None = None
    ) -> Progress:
        """Run the study."""
        transport = transport or self.local
        progress = progress or Progress("", self.plan.start())
        return run_study(self.study, self.plan, self.identities, transport, progress, observers or ticking())

    def words(self, round_number: int, contributors: Sequence[str], members: int) -> list[int]:
        """Return the plain sum of the contributors' integers modulo the word size; the last one counts them."""
        plan = word_plan(self.method.asks(self.method.start()), members)
        modulus = 2**plan.word_bits
        row_bits, weight_bits = plan.fraction_bits
        rows = [self.rows[name][round_number - 1] for name in contributors]
        sums = [
            sum(round(Fraction(float(row[column])) * 2**row_bits) for row in rows)
            for column in range(self.method.columns)
        ]
        return [total % modulus for total in (*sums, len(rows) * 2**weight_bits)]


def hospitals(rows: Mapping[str, ArrayLike], study: Study | None = None, **method: Any) -> Hospitals:
    """Return hospitals whose method sums these rows, one row a round; ``method`` as ``Rows``."""
    tables = {name: np.atleast_2d(np.asarray(table, dtype=np.float64)) for name, table in rows.items()}
    rounds, columns = next(iter(tables.values())).shape
    study = study or secure_study()
    assert rounds <= exchanges(study)
    return Hospitals(study, tables, Rows(columns, rounds, **method))


def powers(count: int, study: Study | None = None, rounds: int = 3, **method: Any) -> Hospitals:
    """Return hospitals of which site k contributes 2**k, in every round: a sum names its contributors."""
    return hospitals({name: [[2.0**k]] * rounds for k, name in enumerate(NAMES[:count])}, study, **method)


def names_in(total: float) -> tuple[str, ...]:
    """Return the contributors of a sum of ``powers``."""
    return tuple(name for k, name in enumerate(NAMES) if int(total) >> k & 1)


class SumsOfWords:
    """Keeps the masked totals that the aggregator journals; the reveal unmasks them in place."""

    def __init__(self) -> None:
        self.totals: list[MaskedTotal] = []

    def __call__(self, secured: Secured) -> None:
        if secured.total:
            self.totals.append(secured.total)


@dataclass(frozen=True)
class Loss:
    """A site vanishes in one step of one round, and is back in the next round.

    round: 0 for the join.
    after: whether it had made the step: its reply is lost then, and otherwise the request.
    """

    site: str
    round: int
    step: Step
    after: bool = False


class LossyTransport:
    """A transport that loses what is planned: after a loss, a site is away for the rest of that round."""

    def __init__(self, inner: Transport, losses: Sequence[Loss]) -> None:
        self._inner = inner
        self._losses = {(loss.site, loss.round, loss.step): loss for loss in losses}
        self._away: set[tuple[str, int]] = set()

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        """Yield what arrives; a lost request is reported, a lost reply is not."""
        arriving: dict[str, Request] = {}
        silent: set[str] = set()
        for site, request in requests.items():
            where = (site, request.heading.round)
            loss = self._losses.get((*where, STEPS[type(request)]))
            if where in self._away or (loss and not loss.after):
                self._away.add(where)
                yield Arrival(site, None, "no-reply")
                continue
            arriving[site] = request
            if loss:
                self._away.add(where)
                silent.add(site)
        for arrival in self._inner.exchange(arriving, deadline_s):
            if arrival.site not in silent:
                yield arrival


@dataclass(frozen=True, eq=False)
class Asked:
    """One request to one site.

    before: where the site stood.
    replies: what arrived.
    """

    step: Step
    site: str
    request: Request
    before: SiteState
    replies: list[Reply] = field(default_factory=list)


class RecordingTransport:
    """A transport that remembers every exchange, and where every site stood before it."""

    def __init__(self, inner: Transport, states: Mapping[str, SiteState]) -> None:
        self._inner = inner
        self._states = states
        self.exchanges: list[tuple[Step, int]] = []
        self.asked: list[Asked] = []

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        """Yield what arrives."""
        now = {site: Asked(STEPS[type(each)], site, each, self._states[site]) for site, each in requests.items()}
        self.asked += now.values()
        first = next(iter(requests.values()))
        self.exchanges.append((STEPS[type(first)], first.heading.round))
        for arrival in self._inner.exchange(requests, deadline_s):
            if arrival.reply is not None:
                now[arrival.site].replies.append(arrival.reply)
            yield arrival

    def at(self, step: Step, round_number: int, site: str) -> Asked:
        """Return what a site was asked in a step of a round, the last time."""
        return next(
            each
            for each in reversed(self.asked)
            if (each.step, each.request.heading.round, each.site) == (step, round_number, site)
        )


Spoil = Callable[[Any], Reply | Sequence[Reply]]
"""From a good reply to what is sent instead."""


class FaultyTransport:
    """A transport behind which one site answers wrongly in one step of one round."""

    def __init__(self, inner: Transport, site: str, step: Step, round_number: int, spoil: Spoil) -> None:
        self._inner = inner
        self._where = (site, step, round_number)
        self._spoil = spoil

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        """Yield what arrives, spoiled as planned."""
        for arrival in self._inner.exchange(requests, deadline_s):
            request = requests[arrival.site]
            if (arrival.site, STEPS[type(request)], request.heading.round) != self._where:
                yield arrival
                continue
            spoiled = self._spoil(arrival.reply)
            for reply in spoiled if isinstance(spoiled, Sequence) else (spoiled,):
                yield Arrival(arrival.site, reply)


def shares_lost(
    made: Hospitals, times: int, *sites: str, inner: Transport | None = None, round_number: int = 1
) -> Transport:
    """Return a transport that loses the first shares of some sites."""
    left = dict.fromkeys(sites, times)

    def lose(reply: Any) -> Any:
        left[reply.site] -= 1
        return [] if left[reply.site] >= 0 else reply

    transport = inner or made.local
    for site in sites:
        transport = FaultyTransport(transport, site, "shares", round_number, lose)
    return transport
