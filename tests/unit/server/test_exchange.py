"""Every answer to the question counts once, and nothing else does; whoever gave none is named with a reason."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from server.exchange import Port
from server.transport import Arrival
from shared.errors import ProtocolError
from shared.messages import (
    Contributed,
    ContributeRequest,
    Ended,
    EndRequest,
    Heading,
    Refused,
    Request,
    payload_bytes,
)

NOW = Heading("run", "study", 2, 1)
A, B = Ended("a", NOW), Ended("b", NOW)
REFUSED = Refused("a", NOW, "not-finite", "age is not a finite number")


@dataclass
class Arriving:
    """A transport by which this arrives, whatever was asked."""

    arrivals: tuple[Arrival, ...]

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        yield from self.arrivals


def ask(*arrivals: Arrival) -> tuple[list[Ended], dict[str, str], Port]:
    """Ask a and b; return what was taken, who is missing, and the port."""
    port = Port(Arriving(arrivals), 1.0)
    taken: list[Ended] = []
    missing = port.ask(dict.fromkeys("ab", EndRequest(NOW)), Ended, taken.append)
    return taken, missing, port


def test_good_answers_are_taken_in_the_order_of_arrival() -> None:
    taken, missing, port = ask(Arrival("b", B), Arrival("a", A))
    assert taken == [B, A]
    assert missing == {}
    assert (port.tally.dropped, port.tally.noted) == ({}, {})


def test_an_answer_that_comes_twice_is_taken_once_and_noted() -> None:
    taken, missing, port = ask(Arrival("a", A), Arrival("a", A), Arrival("b", B))
    assert taken == [A, B]
    assert missing == {}
    assert port.tally.noted == {"a": "replied-twice"}


def test_a_site_of_which_nothing_arrives_has_not_replied() -> None:
    assert ask(Arrival("b", B))[1] == {"a": "no-reply"}


def test_the_transport_may_say_why_nothing_arrives() -> None:
    assert ask(Arrival("a", None, "late"), Arrival("b", B))[1] == {"a": "late"}


@pytest.mark.parametrize("first", [Arrival("a", None, "late"), Arrival("a", REFUSED)])
def test_who_was_given_up_is_not_taken_in_the_same_exchange(first: Arrival) -> None:
    taken, missing, _ = ask(first, Arrival("a", A), Arrival("b", B))
    assert taken == [B]
    assert set(missing) == {"a"}


def test_a_refusal_is_named_by_its_code() -> None:
    assert ask(Arrival("a", REFUSED), Arrival("b", B))[1] == {"a": "not-finite"}


@pytest.mark.parametrize(
    "changes",
    [{"run": "another"}, {"study": "another"}, {"round": 1}, {"attempt": 2}],
    ids=str,
)
def test_an_answer_to_another_question_is_noted_and_the_right_one_still_taken(changes: dict[str, int]) -> None:
    stale = Ended("a", replace(NOW, **changes))  # type: ignore[arg-type]
    taken, missing, port = ask(Arrival("a", stale), Arrival("b", B), Arrival("a", A))
    assert taken == [B, A]
    assert missing == {}
    assert port.tally.noted == {"a": "stale-reply"}


def test_a_refusal_of_another_question_is_not_one_of_this() -> None:
    taken, _, port = ask(
        Arrival("a", replace(REFUSED, heading=replace(NOW, round=1))), Arrival("a", A), Arrival("b", B)
    )
    assert taken == [A, B]
    assert port.tally.noted == {"a": "stale-reply"}


def test_a_message_of_another_kind_is_no_answer() -> None:
    taken, missing, port = ask(Arrival("a", Contributed("a", NOW, np.zeros(1, np.uint32))), Arrival("b", B))
    assert taken == [B]
    assert missing == {"a": "no-reply"}
    assert port.tally.noted == {"a": "stale-reply"}


def test_an_answer_in_another_sites_name_counts_for_neither() -> None:
    taken, missing, _ = ask(Arrival("a", B))
    assert taken == []
    assert missing == {"a": "unknown-site", "b": "no-reply"}


def test_a_site_cannot_take_the_place_of_another_that_answers() -> None:
    taken, missing, _ = ask(Arrival("a", B), Arrival("b", B))
    assert taken == [B]
    assert missing == {"a": "unknown-site"}


def test_what_nobody_asked_for_is_noted() -> None:
    taken, missing, port = ask(Arrival("c", Ended("c", NOW)), Arrival("a", A), Arrival("b", B))
    assert taken == [A, B]
    assert missing == {}
    assert port.tally.noted == {"c": "stale-reply"}


def test_an_answer_that_is_not_as_it_should_be_is_missing_with_its_code() -> None:
    def take(reply: Ended) -> None:
        if reply.site == "a":
            raise ProtocolError("wrong-shape", "expected two words")
        taken.append(reply)

    taken: list[Ended] = []
    port = Port(Arriving((Arrival("a", A), Arrival("b", B))), 1.0)
    assert port.ask(dict.fromkeys("ab", EndRequest(NOW)), Ended, take) == {"a": "wrong-shape"}
    assert taken == [B]


@pytest.mark.parametrize(
    "odd",
    [
        pytest.param(replace(A, site=np.array(["a", "b"])), id="a name that is many"),
        pytest.param(replace(A, site="\ud800"), id="a name that no encoding has"),
        pytest.param(replace(A, heading=np.zeros(2)), id="a heading that is a vector"),
        pytest.param(replace(REFUSED, code=np.array(["x", "y"])), id="a code that is many"),
        pytest.param(replace(REFUSED, code=None), id="no code"),
        pytest.param(replace(REFUSED, code=""), id="an empty code"),
        pytest.param(replace(REFUSED, code="lost\nERROR"), id="a code of two lines"),
        pytest.param(replace(REFUSED, code="x" * 41), id="a code that is a letter"),
    ],
)
def test_an_unreadable_answer_is_missing_as_malformed(odd: Any) -> None:
    taken, missing, _ = ask(Arrival("a", odd), Arrival("b", B))
    assert taken == [B]
    assert missing == {"a": "malformed"}


def test_an_unreadable_answer_after_a_good_one_spoils_nothing() -> None:
    taken, missing, port = ask(Arrival("a", A), Arrival("a", replace(A, site="\ud800")), Arrival("b", B))
    assert taken == [A, B]
    assert missing == {}
    assert port.tally.noted == {"a": "replied-twice"}


def test_of_an_answer_that_breaks_the_check_the_kind_of_error_is_logged_and_not_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def take(reply: Ended) -> None:
        if reply.site == "a":
            raise TypeError("what was sent")

    port = Port(Arriving((Arrival("a", A), Arrival("b", B))), 1.0)
    assert port.ask(dict.fromkeys("ab", EndRequest(NOW)), Ended, take) == {"a": "malformed"}
    assert [record.getMessage() for record in caplog.records] == ["site=a malformed=TypeError"]


def test_a_refusals_hint_makes_no_second_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    ask(Arrival("a", replace(REFUSED, hint="no\nERROR forged \u2028")), Arrival("b", B))
    assert [record.getMessage() for record in caplog.records] == [
        r"round=2 site=a refused=not-finite hint='no\nERROR forged \u2028'"
    ]


def test_bytes_of_all_that_was_sent_and_arrived_are_counted() -> None:
    # A run of 3 letters, a study of 5, round and attempt of 8 bytes each; and 8 for one number; and the site's name.
    message = 3 + 5 + 8 + 8 + 8
    _, _, port = ask(Arrival("a", A), Arrival("a", A), Arrival("b", None, "late"))
    assert (port.tally.bytes_down, port.tally.bytes_up) == (2 * message, 2 * (message + 1))


def test_arrays_count_with_their_bytes_and_their_names() -> None:
    request = ContributeRequest(NOW, 2, 0, {"coef": np.zeros(4)})
    assert payload_bytes(request) == payload_bytes(NOW) + 8 + 8 + len("coef") + 4 * 8
