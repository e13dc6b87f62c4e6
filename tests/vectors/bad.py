"""Messages that a site must refuse: each is one honest request of one conversation, with one thing changed.

Sites a to e make three rounds together, honestly; b is the one that receives the messages. What a corrupt site could
sign is signed by it, so that every message breaks one rule and no other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import numpy as np

from client.site import Site, SiteState
from shared.messages import EndRequest, Heading, JoinRequest, Keys, Masking, Receipt, Request
from shared.secagg import keys as crypto
from shared.secagg import roster
from shared.secagg.keys import SigningKey
from shared.secagg.transcript import statement
from tests.secure import Asked, Hospitals, InsecureEntropy, RecordingTransport, Step, powers

SITE = "b"
"""Who receives the messages."""

Stands = Literal["joined", "keyed", "shared", "contributed", "revealed"]
ASKED: Mapping[Stands, tuple[Step, int]] = {
    "joined": ("keys", 1),
    "keyed": ("shares", 1),
    "shared": ("contribute", 1),
    "contributed": ("reveal", 1),
    "revealed": ("contribute", 2),
}
"""What a site is asked next, in which round, where it stands so."""


@dataclass(frozen=True, eq=False)
class Talk:
    """An honest conversation."""

    hospitals: Hospitals
    recorded: RecordingTransport

    def asked(self, state: Stands) -> Asked:
        """Return what the site is asked, where it stands so."""
        return self.recorded.at(*ASKED[state], SITE)

    def request(self, state: Stands) -> Any:
        """Return the honest request."""
        return self.asked(state).request

    def before(self, state: Stands) -> SiteState:
        """Return where the site stands before it."""
        return self.asked(state).before

    def site(self) -> Site:
        """Return the site."""
        return self.hospitals.sites[SITE]

    def sign(self, name: str, said: bytes) -> bytes:
        """Return a statement's signature by any site."""
        return self.hospitals.signing(name).sign(said)


@cache
def talk() -> Talk:
    """Return the conversation."""
    made = powers(5)
    recorded = RecordingTransport(made.local, made.local.states)
    made.run(recorded)
    return Talk(made, recorded)


@dataclass(frozen=True, eq=False)
class Bad:
    """A message that is refused.

    state: where the site stands.
    """

    state: Stands
    code: str
    about: str
    request: Request


Table = Mapping[str, tuple[str, str, Request]]
"""By name: the code, what is wrong, and the message."""

OTHER_STUDY, OTHER_RUN = "0" * 64, "1" * 64
RULES = (3, False)
"""``min_sites`` and ``shrinking``."""
STRANGER = SigningKey(bytes(range(32)))
"""The identity of f, whom nobody pinned."""


def headed(request: Any, **changes: Any) -> Any:
    """Return a request under another heading."""
    return replace(request, heading=replace(request.heading, **changes))


def said_of(said: Any, name: str) -> Any:
    """Return what one site said."""
    return next(each for each in said if each.site == name)


def instead(said: Any, other: Any) -> Any:
    """Return the same statements, with another one of one site."""
    return tuple(other if each.site == other.site else each for each in said)


def without(said: Any, *names: str) -> Any:
    """Return the statements of the other sites."""
    return tuple(each for each in said if each.site not in names)


def flipped(data: bytes) -> bytes:
    """Return the same bytes with one bit changed."""
    return bytes([data[0] ^ 1]) + data[1:]


def announced(talk: Talk, said: Any, name: str, **changes: Any) -> Any:
    """Return the same keys, with other ones of one site that signed them."""
    keys: Keys = replace(said_of(said, name), **changes)
    signed = statement("keys", keys.heading, name, keys.mask, keys.seal, keys.seed_digest)
    return instead(said, replace(keys, signature=talk.sign(name, signed)))


def receipts(talk: Talk, said: Any, name: str, **changes: Any) -> Any:
    """Return the same receipts, with another one of one site that signed it."""
    receipt: Receipt = replace(said_of(said, name), **changes)
    signing = talk.hospitals.signing(name)
    return instead(said, roster.receipt_of(name, receipt.heading, receipt.maskers, receipt.state, signing))


