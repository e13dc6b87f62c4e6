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

import numpy as np

from client import secagg
from client.contributors import Sums, check_maskers, check_members
from client.data.split import SiteData
from client.judgement import counts_of, own_judgement
from client.policy import check_cohort, check_subsets
from client.question import asked
from client.secagg_state import Member, State
from shared import fixedpoint, layout, randomness
from shared.errors import ProtocolError, Refusal, StudyError
from shared.examples import Arrays, Part
from shared.fixedpoint import WordPlan, Words
from shared.messages import (
    Contributed,
    ContributeRequest,
    Ended,
    EndRequest,
    Heading,
    JoinRequest,
    KeysRequest,
    PreflightRequest,
    Ready,
    Refused,
    Reply,
    Request,
    RevealRequest,
    SharesRequest,
    Shown,
)
from shared.methods.base import NOTHING, Ask, Contribution
from shared.methods.combinators import InTurn
from shared.methods.words import sum_noise
from shared.plan import EVALUATE, exchanges
from shared.privacy import calibration, mechanisms
from shared.privacy.accounting import Event
from shared.privacy.calibration import Payer
from shared.privacy.noise import Stream
from shared.secagg.transcript import state_digest

log = logging.getLogger("consilium.client")


@dataclass(frozen=True, eq=False)
class Site:
    """What a hospital's node works with, the same for the whole run.

    method: the study's plan (``shared.plan.plan_of``), the same as the aggregator's.
    code: digest of the code that runs here; empty in a simulation, where there is only one.
    """

    member: Member
    data: SiteData
    method: InTurn
    code: str = ""


@dataclass(frozen=True, eq=False)
class SiteState:
    """What a site remembers.

    run: the run's id; empty before the first request.
    round: the last round that was answered.
    memory: of the method, committed.
    staged: of the last answer; it becomes the memory when the aggregator says that the answer was counted, or at once
        where it is about subsets that the data choose.
    settled: digest of the state of each stage that is finished in this run, by name.
    secure: where the site is in secure aggregation.
    sums: contributors of the sums that it was part of, in this run and in earlier ones.
    judged: the state from which the released model was judged; empty before.
    """

    run: str = ""
    round: int = 0
    memory: Arrays = field(default_factory=lambda: NOTHING)
    staged: Arrays = field(default_factory=lambda: NOTHING)
    settled: Mapping[str, bytes] = field(default_factory=dict)
    secure: State = field(default_factory=State)
    sums: Sums = field(default_factory=Sums)
    judged: Arrays = field(default_factory=lambda: NOTHING)


def answer(request: Request, state: SiteState, site: Site) -> tuple[Reply, SiteState]:
    """Return the reply to one request, and the site's next state.

    After a refusal it is the state of before, unless patients' data were read: then the round is used up.
    """
    try:
        return _answer(request, state, site)
    except Exception as error:
        return _refused(error, request, site.member.name), state


def _refused(error: Exception, request: Request, name: str) -> Refused:
    """Return the refusal that an error is; what is not meant for others stays in the site's own log."""
    heading = getattr(request, "heading", None)
    if not isinstance(heading, Heading):
        heading = Heading("", "", 0)
    match error:
        case Refusal() | ProtocolError():
            return Refused(name, heading, error.code, error.hint)
        case StudyError():
            return Refused(name, heading, "study-error", str(error))
    _log(error, heading, name)
    return Refused(name, heading, "internal-error", "see the site's own log")


def _log(error: Exception, heading: Heading, name: str) -> None:
    places = "".join(traceback.format_tb(error.__traceback__))
    log.error("site=%s round=%s %s\n%s", name, heading.round, type(error).__name__, places)


def _answer(request: Request, state: SiteState, site: Site) -> tuple[Reply, SiteState]:
    reply: Reply
    member = site.member
    match request:
        case ContributeRequest():
            return _contribute(request, state, site)
        case PreflightRequest():
            return _ready(request, site), state
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
            return _end(request, state, site)
    return reply, replace(state, secure=secure)


def _ready(request: PreflightRequest, site: Site) -> Ready:
    """Say that the study is approved here, with whom, and how much this hospital brings if that may be shown."""
    member = site.member
    secagg.check_study(request.heading, member)
    check_cohort(member.policy, member.study, site.data)
    shown = member.policy.show_counts and not member.study.privacy
    counts = counts_of(site.data, len(member.study.data.classes)) if shown else None
    return Ready(member.name, request.heading, member.pinned, site.code, counts)


def _end(request: EndRequest, state: SiteState, site: Site) -> tuple[Ended, SiteState]:
    """Forget the run's secrets; show the hospital's own metrics if its policy lets them be shown."""
    member = site.member
    if member.study.aggregation.secure:
        reply, secure = secagg.end(request, state.secure, member)
    else:
        reply, secure = Ended(member.name, request.heading), state.secure
    # Nothing is said without noise where the study promises privacy.
    shown = member.policy.show_metrics and not member.study.privacy
    if request.finished and shown and state.judged:
        judged = own_judgement(member, site.data, site.method, state.judged)
        by_name = {name: Shown(each.value, each.low, each.high) for name, each in judged.metrics.items()}
        finite = {name: each for name, each in by_name.items() if all(map(math.isfinite, vars(each).values()))}
        reply = replace(reply, rows=judged.n, metrics=finite)
    return reply, replace(state, secure=secure)


