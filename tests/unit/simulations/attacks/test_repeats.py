"""The same run, round, state or message again, with one hospital fewer, gains nothing."""

from __future__ import annotations

from typing import Any

import pytest

from client import secagg
from client.secagg_state import Member, RoundKeys
from shared.messages import Heading
from shared.secagg import roster
from shared.secagg.keys import ExchangeKey
from simulations.attacks import repeats
from simulations.attacks.aggregator import others
from tests.secure import secure_study
from tests.unit.simulations.attacks.cheats import FIVE, cheating, part, state, sums_with_victim, without

STATES = (state(1), state(2))
SHRINKING = secure_study(simulation__contributors_may_shrink=True)
"""Policies that let sums lose a hospital: what else stands in the way of a trick shows."""


def drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every site announce the same secrets in every run."""

    def draw(heading: Heading, me: Member) -> RoundKeys:
        mask, seal, seed = (
            bytes([number]) * 31 + me.name.encode()
            for number in (1, 2, 3)  # secrets that differ by site alone
        )
        pair = ExchangeKey(mask), ExchangeKey(seal)
        return RoundKeys(roster.keys_of(me.name, heading, pair, seed, me.signing), *pair, seed)

    monkeypatch.setattr(secagg, "_draw", draw)


def test_a_scalar_rebuilt_in_one_run_is_of_no_use_in_another() -> None:
    cheat = cheating(study=SHRINKING)
    repeats.secrets_of_another_run(cheat, state(), FIVE)
    assert dict.fromkeys(others(FIVE), "stale-keys") == cheat.codes
    # Of the first run the victim's scalar is known, of the second its seed: no words have both.
    assert [31.0] == sums_with_victim(cheat)


def test_a_scalar_rebuilt_in_one_run_reads_the_victim_in_another_where_keys_are_drawn_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn_once(monkeypatch)
    cheat = cheating(study=SHRINKING)
    repeats.secrets_of_another_run(cheat, state(), FIVE)
    assert 1.0 == sums_with_victim(cheat)[0]


def test_the_rebuilt_scalar_of_a_lost_site_opens_no_share_that_was_sealed_to_it() -> None:
    cheat = cheating()
    repeats.seals_of_a_lost_site(cheat, state(), FIVE, lost=["e"])
    assert [15.0] == sums_with_victim(cheat)
    assert cheat.said[cheat.heading(1), "e"].mask in cheat.knowledge.scalars
    assert set() == cheat.knowledge.opened


def test_the_rebuilt_scalar_of_a_lost_site_opens_shares_where_one_key_serves_both_purposes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def one_pair(heading: Heading, me: Member) -> RoundKeys:
        key, seed = ExchangeKey(me.entropy(32)), me.entropy(32)
        return RoundKeys(roster.keys_of(me.name, heading, (key, key), seed, me.signing), key, key, seed)

    def distinct(said: Any, heading: Heading, *_: Any) -> roster.Roster:
        ordered = tuple(sorted(said, key=lambda each: each.site))
        return roster.Roster(heading, ordered, roster.default_threshold(len(ordered)))

    monkeypatch.setattr(secagg, "_draw", one_pair)
    monkeypatch.setattr(roster, "roster_of", distinct)
    cheat = cheating()
    repeats.seals_of_a_lost_site(cheat, state(), FIVE, lost=["e"])
    cheat.knowledge.secrets()
    assert {(name, "e") for name in "abcd"} == {box[:2] for box in cheat.knowledge.opened}


def test_the_same_round_with_one_site_fewer_is_refused() -> None:
    cheat = cheating()
    repeats.same_round_with_fewer(cheat, state(), FIVE)
    # Other words before the reveal, and after it; keys, words and a reveal under the next attempt.
    refused = ["already-answered", *["round-went-back"] * 3, "nothing-to-reveal"]
    assert dict.fromkeys(others(FIVE), refused) == {name: cheat.codes_of(name) for name in others(FIVE)}
    assert [31.0] == sums_with_victim(cheat)
    assert part(cheat) is None


def test_the_same_round_with_one_site_fewer_reads_it_where_answers_are_not_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(
        monkeypatch,
        *("client.secagg._check_forwards", "client.secagg.sent_before", "client.secagg.check_contributors"),
    )
    cheat = cheating()
    repeats.same_round_with_fewer(cheat, state(), FIVE)
    assert 1.0 == part(cheat)


def test_the_same_state_in_a_later_round_is_refused() -> None:
    cheat = cheating()
    repeats.same_state_later(cheat, state(), FIVE)
    assert dict.fromkeys(others(FIVE), "state-answered") == cheat.codes
    assert [31.0] == sums_with_victim(cheat)
    assert part(cheat) is None


def test_the_same_state_in_a_later_round_reads_the_victim_where_answers_are_not_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, "client.secagg.sent_before")
    cheat = cheating()
    repeats.same_state_later(cheat, state(), FIVE)
    assert 1.0 == part(cheat)


def test_an_old_round_again_is_refused_in_every_step() -> None:
    cheat = cheating()
    repeats.old_round_again(cheat, STATES, FIVE)
    refused = ["round-went-back", "round-went-back", "no-keys", "round-went-back", "nothing-to-reveal"]
    assert dict.fromkeys(others(FIVE), refused) == {name: cheat.codes_of(name) for name in others(FIVE)}
    assert [31.0, 31.0] == sums_with_victim(cheat)
    assert part(cheat) is None


def test_shares_of_an_old_round_do_not_open_in_a_new_one() -> None:
    cheat = cheating()
    repeats.old_shares_again(cheat, STATES, FIVE)
    assert dict.fromkeys(FIVE, "seal-broken") == cheat.codes
    assert [31.0] == sums_with_victim(cheat)


def test_shares_of_one_run_do_not_open_in_another() -> None:
    cheat = cheating()
    repeats.shares_of_another_run(cheat, state(), FIVE)
    assert dict.fromkeys(FIVE, "seal-broken") == cheat.codes
    assert [] == cheat.knowledge.sums()


def test_receipts_of_an_old_round_are_refused_in_a_new_one() -> None:
    cheat = cheating()
    repeats.old_receipts_again(cheat, STATES, FIVE)
    assert dict.fromkeys(FIVE, "stale-receipt") == cheat.codes
    assert [31.0] == sums_with_victim(cheat)


@pytest.mark.parametrize("exact", [True, False])
def test_a_new_run_over_the_same_patients_with_one_hospital_fewer_is_refused(exact: bool) -> None:
    cheat = cheating(exact=exact)
    repeats.run_with_fewer(cheat, state(), FIVE)
    assert dict.fromkeys(others(FIVE), "members-changed") == cheat.codes
    assert [31.0] == sums_with_victim(cheat)
    assert part(cheat) is None


def test_a_new_run_with_one_hospital_fewer_reads_it_where_members_are_not_compared(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, "client.site.check_members", "client.secagg.check_contributors")
    cheat = cheating()
    repeats.run_with_fewer(cheat, state(), FIVE)
    assert 1.0 == part(cheat)


@pytest.mark.parametrize(
    "exact",
    [True, False],
)
def test_a_sum_that_loses_a_hospital_in_a_second_run_of_the_same_members_is_refused(exact: bool) -> None:
    """A network's, too: from the same state, seed and round, everybody else sends the same words again."""
    cheat = cheating(exact=exact)
    repeats.loss_in_a_second_run(cheat, state(), FIVE)
    assert dict.fromkeys(others(FIVE), "contributors-changed") == cheat.codes
    assert [31.0] == sums_with_victim(cheat)
    assert part(cheat) is None


@pytest.mark.parametrize("early", [True, False])
def test_a_loss_between_two_exact_rounds_is_refused(early: bool) -> None:
    cheat = cheating(exact=True)
    repeats.loss_between_rounds(cheat, STATES, FIVE, early)
    assert dict.fromkeys(others(FIVE), "contributors-changed") == cheat.codes
    assert [31.0] == sums_with_victim(cheat)
    assert part(cheat) is None


@pytest.mark.parametrize("trick", ["second run", "early", "late"])
def test_a_loss_reads_the_lost_hospital_where_contributors_are_not_frozen(
    monkeypatch: pytest.MonkeyPatch, trick: str
) -> None:
    without(monkeypatch, "client.site.check_maskers", "client.secagg.check_contributors")
    cheat = cheating(exact=True)
    if trick == "second run":
        repeats.loss_in_a_second_run(cheat, state(), FIVE)
    else:
        repeats.loss_between_rounds(cheat, STATES, FIVE, early=trick == "early")
    assert 1.0 == part(cheat)
