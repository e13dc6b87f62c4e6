"""What ``start`` says and does around the node; with the node itself: tests/integration/test_client_start.py."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pytest

from client import running
from client.findings import Finding, Level
from client.standing import Standing
from shared.errors import DeploymentError
from shared.processes import born


def finding(level: Level) -> Finding:
    return Finding("gateway", level, "what to do")


@pytest.mark.parametrize(("level", "wait"), [("fatal", True), ("fatal", False), ("away", False)])
def test_what_waiting_does_not_change_stops_the_start_and_everything_is_said(level: Level, wait: bool) -> None:
    with pytest.raises(DeploymentError) as raised:
        running.check([Finding("disk", "warning", "make room"), finding(level)], wait)

    assert "not started.\n  disk: make room\n  gateway: what to do" == str(raised.value)
    assert 2 == raised.value.exit_code


@pytest.mark.parametrize(("level", "wait"), [("away", True), ("warning", True), ("warning", False)])
def test_what_may_pass_by_itself_does_not(level: Level, wait: bool) -> None:
    running.check([finding(level)], wait)


def test_the_node_runs_installed_code_only_and_tells_nobody_else() -> None:
    program = running.node(Path("/hospital"))

    assert (sys.executable, "-P", "-m", "client.node", "/hospital") == program.command
    assert {
        "FLWR_TELEMETRY_ENABLED": "0",
        "PYTHONPATH": "",
        "PYTHONSAFEPATH": "1",
    }.items() <= program.environment.items()
    assert (1.0, 60.0) == (program.min_delay_s, program.max_delay_s)


class Stands:
    """A hospital's folder with a node whose process and words the test says."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "processes").mkdir()
        self.told: list[str] = []
        self.stands = Standing(folder)
        self.process(0, None)
        self.watch = running.Watch(folder, self.told.append)

    def process(self, restarts: int, last_exit: str | None, words: str = "") -> None:
        state = {"format": 1, "name": "node", "pid": os.getpid(), "born": born(os.getpid()), "ready": True}
        more = {"started_at": "2026-11-21T12:00:00Z", "restarts": restarts, "last_exit": last_exit}
        (self.folder / "processes" / "node.json").write_text(json.dumps({**state, **more}))
        (self.folder / "processes" / "node.log").write_text(words)


def test_connecting_and_losing_the_consortium_is_said_once(tmp_path: Path) -> None:
    seen = Stands(tmp_path)
    for why in ("", "away", ""):
        seen.stands(why)
        seen.watch.step()
        seen.watch.step()

    connected = "connected: approved studies are answered"
    assert [connected, "not connected: away", connected] == seen.told


def test_a_node_that_ended_says_its_last_words_and_the_same_words_only_once(tmp_path: Path) -> None:
    seen = Stands(tmp_path)
    for restarts in (1, 2):
        seen.process(restarts, "exit code 2", "error: not enrolled\n")
        seen.watch.step()

    assert ["the node ended (exit code 2) and was started again. not enrolled"] == seen.told


def test_a_node_that_takes_up_new_settings_is_no_failure(tmp_path: Path) -> None:
    seen = Stands(tmp_path)
    seen.process(1, "exit code 0")
    seen.watch.step()

    assert ["the node started anew: this hospital's certificate or settings were changed"] == seen.told
