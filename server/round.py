"""One round at the aggregator: ask every site of the cohort, add the words of those that answer as asked.

Replies are added as they arrive: memory is one vector, whatever the number of sites. One bad site never ends a round;
its name and a reason code are in the outcome. Under secure aggregation the words are masked, and a second exchange, the
reveal, removes the masks from their sum (``server/secagg.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from server import secagg
from server.exchange import Port
from server.secagg_state import MaskedTotal, Ready, Secured, Session
from shared import fixedpoint, layout
from shared.errors import ProtocolError, RunAbandoned, SecretsLost
from shared.examples import Arrays
from shared.fixedpoint import WordPlan
from shared.messages import Contributed, ContributeRequest, Heading, Keys, Receipt
from shared.methods.base import Method, Total, broadcast
from shared.methods.words import word_plan
from shared.reasons import told
from shared.secagg import roster
from shared.secagg.transcript import Broadcast, state_digest


@dataclass(frozen=True, eq=False)
class RoundOutcome:
    """What a round came to.

    total: over the contributors.
    contributors: names of the sites in the sum, in the cohort's order.
    dropped: reason code by name of the other sites.
    secured: where secure aggregation stands now.
    """

    total: Total
    contributors: tuple[str, ...]
    dropped: Mapping[str, str]
    secured: Secured | None = None


@dataclass(frozen=True, eq=False)
class Question:
    """What a round asks.

    sites: for how many the words must not wrap: those of the run, so that the scale stays the same whoever is away.
    counted: by site of the cohort, the last round in which it was in the sum; the keys are the cohort.
    min_sites: fewer contributors end the run.
    """

    method: Method[object]
    state: Arrays
    heading: Heading
    sites: int
    counted: Mapping[str, int]
    min_sites: int
    public: Arrays = field(init=False)
    plan: WordPlan = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "public", Broadcast(broadcast(self.state)))
        object.__setattr__(self, "plan", word_plan(self.method.asks(self.state), self.sites))


def run_round(
    question: Question, port: Port, secured: Secured | None, journal: Callable[[Secured], None]
) -> RoundOutcome:
    """Ask every site, add what arrives, and return the total.

    secured: None for bare words; with a ``total``, the round is finished from it.
    journal: makes where secure aggregation stands durable; called before contributions and before the reveal are asked
        for.

    Raises: RunAbandoned naming who was dropped and why; StudyError if words of so many sites could wrap.
    """
    if secured is None:
        sum_ = _contribute(question, question.heading, tuple(question.counted), port)
        return _outcome(question, sum_, sum_.contributors, port)
    if secured.ready and secured.ready.roster.heading.round != question.heading.round:
        # The journal's last entry is of a round that was finished and saved.
        secured = Secured(secured.session)
    if secured.total is None:
        secured = _masked_total(question, port, secured, journal)
    total = secured.total
    assert total is not None
    contributors = {receipt.site for receipt in total.receipts}
    # In place: the sum stays one vector.
    following = secagg.reveal(secured.session, total, port)
    return _outcome(question, total, contributors, port, Secured(secured.session, following))


def _masked_total(question: Question, port: Port, secured: Secured, journal: Callable[[Secured], None]) -> Secured:
    """Ask for masked contributions, and add them."""
    ready = secured.ready
    # Shares came with the last reveal, unless somebody was away: then everybody is asked for keys and shares anew.
    # Once contributions were asked for, that may not be: a site answers a round once.
    if ready is None or not (secured.asked or set(ready.sealed) == set(question.counted)):
        attempt = 1 if ready is None else 2
        ready = secagg.set_up(
            secured.session, replace(question.heading, attempt=attempt), tuple(question.counted), port
        )
    secured = replace(secured, ready=ready, asked=True)
    journal(secured)
    sum_ = _contribute(question, ready.roster.heading, tuple(sorted(ready.sealed)), port, ready, secured.session)
    _check_secrets(question, port)
    fewest = max(ready.roster.threshold, secured.session.min_sites)
    if len(sum_.contributors) < fewest:
        reasons = _abandoned(question, len(sum_.contributors), fewest, port)
        raise RunAbandoned(f"{reasons}{_accused(ready, port)}")
    total = MaskedTotal(ready, sum_.words, tuple(sum_.receipts), tuple(sum_.next_keys))
    secured = replace(secured, total=total)
    journal(secured)
    return secured


_SECRETS_LOST = ("not-shared", "unknown-run")
"""What a site refuses with whose process was started anew after it had shared the round's secrets."""


def _check_secrets(question: Question, port: Port) -> None:
    """Raise SecretsLost if a site is there and has lost the round's secrets: it answered nothing, and nothing is known.

    Going on without it would change the sum. Begun anew, under a new run id, the round has everybody's words again.
    """
    lost = [site for site, code in port.tally.dropped.items() if code in _SECRETS_LOST]
    if lost:
        raise SecretsLost(
            f"exchange {question.heading.round}: {', '.join(lost)} was started anew and lost the round's secrets."
        )


