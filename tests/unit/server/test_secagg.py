"""Secure aggregation at the aggregator: one faulty site is left out by name, and spoils no sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from server.training import Progress
from shared.errors import RunAbandoned
from shared.messages import Ended, Keys, Refused, Reply
from shared.secagg import roster
from shared.secagg.transcript import statement
from tests.secure import (
    FaultyTransport,
    Hospitals,
    Loss,
    LossyTransport,
    RecordingTransport,
    Step,
    names_in,
    powers,
    shares_lost,
)

EVERYBODY = tuple("abcde")
OTHERS = ("a", "b", "c", "e")
"""All but the faulty one."""

Spoiling = Callable[[Hospitals, RecordingTransport, Any], Any]
"""From the hospitals, what was sent so far and d's good reply, to what d sends instead."""


def announcing(made: Hospitals, keys: Keys, **changes: Any) -> Keys:
    """Return other keys of d, which d signed."""
    keys = replace(keys, **changes)
    said = statement("keys", keys.heading, keys.site, keys.mask, keys.seal, keys.seed_digest)
    return replace(keys, signature=made.signing("d").sign(said))


def announced_by_a(sent: RecordingTransport) -> Keys:
    reply = sent.at("keys", 1, "a").replies[0]
    assert isinstance(reply, Keys)
    return reply


def signed(made: Hospitals, reply: Any, **changes: Any) -> Any:
    """Return a contribution with another receipt, which d signed."""
    receipt = replace(reply.receipt, **changes)
    receipt = roster.receipt_of("d", receipt.heading, receipt.maskers, receipt.state, made.signing("d"))
    return replace(reply, receipt=receipt)


def keys_next_of_a(sent: RecordingTransport) -> Keys:
    keys = sent.at("contribute", 1, "a").replies[0].next_keys  # type: ignore[union-attr]
    assert keys is not None
    return keys


LEFT_OUT: Mapping[str, tuple[Step, str, Spoiling]] = {
    "keys in another name": ("keys", "unknown-site", lambda made, sent, reply: replace(reply, site="c")),
    "keys wrongly signed": ("keys", "bad-signature", lambda made, sent, reply: replace(reply, signature=bytes(64))),
    "keys changed": ("keys", "bad-signature", lambda made, sent, reply: replace(reply, seed_digest=bytes(32))),
    "a key of low order": ("keys", "bad-key", lambda made, sent, reply: announcing(made, reply, mask=bytes(32))),
    "a key that is none": ("keys", "bad-key", lambda made, sent, reply: announcing(made, reply, seal=b"key")),
    "another site's key": (
        "keys",
        "repeated-key",
        lambda made, sent, reply: announcing(made, reply, seal=announced_by_a(sent).mask),
    ),
    "one key twice": ("keys", "repeated-key", lambda made, sent, reply: announcing(made, reply, seal=reply.mask)),
    "keys of another attempt": (
        "keys",
        "no-reply",
        lambda made, sent, reply: announcing(made, reply, heading=replace(reply.heading, attempt=2)),
    ),
    "shares for too few": (
        "shares",
        "missing-shares",
        lambda made, sent, reply: replace(reply, sealed={name: reply.sealed[name] for name in "abc"}),
    ),
    "shares for a stranger": (
        "shares",
        "missing-shares",
        lambda made, sent, reply: replace(reply, sealed={**reply.sealed, "f": bytes(94)}),
    ),
    "no receipt": ("contribute", "no-receipt", lambda made, sent, reply: replace(reply, receipt=None)),
    "another site's receipt": (
        "contribute",
        "no-receipt",
        lambda made, sent, reply: replace(reply, receipt=replace(reply.receipt, site="a")),
    ),
    "a receipt for another state": (
        "contribute",
        "another-state",
        lambda made, sent, reply: signed(made, reply, state=bytes(32)),
    ),
    "a receipt for other maskers": (
        "contribute",
        "other-maskers",
        lambda made, sent, reply: signed(made, reply, maskers=bytes(32)),
    ),
    "a receipt for another round": (
        "contribute",
        "stale-receipt",
        lambda made, sent, reply: signed(made, reply, heading=replace(reply.heading, round=2)),
    ),
    "a receipt wrongly signed": (
        "contribute",
        "bad-signature",
        lambda made, sent, reply: replace(reply, receipt=replace(reply.receipt, signature=bytes(64))),
    ),
    "next keys wrongly signed": (
        "contribute",
        "bad-signature",
        lambda made, sent, reply: replace(reply, next_keys=replace(reply.next_keys, mask=bytes(32))),
    ),
    "a next key of low order": (
        "contribute",
        "bad-key",
        lambda made, sent, reply: replace(reply, next_keys=announcing(made, reply.next_keys, mask=bytes(32))),
    ),
    "a next key of another site": (
        "contribute",
        "repeated-key",
        lambda made, sent, reply: replace(
            reply, next_keys=announcing(made, reply.next_keys, mask=keys_next_of_a(sent).mask)
        ),
    ),
    "next keys in another name": (
        "contribute",
        "unknown-site",
        lambda made, sent, reply: replace(reply, next_keys=keys_next_of_a(sent)),
    ),
    "one word less": ("contribute", "wrong-shape", lambda made, sent, reply: replace(reply, words=reply.words[:-1])),
    "other words": (
        "contribute",
        "wrong-type",
        lambda made, sent, reply: replace(reply, words=reply.words.astype(np.uint32)),
    ),
    "a message of another kind": ("contribute", "no-reply", lambda made, sent, reply: Ended("d", reply.heading)),
}


