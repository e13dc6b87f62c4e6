"""Lists that lie about who survived, who dropped and who holds shares gain nothing."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import pytest

from simulations.attacks import lists
from simulations.attacks.aggregator import CheatingAggregator, others
from tests.secure import NAMES, secure_study
from tests.unit.simulations.attacks.cheats import FIVE, cheating, part, state, sums_with_victim, without

SEVEN = tuple(NAMES[:7])
TWO = ("f", "g")
"""Colluders: fewer than a third of seven."""


def test_a_site_in_both_lists_is_refused_by_everybody() -> None:
    cheat = cheating()
    lists.both_lists(cheat, state(), FIVE)
    assert dict.fromkeys(FIVE, "lists-overlap") == cheat.codes
    assert [] == cheat.knowledge.sums()


def test_a_site_in_both_lists_is_read_where_lists_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.secagg._survivors", lambda request, *_: tuple(r.site for r in request.survivors))
    cheat = cheating()
    lists.both_lists(cheat, state(), FIVE)
    assert 1.0 == part(cheat)


def test_two_reveals_with_different_lists_are_refused_the_second_time() -> None:
    cheat = cheating()
    lists.two_reveals(cheat, state(), FIVE)
    assert dict.fromkeys(others(FIVE), "already-revealed") == cheat.codes
    assert [31.0] == sums_with_victim(cheat)
    assert part(cheat) is None


def test_two_reveals_read_the_victim_where_sites_forget_that_they_revealed() -> None:
    class Forgetful(CheatingAggregator):
        def reveal(self, *args, **kwargs) -> None:  # type: ignore[no-untyped-def]
            before = dict(self.states)
            super().reveal(*args, **kwargs)
            self.states = before

    made = cheating()
    cheat = Forgetful(made.sites, made.study)
    lists.two_reveals(cheat, state(), FIVE)
    assert 1.0 == part(cheat)


NINE = tuple(NAMES)
LAST_TWO = ("h", "i")
"""Colluders: fewer than a third of nine. Seven of nine rebuild a secret."""


@pytest.mark.parametrize("first", [range(1, count) for count in range(2, 8)], ids=lambda first: f"{len(first) + 1}")
def test_different_lists_for_two_parts_of_the_sites_never_give_both_secrets(first: Collection[int]) -> None:
    cheat = cheating(9, colluders=LAST_TWO)
    told = ["a", *(NINE[place] for place in first)]
    lists.lists_for_two_halves(cheat, state(), NINE, told)
    assert {} == cheat.codes
    assert part(cheat) is None


def test_different_lists_for_two_halves_read_the_victim_where_the_threshold_is_too_low(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Five shares of nine: three honest sites of each half and two colluders have them twice."""
    without(monkeypatch, "shared.secagg.roster.lowest_threshold", result=1)
    study = secure_study(aggregation__threshold=5)
    cheat = cheating(9, study, colluders=LAST_TWO)
    lists.lists_for_two_halves(cheat, state(), NINE, "abcd")
    assert 1.0 == part(cheat)


def test_a_threshold_that_is_too_low_is_refused_by_every_site() -> None:
    cheat = cheating(9, secure_study(aggregation__threshold=5), colluders=LAST_TWO)
    lists.lists_for_two_halves(cheat, state(), NINE, "abcd")
    assert dict.fromkeys(NINE, "bad-threshold") == cheat.codes
    assert [] == cheat.knowledge.sums()


def test_a_late_site_that_is_declared_dropped_is_still_hidden_by_its_own_mask() -> None:
    cheat = cheating()
    lists.late_site(cheat, state(), FIVE)
    assert {"a": "listed-as-dropped"} == cheat.codes
    assert [] == sums_with_victim(cheat)
    heading = cheat.heading(1)
    # Its pair masks are known, and of its seed not a single share.
    assert cheat.said[heading, "a"].mask in cheat.knowledge.scalars
    assert cheat.said[heading, "a"].seed_digest not in cheat.knowledge.seeds
    assert not any("a" in reply.seeds for reply in cheat.revealed)


def test_a_late_site_is_read_where_its_own_mask_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    cheat = cheating()
    drawn = {}

    def seedless(heading, me):  # type: ignore[no-untyped-def]
        from client.secagg_state import RoundKeys
        from shared.secagg import roster
        from shared.secagg.keys import ExchangeKey

        mask, seal = ExchangeKey(me.entropy(32)), ExchangeKey(me.entropy(32))
        drawn[me.name] = RoundKeys(
            roster.keys_of(me.name, heading, (mask, seal), bytes(32), me.signing), mask, seal, bytes(32)
        )
        return drawn[me.name]

    monkeypatch.setattr("client.secagg._draw", seedless)
    lists.late_site(cheat, state(), FIVE)
    cheat.knowledge.seeds |= {cheat.said[cheat.heading(1), name].seed_digest: bytes(32) for name in FIVE}
    assert 1.0 == part(cheat)


def cautious(min_sites: int = 5) -> CheatingAggregator:
    """Seven sites of which two collude; the victim's hospital alone asks for five members of a sum."""
    cheat = cheating(7, colluders=TWO)
    member = cheat.sites["a"].member
    policy = replace(member.policy, min_sites=min_sites)
    cheat.sites["a"] = replace(cheat.sites["a"], member=replace(member, policy=policy))
    return cheat


def test_holders_shrunk_to_the_victim_and_colluders_are_refused() -> None:
    cheat = cautious()
    lists.shrunk_holders(cheat, state(), SEVEN, TWO)
    assert "too-few-members" == cheat.codes["a"]
    assert [] == sums_with_victim(cheat)


def test_holders_shrunk_to_the_victim_and_colluders_read_it_where_their_number_is_not_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, "shared.secagg.roster.check_size", "client.secagg._check_enough")
    cheat = cautious()
    lists.shrunk_holders(cheat, state(), SEVEN, TWO)
    assert 1.0 == part(cheat)


def test_maskers_shrunk_to_the_victim_and_colluders_are_refused() -> None:
    cheat = cautious()
    lists.shrunk_maskers(cheat, state(), SEVEN, TWO)
    assert "below-threshold" == cheat.codes["a"]
    assert [] == sums_with_victim(cheat)


def test_survivors_shrunk_to_the_victim_and_colluders_are_refused() -> None:
    cheat = cautious()
    lists.shrunk_survivors(cheat, state(), SEVEN, TWO)
    assert "below-threshold" == cheat.codes["a"]
    assert [] == sums_with_victim(cheat)