def before_keys(talk: Talk) -> Table:
    """Return what is refused by a site that has said that it takes part."""
    good = talk.request("joined")
    first, own = good.roll[0], said_of(good.roll, SITE)
    old = roster.joined(SITE, own.heading, bytes(range(32)), RULES, talk.hospitals.signing(SITE))
    enrolled = roster.joined("f", own.heading, bytes(32), RULES, STRANGER)

    def rolled(roll: Any) -> Any:
        """Return a request with this roll, under the id that follows from it."""
        pins = {**talk.hospitals.identities, "f": STRANGER.public}
        return replace(headed(good, run=roster.run_id(good.heading.study, roll, pins)), roll=roll)

    def saying(**changes: Any) -> Any:
        """Return a request in whose roll the first member said something else than it signed."""
        return replace(good, roll=instead(good.roll, replace(first, **changes)))

    return {
        "join_of_another_study": (
            "another-study",
            "a study with another digest is to be joined",
            JoinRequest(Heading("", OTHER_STUDY, 0)),
        ),
        "keys_for_another_study": ("another-study", "keys for another study", headed(good, study=OTHER_STUDY)),
        "roll_with_an_old_nonce": (
            "not-my-nonce",
            "the roll holds what the site said in an earlier run",
            rolled(instead(good.roll, old)),
        ),
        "roll_without_the_site": ("not-my-nonce", "the site is not in the roll", rolled(without(good.roll, SITE))),
        "run_that_is_not_the_digest": (
            "wrong-run",
            "the run's id does not follow from the roll",
            headed(good, run=OTHER_RUN),
        ),
        "member_not_pinned": ("not-pinned", "the aggregator enrolled its own member", rolled((*good.roll, enrolled))),
        "join_wrongly_signed": ("bad-signature", "a member's nonce was exchanged", saying(nonce=bytes(32))),
        "rules_exchanged": (
            "bad-signature",
            "a member's hospital asks for fewer sites than it said",
            saying(min_sites=2),
        ),
        "nonce_too_short": ("bad-nonce", "a member's nonce has 31 bytes", saying(nonce=bytes(31))),
        "member_of_another_study": (
            "another-study",
            "a member joined another study",
            saying(heading=replace(first.heading, study=OTHER_STUDY)),
        ),
        "member_named_twice": ("repeated-member", "one counts as two", replace(good, roll=(*good.roll, first))),
        "roll_of_two": ("too-few-members", "two would learn each other's part", rolled(good.roll[:2])),
    }


def before_shares(talk: Talk) -> Table:
    """Return what is refused by a site that has announced keys."""
    good, keys = talk.request("keyed"), talk.request("keyed").keys
    first, third = keys[0], keys[2]
    signed = statement("keys", good.heading, "f", first.mask, first.seal, first.seed_digest)
    stranger = replace(first, site="f", signature=STRANGER.sign(signed))

    def holding(said: Any) -> Any:
        return replace(good, keys=said)

    def saying(name: str, **changes: Any) -> Any:
        return holding(announced(talk, keys, name, **changes))

    return {
        "keys_for_an_earlier_attempt": (
            "round-went-back",
            "keys under an attempt below the current one",
            headed(talk.request("joined"), attempt=0),
        ),
        "shares_in_another_run": ("unknown-run", "shares in a run that was not entered", headed(good, run=OTHER_RUN)),
        "shares_without_keys": ("no-keys", "shares where no keys were announced", headed(good, attempt=2)),
        "keys_of_another_attempt": (
            "stale-keys",
            "a holder's keys are for another attempt",
            saying("a", heading=replace(good.heading, attempt=2)),
        ),
        "keys_wrongly_signed": (
            "bad-signature",
            "a holder's mask key was exchanged for one of the aggregator's",
            holding(instead(keys, replace(first, mask=bytes([9] * 32)))),
        ),
        "holder_not_pinned": ("not-pinned", "a holder is no member of the run", holding((*keys, stranger))),
        "key_of_low_order": (
            "bad-key",
            "a holder's mask key is the point zero, with which every agreement is zero",
            saying("a", mask=bytes(32)),
        ),
        "key_too_short": ("bad-key", "a holder's seal key has 31 bytes", saying("a", seal=bytes([9] * 31))),
        "key_of_another_site": ("repeated-key", "a holder has another one's key", saying("a", seal=third.seal)),
        "key_of_the_site_itself": (
            "repeated-key",
            "a holder has the receiver's own key",
            saying("a", mask=said_of(keys, SITE).mask),
        ),
        "key_for_two_purposes": (
            "repeated-key",
            "a holder's mask key is its seal key: rebuilding one would open what was sealed",
            saying("a", seal=first.mask),
        ),
        "own_keys_missing": ("own-key-changed", "the holders are without the site", holding(without(keys, SITE))),
        "own_keys_exchanged": (
            "own-key-changed",
            "other keys stand for the site's own, with its signature",
            saying(SITE, seed_digest=bytes(32)),
        ),
        "two_holders": ("too-few-members", "two hold shares", holding(keys[:2])),
        "holder_named_twice": ("repeated-member", "one holder gets two shares", holding((*keys, first))),
    }


