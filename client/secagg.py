"""Secure aggregation at one site: join, keys, shares, mask, reveal, end (docs/protocol.md, "The site").

Bonawitz et al. 2017 (doi 10.1145/3133956.3133982) with signed keys and one reveal a round; what is our own is argued in
docs/protocol.md. Every step is a function ``(request, state) -> (reply, state)``; a rule that is broken is a refusal
with a code of its own, and leaves the state as it was.

The site believes nobody: identities are the ones that the hospital pinned, the threshold follows from the study, and
everything that is compared was signed.
"""

from __future__ import annotations

from dataclasses import replace

from client.contributors import Sums, check_contributors, kept_for
from client.secagg_state import Masked, Member, Opened, RoundKeys, Sharing, State
from shared.errors import Refusal
from shared.examples import Part
from shared.fixedpoint import Words
from shared.messages import (
    Contributed,
    ContributeRequest,
    Ended,
    EndRequest,
    Heading,
    Joined,
    JoinRequest,
    Keys,
    KeysRequest,
    Receipt,
    Revealed,
    RevealRequest,
    Shares,
    SharesRequest,
)
from shared.secagg import keys as crypto
from shared.secagg import masks, roster, shares
from shared.secagg.keys import Entropy, ExchangeKey
from shared.secagg.roster import Roster
from shared.secagg.transcript import digest, statement


def join(request: JoinRequest, state: State, me: Member) -> tuple[Joined, State]:
    """Take part in a run that has no id yet."""
    check_study(request.heading, me)
    rules = (me.min_sites, me.policy.shrinking)
    said = roster.joined(me.name, request.heading, me.entropy(roster.NONCE_BYTES), rules, me.signing)
    return said, replace(state, joined=said)


def keys(request: KeysRequest, state: State, me: Member) -> tuple[Keys, State]:
    """Draw and announce keys for a round; the first time, enter the run. Keys of earlier rounds are forgotten.

    Raises: Refusal or ProtocolError.
    """
    check_study(request.heading, me)
    if request.heading.run != state.run:
        state = _enter(request, state, me)
    _check_forwards(request.heading, state)
    if state.keys and state.keys.said.heading == request.heading:
        return state.keys.said, state
    ahead = state.masked.next if state.masked else None
    drawn = ahead if ahead and ahead.said.heading == request.heading else _draw(request.heading, me)
    return drawn.said, replace(state, keys=drawn, sharing=None, masked=None, revealed=None)


def check_study(heading: Heading, me: Member) -> None:
    """Raise Refusal ``another-study`` unless this is the study that the hospital approved."""
    if heading.study != me.study.digest:
        raise Refusal("another-study", "the request is for a study with another digest than the one approved here")


def _enter(request: KeysRequest, state: State, me: Member) -> State:
    """Return the state at the start of the run that the roll describes, if it is new and everybody in it is pinned."""
    if state.joined is None or state.joined not in request.roll:
        raise Refusal("not-my-nonce", "the run's id is not made with the nonce that this site drew for it")
    names = [said.site for said in request.roll]
    # The strictest hospital binds all: others reveal without it, so its own refusal would come too late.
    min_sites = max(me.min_sites, *(said.min_sites for said in request.roll))
    roster.check_size(names, min_sites)
    if roster.run_id(me.study.digest, request.roll, me.pinned) != request.heading.run:
        raise Refusal("wrong-run", "the run's id is not the digest of its members and their nonces")
    shrinking = all(said.shrinking for said in request.roll)
    return State(run=request.heading.run, members=tuple(sorted(names)), min_sites=min_sites, shrinking=shrinking)


def _check_forwards(heading: Heading, state: State) -> None:
    now = state.keys.said.heading if state.keys else None
    if heading.round <= state.last or (now and (heading.round, heading.attempt) < (now.round, now.attempt)):
        raise Refusal("round-went-back", f"round {state.last} was answered already, and keys are drawn forwards only")


def _draw(heading: Heading, me: Member) -> RoundKeys:
    mask, seal = ExchangeKey(me.entropy(crypto.KEY_BYTES)), ExchangeKey(me.entropy(crypto.KEY_BYTES))
    seed = me.entropy(crypto.KEY_BYTES)
    return RoundKeys(roster.keys_of(me.name, heading, (mask, seal), seed, me.signing), mask, seal, seed)


def share(request: SharesRequest, state: State, me: Member) -> tuple[Shares, State]:
    """Share the round's secrets among its holders, sealed for each.

    Raises: Refusal or ProtocolError.
    """
    _check_run(request.heading, state)
    if state.sharing and state.sharing.own.said.heading == request.heading:
        if sorted(request.keys, key=lambda said: said.site) != list(state.sharing.roster.keys):
            raise Refusal("already-shared", "the secrets of this round were shared among other holders already")
        return Shares(me.name, request.heading, state.sharing.sealed), state
    if state.keys is None or state.keys.said.heading != request.heading:
        raise Refusal("no-keys", "this site has announced no keys for this round and attempt")
    sharing = _share(state.keys, request.keys, state, me)
    return Shares(me.name, request.heading, sharing.sealed), replace(state, sharing=sharing)


