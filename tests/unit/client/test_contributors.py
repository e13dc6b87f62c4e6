"""A site's sums keep their contributors: within a run where they are exact, and across runs always."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace

import pytest

from client.contributors import Sums, check_contributors, check_maskers, check_members, kept_for
from client.site import answer
from shared.errors import Refusal, RunAbandoned
from shared.examples import Part
from shared.messages import Contributed, ContributeRequest, Refused, Revealed, RevealRequest
from tests.builders import ticking
from tests.secure import Hospitals, Loss, LossyTransport, RecordingTransport, powers, secure_study
from tests.vectors import bad


def first_sum(names: str = "abcde", part: Part = Part.TRAINING) -> Sums:
    return Sums().with_sum(kept_for(part, True, 1), names)


def refusal(
    sums: Sums,
    names: str,
    shrinking: bool = False,
    exact: bool = True,
    part: Part = Part.TRAINING,
    number: int = 2,
) -> str:
    """Return the code of the refusal of one more sum, or nothing."""
    try:
        check_contributors(sums, kept_for(part, exact, number), names, shrinking)
    except Refusal as error:
        return error.code
    return ""


# Within a run


@pytest.mark.parametrize("names", ["abcd", "abcdef", "abcdf"])
def test_another_exact_sum_with_other_contributors_is_refused(names: str) -> None:
    assert "contributors-changed" == refusal(first_sum(), names)


def test_another_exact_sum_with_the_same_contributors_is_made() -> None:
    assert "" == refusal(first_sum(), "edcba")


def test_the_refusal_names_those_who_come_and_go() -> None:
    with pytest.raises(Refusal, match=re.escape("come or go: e, f.")):
        check_contributors(first_sum(), kept_for(Part.TRAINING, True, 2), "abcdf", False)


def test_held_out_patients_are_frozen_apart_from_training_patients() -> None:
    sums = first_sum(part=Part.TRAINING)
    assert "" == refusal(sums, "abcd", part=Part.HELD_OUT)
    sums = sums.with_sum(kept_for(Part.HELD_OUT, True, 2), "abcd")
    assert "" == refusal(sums, "abcde", part=Part.TRAINING)
    assert "contributors-changed" == refusal(sums, "abcde", part=Part.HELD_OUT)


def test_sums_that_are_not_exact_may_lose_and_regain_sites_within_a_run() -> None:
    assert "" == refusal(first_sum(), "abcd", exact=False)
    assert "" == refusal(first_sum().next_run(), "abcd", exact=False)


@pytest.mark.parametrize(("names", "code"), [("abcd", ""), ("abcde", ""), ("abcdef", "contributors-changed")])
def test_where_the_policy_allows_shrinking_contributors_only_get_fewer(names: str, code: str) -> None:
    assert code == refusal(first_sum(), names, shrinking=True)


def test_who_was_lost_does_not_come_back_even_where_shrinking_is_allowed() -> None:
    assert "contributors-changed" == refusal(
        first_sum().with_sum(kept_for(Part.TRAINING, True, 2), "abcd"), "abcde", shrinking=True
    )


@pytest.mark.parametrize(("maskers", "fails"), [("abcd", True), ("abcde", False), ("abcdef", False)])
def test_maskers_without_a_frozen_contributor_are_refused_before_anything_is_computed(
    maskers: str, fails: bool
) -> None:
    try:
        check_maskers(first_sum(), Part.TRAINING, maskers, False)
    except Refusal as error:
        assert fails
        assert error.code == "contributors-changed"
    else:
        assert not fails
    check_maskers(first_sum(), Part.TRAINING, maskers, True)


# Across runs


@pytest.mark.parametrize(
    ("names", "code"),
    [
        ("abcde", ""),
        ("abcd", "contributors-changed"),
        ("abcdef", "contributors-changed"),
        ("abfgh", "contributors-changed"),
        ("abcdefgh", "contributors-changed"),
    ],
)
def test_exact_sums_of_two_runs_have_the_same_contributors(names: str, code: str) -> None:
    assert code == refusal(first_sum().next_run(), names)


def test_three_runs_that_differ_by_many_hospitals_and_leave_one_are_refused() -> None:
    """S(abc) + S(ade) - S(bcde) is twice hospital a alone, though any two sets are three hospitals or more apart."""
    sums = first_sum("abc").next_run()
    assert "contributors-changed" == refusal(sums, "ade")


def test_every_earlier_run_is_compared_not_the_last_one_alone() -> None:
    sums = first_sum("abcde").next_run().with_sum(kept_for(Part.TRAINING, True, 2), "abcd").next_run()
    assert "contributors-changed" == refusal(sums, "abcde")
    assert "contributors-changed" == refusal(sums, "abcd")


def test_a_run_without_sums_forgets_nothing() -> None:
    assert "contributors-changed" == refusal(first_sum().next_run().next_run(), "abcd")


def test_runs_may_differ_where_every_policy_allows_shrinking() -> None:
    assert "" == refusal(first_sum().next_run(), "abcd", shrinking=True)


@pytest.mark.parametrize(("number", "code"), [(1, ""), (2, "contributors-changed"), (3, "")])
def test_a_networks_sum_has_the_same_contributors_in_the_same_round_of_another_run(number: int, code: str) -> None:
    """From the same state in the same round, it sends the same words again: with and without a hospital."""
    sums = Sums().with_sum(kept_for(Part.TRAINING, False, 2), "abcde").next_run()
    assert code == refusal(sums, "abcd", exact=False, number=number)
    assert "" == refusal(sums, "abcde", exact=False, number=number)
    assert "" == refusal(sums, "abcd", shrinking=True, exact=False, number=number)


def test_sums_that_are_not_exact_are_compared_by_the_members_of_their_runs() -> None:
    sums = Sums().with_members("abcde").next_run()
    check_members(sums, "edcba", False)
    check_members(sums, "abcd", True)
    with pytest.raises(Refusal, match=re.escape("come or go: e.")) as refused:
        check_members(sums, "abcd", False)
    assert refused.value.code == "members-changed"


# In a conversation


def exact_run(*losses: Loss, made: Hospitals | None = None, sites: int = 5) -> tuple[Hospitals, RecordingTransport]:
    """Run exact sums; a run that is given up is a run, too."""
    made = made or powers(sites, exact=True)
    recording = RecordingTransport(LossyTransport(made.local, losses), made.local.states)
    try:
        made.run(recording)
    except RunAbandoned as error:
        assert losses
        assert "contributors-changed" in str(error)
    return made, recording


def test_a_lost_site_ends_an_exact_run_before_anything_of_the_round_is_computed() -> None:
    made, recording = exact_run(Loss("e", 2, "keys"), Loss("e", 1, "reveal"))
    asked = recording.at("contribute", 2, "b")
    assert [reply.code for reply in asked.replies if isinstance(reply, Refused)] == ["contributors-changed"]
    # What asks this method to compute raises.
    deaf = replace(made.sites["b"], method=Asking(made))  # type: ignore[arg-type]
    reply, after = answer(asked.request, asked.before, deaf)
    assert isinstance(reply, Refused)
    assert reply.code == "contributors-changed"
    assert after is asked.before


class Asking:
    """A method that says what it asks, and computes nothing."""

    def __init__(self, made: Hospitals) -> None:
        self.asks, self.settled, self.stage = made.plan.asks, made.plan.settled, made.plan.stage


def test_an_exact_sum_without_a_frozen_contributor_is_not_revealed() -> None:
    made, recording = exact_run(Loss("e", 2, "contribute"))
    asked = recording.at("reveal", 2, "b")
    reply, after = answer(asked.request, asked.before, made.sites["b"])
    assert isinstance(reply, Refused)
    assert reply.code == "contributors-changed"
    assert after is asked.before


def test_a_site_reveals_with_all_frozen_contributors_after_it_refused_to_without_one() -> None:
    made, recording = exact_run()
    asked = recording.at("reveal", 2, "b")
    request = asked.request
    assert isinstance(request, RevealRequest)
    fewer = replace(request, survivors=bad.without(request.survivors, "e"), dropped=("e",))
    reply, after = answer(fewer, asked.before, made.sites["b"])
    assert isinstance(reply, Refused)
    assert reply.code == "contributors-changed"
    assert isinstance(answer(request, after, made.sites["b"])[0], Revealed)


@pytest.mark.parametrize("exact", [True, False])
def test_a_second_run_with_one_hospital_fewer_is_refused_before_anything_is_computed(exact: bool) -> None:
    """A network's, too: from the same state, seed and round it sends the same words again."""
    made = powers(5, exact=exact)
    made.run()
    with pytest.raises(RunAbandoned, match="members-changed"):
        made.run(LossyTransport(made.local, [Loss("e", 0, "join")]))


