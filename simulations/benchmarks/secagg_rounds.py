"""Rounds of secure aggregation with real sites and a real aggregator, but without a model: words are given.

What a site takes is the time of its steps in ``client/secagg.py``; what the aggregator takes is a round's time without
the time in which sites answer. ``Replay`` is a transport whose replies were recorded: the aggregator is then alone in
the process, and its memory can be seen.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from client import secagg as at_site
from client.contributors import Sums
from client.policy import simulated
from client.secagg_state import Member, State
from server import secagg as at_aggregator
from server.exchange import Port
from server.round import Question, RoundOutcome, run_round
from server.secagg_state import Secured
from server.transport import Arrival, Transport
from shared.examples import Arrays, Part
from shared.fixedpoint import Words
from shared.layout import Entry
from shared.messages import (
    Contributed,
    ContributeRequest,
    EndRequest,
    Heading,
    JoinRequest,
    KeysRequest,
    PreflightRequest,
    Reply,
    Request,
    RevealRequest,
    SharesRequest,
)
from shared.methods.base import Ask
from shared.secagg import keys, masks
from shared.secagg.keys import Entropy, SigningKey
from shared.secagg.transcript import state_digest
from shared.study import Study, parse_study

_ROUNDS = 1000
_DEADLINE_S = 60.0


class OneVector:
    """What is asked in every round: one vector of numbers, and the weight after it."""

    def __init__(self, words: int) -> None:
        self._entries = (Entry("vector", (words - 1,), 1.0, 0.5),)

    def asks(self, _state: Arrays) -> Ask:
        """Return the ask: words of 32 bits."""
        return Ask(Part.TRAINING, self._entries, 1.0, 32, False, 0.0, math.inf, exact=False)


def study_of_rounds() -> Study:
    """Return a study that plans more rounds than are ever measured; nothing else in it matters."""
    columns: dict[str, object] = {
        "x": {"type": "number", "range": [-1, 1]},
        "y": {"type": "category", "levels": [0, 1]},
    }
    return parse_study(
        {
            "study": {"name": "benchmark", "question": "How long does it take?"},
            "data": {"kind": "table", "label": "y", "columns": columns, "max_rows_per_site": 1000},
            "method": {"name": "logistic-regression", "rounds": _ROUNDS},
            "aggregation": {"secure": True, "min_sites": 3},
        },
        "benchmark",
    )


def members_of(study: Study, sites: int, entropy: Entropy) -> dict[str, Member]:
    """Return so many members that have pinned each other, by name."""
    signing = {f"site_{number:03}": SigningKey(entropy(32)) for number in range(sites)}
    pinned = {name: key.public for name, key in signing.items()}
    return {name: Member(name, key, pinned, simulated(study), study, entropy) for name, key in signing.items()}


class CryptoSite:
    """One site: ``client/site.py`` without a method.

    seconds: spent in the steps of secure aggregation since it was last set to 0.
    """

    def __init__(self, member: Member, words: Words) -> None:
        self._member = member
        self._words = words
        self._state = State()
        self._sums = Sums()
        self.seconds = 0.0

    def answer(self, request: Request) -> Reply:
        """Return the reply to a request that is in order."""
        words = self._words.copy()
        if isinstance(request, ContributeRequest):
            # As it comes from a network, without the digest that the aggregator has computed.
            request = dataclasses.replace(request, state=dict(request.state))
        started = time.perf_counter()
        reply, self._state = self._step(request, words)
        self.seconds += time.perf_counter() - started
        return reply

    def own_mask_key(self) -> bytes:
        """Return the key of its own mask of the words that it has just sent."""
        masked = self._state.masked
        assert masked is not None
        own = masked.opened.sharing.own
        return keys.self_mask_key(own.seed, own.said.heading, masked.opened.digest, self._member.name)

    def _step(self, request: Request, words: Words) -> tuple[Reply, State]:
        state, me = self._state, self._member
        match request:
            case JoinRequest():
                return at_site.join(request, state, me)
            case KeysRequest():
                return at_site.keys(request, state, me)
            case SharesRequest():
                return at_site.share(request, state, me)
            case ContributeRequest():
                digest = state_digest(request.state)
                assert at_site.sent_before(request, digest, state) is None
                opened = at_site.open_shares(request, state, me)
                return at_site.mask(request, state, me, opened, words, (digest, Part.TRAINING, False))
            case RevealRequest():
                revealed, state, self._sums = at_site.reveal(request, state, me, self._sums)
                return revealed, state
            case EndRequest():
                return at_site.end(request, state, me)
            case PreflightRequest():
                raise TypeError("a benchmark's sites are not asked whether they are ready")


class RealSites:
    """A transport to real sites, one after the other.

    lost: names of sites that do not contribute.
    apart: whether each site checks every signature itself, as in a process of its own; otherwise a signature that the
        aggregator or another site has checked in this process is not checked again.
    seconds: in which sites answered, all of them together, since it was last set to 0.
    replies: what was answered, by the request's kind, its round and the site; kept only if asked for.
    own_masks: keys of the masks that do not cancel, by round; kept with the replies.
    """

    def __init__(self, members: Mapping[str, Member], words: Mapping[str, Words], keep: bool = False) -> None:
        self.sites = {name: CryptoSite(member, words[name]) for name, member in members.items()}
        self.lost: Collection[str] = ()
        self.apart = False
        self.seconds = 0.0
        self.replies: dict[tuple[str, int, str], Reply] = {}
        self.own_masks: dict[int, list[bytes]] = {}
        self._keep = keep

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        """Yield each site's answer."""
        for name, request in requests.items():
            if name in self.lost and isinstance(request, ContributeRequest):
                yield Arrival(name, None, "no-reply")
                continue
            started = time.perf_counter()
            if self.apart:
                forget_checked()
            reply = self.sites[name].answer(request)
            self.seconds += time.perf_counter() - started
            if self._keep:
                self.replies[type(request).__name__, request.heading.round, name] = reply
                if isinstance(request, ContributeRequest):
                    self.own_masks.setdefault(request.heading.round, []).append(self.sites[name].own_mask_key())
            yield Arrival(name, reply)


