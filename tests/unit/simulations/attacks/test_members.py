"""Members that the hospital did not approve, and keys that are not what they should be, gain nothing."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.messages import ContributeRequest, JoinRequest, KeysRequest, RevealRequest, SharesRequest
from shared.secagg.keys import SigningKey
from simulations.attacks import members
from simulations.attacks.aggregator import CheatingAggregator, believing, impostor, others
from tests.builders import examples_of, site_of
from tests.secure import powers, secure_study
from tests.unit.simulations.attacks.cheats import FIVE, cheating, part, state, sums_with_victim, without

NINE = tuple(f"hospital {number}" for number in range(1, 10))


def surrounded(names: tuple[str, ...], trusting: bool = False) -> CheatingAggregator:
    """One real hospital, a, and sites of the aggregator's own, whose rows are zero, under these names.

    trusting: whether the real hospital pins the identities that the coordinator enrolled, instead of its own file's.
    """
    real = powers(5).sites["a"]
    data = site_of("nobody", examples_of([[0.0]] * 3, [0.0] * 3))
    fakes = {
        name: replace(impostor(real, name, SigningKey(bytes([number] * 32))), data=data)
        for number, name in enumerate(names, start=100)
    }
    enrolled = {name: site.member.signing.public for name, site in fakes.items()}
    # Where the names are those of real hospitals, the run's id is made of the real identities.
    identities = {**enrolled, **real.member.pinned}
    sites = {"a": believing(real, identities) if trusting else real}
    sites |= {name: believing(site, identities) for name, site in fakes.items()}
    cheat = CheatingAggregator(sites, real.member.study, colluders=fakes)
    cheat.identities = identities
    return cheat


def test_nine_hospitals_enrolled_around_one_real_one_are_not_believed() -> None:
    cheat = surrounded(NINE)
    members.invented_members(cheat, state(), NINE)
    assert "not-pinned" == cheat.codes["a"]
    assert [] == sums_with_victim(cheat)


def test_nine_enrolled_hospitals_read_one_that_believes_the_coordinator() -> None:
    cheat = surrounded(NINE, trusting=True)
    members.invented_members(cheat, state(), NINE)
    assert {} == cheat.codes
    assert 1.0 == part(cheat)


def test_sites_of_the_aggregators_own_under_the_names_of_real_hospitals_are_not_believed() -> None:
    cheat = surrounded(FIVE[1:])
    members.invented_members(cheat, state(), FIVE[1:])
    assert "bad-signature" == cheat.codes["a"]
    assert [] == sums_with_victim(cheat)


def test_sites_under_the_names_of_real_hospitals_read_one_that_checks_no_signature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, "shared.secagg.keys.verify")
    cheat = surrounded(FIVE[1:])
    members.invented_members(cheat, state(), FIVE[1:])
    assert 1.0 == part(cheat)


def test_keys_exchanged_between_two_sites_are_refused_by_everybody() -> None:
    """By the others for the signature; by the two, who see their own, for that first."""
    cheat = cheating()
    members.exchanged_keys(cheat, state(), FIVE)
    assert dict.fromkeys(FIVE, "bad-signature") == cheat.codes
    assert [] == cheat.knowledge.sums()


def test_keys_of_the_aggregators_own_in_the_place_of_a_sites_are_refused() -> None:
    """With the keys of all other sites exchanged, the victim would seal every share to the aggregator."""
    cheat = cheating()
    members.keys_in_the_middle(cheat, FIVE)
    assert "bad-signature" == cheat.codes["a"]
    assert cheat.knowledge.opened == set()


def test_keys_in_the_middle_open_every_share_where_no_signature_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "shared.secagg.keys.verify")
    cheat = cheating()
    members.keys_in_the_middle(cheat, FIVE)
    cheat.knowledge.secrets()
    keys = cheat.said[cheat.heading(1), "a"]
    assert {("a", name) for name in others(FIVE)} == {box[:2] for box in cheat.knowledge.opened}
    assert keys.mask in cheat.knowledge.scalars
    assert keys.seed_digest in cheat.knowledge.seeds


@pytest.mark.parametrize("which", ["mask", "seal"])
def test_a_key_of_low_order_is_refused_by_everybody_else(which: str) -> None:
    cheat = cheating(colluders=["e"])
    members.corrupt_keys(cheat, state(), FIVE, **{"mask": bytes([9] * 32), "seal": bytes([8] * 32), which: bytes(32)})
    assert dict.fromkeys("abcd", "bad-key") == cheat.codes
    assert [] == sums_with_victim(cheat)


def test_a_key_of_low_order_is_refused_where_points_are_not_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agreement is zero, and that is looked at once more; only what one agrees on to seal is needed here."""
    without(monkeypatch, "shared.secagg.keys.check_point")
    cheat = cheating(colluders=["e"])
    members.corrupt_keys(cheat, state(), FIVE, mask=bytes([9] * 32), seal=bytes(32))
    assert dict.fromkeys("abcd", "bad-key") == cheat.codes


