"""Sums with and without one patient, at hospitals' real desks: subtracted, they are that patient's row, or refused.

Three hospitals under secure aggregation. Between two runs of one study, patient p7 leaves hospital a, which approves
the study again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client import approving
from client.approving import Proposal
from client.policy import Policy
from server.strategies import server_optimizer
from server.training import Progress, run_study
from server.transport import Arrival
from shared import packing
from shared.errors import RunAbandoned
from shared.examples import Examples
from shared.messages import Request
from shared.methods.base import Total
from shared.plan import plan_of
from simulations.attacks.differences import Remembering, row_of_who_left
from tests.builders import examples_of, site_of, ticking
from tests.unit.server.desks import CODE, NOW, Desks

STUDY = """
[study]
name = "small"
question = "Who is sick?"
[data]
kind = "table"
label = "sick"
columns.age = { type = "number", range = [0, 128] }
columns.pressure = { type = "number", range = [0, 256] }
columns.sex = { type = "category", levels = ["f", "m"] }
columns.vessels = { type = "number", range = [0, 4] }
columns.sick = { type = "category", levels = [0, 1] }
max_rows_per_site = 1000
[method]
name = "logistic-regression"
rounds = 1
[aggregation]
min_sites = 3
[evaluation]
bootstrap_replicates = 100
histogram_bins = 1000
"""
P7 = [47.0, 132.5, 1.0, np.nan]
"""A man of 47 with a pressure of 132.5, whose vessels nobody counted."""
GUARDED = Policy(min_class_patients=0)
UNGUARDED = replace(GUARDED, min_difference=1)


class World:
    """Hospitals a, b and c with eighty patients each, and an aggregator that remembers every sum."""

    def __init__(self, folder: Path, policy: Policy) -> None:
        self.desks = Desks(folder, "abc", STUDY, policy)
        rng = np.random.default_rng(5)
        self.rows: dict[str, Examples] = {}
        for name in "abc":
            values = np.column_stack([rng.integers(20, 90, 80), rng.integers(90, 200, 80), rng.integers(0, 2, 80)])
            values = np.column_stack([values, rng.integers(0, 4, 80)]).astype(float)
            values[7] = P7
            self.rows[name] = examples_of(values, [float(row % 2) for row in range(80)])
            self.approve(name, np.arange(80))

    def approve(self, name: str, patients: np.ndarray) -> None:  # type: ignore[type-arg]
        """Let a hospital approve the study with some of its patients; every fourth is held out."""
        held_out = patients % 4 == 0
        training, rest = (self.rows[name].take(patients[which]) for which in (~held_out, held_out))
        data = site_of(name, training, rest)
        proposal = Proposal(self.desks.study, STUDY, data, "small", self.desks.identities, CODE, 9)
        approving.approve(self.desks.folder / name, proposal, NOW)

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        for site, request in requests.items():
            yield Arrival(site, self.desks.answer(site, packing.pack(request)))

    def run(self) -> list[Total]:
        """Make a run as the protocol says; return its sums."""
        study = self.desks.study
        plan = Remembering(plan_of(study, server_optimizer(study)))
        run_study(study, plan, self.desks.identities, self, Progress("", plan.start()), ticking())
        return plan.totals


def test_without_the_guard_two_runs_give_the_row_of_the_patient_who_left(tmp_path: Path) -> None:
    world = World(tmp_path, UNGUARDED)
    before = world.run()[0]
    world.approve("a", np.delete(np.arange(80), 7))
    after = world.run()[0]

    assert {"age": 47.0, "pressure": 132.5, "sex": "m", "vessels": None, "sick": "1"} == row_of_who_left(
        world.desks.study.data, before.arrays, after.arrays
    )


def test_with_the_guard_no_second_sum_is_made(tmp_path: Path) -> None:
    world = World(tmp_path, GUARDED)
    world.run()
    world.approve("a", np.delete(np.arange(80), 7))

    with pytest.raises(RunAbandoned, match=r"a \(nearly-the-same-patients\)"):
        world.run()


def test_the_guard_lets_the_same_patients_through_and_very_different_ones(tmp_path: Path) -> None:
    world = World(tmp_path, GUARDED)
    world.run()
    world.approve("a", np.arange(80))
    assert 60.0 * 3 == world.run()[0].weight
    world.approve("a", np.arange(40))

    assert 30.0 + 60.0 * 2 == world.run()[0].weight