def run(
    spoil: Spoiling, step: Step, site: str = "d", made: Hospitals | None = None, losses: tuple[Loss, ...] = ()
) -> Progress:
    """Run with one site that answers wrongly in a step of round 1."""
    made = made or powers(5)
    sent = RecordingTransport(LossyTransport(made.local, losses), made.local.states)
    faulty = FaultyTransport(sent, site, step, 1, lambda reply: spoil(made, sent, reply))
    return made.run(faulty)


@pytest.mark.parametrize("what", LEFT_OUT)
def test_a_faulty_site_is_left_out_by_name_and_is_back_in_the_next_round(what: str) -> None:
    step, code, spoil = LEFT_OUT[what]
    progress = run(spoil, step)
    assert [record.contributors for record in progress.history] == [OTHERS, EVERYBODY, EVERYBODY]
    assert dict(progress.history[0].dropped) == {"d": code}
    # 1 + 2 + 4 + 16: what d sent is not in the sum.
    assert [record.measurements["first"] for record in progress.history] == [23.0, 31.0, 31.0]


@pytest.mark.parametrize("step", ["keys", "shares", "contribute", "reveal"])
def test_an_answer_that_comes_twice_counts_once(step: Step) -> None:
    progress = run(lambda made, sent, reply: [reply, reply], step)
    assert [record.measurements["first"] for record in progress.history] == [31.0, 31.0, 31.0]
    assert dict(progress.history[0].noted) == {"d": "replied-twice"}


def test_an_answer_to_an_earlier_question_is_not_taken_for_one_to_this() -> None:
    """The contribution to round 1 comes once more in round 2, before and instead of the right one."""
    made = powers(5)
    sent = RecordingTransport(made.local, made.local.states)

    def old(_reply: Reply) -> Reply:
        return sent.at("contribute", 1, "d").replies[0]

    progress = made.run(FaultyTransport(sent, "d", "contribute", 2, old))
    assert [record.contributors for record in progress.history] == [EVERYBODY, OTHERS, EVERYBODY]
    assert (dict(progress.history[1].dropped), dict(progress.history[1].noted)) == (
        {"d": "no-reply"},
        {"d": "stale-reply"},
    )


# Joining


@pytest.mark.parametrize(
    ("changes", "code"),
    [({"nonce": bytes(32)}, "bad-signature"), ({"nonce": bytes(31)}, "bad-nonce"), ({"site": "a"}, "unknown-site")],
)
def test_who_joins_wrongly_is_not_in_the_run(changes: dict[str, Any], code: str) -> None:
    made = powers(5)
    progress = made.run(FaultyTransport(made.local, "d", "join", 0, lambda reply: replace(reply, **changes)))
    assert [record.contributors for record in progress.history] == [OTHERS] * 3
    with pytest.raises(RunAbandoned, match=rf"2 of 3 sites joined the run, and 3 are needed. Missing: b \({code}\)"):
        fewer = powers(3)
        fewer.run(FaultyTransport(fewer.local, "b", "join", 0, lambda reply: replace(reply, **changes)))


# Set-up


def test_where_too_few_share_their_secrets_the_set_up_is_made_again() -> None:
    made = powers(5)
    recording = RecordingTransport(shares_lost(made, 1, "b", "d"), made.local.states)
    progress = made.run(recording)
    assert recording.exchanges[:6] == [("join", 0), *[("keys", 1), ("shares", 1)] * 2, ("contribute", 1)]
    assert recording.at("contribute", 1, "a").request.heading.attempt == 2
    assert [record.contributors for record in progress.history] == [EVERYBODY] * 3