def test_the_victims_own_keys_given_for_another_sites_are_refused() -> None:
    cheat = cheating(colluders=["e"])
    members.corrupt_keys(cheat, state(), FIVE)
    assert dict.fromkeys("abcd", "repeated-key") == cheat.codes
    assert [] == sums_with_victim(cheat)


def test_one_key_for_two_purposes_is_refused() -> None:
    cheat = cheating(colluders=["e"])
    members.corrupt_keys(cheat, state(), FIVE, mask=bytes([9] * 32), seal=bytes([9] * 32))
    assert dict.fromkeys("abcd", "repeated-key") == cheat.codes
    assert [] == sums_with_victim(cheat)


def test_the_victims_own_key_changed_in_what_comes_back_is_refused() -> None:
    cheat = cheating()
    members.victims_key_exchanged(cheat, state(), FIVE)
    assert "bad-signature" == cheat.codes["a"]
    assert [] == cheat.knowledge.sums()


def test_the_victims_own_key_changed_is_refused_where_its_signature_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "shared.secagg.keys.verify")
    cheat = cheating()
    members.victims_key_exchanged(cheat, state(), FIVE)
    assert "own-key-changed" == cheat.codes["a"]


def test_another_studys_digest_is_refused_in_every_step() -> None:
    """The same study but for its threshold: whoever approved one of them did not approve the other."""
    cheat = cheating()
    cheat.study = secure_study(aggregation__threshold=5)
    heading = cheat.heading(1)
    cheat.ask("a", JoinRequest(replace(heading, round=0)))
    cheat.ask("a", KeysRequest(heading, ()))
    cheat.ask("a", ContributeRequest(heading, 5, 0, state()))
    assert ["another-study"] * 3 == cheat.codes_of("a")


def test_another_studys_digest_after_the_join_is_refused_too() -> None:
    """Later steps belong to a run, whose id is made of the digest."""
    cheat = cheating()
    cheat.join(FIVE)
    cheat.set_up(FIVE, 1)
    honest, cheat.study = cheat.heading(1), secure_study(aggregation__threshold=5)
    other = cheat.heading(1)
    cheat.ask("a", KeysRequest(other, cheat.roll))
    cheat.ask("a", SharesRequest(other, tuple(cheat.said[honest, name] for name in FIVE)))
    cheat.ask("a", ContributeRequest(other, 5, 0, state()))
    cheat.ask("a", RevealRequest(other, (), ()))
    assert ["another-study", "no-keys", "another-study", "nothing-to-reveal"] == cheat.codes_of("a")
    assert [] == cheat.knowledge.sums()


def test_a_run_of_sites_that_approved_different_thresholds_is_refused() -> None:
    cheat = cheating()
    lower = secure_study(aggregation__threshold=5)
    site = cheat.sites["e"]
    cheat.sites["e"] = replace(site, member=replace(site.member, study=lower))
    cheat.join(FIVE)
    assert {"e": "another-study"} == cheat.codes
    assert tuple("abcd") == tuple(said.site for said in cheat.roll)
