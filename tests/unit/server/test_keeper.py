"""Making the world as the folder says: nodes registered, runs at work, whatever died in between."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from server import enrolment, jobs, keeper
from server.keeper import Keeper
from server.superlink import FlowerRun
from shared.errors import DeploymentError
from shared.processes import born
from tests.architecture import ROOT
from tests.enrolling import HOUR, NOON, Coordinator, Hospital

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
STUDY = ROOT / "simulations" / "studies" / "breast_cancer.toml"


class SuperLink:
    """What the Control API does, in memory."""

    def __init__(self) -> None:
        self.registered: dict[str, int] = {}
        self.flower: dict[int, FlowerRun] = {}
        self.started: list[str] = []
        self.away = False

    def nodes(self) -> Mapping[str, int]:
        if self.away:
            raise DeploymentError("SuperLink does not answer")
        return dict(self.registered)

    def register(self, flower_key: str, name: str) -> int:
        self.registered[flower_key] = len(self.registered) + 1
        return self.registered[flower_key]

    def unregister(self, node_id: int) -> None:
        self.registered = {key: node for key, node in self.registered.items() if node != node_id}

    def start(self, run: str) -> int:
        self.started.append(run)
        number = len(self.started)
        self.flower[number] = FlowerRun(number, False, "running")
        return number

    def stop(self, run_id: int) -> None:
        self.flower[run_id] = FlowerRun(run_id, True, "finished:stopped")

    def runs(self) -> Mapping[int, FlowerRun]:
        return dict(self.flower)


class World:
    """A consortium's folder, its keeper, and a clock that goes on by 100 s a step."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.superlink, self.now = folder, SuperLink(), 0.0
        control: Any = self.superlink
        self.keeper = Keeper(folder, control, clock=lambda: self.now)

    def step(self, seconds: float = 100.0) -> None:
        self.now += seconds
        self.keeper.step()

    def take(self, job: jobs.Job, pid: int) -> None:
        """Let a process do a run."""
        process = {"pid": pid, "born": born(pid), "flower": len(self.superlink.started)}
        (job.folder / keeper.PROCESS).write_text(json.dumps(process))


@pytest.fixture
def world(tmp_path: Path) -> World:
    coordinator = Coordinator(tmp_path / "coordinator")
    for name in "ab":
        coordinator.enrol(Hospital(tmp_path / name, name).request)
    return World(coordinator.folder)


def test_enrolled_hospitals_are_registered_and_revoked_ones_are_not_any_more(world: World) -> None:
    world.step()
    assert len(world.superlink.registered) == 2
    enrolment.revoke(world.folder, "a", NOON + HOUR)
    world.step()
    kept = enrolment.read(world.folder).site("b")
    assert kept is not None
    assert list(world.superlink.registered) == [kept.flower_key]


def test_a_superlink_that_is_away_is_asked_again(world: World) -> None:
    world.superlink.away = True
    world.step()
    world.superlink.away = False
    world.step()
    assert len(world.superlink.registered) == 2


def test_a_wanted_run_is_started_once_while_its_process_is_there(world: World) -> None:
    job = jobs.create(world.folder, STUDY, NOW)
    world.step()
    world.take(job, os.getpid())
    world.step()
    world.step()
    assert world.superlink.started == ["breast_cancer"]


def test_a_run_whose_process_was_killed_is_started_again(world: World) -> None:
    job = jobs.create(world.folder, STUDY, NOW)
    world.step()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        world.take(job, process.pid)
        world.step()
        process.kill()
    world.step()
    assert world.superlink.started == ["breast_cancer"] * 2
    assert world.superlink.flower[1].over


def test_a_run_that_flower_has_ended_is_started_again(world: World) -> None:
    jobs.create(world.folder, STUDY, NOW)
    world.step()
    world.superlink.stop(1)
    world.step()
    assert world.superlink.started == ["breast_cancer"] * 2


def test_a_run_that_fails_again_and_again_is_started_ever_later(world: World) -> None:
    jobs.create(world.folder, STUDY, NOW)
    for _ in range(40):
        world.step(1.0)
        world.superlink.flower = {number: FlowerRun(number, True, "failed") for number in world.superlink.flower}
    # At 1, 2, 4, 8, 16 and 32 s.
    assert len(world.superlink.started) == 6


def test_a_stopped_run_is_ended_with_its_process(world: World) -> None:
    job = jobs.create(world.folder, STUDY, NOW)
    world.step()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        world.take(job, process.pid)
        world.step()
        jobs.changed(job, NOW, "stopped")
        world.step()
        assert process.wait(10) == -9
    assert world.superlink.flower[1].over
    world.step()
    assert world.superlink.started == ["breast_cancer"]


def test_the_process_of_a_finished_run_may_end_by_itself_but_not_stay(world: World) -> None:
    job = jobs.create(world.folder, STUDY, NOW)
    world.step()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        world.take(job, process.pid)
        world.step()
        jobs.changed(job, NOW, "finished")
        world.step(1.0)
        world.step(18.0)
        assert (None, False) == (process.poll(), world.superlink.flower[1].over)
        world.step(2.0)
        assert process.wait(10) == -9
    assert world.superlink.flower[1].over


def test_a_process_that_only_has_the_same_number_is_not_killed(world: World) -> None:
    job = jobs.create(world.folder, STUDY, NOW)
    process = {"pid": os.getpid(), "born": "long ago", "flower": 1}
    (job.folder / keeper.PROCESS).write_text(json.dumps(process))
    keeper.end_process(job.folder)
    assert not keeper.running(job.folder)