def before_contribution(talk: Talk) -> Table:
    """Return what is refused by a site that has shared its secrets."""
    good = talk.request("shared")
    sealed = good.masking.sealed
    sharing = talk.recorded.at("contribute", 1, "a").before.secure.sharing
    assert sharing is not None
    key = crypto.seal_key(sharing.agreed[SITE], good.heading, sharing.roster.digest, "a", SITE)
    one = crypto.seal(key, bytes(33), statement("shares", good.heading, "a", SITE), InsecureEntropy(99))

    def boxed(**boxes: bytes) -> Any:
        return replace(good, masking=Masking({**sealed, **boxes}))

    def asking(**state: Any) -> Any:
        return replace(good, state={**good.state, **state})

    return {
        "shares_for_other_holders": (
            "already-shared",
            "the same secrets are to be shared again, among fewer holders",
            replace(talk.request("keyed"), keys=talk.request("keyed").keys[:4]),
        ),
        "words_for_another_study": ("another-study", "words for another study", headed(good, study=OTHER_STUDY)),
        "words_in_another_run": ("unknown-run", "words in a run that was not entered", headed(good, run=OTHER_RUN)),
        "words_beyond_the_plan": ("beyond-plan", "a fourth sum of a study of three", headed(good, round=4)),
        "bare_words": ("unmasked", "words without masks in a secure study", replace(good, masking=None)),
        "words_without_shares": ("not-shared", "words where no secrets were shared", headed(good, attempt=2)),
        "box_changed": ("seal-broken", "one bit of sealed shares was changed", boxed(a=flipped(sealed["a"]))),
        "boxes_exchanged": ("seal-broken", "two senders were exchanged", boxed(a=sealed["c"], c=sealed["a"])),
        "box_of_no_holder": ("not-a-holder", "sealed shares of no holder", boxed(f=sealed["a"])),
        "box_with_one_share": ("bad-share", "a corrupt holder sealed one share instead of two", boxed(a=one)),
        "three_maskers": (
            "below-threshold",
            "the shares of two of five holders are missing, and four must mask",
            replace(good, masking=Masking({name: sealed[name] for name in ("d", "e")})),
        ),
        "another_scale": (
            "another-scale",
            "words in coarser steps, in which the others' part would not be seen",
            replace(good, sites=50),
        ),
        "weights_of_huge_norm": (
            "state-out-of-bounds",
            "the state's norm is 2000, and the method declares 1000",
            asking(**{"sum/round": np.array(2000)}),
        ),
        "no_state": ("bad-state", "a state without what the method reads", replace(good, state={})),
    }


