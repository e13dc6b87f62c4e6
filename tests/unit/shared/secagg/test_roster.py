"""Who takes part is checked against pinned identities; each rule that is broken has its own code."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from shared.errors import ProtocolError
from shared.messages import Heading, Joined, Keys, Receipt
from shared.secagg import roster
from shared.secagg.keys import ExchangeKey, SigningKey
from shared.secagg.roster import Roster, roster_of
from shared.secagg.transcript import statement
from tests.unit.shared.secagg import independent
from tests.unit.shared.secagg.independent import HEADING, ours

WHERE = Heading(*HEADING)
A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))
BEFORE = Heading("", HEADING[1], 0)
"""Where a run stands that has no id yet."""
SIGNING = {name: SigningKey(bytes([number]) * 32) for number, name in enumerate("abcd", start=1)}
PINNED = {name: SIGNING[name].public for name in "abc"}


def keys_of(name: str, heading: Heading = WHERE) -> Keys:
    number = ord(name)
    pair = (ExchangeKey(bytes([number]) * 32), ExchangeKey(bytes([number + 100]) * 32))
    return roster.keys_of(name, heading, pair, bytes([number]) * 32, SIGNING[name])


def signed(said: Keys, **changes: Any) -> Keys:
    """Return changed keys, signed by their site as the changed ones."""
    said = replace(said, **changes)
    fields = (said.site, said.mask, said.seal, said.seed_digest)
    return replace(said, signature=SIGNING[said.site].sign(statement("keys", said.heading, *fields)))


def joined(name: str, nonce: bytes = A, heading: Heading = BEFORE) -> Joined:
    return roster.joined(name, heading, nonce, RULES, SIGNING[name])


RULES = (3, False)
"""``min_sites`` and ``shrinking``."""
KEYS = tuple(map(keys_of, "abc"))
ROLL = tuple(joined(name, bytes([number]) * 32) for number, name in enumerate("abc", start=17))
RECEIPT = roster.receipt_of("a", WHERE, A, B, SIGNING["a"])


def of(*said: Keys, min_sites: int = 3, stated: int | None = None, own: Keys | None = None) -> Roster:
    return roster_of(said, WHERE, PINNED, min_sites, stated, own)


def code(call: Any, *arguments: Any, **named: Any) -> str:
    with pytest.raises(ProtocolError) as refused:
        call(*arguments, **named)
    return refused.value.code


@pytest.mark.parametrize(
    ("holders", "threshold"),
    [(3, 3), (4, 3), (5, 4), (6, 5), (7, 5), (8, 6), (9, 7), (10, 7), (50, 34), (100, 67)],
)
def test_more_than_two_thirds_of_the_holders_rebuild_a_secret(holders: int, threshold: int) -> None:
    assert threshold == roster.default_threshold(holders) == roster.threshold_of(holders, None)


@pytest.mark.parametrize("holders", range(3, 101))
def test_the_aggregator_and_fewer_than_a_third_cannot_ask_for_both_secrets_of_a_site(holders: int) -> None:
    """h + c >= t and h' + c >= t honest and colluding holders, h + h' <= n - c, would need 2t <= n + c."""
    colluding = -(-holders // 3) - 1
    assert 3 * colluding < holders <= 3 * (colluding + 1)
    assert 2 * roster.default_threshold(holders) > holders + colluding


@pytest.mark.parametrize(("holders", "lowest"), [(3, 2), (4, 3), (5, 4), (6, 4), (9, 6), (10, 7), (12, 8), (100, 67)])
def test_a_study_states_a_threshold_that_bears_fewer_than_a_third_colluding(holders: int, lowest: int) -> None:
    assert lowest == roster.threshold_of(holders, lowest)
    assert holders == roster.threshold_of(holders, holders)
    assert "bad-threshold" == code(roster.threshold_of, holders, lowest - 1)
    assert "bad-threshold" == code(roster.threshold_of, holders, holders + 1)


@pytest.mark.parametrize("holders", range(3, 101))
def test_the_lowest_threshold_is_the_least_that_is_sound(holders: int) -> None:
    colluding = -(-holders // 3) - 1
    lowest = roster.lowest_threshold(holders)
    assert 2 * (lowest - 1) <= holders + colluding < 2 * lowest
    assert lowest <= roster.default_threshold(holders)


@pytest.mark.parametrize(("count", "min_sites"), [(3, 1), (3, 3), (100, 3), (5, 5)])
def test_three_to_a_hundred_sites_may_take_part(count: int, min_sites: int) -> None:
    roster.check_size([str(number) for number in range(count)], min_sites)


@pytest.mark.parametrize(
    ("expected", "count", "min_sites"),
    [
        ("too-few-members", 0, 1),
        ("too-few-members", 2, 1),
        ("too-few-members", 4, 5),
        ("too-many-members", 101, 3),
    ],
)
def test_fewer_or_more_are_refused(expected: str, count: int, min_sites: int) -> None:
    assert expected == code(roster.check_size, [str(number) for number in range(count)], min_sites)


def test_a_site_that_is_named_twice_does_not_count_as_two() -> None:
    assert "repeated-member" == code(roster.check_size, ["a", "b", "b"], 3)


def test_a_site_says_with_a_signature_that_it_takes_part() -> None:
    said = roster.joined("a", WHERE, A, RULES, SIGNING["a"])
    assert ours("signed_join") == said.signature
    roster.check_joined(said, PINNED)


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        pytest.param("not-pinned", joined("d"), id="a stranger"),
        pytest.param("bad-nonce", joined("a", A[1:]), id="a short nonce"),
        pytest.param("bad-nonce", joined("a", A + A), id="a long nonce"),
        pytest.param("bad-signature", replace(joined("a"), nonce=B), id="another nonce"),
        pytest.param("bad-signature", replace(joined("a"), heading=WHERE), id="another run"),
        pytest.param("bad-signature", replace(joined("a"), min_sites=2), id="fewer sites"),
        pytest.param("bad-signature", replace(joined("a"), shrinking=True), id="shrinking allowed"),
        pytest.param("bad-signature", replace(joined("a"), site="b"), id="another site's"),
    ],
)
def test_who_joins_must_be_who_it_says(expected: str, said: Joined) -> None:
    assert expected == code(roster.check_joined, said, PINNED)
    assert expected == code(roster.run_id, HEADING[1], (said,), PINNED)


def test_a_runs_id_never_changes() -> None:
    members = tuple((said.site, PINNED[said.site], said.nonce, 3, 0) for said in ROLL)
    again = independent.digest("run", members, heading=("", HEADING[1], 0, 1))
    assert again == ours("run_id") == bytes.fromhex(roster.run_id(HEADING[1], ROLL, PINNED))


def test_a_runs_id_does_not_depend_on_who_joined_first() -> None:
    assert roster.run_id(HEADING[1], ROLL, PINNED) == roster.run_id(HEADING[1], ROLL[::-1], PINNED)


def test_every_members_nonce_identity_rules_and_presence_make_another_run() -> None:
    renewed = {**PINNED, "c": SIGNING["d"].public}
    other_c = replace(ROLL[2], signature=SIGNING["d"].sign(statement("join", BEFORE, "c", ROLL[2].nonce, *RULES)))
    ids = [
        roster.run_id(HEADING[1], ROLL, PINNED),
        roster.run_id(HEADING[1], (*ROLL[:2], joined("c", A)), PINNED),
        roster.run_id(HEADING[1], (*ROLL[:2], other_c), renewed),
        roster.run_id(HEADING[1], ROLL[:2], PINNED),
        roster.run_id(
            HEADING[1], (*ROLL[:2], roster.joined("c", BEFORE, ROLL[2].nonce, (4, False), SIGNING["c"])), PINNED
        ),
        roster.run_id(
            HEADING[1], (*ROLL[:2], roster.joined("c", BEFORE, ROLL[2].nonce, (3, True), SIGNING["c"])), PINNED
        ),
    ]
    assert 6 == len(set(ids))


def test_a_member_of_another_study_or_twice_the_same_makes_no_run() -> None:
    other = joined("c", A, Heading("", "other", 0))
    assert "another-study" == code(roster.run_id, HEADING[1], (*ROLL[:2], other), PINNED)
    assert "repeated-member" == code(roster.run_id, HEADING[1], (*ROLL, joined("c", A)), PINNED)


def test_one_identity_under_two_names_is_one_member() -> None:
    twice = {**PINNED, "c": PINNED["b"]}
    said = roster.joined("c", BEFORE, A, RULES, SIGNING["b"])
    assert "repeated-member" == code(roster.run_id, HEADING[1], (*ROLL[:2], said), twice)


def test_a_site_announces_its_keys_with_a_signature() -> None:
    said = Keys("a", WHERE, A, B, C, ours("signed_keys"))
    roster.check_keys(said, WHERE, PINNED)
    assert said.signature == signed(said).signature


def test_the_commitment_to_a_seed_never_changes() -> None:
    assert independent.digest("seed", "a", A) == ours("seed_digest") == roster.seed_digest("a", WHERE, A)
    assert roster.seed_digest("a", WHERE, b"a" * 32) == keys_of("a").seed_digest


@pytest.mark.parametrize(
    ("expected", "said"),
    [
        pytest.param("stale-keys", keys_of("a", Heading("other", *HEADING[1:])), id="another run"),
        pytest.param("stale-keys", keys_of("a", Heading(*HEADING[:2], 6, 2)), id="another round"),
        pytest.param("stale-keys", keys_of("a", Heading(*HEADING[:3], 1)), id="another attempt"),
        pytest.param("bad-signature", replace(keys_of("a", BEFORE), heading=WHERE), id="signed for another round"),
        pytest.param("not-pinned", keys_of("d"), id="a stranger"),
        pytest.param("bad-signature", replace(keys_of("a"), site="b"), id="another site's"),
        pytest.param("bad-signature", replace(keys_of("a"), mask=keys_of("b").mask), id="mask key changed"),
        pytest.param("bad-signature", replace(keys_of("a"), seal=keys_of("b").seal), id="seal key changed"),
        pytest.param("bad-signature", replace(keys_of("a"), seed_digest=A), id="commitment changed"),
        pytest.param("repeated-key", signed(keys_of("a"), seal=keys_of("a").mask), id="one key for two purposes"),
        pytest.param("bad-key", signed(keys_of("a"), mask=bytes(32)), id="mask key of low order"),
        pytest.param("bad-key", signed(keys_of("a"), seal=b"\x01" + bytes(31)), id="seal key of low order"),
        pytest.param("bad-key", signed(keys_of("a"), mask=b"\x09" * 31), id="no key"),
    ],
)
def test_keys_are_for_this_round_and_their_sites_own(expected: str, said: Keys) -> None:
    assert expected == code(roster.check_keys, said, WHERE, PINNED)
    assert expected == code(of, *[said if each.site == said.site else each for each in KEYS], *_added(said))


def _added(said: Keys) -> tuple[Keys, ...]:
    return () if said.site in PINNED else (said,)


def test_holders_are_in_the_order_of_their_names_and_their_points_count_from_one() -> None:
    """A point of 0 would be the secret itself, and two equal points would be one share."""
    made = of(*KEYS[::-1])
    assert (("a", "b", "c"), {"a": 1, "b": 2, "c": 3}, 3) == (made.names, made.points, made.threshold)
    assert of(*KEYS) == made
    assert KEYS[1] is made.by_name["b"]


def test_a_holder_twice_or_too_few_holders_make_no_roster() -> None:
    assert "repeated-member" == code(of, *KEYS, KEYS[0])
    assert "too-few-members" == code(of, *KEYS[:2])
    assert "too-few-members" == code(of, *KEYS, min_sites=4)


def test_a_roster_with_a_threshold_that_is_not_sound_is_refused() -> None:
    assert "bad-threshold" == code(of, *KEYS, stated=1)
    assert 2 == of(*KEYS, stated=2).threshold


@pytest.mark.parametrize("copied", [{"mask": KEYS[0].mask}, {"seal": KEYS[0].seal}, {"mask": KEYS[0].seal}])
def test_two_sites_with_the_same_key_make_no_roster(copied: dict[str, bytes]) -> None:
    assert "repeated-key" == code(of, KEYS[0], signed(KEYS[1], **copied), KEYS[2])


def test_keys_that_the_caller_announced_itself_are_taken_unchecked_and_changed_ones_are_not() -> None:
    unsigned = replace(KEYS[0], signature=b"")
    assert of(unsigned, *KEYS[1:], own=unsigned).names == ("a", "b", "c")
    assert "bad-signature" == code(of, replace(KEYS[0], mask=A), *KEYS[1:], own=KEYS[0])


ROUND = Roster(WHERE, tuple(Keys(n, WHERE, bytes([k]) * 32, bytes([k + 16]) * 32, bytes([k + 32]) * 32, b"")
                            for k, n in enumerate("abc", start=1)), 2)  # fmt: skip


def test_the_digest_of_a_roster_never_changes() -> None:
    said = tuple((each.site, each.mask, each.seal, each.seed_digest) for each in ROUND.keys)
    assert independent.digest("roster", 2, said) == ours("roster_digest") == ROUND.digest


def test_the_digest_of_the_maskers_never_changes() -> None:
    again = independent.digest("maskers", ours("roster_digest"), ("a", "c"))
    assert again == ours("maskers_digest") == roster.maskers_digest(ROUND, ["c", "a"])


def test_every_holder_masker_key_and_threshold_is_in_the_digest_of_the_maskers() -> None:
    changed = [replace(ROUND.keys[0], **{part: C * 2}) for part in ("mask", "seal", "seed_digest")]
    rosters = [
        ROUND,
        replace(ROUND, threshold=3),
        replace(ROUND, heading=Heading(*HEADING[:3], 1)),
        *(replace(ROUND, keys=(each, *ROUND.keys[1:])) for each in changed),
    ]
    digests = {roster.maskers_digest(each, maskers) for each in rosters for maskers in (("a", "b", "c"), ("a", "b"))}
    assert 12 == len(digests)


def test_a_site_signs_a_receipt_of_what_it_masked_with_and_trained_on() -> None:
    assert ours("signed_contribute") == RECEIPT.signature
    roster.check_receipt(RECEIPT, Receipt("b", WHERE, A, B, b""), PINNED)


@pytest.mark.parametrize(
    ("expected", "receipt"),
    [
        pytest.param("stale-receipt", replace(RECEIPT, heading=BEFORE), id="another round"),
        pytest.param("other-maskers", roster.receipt_of("a", WHERE, C, B, SIGNING["a"]), id="other maskers"),
        pytest.param("another-state", roster.receipt_of("a", WHERE, A, C, SIGNING["a"]), id="another state"),
        pytest.param("not-pinned", roster.receipt_of("d", WHERE, A, B, SIGNING["d"]), id="a stranger"),
        pytest.param("bad-signature", replace(RECEIPT, site="b"), id="another site's"),
        pytest.param("bad-signature", replace(RECEIPT, signature=bytes(64)), id="unsigned"),
    ],
)
def test_a_receipt_for_anything_else_is_refused(expected: str, receipt: Receipt) -> None:
    assert expected == code(roster.check_receipt, receipt, RECEIPT, PINNED)
