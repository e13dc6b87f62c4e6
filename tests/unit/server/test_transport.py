"""Asking sites over a Flower grid: who is asked again, whose reply counts, and when a site is lost.

The grid is one of a few lines in memory; the messages in it are Flower's own. Real processes are in ``tests/e2e``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from server import transport
from server.transport import Arrival, FlowerTransport, Node
from shared import codec, packing
from shared.messages import Ended, EndRequest, Heading, Refused
from shared.secagg.keys import SigningKey

NOW = Heading("run", "study", 2)
REQUEST = EndRequest(NOW)
KEYS = {name: SigningKey(bytes([number]) * 32) for number, name in enumerate("ab", start=1)}
IDENTITIES = {name: key.public for name, key in KEYS.items()}


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nodes and replies are looked for so often that a test need not wait."""
    monkeypatch.setattr(transport, "_NODES_EVERY_S", 0.02)
    monkeypatch.setattr(transport, "_SHORTEST_PAUSE_S", 0.01)


@pytest.fixture(autouse=True)
def _inside_a_running_app() -> Iterator[None]:
    """Flower makes messages only in a process that belongs to a run."""
    from flwr.supercore.task_identity import TaskIdentity

    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = 1, 1, 1
    yield
    TaskIdentity._run_id = TaskIdentity._node_id = TaskIdentity._task_id = None


def reply_of(site: str, message: Any, signed_by: str = "", said: Any = None, heading: Heading = NOW) -> Any:
    """Return a site's signed reply to a message."""
    from flwr.app import Message

    packed = packing.pack(said or Ended(site, NOW))
    signature = codec.sign(packed, heading, site, message.metadata.message_id, KEYS[signed_by or site])
    return Message(codec.to_records(packed, signature), reply_to=message)


Answer = Callable[[str, Any], Any]
"""From a site's name and the message to its reply, or None for no answer."""


@dataclass
class Grid:
    """Hands every message to ``answer``; what it returns is there to be pulled."""

    answer: Answer
    sent: list[str] = field(default_factory=list)
    _replies: dict[str, Any] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def push_messages(self, messages: list[Any]) -> list[str]:
        for message in messages:
            message.metadata.__dict__["_message_id"] = message.object_id
            site = message.metadata.group_id
            with self._lock:
                self.sent.append(site)
                self._replies[message.object_id] = self.answer(site, message)
        return [message.object_id for message in messages]

    def pull_messages(self, ids: list[str]) -> list[Any]:
        with self._lock:
            found = [self._replies.pop(each) for each in ids if self._replies.get(each) is not None]
        if found and found[0] == "stuck":
            threading.Event().wait(30)
        return found


def exchange(grid: Grid, nodes: Callable[[], dict[str, Node]] | None = None, deadline_s: float = 5.0) -> list[Arrival]:
    way = FlowerTransport(grid, lambda: IDENTITIES, nodes or (lambda: {"a": Node(1, "t"), "b": Node(2, "t")}))
    return sorted(way.exchange({"a": REQUEST, "b": REQUEST}, deadline_s), key=lambda arrival: arrival.site)


def test_every_site_is_asked_once_and_its_answer_arrives() -> None:
    grid = Grid(reply_of)
    assert [Ended("a", NOW), Ended("b", NOW)] == [arrival.reply for arrival in exchange(grid)]
    assert sorted(grid.sent) == ["a", "b"]


def test_a_site_whose_node_is_away_is_lost_as_offline_at_the_deadline() -> None:
    arrivals = exchange(Grid(reply_of), lambda: {"a": Node(1, "t")}, deadline_s=0.3)
    assert [("a", ""), ("b", "offline")] == [(arrival.site, arrival.lost) for arrival in arrivals]


def test_a_site_that_does_not_answer_is_lost_as_late_at_the_deadline() -> None:
    arrivals = exchange(Grid(lambda site, message: reply_of(site, message) if site == "a" else None), deadline_s=0.3)
    assert [("a", ""), ("b", "late")] == [(arrival.site, arrival.lost) for arrival in arrivals]


def test_a_node_that_came_online_anew_is_asked_again() -> None:
    asked: list[str] = []

    def answer(site: str, message: Any) -> Any:
        asked.append(site)
        return reply_of(site, message) if site == "a" or asked.count("b") == 2 else None

    arrivals = exchange(Grid(answer), lambda: {"a": Node(1, "t"), "b": Node(2, "anew" if "b" in asked else "first")})
    assert [Ended("a", NOW), Ended("b", NOW)] == [arrival.reply for arrival in arrivals]
    assert asked.count("b") == 2


def test_a_reply_that_is_never_whole_keeps_nobody_else_waiting() -> None:
    arrivals = exchange(Grid(lambda site, message: reply_of(site, message) if site == "a" else "stuck"), deadline_s=0.5)
    assert [Ended("a", NOW), None] == [arrival.reply for arrival in arrivals]


def test_a_reply_that_another_hospital_signed_does_not_count_and_the_site_is_asked_again() -> None:
    signers = iter("ab")

    def answer(site: str, message: Any) -> Any:
        return reply_of(site, message, signed_by=next(signers) if site == "b" else "")

    grid = Grid(answer)
    assert [Ended("a", NOW), Ended("b", NOW)] == [arrival.reply for arrival in exchange(grid)]
    assert grid.sent.count("b") == 2


def test_a_reply_to_another_message_does_not_count() -> None:
    earlier: list[Any] = []

    def answer(site: str, message: Any) -> Any:
        earlier.append(message)
        from flwr.app import Message

        first = next(each for each in earlier if each.metadata.group_id == site)
        return Message(reply_of(site, first).content, reply_to=message)

    def twice(site: str, message: Any) -> Any:
        from flwr.app import Error, Message

        if site == "b" and not any(each.metadata.group_id == "b" for each in earlier):
            earlier.append(message)
            return Message(Error(5, "away"), reply_to=message)
        return answer(site, message)

    arrivals = exchange(Grid(twice))
    assert [("a", ""), ("b", "bad-signature")] == [(arrival.site, arrival.lost) for arrival in arrivals]


def test_an_error_of_flower_leads_to_the_question_being_asked_again() -> None:
    from flwr.app import Error, Message

    asked: list[str] = []

    def answer(site: str, message: Any) -> Any:
        asked.append(site)
        return Message(Error(5, "a patient's name"), reply_to=message) if asked == ["a"] else reply_of(site, message)

    arrivals = exchange(Grid(answer))
    assert [Ended("a", NOW), Ended("b", NOW)] == [arrival.reply for arrival in arrivals]


def test_a_site_that_could_not_read_the_question_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    unread = Heading("", "", 0)

    def answer(site: str, message: Any) -> Any:
        return reply_of(site, message, said=Refused(site, unread, "malformed", "not readable"), heading=unread)

    assert [Refused("a", NOW, "malformed", "not readable"), Refused("b", NOW, "malformed", "not readable")] == [
        arrival.reply for arrival in exchange(Grid(answer))
    ]


def test_another_version_of_the_protocol_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def answer(site: str, message: Any) -> Any:
        if site == "a":
            return reply_of(site, message)
        with monkeypatch.context() as patched:
            patched.setattr(packing, "PROTOCOL", 2)
            return reply_of(site, message)

    arrivals = exchange(Grid(answer))
    assert [("a", ""), ("b", "protocol-version")] == [(arrival.site, arrival.lost) for arrival in arrivals]