def _contribute(request: ContributeRequest, state: SiteState, site: Site) -> tuple[Reply, SiteState]:
    member = site.member
    state = _admit(request, state, member)
    heading = request.heading
    if not member.study.aggregation.secure:
        ask, plan, settled = _question(request, state, site)
        words, staged = _compute(request, state, site, ask, plan)
        reply = Contributed(member.name, heading, words)
        state = replace(_remembering(state, ask, staged), round=heading.round, settled=settled)
        return reply, _seen(request, state, site)
    digest = state_digest(request.state)
    stored = secagg.sent_before(request, digest, state.secure)
    if stored:
        return stored, state
    opened = secagg.open_shares(request, state.secure, member)
    ask, plan, settled = _question(request, state, site)
    check_members(state.sums, state.secure.members, state.secure.shrinking)
    if ask.exact:
        check_maskers(state.sums, ask.part, opened.held, state.secure.shrinking)
    # From here on patients' data are read: whatever comes of it, the round is used up.
    state = replace(state, round=heading.round, settled=settled, sums=state.sums.with_members(state.secure.members))
    try:
        words, staged = _compute(request, state, site, ask, plan)
    except Exception as error:
        used_up = secagg.used_up(request, digest, state.secure)
        return _refused(error, request, member.name), replace(state, secure=used_up)
    about = (digest, ask.part, ask.exact)
    masked, secure = secagg.mask(request, state.secure, member, opened, words, about)
    return masked, _seen(request, replace(_remembering(state, ask, staged), secure=secure), site)


def _remembering(state: SiteState, ask: Ask, staged: Arrays) -> SiteState:
    """Return the state that remembers an answer.

    Over which subsets it summed, a site remembers whether or not it is told that it was counted.
    """
    return replace(state, staged=staged, memory=staged if ask.data_dependent_subsets else state.memory)


def _seen(request: ContributeRequest, state: SiteState, site: Site) -> SiteState:
    """Return the state after a contribution: the model that is judged is remembered, for the hospital's own report."""
    judging = site.method.stage(request.state) == EVALUATE
    return replace(state, judged=dict(request.state)) if judging else state


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
        # A run that went on after a node was started anew has another id, and any run may ask for the sums that go with
        # earlier ones: what was summed is not forgotten.
        sums = state.sums.next_run()
        state = SiteState(heading.run, memory=state.memory, secure=state.secure, sums=sums, judged=state.judged)
    if heading.round > exchanges(member.study):
        raise Refusal("beyond-plan", f"the study plans {exchanges(member.study)} sums, and this would be one more")
    if heading.round < state.round:
        raise Refusal("round-went-back", f"round {state.round} was answered already")
    if state.round and request.counted == state.round:
        state = replace(state, memory=state.staged)
    return state


def _question(request: ContributeRequest, state: SiteState, site: Site) -> tuple[Ask, WordPlan, Mapping[str, bytes]]:
    """Return what is asked, how it becomes words, and the digests of finished stages; no data are read.

    Raises: ProtocolError ``bad-state`` if nothing follows from the state; else as ``client.question.asked``.
    """
    try:
        return asked(request, state.settled, site.member, site.data, site.method)
    except (ArithmeticError, AttributeError, LookupError, StopIteration, TypeError, ValueError) as error:
        _log(error, request.heading, site.member.name)
        raise ProtocolError("bad-state", "the state lacks an array, or has one of another shape or type") from None


def _compute(
    request: ContributeRequest, state: SiteState, site: Site, ask: Ask, plan: WordPlan
) -> tuple[Words, Arrays]:
    """Return this site's words, and what the method wants to remember."""
    member = site.member
    drawn = randomness.for_site(member.study.study.seed, member.name, request.heading.round, member.entropy)
    noise = None if ask.noise_multiplier is None else sum_noise(ask, request.sites, _honest(state, member))
    contribution, memory = site.method.contribute(request.state, site.data.parts[ask.part], state.memory, drawn)
    check_subsets(member.policy, ask, contribution)
    words = encode(plan, contribution, drawn.training if ask.stochastic_rounding else None)
    if noise:
        # The last word is the weight, the same for every site.
        mechanisms.add_noise(words[:-1], noise.share, Stream(member.entropy(32)))
    return words, memory


def _honest(state: SiteState, member: Member) -> int:
    """Return the fewest honest hospitals in any sum of this round that could be unmasked.

    Raises: Refusal ``too-few-for-noise`` if colluding ones could be all there are.
    """
    secure, privacy = state.secure, member.study.privacy
    assert secure.sharing is not None and privacy is not None
    colluding = privacy.colluding_sites
    if colluding is None:
        colluding = mechanisms.default_colluding(len(secure.members))
    honest = max(secure.sharing.roster.threshold, secure.min_sites) - colluding
    if honest < 1:
        raise Refusal("too-few-for-noise", f"with {colluding} colluding hospitals no honest noise may be in the sum")
    return honest


def cost(request: ContributeRequest, site: Site, payer: Payer = "patient") -> tuple[Part, Event] | None:
    """Return what the answer to a request costs, and over whose rows it is; None in a study without ``[privacy]``.

    payer: the hospital's ledger has what it costs one patient, whatever the study's unit of privacy is.

    It is charged before the answer leaves (``client/ledger.py``), and it looks at no patient.
    """
    if site.member.study.privacy is None:
        return None
    ask = site.method.asks(request.state)
    event = calibration.event_of(ask, request.sites, payer)
    if event is None:
        raise Refusal("not-private", "the study has a [privacy] part, and this sum would be without noise")
    return ask.part, event


def encode(plan: WordPlan, contribution: Contribution, rounding: np.random.Generator | None) -> Words:
    """Return the words of a contribution: the layout's entries, and the weight as the last word.

    rounding: stochastic from this generator, or to nearest.

    Raises: Refusal if a value is not finite or beyond its bound.
    """
    arrays: Mapping[str, Any] = {**contribution.arrays, "weight": contribution.weight}
    return fixedpoint.encode(plan, layout.to_vector(plan.entries, arrays), rounding)