def forget_checked() -> None:
    """Forget which signatures were found good in this process."""
    # Private, because only a process that plays several machines has a reason to do this.
    keys._verified.cache_clear()


class Replay:
    """A transport whose replies were recorded; each is made anew when it is asked for, as from a network.

    Contributions are nothing but masks that add up to zero, as many words as asked for: the first site sends all of
    them.

    words: how many the contributions have, whatever they had when they were recorded.
    """

    def __init__(self, recorded: RealSites, words: int) -> None:
        self._replies = recorded.replies
        self._others = np.zeros(words, dtype=np.uint32)
        self._first: dict[int, Words] = {}
        for number, own in recorded.own_masks.items():
            self._first[number] = np.zeros(words, dtype=np.uint32)
            masks.apply(self._first[number], own, [])

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        """Yield each site's recorded answer."""
        for place, (name, request) in enumerate(requests.items()):
            reply = _anew(self._replies[type(request).__name__, request.heading.round, name])
            if isinstance(reply, Contributed):
                words = self._others if place else self._first[request.heading.round]
                reply = dataclasses.replace(reply, words=words.copy())
            yield Arrival(name, reply)


def _anew(value: Any) -> Any:
    """Return a message in memory of its own."""
    if isinstance(value, bytes):
        return bytes(bytearray(value))
    if isinstance(value, Mapping):
        return {name: _anew(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return tuple(map(_anew, value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return dataclasses.replace(value, **{field.name: _anew(getattr(value, field.name)) for field in fields})
    return value


class Aggregator:
    """The aggregator's side of a run of rounds of one vector; the run is joined at once.

    weights: how many of 4 bytes each the broadcast state has.
    """

    def __init__(
        self, study: Study, members: Mapping[str, Member], transport: Transport, words: int, weights: int = 0
    ) -> None:
        identities = {name: member.signing.public for name, member in members.items()}
        self._study, self._transport, self._method = study, transport, OneVector(words)
        self._secured = Secured(at_aggregator.join(study, identities, Port(transport, _DEADLINE_S)))
        self._weights = np.ones(weights, dtype=np.float32)
        self._round = 0

    def round(self) -> RoundOutcome:
        """Make one round; sites that were away in the one before are set up again."""
        self._round += 1
        session = self._secured.session
        question = Question(
            self._method,  # type: ignore[arg-type]  # nothing but what it asks is ever used
            {"round": np.array(float(self._round)), "weights": self._weights},
            Heading(session.run, self._study.digest, self._round),
            len(session.members),
            dict.fromkeys(session.members, 0),
            self._study.aggregation.min_sites,
        )
        outcome = run_round(question, Port(self._transport, _DEADLINE_S), self._secured, lambda _secured: None)
        assert outcome.secured is not None
        self._secured = outcome.secured
        return outcome


@dataclass(frozen=True)
class Spent:
    """Seconds of one round.

    sites: of each site.
    aggregator: the round without the time in which sites answered.
    outcome: what the round came to.
    """

    sites: tuple[float, ...]
    aggregator: float
    outcome: RoundOutcome


def timed_round(aggregator: Aggregator, sites: RealSites, lost: Collection[str] = (), apart: bool = False) -> Spent:
    """Make one round and return what it took.

    lost: names of sites that mask, and do not contribute.
    apart: see ``RealSites``; the aggregator then forgets too, so its own seconds are too many.
    """
    sites.lost, sites.apart, sites.seconds = lost, apart, 0.0
    for site in sites.sites.values():
        site.seconds = 0.0
    started = time.perf_counter()
    outcome = aggregator.round()
    whole = time.perf_counter() - started
    each = tuple(site.seconds for name, site in sites.sites.items() if name not in lost)
    return Spent(each, whole - sites.seconds, outcome)
