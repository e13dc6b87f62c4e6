"""One round at the aggregator: ask every site of the cohort, add the words of those that answer as asked.

Replies are added as they arrive: memory is one vector, whatever the number of sites. One bad site never ends a round;
its name and a reason code are in the outcome.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from server.transport import Arrival, Transport
from shared import fixedpoint, layout
from shared.errors import ProtocolError, RunAbandoned
from shared.examples import Arrays
from shared.messages import Contributed, ContributeRequest, Refused, Reply, payload_bytes
from shared.methods.base import Method, Total, broadcast, word_plan

log = logging.getLogger("consilium.server")


@dataclass(frozen=True)
class Heading:
    """Which round this is: see ``ContributeRequest``."""

    run: str
    study: str
    round: int
    attempt: int = 1


@dataclass(frozen=True, eq=False)
class RoundOutcome:
    """What a round came to.

    total: over the contributors.
    contributors: names of the sites in the sum, in the cohort's order.
    dropped: reason code by name of the other sites.
    noted: code by name of sites that did something odd without spoiling the round.
    bytes_up, bytes_down: payload received and sent.
    """

    total: Total
    contributors: tuple[str, ...]
    dropped: Mapping[str, str]
    noted: Mapping[str, str]
    bytes_up: int
    bytes_down: int


def run_round(
    method: Method[object],
    state: Arrays,
    heading: Heading,
    counted: Mapping[str, int],
    transport: Transport,
    min_sites: int,
    deadline_s: float,
) -> RoundOutcome:
    """Ask every site, add what arrives, and return the total.

    counted: by site of the cohort, the last round in which it was in the sum; the keys are the cohort.
    min_sites: fewer contributors end the run.

    Raises: RunAbandoned naming who was dropped and why; StudyError if words of so many sites could wrap.
    """
    plan = word_plan(method.asks(state), len(counted))
    public = dict(broadcast(state))
    requests = {
        site: ContributeRequest(heading.run, heading.study, heading.round, heading.attempt, len(counted), last, public)
        for site, last in counted.items()
    }
    sum_ = _Sum(plan, requests)
    for arrival in transport.exchange(requests, deadline_s):
        sum_.take(arrival)
    dropped = {site: sum_.dropped.get(site, "no-reply") for site in counted if site not in sum_.contributors}
    contributors = tuple(site for site in counted if site in sum_.contributors)
    if len(contributors) < min_sites:
        raise RunAbandoned(_abandoned(heading, len(contributors), len(counted), min_sites, dropped))
    return RoundOutcome(
        total=_decode(plan, sum_.words, len(contributors)),
        contributors=contributors,
        dropped=dropped,
        noted=sum_.noted,
        bytes_up=sum_.bytes_up,
        bytes_down=sum(payload_bytes(request) for request in requests.values()),
    )


class _Sum:
    """The running sum of one round: one vector in memory, whatever the number of sites."""

    def __init__(self, plan: fixedpoint.WordPlan, requests: Mapping[str, ContributeRequest]) -> None:
        self._plan = plan
        self._requests = requests
        self.words = np.zeros(plan.size, dtype=plan.dtype)
        self.contributors: set[str] = set()
        self.dropped: dict[str, str] = {}
        self.noted: dict[str, str] = {}
        self.bytes_up = 0

    def take(self, arrival: Arrival) -> None:
        """Add what arrived from one site, or note why not; the first answer of a site counts."""
        site = arrival.site
        if arrival.reply is None:
            self.dropped.setdefault(site, arrival.lost)
            return
        self.bytes_up += payload_bytes(arrival.reply)
        try:
            reply = _accept(arrival.reply, site, self._requests, self._plan)
        except ProtocolError as error:
            log.warning("site=%s ignored=%s", site, error)
            (self.noted if error.code == "stale-reply" else self.dropped).setdefault(site, error.code)
            return
        if site in self.contributors:
            self.noted[site] = "replied-twice"
        elif isinstance(reply, Refused):
            log.warning("round=%d site=%s refused=%s hint=%s", reply.round, site, reply.code, reply.hint)
            self.dropped.setdefault(site, reply.code)
        elif site not in self.dropped:
            np.add(self.words, reply.words, out=self.words)
            self.contributors.add(site)


def _accept(
    reply: Reply, site: str, requests: Mapping[str, ContributeRequest], plan: fixedpoint.WordPlan
) -> Contributed | Refused:
    """Return the reply if it answers this round's question in the agreed form.

    Raises: ProtocolError saying what is wrong with it.
    """
    request = requests.get(site)
    if request is None or reply.site != site:
        raise ProtocolError("unknown-site", f"nobody asked {reply.site}")
    if (reply.run, reply.round, reply.attempt) != (request.run, request.round, request.attempt):
        raise ProtocolError("stale-reply", f"expected round {request.round}. Received: round {reply.round}")
    if isinstance(reply, Contributed):
        fixedpoint.check_words(plan, reply.words)
    return reply


def _decode(plan: fixedpoint.WordPlan, words: fixedpoint.Words, contributors: int) -> Total:
    arrays = layout.from_vector(plan.entries, fixedpoint.decode(plan, words))
    return Total(arrays, float(arrays.pop("weight")), contributors)


def _abandoned(heading: Heading, contributors: int, cohort: int, min_sites: int, dropped: Mapping[str, str]) -> str:
    reasons: Sequence[str] = [f"{site} ({code})" for site, code in dropped.items()]
    return (
        f"exchange {heading.round}: {contributors} of {cohort} sites contributed,"
        f" and [aggregation] min_sites = {min_sites}. Not in the sum: {', '.join(reasons)}."
        " The last checkpoint is kept; go on with --resume once they are back."
    )
