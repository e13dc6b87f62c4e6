"""A private study between real processes: charged at every hospital before anything leaves, never beyond its budget."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from client import budget, ledger
from server.privacy import summary_of
from shared.examples import Part
from shared.study import load_study
from tests.e2e.commands import command
from tests.e2e.conftest import NAMES
from tests.e2e.consortium import Consortium
from tests.e2e.studies import write_data, write_study

pytestmark = pytest.mark.e2e

EPSILON, DELTA, ROUNDS = 2.0, 1e-5, 6
METHOD = f"""
[method]
name = "private-logistic-regression"
rounds = {ROUNDS}

[privacy]
epsilon = {EPSILON}
delta = {DELTA}
"""


class World:
    """Four hospitals with a budget for one run of the study, and a tenth of epsilon more."""

    def __init__(self, root: Path) -> None:
        self.study = write_study(root / "private.toml", "breast_cancer", METHOD, aggregation__deadline_s=20.0)
        data = write_data(root / "data", self.study, "breast_cancer", NAMES)
        self.consortium = Consortium.make(root / "made", data, runs=1)
        for name in NAMES:
            with (self.consortium.hospital(name) / "site.toml").open("a", encoding="utf-8") as file:
                file.write(f"\n[budget]\nepsilon = {1.1 * EPSILON}\ndelta = {DELTA}\n")

    def ledger(self, name: str) -> ledger.Ledger:
        return ledger.read(self.consortium.hospital(name), "own")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("private"))
    try:
        made.consortium.approve(made.study)
        made.consortium.start()
        yield made
    finally:
        made.consortium.close()


def test_every_hospital_is_charged_for_every_sum_and_what_the_report_says(world: World) -> None:
    name = world.consortium.begin(world.study)
    world.consortium.wait_finished(name)
    metrics = json.loads((world.consortium.server / "runs" / name / "metrics.json").read_text())
    promised = summary_of(load_study(world.study))

    assert promised is not None
    assert (EPSILON, DELTA) == (metrics["privacy"]["epsilon"], metrics["privacy"]["delta"])
    assert metrics["federated_exact"] is None
    for hospital in NAMES:
        entries = world.ledger(hospital).entries
        parts = [entry.charge.spending.parts for entry in entries]
        assert [(Part.TRAINING,)] * (1 + ROUNDS) + [(Part.HELD_OUT,)] == parts
        spent = budget.compose(world.ledger(hospital).spendings).epsilon(DELTA)
        assert max(promised.epsilon_training, promised.epsilon_held_out) == pytest.approx(spent, rel=1e-6)
        assert spent <= EPSILON


def test_a_study_for_which_too_little_is_left_is_refused_at_approval(world: World, tmp_path: Path) -> None:
    second = write_study(tmp_path / "second.toml", "breast_cancer", METHOD)
    folder, roster = world.consortium.hospital("Aarhus"), world.consortium.server / "roster.json"
    refused = command("consilium-client", "approve", folder, second, "--roster", roster, "--yes", check=False)

    assert refused.returncode == 2
    assert "budget" in refused.stderr


def test_the_ledger_command_says_what_was_spent(world: World) -> None:
    said = command("consilium-client", "ledger", world.consortium.hospital("Basel")).stdout

    assert "private" in said