class _Sum:
    """The running sum of one round: one vector in memory, whatever the number of sites."""

    def __init__(self, plan: WordPlan) -> None:
        self.words = np.zeros(plan.size, dtype=plan.dtype)
        self.contributors: set[str] = set()
        self.receipts: list[Receipt] = []
        self.next_keys: list[Keys] = []

    def add(self, reply: Contributed) -> None:
        """Add one site's words, which were checked: nothing here may fail halfway."""
        np.add(self.words, reply.words, out=self.words)
        self.contributors.add(reply.site)
        if reply.receipt is not None:
            self.receipts.append(reply.receipt)
        if reply.next_keys is not None:
            self.next_keys.append(reply.next_keys)


def _contribute(
    question: Question,
    heading: Heading,
    sites: tuple[str, ...],
    port: Port,
    ready: Ready | None = None,
    session: Session | None = None,
) -> _Sum:
    """Ask sites for their contributions, and add those that are as asked."""
    sum_ = _Sum(question.plan)
    state = state_digest(question.public) if ready else b""

    def take(reply: Contributed) -> None:
        fixedpoint.check_words(question.plan, reply.words)
        if ready and session:
            _check_masked(reply, ready, session, state, sum_)
        sum_.add(reply)

    requests = {
        site: ContributeRequest(
            heading,
            question.sites,
            question.counted[site],
            question.public,
            ready.masking(site) if ready else None,
        )
        for site in sites
    }
    port.tally.dropped.update(port.ask(requests, Contributed, take))
    return sum_


def _check_masked(reply: Contributed, ready: Ready, session: Session, state: bytes, sum_: _Sum) -> None:
    """Raise ProtocolError unless the receipt is for this state and these maskers, and the next keys are good."""
    if reply.receipt is None or reply.receipt.site != reply.site:
        raise ProtocolError("no-receipt", f"{reply.site} signed no receipt for its words")
    heading = reply.heading
    roster.check_receipt(reply.receipt, Receipt(reply.site, heading, ready.digest, state, b""), session.identities)
    if reply.next_keys is not None:
        if reply.next_keys.site != reply.site:
            raise ProtocolError("unknown-site", f"{reply.site} announced the keys of another site")
        following = replace(heading, round=heading.round + 1, attempt=1)
        roster.check_keys(reply.next_keys, following, session.identities)
        secagg.check_distinct(reply.next_keys, sum_.next_keys)


def _outcome(
    question: Question,
    sum_: _Sum | MaskedTotal,
    contributors: set[str],
    port: Port,
    secured: Secured | None = None,
) -> RoundOutcome:
    if len(contributors) < question.min_sites:
        raise RunAbandoned(_abandoned(question, len(contributors), question.min_sites, port))
    vector = fixedpoint.decode(question.plan, sum_.words)
    try:
        fixedpoint.check_sum(question.plan, vector, len(contributors))
    except ProtocolError as error:
        raise RunAbandoned(wrong_sum(question.heading.round, contributors, error.hint)) from None
    arrays = layout.from_vector(question.plan.entries, vector)
    return RoundOutcome(
        total=Total(arrays, float(arrays.pop("weight")), len(contributors)),
        contributors=tuple(site for site in question.counted if site in contributors),
        dropped={
            site: port.tally.dropped.get(site, "no-reply") for site in question.counted if site not in contributors
        },
        secured=secured,
    )


def wrong_sum(round_number: int, contributors: Collection[str], hint: str) -> str:
    """Return that a sum cannot be one, and whose it is: masks hide which of them is faulty."""
    return (
        f"exchange {round_number}: {hint}. One of those in the sum ({', '.join(sorted(contributors))}) is faulty: it"
        " sent what its method does not compute."
    )


def _abandoned(question: Question, contributors: int, fewest: int, port: Port) -> str:
    return (
        f"exchange {question.heading.round}: {contributors} of {len(question.counted)} sites contributed,"
        f" and {fewest} are needed. Not in the sum: {told(port.tally.dropped)}"
    )


def _accused(ready: Ready, port: Port) -> str:
    """Return whose shares did not open according to those who refused, as a sentence; or nothing."""
    said = {
        sender: [
            site
            for site, hint in port.tally.hints.items()
            if port.tally.dropped.get(site) in ("seal-broken", "bad-share")
            and hint.startswith((f"the shares from {sender} do not open", f"{sender} sent what is no share"))
        ]
        for sender in ready.sealed
    }
    return "".join(
        f" {', '.join(sites)} could not open the shares from {sender}: {sender}, or who says so, is faulty."
        for sender, sites in said.items()
        if sites
    )