def _check_run(heading: Heading, state: State) -> None:
    if not state.run or heading.run != state.run:
        raise Refusal("unknown-run", "this site has not entered that run")


def _share(own: RoundKeys, announced: tuple[Keys, ...], state: State, me: Member) -> Sharing:
    heading = own.said.heading
    pins = {name: me.pinned[name] for name in state.members}
    stated = me.study.aggregation.threshold
    holders = roster.roster_of(announced, heading, pins, state.min_sites, stated, own.said)
    if holders.by_name.get(me.name) != own.said:
        raise Refusal("own-key-changed", "this site's own keys are not among the holders' as it announced them")
    packed = _packed_shares(own, holders, me.entropy)
    agreed, sealed = {}, {}
    for name, said in holders.by_name.items():
        if name != me.name:
            agreed[name] = own.seal.agree(said.seal, name)
            key = crypto.seal_key(agreed[name], heading, holders.digest, me.name, name)
            sealed[name] = crypto.seal(key, packed[name], statement("shares", heading, me.name, name), me.entropy)
    return Sharing(own, holders, packed[me.name], agreed, sealed)


def _packed_shares(own: RoundKeys, holders: Roster, entropy: Entropy) -> dict[str, bytes]:
    """Return each holder's share of the seed, and after it the share of the mask scalar."""
    of = [
        shares.split(int.from_bytes(secret, "big"), holders.threshold, len(holders.keys), entropy)
        for secret in (own.seed, own.mask.secret)
    ]
    return {name: b"".join(shares.to_bytes(each[point - 1]) for each in of) for name, point in holders.points.items()}


def sent_before(request: ContributeRequest, state_digest: bytes, state: State) -> Contributed | None:
    """Return the stored reply if this very request was answered; None if it is a new one.

    Raises: Refusal ``already-answered`` for another request in a round that was answered; ``round-went-back``;
        ``state-answered`` for a state that was answered in an earlier round.
    """
    _check_run(request.heading, state)
    masked = state.masked
    if masked and masked.reply.heading.round == request.heading.round:
        if masked.asked == _asked(request, state_digest):
            return masked.reply
        raise Refusal("already-answered", f"round {request.heading.round} was answered, and this is another request")
    if request.heading.round <= state.last:
        raise Refusal("round-went-back", f"round {state.last} was answered already")
    if state_digest in state.states:
        raise Refusal("state-answered", "this state was answered in an earlier round of the run")
    return None


def _asked(request: ContributeRequest, state_digest: bytes) -> bytes:
    sealed = request.masking.sealed if request.masking else {}
    numbers = (request.sites, request.counted)
    return digest("request", request.heading, numbers, state_digest, tuple(sorted(sealed.items())))


def open_shares(request: ContributeRequest, state: State, me: Member) -> Opened:
    """Open the shares that everybody else sealed to this site; whoever sent some masks in this round.

    Raises: Refusal or ProtocolError.
    """
    sharing = state.sharing
    if request.masking is None:
        raise Refusal("unmasked", "the study is aggregated securely, and the request asks for bare words")
    if sharing is None or sharing.own.said.heading != request.heading:
        raise Refusal("not-shared", "this site has shared no secrets for this round and attempt")
    held = {me.name: sharing.kept}
    for sender, sealed in request.masking.sealed.items():
        if sender not in sharing.agreed:
            raise Refusal("not-a-holder", f"{sender!r} is not one of this round's other share-holders")
        key = crypto.seal_key(sharing.agreed[sender], request.heading, sharing.roster.digest, sender, me.name)
        associated = statement("shares", request.heading, sender, me.name)
        held[sender] = crypto.unseal(key, sealed, associated, sender)
        for half in (held[sender][: shares.SHARE_BYTES], held[sender][shares.SHARE_BYTES :]):
            shares.from_bytes(half, sender)
    _check_enough(len(held), sharing.roster, state)
    if request.sites != len(state.members):
        # Another number is another scale: one site's part would stand out among coarser ones of the others.
        raise Refusal("another-scale", f"expected words for the run's {len(state.members)} sites, not {request.sites}")
    return Opened(sharing, roster.maskers_digest(sharing.roster, held), held)


def _check_enough(count: int, holders: Roster, state: State) -> None:
    fewest = max(holders.threshold, state.min_sites)
    if count < fewest:
        raise Refusal("below-threshold", f"expected at least {fewest} of {len(holders.keys)} sites. Received: {count}")


