"""Who can take part in a run: approved, the same code, and all have pinned each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from server.exchange import Port
from server.preflight import acquainted, preflight
from server.transport import Arrival
from shared.errors import RunAbandoned
from shared.messages import Counts, Heading, Ready, Refused, Reply, Request
from tests.builders import table_study

STUDY = table_study(aggregation__secure=True, aggregation__min_sites=3)
NOW = Heading("", STUDY.digest, 0)
KEYS = {name: name.encode() * 32 for name in "abcde"}


def pins(names: str) -> dict[str, bytes]:
    return {name: KEYS[name] for name in names}


class Sites:
    """Sites that answer a pre-flight as they are told."""

    def __init__(self, replies: Mapping[str, Reply]) -> None:
        self.replies = replies

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        return (Arrival(site, self.replies.get(site), "offline") for site in requests)


def ready(site: str, members: str, code: str = "code", counts: Counts | None = None) -> Ready:
    return Ready(site, NOW, pins(members), code, counts)


def cohort_of(*replies: Reply) -> object:
    sites = Sites({reply.site: reply for reply in replies})
    return preflight(STUDY, pins("abcd"), "code", Port(sites, 1.0))


def test_sites_that_approved_the_study_and_pinned_each_other_take_part() -> None:
    cohort = cohort_of(*(ready(site, "abcd") for site in "abcd"))
    assert (cohort.sites, cohort.left_out) == (pins("abcd"), {})


def test_a_site_that_has_not_approved_is_left_out_by_name() -> None:
    cohort = cohort_of(*(ready(site, "abcd") for site in "abc"), Refused("d", NOW, "not-approved", "no"))
    assert (list(cohort.sites), cohort.left_out) == (["a", "b", "c"], {"d": "not-approved"})


def test_a_newcomer_is_left_out_until_every_hospital_has_pinned_it() -> None:
    cohort = cohort_of(*(ready(site, "abc") for site in "abc"), ready("d", "abcd"))
    assert (list(cohort.sites), cohort.left_out) == (["a", "b", "c"], {"d": "not-pinned"})


def test_a_site_with_other_code_is_left_out() -> None:
    cohort = cohort_of(*(ready(site, "abcd") for site in "abc"), ready("d", "abcd", code="another"))
    assert cohort.left_out == {"d": "another-code"}


def test_a_site_that_thinks_it_has_another_identity_is_left_out() -> None:
    other = Ready("d", NOW, {**pins("abc"), "d": KEYS["e"]}, "code")
    cohort = cohort_of(*(ready(site, "abcd") for site in "abc"), other)
    assert cohort.left_out == {"d": "another-identity"}


def test_counts_are_known_only_of_hospitals_that_show_them() -> None:
    counts = Counts(5, 5, 4, 1, (2, 2), {})
    cohort = cohort_of(ready("a", "abcd", counts=counts), *(ready(site, "abcd") for site in "bcd"))
    assert cohort.counts == {"a": counts}


def test_too_few_hospitals_are_named_with_their_reasons() -> None:
    with pytest.raises(RunAbandoned, match=r"2 of 4 .* 3 are needed.*c \(not-approved\), d \(offline\)\. not-a"):
        cohort_of(ready("a", "abcd"), ready("b", "abcd"), Refused("c", NOW, "not-approved", "no"))


def test_a_coordinator_can_wait_for_more_hospitals_than_the_study_needs() -> None:
    sites = Sites({site: ready(site, "abcd") for site in "abc"})
    with pytest.raises(RunAbandoned, match=r"3 of 4 .* 4 are needed"):
        preflight(STUDY, pins("abcd"), "code", Port(sites, 1.0), at_least=4)


def test_the_largest_circle_of_acquaintances_stays() -> None:
    # a, b, c know each other; d and e know each other and a.
    members = {"a": pins("abcde"), "b": pins("abc"), "c": pins("abc"), "d": pins("ade"), "e": pins("ade")}
    assert acquainted(members, KEYS) == ["a", "b", "c"]


def test_of_two_equally_unknown_sites_the_newer_one_goes() -> None:
    members = {"a": pins("abc"), "b": pins("ab"), "c": pins("ac")}
    assert acquainted(members, KEYS) == ["a", "b"]