def test_a_round_is_given_up_after_three_set_ups() -> None:
    made = powers(5)
    recording = RecordingTransport(shares_lost(made, 9, "b", "d"), made.local.states)
    with pytest.raises(RunAbandoned, match=r"3 of 5 sites shared secrets for exchange 1, and 4 are needed.*b \(no-re"):
        made.run(recording)
    assert recording.exchanges == [("join", 0), *[("keys", 1), ("shares", 1)] * 3, ("end", 0)]


@pytest.mark.parametrize("box", [bytes(94), b"x" * 94], ids=["zeros", "letters"])
def test_who_sealed_shares_that_nobody_can_open_is_named(box: bytes) -> None:
    with pytest.raises(
        RunAbandoned,
        match=r"1 of 5 sites contributed.* a, b, c, e could not open the shares from d: d, or who says so, is faulty",
    ):
        run(lambda made, sent, reply: replace(reply, sealed=dict.fromkeys(reply.sealed, box)), "shares")


def test_a_site_that_accuses_another_ends_no_run() -> None:
    def accuse(made: Hospitals, sent: RecordingTransport, reply: Any) -> Reply:
        return Refused("d", reply.heading, "seal-broken", "the shares from a do not open")

    progress = run(accuse, "contribute")
    assert [record.contributors for record in progress.history] == [OTHERS, EVERYBODY, EVERYBODY]


# The reveal


def wrong(shares: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return shares that look like some, and are of no secret."""
    return {name: bytes([share[0], *share[1:-1], share[-1] ^ 1]) for name, share in shares.items()}


REVEALS: Mapping[str, tuple[str, Spoiling]] = {
    "shares of too few seeds": ("missing-shares", lambda made, sent, reply: replace(reply, seeds={})),
    "a scalar that nobody asked for": (
        "missing-shares",
        lambda made, sent, reply: replace(reply, scalars={"a": bytes(33)}),
    ),
    "a share that is too short": (
        "bad-share",
        lambda made, sent, reply: replace(reply, seeds={**reply.seeds, "a": bytes(32)}),
    ),
    "a share beyond the prime": (
        "bad-share",
        lambda made, sent, reply: replace(reply, seeds={**reply.seeds, "a": bytes([255] * 33)}),
    ),
    "no shares for the next round": ("missing-shares", lambda made, sent, reply: replace(reply, next_sealed={})),
    "a reveal in another name": ("unknown-site", lambda made, sent, reply: replace(reply, site="a")),
    "wrong shares": ("wrong-shares", lambda made, sent, reply: replace(reply, seeds=wrong(reply.seeds))),
}


@pytest.mark.parametrize("what", REVEALS)
def test_a_faulty_reveal_is_noted_and_the_sum_is_made_by_the_others_shares(what: str) -> None:
    code, spoil = REVEALS[what]
    progress = run(spoil, "reveal")
    assert [record.contributors for record in progress.history] == [EVERYBODY] * 3
    assert [record.measurements["first"] for record in progress.history] == [31.0, 31.0, 31.0]
    assert dict(progress.history[0].noted) == {"d": code}


def test_wrong_shares_of_a_lost_sites_scalar_are_found_too() -> None:
    """Of seven sites, five shares are needed, and six arrive."""
    progress = run(
        lambda made, sent, reply: replace(reply, scalars=wrong(reply.scalars)),
        "reveal",
        made=powers(7),
        losses=(Loss("b", 1, "contribute", after=True),),
    )
    assert names_in(progress.history[0].measurements["first"]) == tuple("acdefg")
    assert dict(progress.history[0].noted) == {"d": "wrong-shares"}


def test_wrong_shares_where_every_share_is_needed_end_the_run_and_never_give_a_wrong_sum() -> None:
    with pytest.raises(RunAbandoned, match=r"exchange 1: the shares of .* faulty"):
        run(
            lambda made, sent, reply: replace(reply, seeds=wrong(reply.seeds)),
            "reveal",
            site="b",
            made=powers(3),
        )


def test_a_round_that_is_given_up_says_who_was_lost_and_its_sites_forget() -> None:
    made = powers(5)
    losses = [Loss("b", 2, "contribute"), Loss("d", 2, "reveal")]
    with pytest.raises(
        RunAbandoned, match=r"3 of 5 sites revealed .* 2, and 4 are needed.*b \(no-reply\), d \(no-reply\)"
    ):
        made.run(LossyTransport(made.local, losses))
    assert all(made.local.states[site].secure.run == "" for site in EVERYBODY)
