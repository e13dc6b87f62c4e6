"""A study with noise between four real desks, up to ``metrics.json``: what it promises, charges and adds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.budget import compose
from client.charges import Charge
from server import deployment, jobs
from server.training import Progress, run_study
from server.transport import Arrival
from shared import packing
from shared.examples import Part
from shared.messages import ContributeRequest, Request
from shared.methods.base import NOTHING, Ask, PlainMean, Total
from shared.methods.words import sum_noise
from shared.plan import plan_of
from shared.privacy import accounting
from shared.randomness import for_site
from shared.study import parse_study
from simulations.local import LocalTransport, local_sites
from tests.builders import ticking
from tests.secure import InsecureEntropy
from tests.unit.client.private import STUDY, PrivateDesks, patients_of
from tests.unit.server.desks import CODE

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
AMPLE = "epsilon = 20.0\ndelta = 1e-4"


class Killed(BaseException):
    """A hospital's node is gone."""


class World:
    """A coordinator's folder with one run, and hospitals that have approved it."""

    def __init__(self, folder: Path, names: str, budget: str, text: str = STUDY) -> None:
        self.desks = PrivateDesks(folder, names, text, budget)
        self.folder = folder / "coordinator"
        self.folder.mkdir()
        self.job = jobs.create(self.folder, self.desks.study_file, NOW)
        self.slept = 0.0

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        """Hand each request to a desk; a node that is killed by it is started anew."""
        for site, request in requests.items():
            try:
                yield Arrival(site, self.desks.answer(site, packing.pack(request)))
            except Killed:
                self.desks.restart(site)
                yield Arrival(site, None, "offline")

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        assert self.slept < 1000, f"the run waits for ever: {jobs.read_status(self.job).message}"

    def serve(self) -> dict[str, Any]:
        """Do the run to its end; return its ``metrics.json``."""
        aggregator = deployment.Aggregator(
            *(self.folder, CODE, self),
            lambda: self.desks.identities,
            lambda: set(self.desks.identities),
            sleep=self.sleep,
            clock=lambda: self.slept,
            now=lambda: NOW,
        )
        deployment.serve(self.job.folder, aggregator)
        metrics: dict[str, Any] = json.loads((self.job.folder / "metrics.json").read_text())
        return metrics

    def spent(self, name: str, part: Part) -> float:
        """Return what a hospital's ledger says that its patients of one part spent, at the study's delta."""
        spent = compose(self.desks.ledger(name).spendings)
        return accounting.epsilon_of(spent.rdp[part], 1e-4, spent.sampler_error[part])


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[World, dict[str, Any]]:
    world = World(tmp_path_factory.mktemp("world"), "abcd", "epsilon = 5.0\ndelta = 1e-4")
    return world, world.serve()


def test_the_metrics_say_what_the_study_promises(finished: tuple[World, dict[str, Any]]) -> None:
    privacy = finished[1]["privacy"]

    assert ("patient", 5.0, 1e-4) == (privacy["unit"], privacy["epsilon"], privacy["delta"])
    assert {"prepare", "train", "evaluate"} == set(privacy["noise_multipliers"])


@pytest.mark.parametrize("name", "abcd")
def test_every_hospitals_ledger_says_what_the_metrics_say_and_no_more_than_the_study(
    finished: tuple[World, dict[str, Any]], name: str
) -> None:
    world, privacy = finished[0], finished[1]["privacy"]
    training, held_out = world.spent(name, Part.TRAINING), world.spent(name, Part.HELD_OUT)

    # The ledger knows how many hospitals drew noise; the plan counts with as many as there may be.
    assert training == pytest.approx(privacy["epsilon_training"], rel=1e-4) and training <= 5.0
    assert held_out == pytest.approx(privacy["epsilon_held_out"], rel=1e-4) and held_out <= 5.0


def test_no_number_of_one_hospital_is_in_the_metrics(finished: tuple[World, dict[str, Any]]) -> None:
    """Its policy would show all; but with noise nobody counts, and nothing is measured on the way."""
    metrics = finished[1]

    assert [(None, None)] * 4 == [(site["patients"], site["rows"]) for site in metrics["sites"].values()]
    assert ({}, {}, None) == (metrics["per_site"], metrics["out_of_contract"], metrics["federated_exact"])
    assert [None] * 3 == [each["loss"] for each in metrics["history"]]


def test_a_node_that_is_killed_between_charge_and_answer_is_charged_twice_and_the_run_ends(tmp_path: Path) -> None:
    """Of three hospitals none can be missing, so that the exchange is made again, and everybody draws noise anew."""
    world = World(tmp_path, "abc", AMPLE)
    desk = world.desks.desks["b"]
    pay, killed = desk.hospital.pay, []

    def strike(dataset: str, wanted: Charge) -> None:
        pay(dataset, wanted)
        if wanted.round == 2:
            killed.append(wanted.draw)
            raise Killed

    desk.hospital = dataclasses.replace(desk.hospital, pay=strike)
    metrics = world.serve()

    charged = [entry.charge for entry in world.desks.ledger("b").entries]
    assert (3, 1) == (metrics["rounds_completed"], len(killed))
    assert [1, 2, 2, 3, 4, 5] == [charge.round for charge in charged]
    assert 6 == len({charge.draw for charge in charged})
    assert world.spent("b", Part.TRAINING) > metrics["privacy"]["epsilon_training"]


