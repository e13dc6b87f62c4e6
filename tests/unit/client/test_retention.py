"""What is deleted after how many days, and what never is."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from client import retention, store
from client.retention import Due, DueLogs, due, due_logs, without
from client.settings import Retention
from client.site import SiteState
from client.store import Kept
from shared.messages import Contributed
from tests.unit.client.desks import asked, contribute, hospital, opened, state_of

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        (10, Due(reply=False, memory=False)),
        (11, Due(reply=True, memory=False)),
        (20, Due(reply=True, memory=False)),
        (21, Due(reply=True, memory=True)),
    ],
)
def test_reply_and_memory_have_a_time_each(days: int, expected: Due) -> None:
    assert expected == due(NOON - days * DAY, Retention(replies_days=10, memory_days=20), NOON)


@pytest.mark.parametrize("reply", [False, True])
@pytest.mark.parametrize("memory", [False, True])
def test_only_what_is_too_old_is_left_out(reply: bool, memory: bool) -> None:
    array = {"a": np.zeros(1)}
    state = SiteState(memory=array, staged=array, judged=array)
    kept = without(Kept(state=state, asked=b"asked", said="said", block=np.zeros(3, np.uint8)), Due(reply, memory))

    assert [not reply] * 3 == [bool(kept.asked), bool(kept.said), len(kept.block) == 3]
    assert [not memory] * 3 == [bool(each) for each in (kept.state.memory, kept.state.staged, kept.state.judged)]


def test_a_log_begins_anew_after_a_third_of_its_days_and_goes_after_all_of_them() -> None:
    begun = {
        Path("node.log"): NOON - 31 * DAY,
        Path("start.log"): NOON - 29 * DAY,
        Path("node.log.1"): NOON - 61 * DAY,
        Path("node.log.2"): NOON - 91 * DAY,
    }

    assert DueLogs(frozenset({Path("node.log.2")}), frozenset({Path("node.log")})) == due_logs(
        begun, Retention(logs_days=90), NOON
    )


@pytest.fixture
def north(tmp_path: Path) -> Path:
    """A hospital whose study was answered, 40 days before noon."""
    north = hospital(tmp_path)
    assert isinstance(asked(opened(north), contribute(north)), Contributed)
    used_at = (NOON - 40 * DAY).timestamp()
    os.utime(state_of(north) / store.FILE, (used_at, used_at))
    return north


def test_an_old_reply_is_deleted_and_what_protects_patients_is_kept(north: Path) -> None:
    before = store.read(state_of(north))
    changed = retention.apply(north, Retention(replies_days=30, memory_days=30), NOON)
    after = store.read(state_of(north))

    assert frozenset({state_of(north).name}) == changed
    assert (b"", "", 0) == (after.asked, after.said, len(after.block))
    assert {"1": 1} == dict(before.released) == dict(after.released)
    assert (before.state.round, before.state.sums) == (after.state.round, after.state.sums)


def test_what_is_not_old_enough_stays(north: Path) -> None:
    before = (state_of(north) / store.FILE).read_bytes()

    assert frozenset() == retention.apply(north, Retention(replies_days=50, memory_days=50), NOON)
    assert before == (state_of(north) / store.FILE).read_bytes()


def test_forgetting_the_reply_does_not_make_the_memory_young(north: Path) -> None:
    used_at = (state_of(north) / store.FILE).stat().st_mtime_ns
    retention.apply(north, Retention(replies_days=30, memory_days=60), NOON)

    assert used_at == (state_of(north) / store.FILE).stat().st_mtime_ns


def test_the_second_time_nothing_is_left_to_delete(north: Path) -> None:
    retention.apply(north, Retention(), NOON)

    assert frozenset() == retention.apply(north, Retention(), NOON)


def test_a_node_that_answered_before_does_not_bring_the_reply_back(north: Path) -> None:
    """The sum was released as often as allowed: nothing of it is said again once the reply is gone."""
    desk = opened(north)
    asked(desk, contribute(north))
    used_at = (NOON - 40 * DAY).timestamp()
    os.utime(state_of(north) / store.FILE, (used_at, used_at))
    for digest in retention.apply(north, Retention(), NOON):
        desk.close(digest)

    assert "Refused" == type(asked(desk, contribute(north))).__name__


def test_a_damaged_state_does_not_keep_the_node_from_its_work(north: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = state_of(north) / store.FILE
    path.write_bytes(b"damaged")
    os.utime(path, (0, 0))

    assert frozenset() == retention.apply(north, Retention(), NOON)
    assert "state-damaged" in caplog.text


def test_logs_are_renamed_and_deleted_by_their_first_line(tmp_path: Path) -> None:
    logs = tmp_path / retention.PROCESSES
    logs.mkdir()
    for name, days in (("node.log", 31), ("node.log.1", 61), ("node.log.2", 91), ("start.log", 1)):
        at = NOON - days * DAY
        (logs / name).write_text(f"Traceback of something\n{at:%Y-%m-%d %H:%M:%S},000Z INFO consilium.node {name}\n")
    (logs / "node.json").write_text("{}")
    retention.apply(tmp_path, Retention(logs_days=90), NOON)

    assert {"node.log.1": "node.log", "node.log.2": "node.log.1", "start.log": "start.log"} == {
        path.name: path.read_text().split()[-1] for path in logs.glob("*.log*")
    }
    assert (logs / "node.json").exists()