def mask(
    request: ContributeRequest, state: State, me: Member, opened: Opened, words: Words, about: tuple[bytes, Part, bool]
) -> tuple[Contributed, State]:
    """Mask the words, in place, and announce keys for the next round.

    about: digest of the request's state, whose rows the sum is over, and whether the method is exact.
    """
    state_digest, part, exact = about
    heading = request.heading
    masks.apply(words, *_mask_keys(opened, me))
    receipt = roster.receipt_of(me.name, heading, opened.digest, state_digest, me.signing)
    following = replace(heading, round=heading.round + 1, attempt=1)
    drawn = _draw(following, me) if heading.round < _last_round(me) else None
    reply = Contributed(me.name, heading, words, receipt, drawn.said if drawn else None)
    masked = Masked(opened, _asked(request, state_digest), part, exact, reply, drawn)
    return reply, replace(
        state,
        keys=None,
        sharing=None,
        masked=masked,
        revealed=None,
        last=heading.round,
        states=state.states | {state_digest},
    )


def used_up(request: ContributeRequest, state_digest: bytes, state: State) -> State:
    """Return the state after a computation that failed: the round is over for this site, and nothing was sent.

    Whether it fails may depend on a patient, so it is an answer: asked again and again, it would tell a value bit by
    bit.
    """
    states = state.states | {state_digest}
    return replace(
        state, keys=None, sharing=None, masked=None, revealed=None, last=request.heading.round, states=states
    )


def _last_round(me: Member) -> int:
    from shared.plan import exchanges

    return exchanges(me.study)


def _mask_keys(opened: Opened, me: Member) -> tuple[list[bytes], list[bytes]]:
    """Return the keys of the masks that are added, and of those that are subtracted."""
    own, heading = opened.sharing.own, opened.sharing.own.said.heading
    plus = [crypto.self_mask_key(own.seed, heading, opened.digest, me.name)]
    minus: list[bytes] = []
    for name in sorted(opened.held):
        if name != me.name:
            agreed = own.mask.agree(opened.sharing.roster.by_name[name].mask, name)
            pair = (min(me.name, name), max(me.name, name))
            (plus if me.name < name else minus).append(crypto.pair_mask_key(agreed, heading, opened.digest, pair))
    return plus, minus


def reveal(request: RevealRequest, state: State, me: Member, sums: Sums) -> tuple[Revealed, State, Sums]:
    """Give the shares that remove the masks of one sum, once; then forget the round's secrets.

    sums: contributors of the site's sums so far.

    Raises: Refusal or ProtocolError.
    """
    _check_run(request.heading, state)
    if state.revealed and state.revealed[0].heading == request.heading:
        if state.revealed[0] != request:
            raise Refusal("already-revealed", "this round was revealed already, and this is another request")
        return state.revealed[1], state, sums
    masked = state.masked
    if masked is None or masked.reply.heading != request.heading:
        raise Refusal("nothing-to-reveal", "this site has contributed nothing to this round and attempt")
    survivors = _survivors(request, masked, state, me)
    key = kept_for(masked.part, masked.exact, request.heading.round)
    check_contributors(sums, key, survivors, state.shrinking)
    following = _following(request, masked, state, me)
    held, size = masked.opened.held, shares.SHARE_BYTES
    reply = Revealed(
        me.name,
        request.heading,
        seeds={name: held[name][:size] for name in survivors},
        scalars={name: held[name][size:] for name in request.dropped},
        next_sealed=following.sealed if following else {},
    )
    state = replace(state, keys=masked.next, sharing=following, masked=None, revealed=(request, reply))
    return reply, state, sums.with_sum(key, survivors)


def _survivors(request: RevealRequest, masked: Masked, state: State, me: Member) -> tuple[str, ...]:
    """Return the names of the survivors, if the lists are what they must be."""
    names = tuple(receipt.site for receipt in request.survivors)
    both = [*names, *request.dropped]
    if len(set(both)) != len(both):
        raise Refusal("lists-overlap", "a site is named twice among the survivors and the dropped")
    if set(both) != set(masked.opened.held):
        raise Refusal("lists-incomplete", "survivors and dropped together are not the sites that masked")
    if me.name not in names:
        raise Refusal("listed-as-dropped", "this site contributed, and is listed as dropped")
    own: Receipt | None = masked.reply.receipt
    if own is None or own not in request.survivors:
        raise Refusal("own-receipt-changed", "this site's own receipt is not the one that it signed")
    _check_enough(len(names), masked.opened.sharing.roster, state)
    pins = {name: me.pinned[name] for name in state.members}
    for receipt in request.survivors:
        if receipt != own:
            roster.check_receipt(receipt, own, pins)
    return names


def _following(request: RevealRequest, masked: Masked, state: State, me: Member) -> Sharing | None:
    """Return the sharing for the next round, if its holders are named."""
    if not request.next_keys:
        return None
    if masked.next is None:
        raise Refusal("no-keys", "this site has announced no keys for another round")
    return _share(masked.next, request.next_keys, state, me)


def end(request: EndRequest, state: State, me: Member) -> tuple[Ended, State]:
    """Forget the run's secrets. The run cannot be entered again: its nonce is forgotten too.

    Raises: Refusal ``unknown-run``.
    """
    _check_run(request.heading, state)
    return Ended(me.name, request.heading), State()