def test_a_run_for_whole_hospitals_ends_within_its_epsilon_and_ledgers_have_a_patients_cost(tmp_path: Path) -> None:
    text = STUDY.replace("private-logistic-regression", "logistic-regression")
    text = text.replace("delta = 1e-4", 'delta = 1e-4\nunit = "site"\npatients_per_site = 40')
    world = World(tmp_path, "abcd", AMPLE, text)
    privacy = world.serve()["privacy"]

    assert ("site", privacy["epsilon_held_out"]) == (privacy["unit"], privacy["epsilon_training"])
    assert privacy["epsilon_training"] == pytest.approx(5.0, rel=1e-4) and privacy["epsilon_training"] <= 5.0
    assert 5.0 < world.spent("a", Part.TRAINING) < 12.0
    assert world.spent("a", Part.HELD_OUT) < 1.25


# Noise.


def wide_study(rounds: int) -> Any:
    columns: dict[str, Any] = {f"x{number}": {"type": "number", "range": [-10.0, 10.0]} for number in range(19)}
    columns["y"] = {"type": "category", "levels": [0, 1]}
    raw = {
        "study": {"name": "wide", "question": "How much noise?", "seed": 7},
        "data": {"kind": "table", "label": "y", "columns": columns, "max_rows_per_site": 1000},
        "method": {"name": "private-logistic-regression", "rounds": rounds},
        "aggregation": {"min_sites": 3},
        "privacy": {"epsilon": 5.0, "delta": 1e-4},
    }
    return parse_study(raw, "test")


def with_columns(name: str, columns: int) -> Any:
    data = patients_of(name)
    rng = np.random.default_rng(ord(name))
    parts = {
        part: dataclasses.replace(
            rows, values=rng.normal(size=(len(rows), columns)), outside=np.zeros((len(rows), columns), bool)
        )
        for part, rows in data.parts.items()
    }
    return dataclasses.replace(data, parts=parts)


def noise_of(rounds: int, lost: Callable[[str, Request], bool]) -> list[tuple[Ask, int, np.ndarray[Any, Any]]]:
    """Run the study; return of each training round what was asked, how many hospitals were in it, and the noise."""
    study = wide_study(rounds)
    data = {name: with_columns(name, 19) for name in "abcd"}
    plan = plan_of(study, PlainMean())
    sites = local_sites(study, plan, data, InsecureEntropy(1))
    found, advance, summed = [], plan.advance, [set[str]()]

    def spy(state: Any, total: Total) -> Any:
        if plan.stage(state) == "train":
            exact = sum(
                plan.contribute(state, data[name].parts[Part.TRAINING], NOTHING, for_site(7, name, 1))[0].arrays[
                    "gradient"
                ]
                for name in summed[-1]
            )
            found.append((plan.asks(state), total.contributors, total.arrays["gradient"] - exact))
        return advance(state, total)

    plan.advance = spy  # type: ignore[method-assign]
    local = LocalTransport(sites)

    class Losing:
        def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
            kept = {name: request for name, request in requests.items() if not lost(name, request)}
            if isinstance(next(iter(requests.values())), ContributeRequest):
                summed.append(set(kept))
            yield from local.exchange(kept, deadline_s)

    identities = {name: site.member.signing.public for name, site in sites.items()}
    run_study(study, plan, identities, Losing(), Progress("", plan.start()), ticking())
    return found


@pytest.mark.parametrize("missing", ["", "d"])
def test_the_noise_of_a_total_has_the_variance_of_all_shares_and_that_of_the_honest_ones_at_least(missing: str) -> None:
    """20 numbers in 40 rounds: the variance of 800 draws is right to 5 %, one standard deviation.

    Four hospitals, of which three can remove masks and one may collude: each adds a half of what is promised.
    """
    noise = noise_of(40, lambda name, request: name == missing and isinstance(request, ContributeRequest))
    found = np.concatenate([each.ravel() for _, _, each in noise])
    ask, contributors, _ = noise[0]
    assert ask.noise_multiplier and ask.influence
    promised = (ask.noise_multiplier * ask.influence.l2) ** 2

    assert 4 - len(missing) == contributors
    assert found.var() == pytest.approx(contributors * promised / 2, rel=0.15)
    assert found.var() == pytest.approx(sum_noise(ask, 4, 2).deviation(contributors) ** 2, rel=0.15)
    assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found))
