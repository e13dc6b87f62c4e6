"""One run in the ServerApp's process, killed and begun again, with hospitals that come and go: always the same weights.

The hospitals are real desks with folders of their own; between them and the aggregator every message is packed and
unpacked as on the wire. Only processes and the network are missing: ``tests/e2e`` has these.
"""

from __future__ import annotations

import dataclasses
import errno
import json
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.policy import Policy
from server import checkpoint, deployment, jobs
from server.transport import Arrival
from shared import packing
from shared.errors import CheckpointError, NotWritten
from shared.messages import ContributeRequest, Request, RevealRequest
from tests.unit.server.desks import CODE, POLICY, STUDY, Desks

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Killed(BaseException):
    """The aggregator's process is gone."""


class World:
    """A coordinator's folder with one run, and hospitals that have approved it."""

    def __init__(self, folder: Path, names: str = "abcd", text: str = STUDY, policy: Policy = POLICY) -> None:
        self.folder = folder / "coordinator"
        self.desks = Desks(folder, names, text, policy)
        self.away: set[str] = set()
        self.slept = 0.0
        self.said: list[str] = []
        self.plan: dict[int, object] = {}
        self.asked = 0
        self.folder.mkdir()
        self.job = jobs.create(self.folder, self.desks.study_file, NOW)

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        """Hand each request to a desk; what is planned for this exchange happens first."""
        self.asked += 1
        happens = self.plan.pop(self.asked, None)
        if callable(happens):
            happens()
        for site, request in requests.items():
            if site in self.away:
                yield Arrival(site, None, "offline")
                continue
            yield Arrival(site, self.desks.answer(site, packing.pack(request)))

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.said.append(jobs.read_status(self.job).message)
        if self.slept > 5:
            self.away.clear()
        assert self.slept < 1000, f"the run waits for ever: {jobs.read_status(self.job).message}"

    def serve(self) -> None:
        transport = self
        aggregator = deployment.Aggregator(
            self.folder,
            CODE,
            transport,
            lambda: self.desks.identities,
            lambda: set(self.desks.identities) - self.away,
            sleep=self.sleep,
            clock=lambda: self.slept,
            now=lambda: NOW,
        )
        deployment.serve(self.job.folder, aggregator)

    @property
    def weights(self) -> str:
        """Digest of the last state that was saved."""
        lines = [json.loads(line) for line in (self.folder / "audit.jsonl").read_text().splitlines()]
        return str([line["state"] for line in lines if line["event"] == "exchange"][-1])

    @property
    def events(self) -> list[str]:
        lines = [json.loads(line) for line in (self.folder / "audit.jsonl").read_text().splitlines()]
        return [line["event"] for line in lines if line["event"] != "exchange"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    world = World(tmp_path_factory.mktemp("undisturbed"))
    world.serve()
    return world.weights


def test_a_run_leaves_what_a_simulated_one_leaves_and_nothing_to_compare_with(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.serve()
    assert jobs.read_status(world.job).state == "finished"
    metrics = json.loads((world.job.folder / "metrics.json").read_text())
    assert (metrics["pooled"], metrics["local"]) == (None, {})
    assert list(metrics["sites"]) == ["a", "b", "c", "d"]
    assert {"report.html", "model", "metrics.json"} <= {path.name for path in world.job.folder.iterdir()}
    assert world.events == ["begun", "finished"]


def killed_in(world: World, kind: type[Request]) -> None:
    """Plan that the aggregator is killed when it asks for this in the second half of the run."""

    def strike() -> None:
        raise Killed

    original, seen = world.exchange, [0]

    def exchange(requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        if isinstance(next(iter(requests.values())), kind):
            seen[0] += 1
            if seen[0] == 3:
                arrivals = original(requests, deadline_s)
                next(arrivals)
                strike()
        yield from original(requests, deadline_s)

    world.exchange = exchange  # type: ignore[method-assign]


@pytest.mark.parametrize("kind", [ContributeRequest, RevealRequest])
def test_a_killed_aggregator_ends_with_the_weights_of_an_undisturbed_run(
    tmp_path: Path, undisturbed: str, kind: type[Request]
) -> None:
    world = World(tmp_path)
    killed_in(world, kind)
    with pytest.raises(Killed):
        world.serve()
    world.serve()
    assert world.weights == undisturbed


@pytest.mark.parametrize("moment", range(5, 13))
def test_a_hospitals_node_that_was_started_anew_changes_no_weight(
    tmp_path: Path, undisturbed: str, moment: int
) -> None:
    world = World(tmp_path)
    world.plan[moment] = lambda: world.desks.restart("b")
    world.serve()
    assert world.weights == undisturbed


def test_everything_killed_at_once_changes_no_weight(tmp_path: Path, undisturbed: str) -> None:
    world = World(tmp_path)
    killed_in(world, ContributeRequest)
    with pytest.raises(Killed):
        world.serve()
    for site in "abcd":
        world.desks.restart(site)
    world.serve()
    assert world.weights == undisturbed


def test_an_exact_method_waits_for_a_hospital_that_is_away(tmp_path: Path, undisturbed: str) -> None:
    world = World(tmp_path)
    world.plan[8] = lambda: world.away.add("c")
    world.serve()
    assert world.slept > 5
    assert world.weights == undisturbed
    assert "interrupted" in world.events


def test_a_hospital_that_has_not_approved_is_left_out_by_name(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.desks.withdraw("d")
    world.serve()
    assert jobs.read_status(world.job).left_out == {"d": "withdrawn"}
    assert list(json.loads((world.job.folder / "metrics.json").read_text())["sites"]) == ["a", "b", "c"]


FOREST = """
name = "random-forest"
rounds = 2
options = { trees = 1, max_depth = 1 }
"""


def test_a_run_that_a_policy_holds_up_says_what_the_steward_sets_and_then_goes_on(tmp_path: Path) -> None:
    allowing = dataclasses.replace(POLICY, data_dependent_subsets=True)
    text = STUDY.replace('\nname = "logistic-regression"\nrounds = 3\n', FOREST)
    world = World(tmp_path, text=text, policy=allowing)

    def decide(policy: Policy) -> None:
        world.desks.policy = policy
        world.desks.restart("d")

    decide(POLICY)
    world.plan[10] = lambda: decide(allowing)
    world.serve()

    wanted = "`data_dependent_subsets = true` in `[policy]` of its `site.toml` lets it take part."
    assert [True] == sorted({"d (data-dependent-subsets)" in said and wanted in said for said in world.said})
    assert jobs.read_status(world.job).state == "finished"


def test_a_run_that_too_few_approved_says_with_which_command_they_approve(tmp_path: Path) -> None:
    world = World(tmp_path)
    for name in "cd":
        world.desks.withdraw(name)
    with pytest.raises(AssertionError, match="for ever"):
        world.serve()

    assert "c (withdrawn), d (withdrawn). withdrawn: the hospital has taken back its approval" in world.said[-1]
    assert world.said[-1].endswith("It can approve the study again: `consilium-client approve`.")


def test_a_damaged_list_of_who_takes_part_ends_the_run_with_a_reason(tmp_path: Path) -> None:
    world = World(tmp_path)
    (world.job.folder / deployment.COHORT).write_text("{")
    with pytest.raises(CheckpointError, match=r"cohort\.json: not readable"):
        world.serve()
    assert jobs.read_status(world.job).state == "failed"


def test_a_full_disk_lets_a_run_wait_and_changes_no_weight(
    tmp_path: Path, undisturbed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path)
    write = checkpoint.write

    def full(folder: Path, *_: object) -> None:
        raise NotWritten(folder / checkpoint.FILE, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    world.plan[8] = lambda: monkeypatch.setattr(checkpoint, "write", full)
    with pytest.raises(NotWritten):
        world.serve()
    status = jobs.read_status(world.job)
    monkeypatch.setattr(checkpoint, "write", write)
    world.serve()

    assert ("waiting", "Make room. The run then goes on by itself.") == (status.state, status.message[-42:])
    assert (undisturbed, "finished") == (world.weights, jobs.read_status(world.job).state)


def test_a_run_that_was_stopped_is_not_begun(tmp_path: Path) -> None:
    world = World(tmp_path)
    jobs.changed(world.job, NOW, "stopped")
    world.serve()
    assert world.asked == 0