def before_reveal(talk: Talk) -> Table:
    """Return what is refused by a site that has contributed."""
    good = talk.request("contributed")
    survivors, following = good.survivors, good.next_keys
    first = survivors[0]

    def listing(said: Any, *dropped: str) -> Any:
        return replace(good, survivors=said, dropped=dropped)

    def signing(name: str, **changes: Any) -> Any:
        return listing(receipts(talk, survivors, name, **changes))

    def holding(said: Any) -> Any:
        return replace(good, next_keys=said)

    return {
        "another_state_in_the_same_round": (
            "already-answered",
            "another state in a round that was answered",
            replace(talk.request("shared"), state={**talk.request("shared").state, "sum/round": np.array(1)}),
        ),
        "reveal_in_another_run": ("unknown-run", "a reveal in another run", headed(good, run=OTHER_RUN)),
        "reveal_of_another_round": ("nothing-to-reveal", "the site sent nothing there", headed(good, round=2)),
        "survivor_and_dropped": (
            "lists-overlap",
            "the same site among the survivors and the dropped: both its secrets",
            listing(survivors, "a"),
        ),
        "survivor_named_twice": ("lists-overlap", "one survivor stands for two", listing((*survivors, first))),
        "masker_left_out": ("lists-incomplete", "a masker is in neither list", listing(without(survivors, "a"))),
        "dropped_that_did_not_mask": ("lists-incomplete", "f did not mask", listing(survivors, "f")),
        "listed_as_dropped": (
            "listed-as-dropped",
            "the site contributed, and its mask scalar is to be rebuilt",
            listing(without(survivors, SITE), SITE),
        ),
        "own_receipt_changed": ("own-receipt-changed", "it names another state", signing(SITE, state=bytes(32))),
        "three_survivors": (
            "below-threshold",
            "three of five survive, and four are needed",
            listing(without(survivors, "a", "c"), "a", "c"),
        ),
        "receipt_of_another_attempt": (
            "stale-receipt",
            "a survivor's receipt is for another attempt",
            signing("a", heading=replace(good.heading, attempt=2)),
        ),
        "receipt_for_other_maskers": ("other-maskers", "a survivor masked otherwise", signing("a", maskers=bytes(32))),
        "receipt_for_another_state": ("another-state", "a survivor got another model", signing("a", state=bytes(32))),
        "receipt_wrongly_signed": (
            "bad-signature",
            "the aggregator made a survivor's receipt itself",
            listing(instead(survivors, replace(first, signature=bytes(64)))),
        ),
        "next_keys_without_own": (
            "own-key-changed",
            "next holders without the site",
            holding(without(following, SITE)),
        ),
        "next_keys_of_this_round": (
            "stale-keys",
            "the next round is to be shared under keys of this one",
            holding(instead(following, talk.request("keyed").keys[0])),
        ),
        "two_next_holders": ("too-few-members", "two would hold the next shares", holding(following[:2])),
    }


def after_reveal(talk: Talk) -> Table:
    """Return what is refused by a site that has revealed round 1 and shared round 2."""
    good, revealed = talk.request("revealed"), talk.request("contributed")
    fewer = replace(revealed, survivors=without(revealed.survivors, "a"), dropped=("a",))
    return {
        "second_reveal_with_another_list": ("already-revealed", "the same reveal with one site fewer", fewer),
        "state_of_an_earlier_round": (
            "state-answered",
            "a state that was answered in round 1 is asked again in round 2",
            replace(good, state=talk.request("shared").state),
        ),
        "round_again": ("round-went-back", "round 1 again, after its reveal", talk.request("shared")),
        "keys_for_an_answered_round": (
            "round-went-back",
            "keys for a round that was answered, under another attempt",
            headed(talk.request("joined"), attempt=9),
        ),
        "boxes_of_an_earlier_round": (
            "seal-broken",
            "round 1's sealed shares in round 2",
            replace(good, masking=talk.request("shared").masking),
        ),
        "end_of_another_run": (
            "unknown-run",
            "a run ends that the site has not entered",
            EndRequest(replace(good.heading, run=OTHER_RUN)),
        ),
    }


_TABLES: Mapping[Stands, Callable[[Talk], Table]] = {
    "joined": before_keys,
    "keyed": before_shares,
    "shared": before_contribution,
    "contributed": before_reveal,
    "revealed": after_reveal,
}


@cache
def messages() -> Mapping[str, Bad]:
    """Return every rule of a site that one changed message can break, by name."""
    tables = {state: table(talk()) for state, table in _TABLES.items()}
    return {name: Bad(state, *row) for state, table in tables.items() for name, row in table.items()}