def test_a_second_run_with_the_same_hospitals_is_made() -> None:
    made = powers(5, exact=True)
    whole, again = made.run(), made.run()
    assert [record.measurements for record in whole.history] == [record.measurements for record in again.history]


def test_a_run_that_was_given_up_is_made_anew_with_the_same_hospitals() -> None:
    made, _ = exact_run(Loss("e", 2, "contribute"))
    assert [record.contributors for record in made.run().history] == [tuple("abcde")] * 3


def test_with_shrinking_an_exact_run_goes_on_without_a_lost_site_and_never_asks_it_again() -> None:
    made = powers(5, secure_study(simulation__contributors_may_shrink=True), exact=True)
    recording = RecordingTransport(LossyTransport(made.local, [Loss("e", 2, "contribute")]), made.local.states)
    progress = made.run(recording, dataclasses.replace(ticking()))
    assert [record.contributors for record in progress.history] == [tuple("abcde"), tuple("abcd"), tuple("abcd")]
    third = [asked for asked in recording.asked if asked.step != "end" and asked.request.heading.round == 3]
    assert {asked.site for asked in third} == set("abcd")
    assert dict(progress.history[2].dropped) == {"e": "not-asked"}


def test_only_what_was_revealed_counts_as_a_sum() -> None:
    """Words that were masked and never unmasked are no sum that another could be subtracted from."""
    made, recording = exact_run()
    asked = recording.at("contribute", 1, "b")
    assert isinstance(asked.request, ContributeRequest)
    reply, after = answer(asked.request, asked.before, made.sites["b"])
    assert isinstance(reply, Contributed)
    assert after.sums == Sums(members=frozenset("abcde"))
