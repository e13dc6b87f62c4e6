"""The node's loop: it goes on whatever the server does, and ends only where waiting changes nothing."""

from __future__ import annotations

import json
import os
import threading
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from client import identity, store
from client.deployment import Upkeep, address_of
from client.node import Node, _alone, check_known, pause_s
from client.standing import Standing, last_words, read
from shared.errors import DeploymentError, EnrolmentError
from tests.unit.client.desks import asked, contribute, hospital, opened, state_of
from tests.unit.client.hospitals import consortium_of, joined


def answered(status: int, **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("POST", "https://gateway")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.HTTPStatusError("", request=request, response=httpx.Response(status, headers=named, request=request))


class Stop(threading.Event):
    """Waits no time, and takes down how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waits.append(timeout or 0.0)
        return self.is_set()


class ScriptedFleet:
    """A connection on which something happens with each question: a message, nothing, or an error."""

    def __init__(self, stop: Stop, *happens: object, deactivating: Exception | None = None) -> None:
        self.stop, self.happens, self.deactivating = stop, list(happens), deactivating
        self.calls: list[str] = []
        self.numbers: list[int] = []

    def receive(self) -> Any:
        self.calls.append("receive")
        what = self.happens.pop(0)
        if not self.happens:
            self.stop.set()
        if isinstance(what, Exception):
            raise what
        return what

    def activate(self) -> int:
        self.calls.append("activate")
        return self.numbers.pop(0) if self.numbers else 7

    def deactivate(self, node_id: int) -> None:
        self.calls.append(f"deactivate {node_id}")
        if len(self.calls) > 20:
            self.stop.set()
        if self.deactivating:
            raise self.deactivating


def served(*happens: object, deactivating: Exception | None = None, **more: Any) -> ScriptedFleet:
    stop = Stop()
    fleet = ScriptedFleet(stop, *happens, deactivating=deactivating)
    Node(fleet, app=None, stopped=stop, **more).serve(7)  # type: ignore[arg-type]
    return fleet


def test_a_server_that_is_away_is_asked_ever_less_often() -> None:
    away = [httpx.ConnectError("") for _ in range(7)]

    assert [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0] == served(*away).stop.waits


@pytest.mark.parametrize(
    ("waited_s", "expected"), [(0.0, 0.1), (0.4, 0.1), (1.0, 0.25), (2.0, 0.5), (59.0, 0.5), (61.0, 1.0)]
)
def test_a_node_waits_another_quarter_of_what_it_has_waited_for_a_message(waited_s: float, expected: float) -> None:
    assert expected == pause_s(waited_s)


def test_a_node_that_lost_an_answer_comes_online_anew() -> None:
    assert ["receive", "deactivate 7", "activate", "receive"] == served(httpx.ReadError(""), None).calls


def test_a_node_that_the_server_took_for_offline_comes_online_anew_all_the_same() -> None:
    fleet = served(httpx.ReadError(""), None, deactivating=answered(409))

    assert ["receive", "deactivate 7", "activate", "receive"] == fleet.calls


def test_a_node_that_was_given_another_number_goes_on_with_it() -> None:
    told: list[int] = []
    fleet = ScriptedFleet(stop := Stop(), httpx.ReadError(""), httpx.ReadError(""), None, deactivating=answered(401))
    fleet.numbers = [8, 8]
    Node(fleet, None, stop, renumbered=told.append).serve(7)  # type: ignore[arg-type]

    assert ["receive", "deactivate 7", "activate", "receive", "deactivate 8", "activate", "receive"] == fleet.calls
    assert [8] == told


def test_it_is_said_when_the_consortium_does_not_answer_and_when_it_does() -> None:
    told: list[str] = []
    served(httpx.ConnectError(""), None, stands=told.append, explain=lambda error: "away")

    assert ["away", ""] == told


def test_a_node_with_new_settings_ends_without_asking() -> None:
    stop = Stop()
    fleet = ScriptedFleet(stop, None)
    Node(fleet, None, stop, upkeep=lambda: True).serve(7)  # type: ignore[arg-type]

    assert [] == fleet.calls


@pytest.mark.parametrize("code", ["revoked", "unknown-certificate", "wrong-node-key"])
def test_a_refusal_that_waiting_does_not_change_ends_the_node(code: str) -> None:
    with pytest.raises(DeploymentError):
        served(answered(503, consilium_refusal=code), None)


@pytest.mark.parametrize("code", ["aggregator-down", "stopping", "enrolment-unreadable", "something-new"])
def test_other_refusals_are_waited_out(code: str) -> None:
    assert 2 == served(answered(503, consilium_refusal=code), None).calls.count("receive")


def test_a_node_that_flower_does_not_know_says_so() -> None:
    with pytest.raises(DeploymentError, match="does not know this hospital's node"):
        check_known(answered(401))


def test_a_clock_that_is_wrong_is_named_where_the_answer_has_a_date() -> None:
    theirs = datetime.now(UTC) - timedelta(minutes=3)
    with pytest.raises(DeploymentError, match=r"clock is 18\d s ahead"):
        check_known(answered(401, date=format_datetime(theirs, usegmt=True)))


def test_two_nodes_do_not_work_in_one_folder(tmp_path: Path) -> None:
    with _alone(tmp_path), pytest.raises(DeploymentError, match="another node works here"), _alone(tmp_path):
        pass
    with _alone(tmp_path):
        pass


def test_a_hospital_that_has_not_joined_has_no_address(tmp_path: Path) -> None:
    north = consortium_of(tmp_path, "north")["north"]
    with pytest.raises(EnrolmentError, match="join"):
        address_of(north, identity.load(north))


@pytest.fixture
def north(tmp_path: Path) -> Path:
    return joined(tmp_path, "north")["north"]


class Clock:
    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        self.seconds += 2.0
        return self.seconds


def test_the_node_starts_anew_once_settings_were_changed(north: Path) -> None:
    upkeep = Upkeep(north, opened(north), Clock())
    assert not upkeep.step()
    (north / "site.toml").write_text("[policy]\nmin_patients = 50\n")

    assert upkeep.step()


def test_the_node_starts_anew_with_a_renewed_certificate(north: Path) -> None:
    upkeep = Upkeep(north, opened(north), Clock())
    identity.join(north, north / "WELCOME.json", datetime.now(UTC))

    assert upkeep.step()


def test_a_mistake_in_the_settings_does_not_end_the_node_until_it_is_mended(
    north: Path, caplog: pytest.LogCaptureFixture
) -> None:
    upkeep = Upkeep(north, opened(north), Clock())
    (north / "site.toml").write_text("[policie]\n")
    assert not upkeep.step()
    assert not upkeep.step()
    assert 1 == caplog.text.count("is not taken up")
    (north / "site.toml").write_text("[policy]\n")

    assert upkeep.step()


@pytest.mark.parametrize(("later_s", "kept"), [(0.0, False), (80_000.0, True), (90_000.0, False)])
def test_what_is_too_old_is_deleted_at_the_start_and_every_day(tmp_path: Path, later_s: float, kept: bool) -> None:
    north = hospital(tmp_path)
    clock, desk = Clock(), opened(north)
    upkeep = Upkeep(north, desk, clock)
    if later_s:
        upkeep.step()
    asked(desk, contribute(north))
    os.utime(state_of(north) / store.FILE, (0, 0))
    clock.seconds += later_s
    upkeep.step()

    assert kept == bool(store.read(state_of(north)).said)


def test_where_the_node_stands_is_written_when_it_changes(tmp_path: Path) -> None:
    stands = Standing(tmp_path)
    stands.node_id = 7
    stands("")
    first = (tmp_path / "node.json").stat().st_ino
    stands("")
    assert first == (tmp_path / "node.json").stat().st_ino
    stands("away")

    assert (7, False, "away") == tuple(read(tmp_path)[key] for key in ("node_id", "connected", "why"))
    assert 7 == Standing(tmp_path).node_id


def test_a_damaged_note_of_where_the_node_stood_is_written_anew(tmp_path: Path) -> None:
    (tmp_path / "node.json").write_text("{")
    stands = Standing(tmp_path)
    assert stands.node_id is None
    stands("")

    assert json.loads((tmp_path / "node.json").read_text())["connected"]


ONLINE = "2026-11-21 12:00:01,000Z INFO consilium.node node=7 site=north online\n"
WARNING = "2026-11-21 12:00:00,000Z WARNING consilium.node no answer\n"


@pytest.mark.parametrize(
    ("text", "since_online", "expected"),
    [
        ("", False, ""),
        (ONLINE, False, ""),
        (WARNING + ONLINE, False, "2026-11-21 12:00:00 no answer"),
        (WARNING + ONLINE, True, ""),
        (ONLINE + WARNING, True, "2026-11-21 12:00:00 no answer"),
        (WARNING + "error: not enrolled\n", True, "not enrolled"),
    ],
)
def test_the_last_words_of_a_log(tmp_path: Path, text: str, since_online: bool, expected: str) -> None:
    (tmp_path / "node.log").write_text(text)

    assert expected == last_words(tmp_path / "node.log", since_online)
