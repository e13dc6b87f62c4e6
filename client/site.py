"""One hospital's steps in a round, in order: check the question, compute, encode, mask, answer or refuse.

A pure function of request and state; nothing that it raises or returns contains data: an error inside a method
becomes the code ``internal-error``, and the site's own log gets the places in the code, without messages or values.
"""

from __future__ import annotations

import logging
import math
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from client import secagg
from client.contributors import Sums, check_maskers
from client.data.split import SiteData
from client.secagg_state import Member, State
from shared import fixedpoint, layout, randomness
from shared.errors import ProtocolError, Refusal, StudyError
from shared.examples import Arrays
from shared.fixedpoint import Words
from shared.messages import (
    Contributed,
    ContributeRequest,
    EndRequest,
    JoinRequest,
    KeysRequest,
    Refused,
    Reply,
    Request,
    RevealRequest,
    SharesRequest,
)
from shared.methods.base import NOTHING, Ask, Contribution, Method, word_plan
from shared.plan import exchanges
from shared.randomness import Randomness
from shared.secagg.transcript import state_digest

log = logging.getLogger("consilium.client")


@dataclass(frozen=True, eq=False)
class Site:
    """What a hospital's node works with, the same for the whole run.

    method: the study's plan (``shared.plan.plan_of``), the same as the aggregator's.
    """

    member: Member
    data: SiteData
    method: Method[Any]


@dataclass(frozen=True, eq=False)
class SiteState:
    """What a site remembers.

    run: the run's id; empty before the first request.
    round: the last round that was answered.
    memory: of the method, committed.
    staged: of the last answer; it becomes the memory when the aggregator says that the answer was counted.
    secure: where the site is in secure aggregation.
    sums: contributors of the sums that it was part of, in this run and in earlier ones.
    """

    run: str = ""
    round: int = 0
    memory: Arrays = field(default_factory=lambda: NOTHING)
    staged: Arrays = field(default_factory=lambda: NOTHING)
    secure: State = field(default_factory=State)
    sums: Sums = field(default_factory=Sums)


def answer(request: Request, state: SiteState, site: Site) -> tuple[Reply, SiteState]:
    """Return the reply to one request, and the site's next state; after a refusal it is the state of before."""
    name, heading = site.member.name, request.heading
    try:
        return _answer(request, state, site)
    except (Refusal, ProtocolError) as error:
        return Refused(name, heading, error.code, error.hint), state
    except StudyError as error:
        return Refused(name, heading, "study-error", str(error)), state
    except Exception as error:
        places = "".join(traceback.format_tb(error.__traceback__))
        log.error("site=%s round=%d %s\n%s", name, heading.round, type(error).__name__, places)  # noqa: TRY400
        return Refused(name, heading, "internal-error", "see the site's own log"), state


def _answer(request: Request, state: SiteState, site: Site) -> tuple[Reply, SiteState]:
    reply: Reply
    member = site.member
    match request:
        case ContributeRequest():
            return _contribute(request, state, site)
        case JoinRequest():
            reply, secure = secagg.join(request, state.secure, member)
        case KeysRequest():
            reply, secure = secagg.keys(request, state.secure, member)
        case SharesRequest():
            reply, secure = secagg.share(request, state.secure, member)
        case RevealRequest():
            reply, secure, sums = secagg.reveal(request, state.secure, member, state.sums)
            state = replace(state, sums=sums)
        case EndRequest():
            reply, secure = secagg.end(request, state.secure, member)
    return reply, replace(state, secure=secure)


def _contribute(request: ContributeRequest, state: SiteState, site: Site) -> tuple[Reply, SiteState]:
    member = site.member
    state = _admit(request, state, member)
    drawn = randomness.for_site(member.study.study.seed, member.name, request.heading.round)
    if not member.study.aggregation.secure:
        _, words, staged = _compute(request, state, site, drawn)
        reply = Contributed(member.name, request.heading, words)
        return reply, replace(state, round=request.heading.round, staged=staged)
    digest = state_digest(request.state)
    stored = secagg.sent_before(request, digest, state.secure)
    if stored:
        return stored, state
    opened = secagg.open_shares(request, state.secure, member)
    ask = site.method.asks(request.state)
    if ask.exact:
        check_maskers(state.sums, ask.part, opened.held, member.policy)
    ask, words, staged = _compute(request, state, site, drawn)
    about = (digest, ask.part, ask.exact)
    masked, secure = secagg.mask(request, state.secure, member, opened, words, about)
    return masked, replace(state, round=request.heading.round, staged=staged, secure=secure)


def _admit(request: ContributeRequest, state: SiteState, member: Member) -> SiteState:
    """Return the state in which the request is answered.

    Raises: Refusal if the request is for another study, beyond the study's plan, goes back in time, or wants bare words
        that the hospital's policy does not give.
    """
    heading = request.heading
    if heading.study != member.study.digest:
        raise Refusal("another-study", "the request is for a study with another digest than the one approved here")
    if not (member.study.aggregation.secure or member.policy.unmasked):
        raise Refusal("unmasked", "this hospital's policy allows no sum without secure aggregation")
    if heading.run != state.run:
        state = SiteState(run=heading.run, secure=state.secure, sums=state.sums.next_run())
    if heading.round > exchanges(member.study):
        raise Refusal("beyond-plan", f"the study plans {exchanges(member.study)} sums, and this would be one more")
    if heading.round < state.round:
        raise Refusal("round-went-back", f"round {state.round} was answered already")
    if state.round and request.counted == state.round:
        state = replace(state, memory=state.staged)
    return state


def _compute(request: ContributeRequest, state: SiteState, site: Site, drawn: Randomness) -> tuple[Ask, Words, Arrays]:
    """Return what is asked, this site's words, and what the method wants to remember."""
    ask = site.method.asks(request.state)
    check_state(ask)
    examples = site.data.parts[ask.part]
    contribution, memory = site.method.contribute(request.state, examples, state.memory, drawn)
    return ask, encode(ask, contribution, request.sites, drawn), memory


def check_state(ask: Ask) -> None:
    """Raise Refusal unless the broadcast weights are finite and within the method's bound."""
    if not (math.isfinite(ask.state_norm) and ask.state_norm <= ask.state_norm_bound):
        raise Refusal("state-out-of-bounds", f"the weights' norm must not exceed {ask.state_norm_bound:g}")


def encode(ask: Ask, contribution: Contribution, sites: int, drawn: Randomness) -> Words:
    """Return the words of a contribution: the layout's entries, and the weight as the last word.

    Raises: Refusal if a value is not finite or beyond its bound; StudyError if so many sites could wrap.
    """
    plan = word_plan(ask, sites)
    arrays: Mapping[str, Any] = {**contribution.arrays, "weight": contribution.weight}
    vector = layout.to_vector(plan.entries, arrays)
    return fixedpoint.encode(plan, vector, drawn.training if ask.stochastic_rounding else None)
