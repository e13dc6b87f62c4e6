"""What approved studies may still spend is reserved for them when a further one is approved."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client import approval, approving, cli, costs, settings, store
from client.approval import Approval
from client.approving import Proposal
from client.budget import spendings_of
from client.costs import Bill
from client.reserved import Reserved, reserved
from client.store import Kept
from shared.study import load_study
from tests.unit.client.private import STUDY, patients_of

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DATA = patients_of("a")
SECOND = STUDY.replace('name = "small"', 'name = "second"')
ONCE = {str(number): 1 for number in range(1, 6)}
"""Every sum of one run: preparation, three rounds, evaluation."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A hospital whose budget covers one run of the study, and not two."""
    write(tmp_path)
    return tmp_path


def write(folder: Path, more: str = "", epsilon: float = 6.0, runs: int = 1) -> None:
    budget = f"[budget]\nepsilon = {epsilon}\ndelta = 1e-4\n[policy]\nruns = {runs}\n"
    (folder / "site.toml").write_text(f'[data.small]\npath = "table.csv"\n{more}{budget}')


def approved(folder: Path, text: str = STUDY, runs: int = 1, dataset: str = "small") -> Approval:
    path = folder / "study.toml"
    path.write_text(text)
    members = {name: name.encode() * 32 for name in "abc"}
    proposal = Proposal(load_study(path), text, DATA, dataset, members, "c" * 64, runs)
    return approving.approve(folder, proposal, NOON)


def released(folder: Path, study: Approval, times: dict[str, int]) -> None:
    store.write(folder / approval.STATES / study.digest, Kept(released=times))


def held(folder: Path) -> tuple[Reserved, ...]:
    return reserved(folder, settings.load(folder), "small")


def bill(folder: Path, text: str = SECOND) -> Bill:
    path = folder / "asked.toml"
    path.write_text(text)
    found = costs.bill(folder, settings.load(folder), "small", load_study(path), DATA)
    assert found is not None
    return found


def test_all_runs_of_an_approval_are_reserved(folder: Path) -> None:
    study = approved(folder, runs=2)
    [found] = held(folder)

    assert ("small", study.digest, 2) == (found.study, found.digest, found.runs)
    once = [event for each in spendings_of(study.study, study.cohort) for event in each.events]
    assert [2, 6, 2] == [event.count for each in found.spendings for event in each.events]
    assert once == [replace(event, count=event.count // 2) for each in found.spendings for event in each.events]


def test_what_was_released_is_not_reserved_any_more(folder: Path) -> None:
    """Of one run: preparation and one of three rounds are over."""
    released(folder, approved(folder), {"1": 1, "2": 1})

    assert [2, 1] == [event.count for each in held(folder)[0].spendings for event in each.events]


def test_a_study_whose_runs_are_over_reserves_nothing(folder: Path) -> None:
    released(folder, approved(folder), ONCE)

    assert () == held(folder)


def test_a_withdrawn_study_reserves_nothing(folder: Path) -> None:
    approving.withdraw(folder, approved(folder).digest, NOON)

    assert () == held(folder)


def test_a_damaged_approval_is_not_answered_and_reserves_nothing(folder: Path) -> None:
    (approved(folder).folder / approval.RECORD).write_text("{")

    assert () == held(folder)


def test_what_a_damaged_state_released_is_not_known_so_everything_is_reserved(folder: Path) -> None:
    study = approved(folder)
    released(folder, study, ONCE)
    (folder / approval.STATES / study.digest / store.FILE).write_bytes(b"")

    assert 1 == held(folder)[0].runs


def test_another_ledger_is_another_ledger(folder: Path) -> None:
    write(folder, '[data.lungs]\npath = "lungs.csv"\n')
    approved(folder, dataset="lungs")

    assert () == held(folder)


def test_a_study_that_fits_alone_does_not_fit_beside_one_that_is_approved(folder: Path) -> None:
    alone = bill(folder)
    approved(folder)
    [sentence] = costs.broken(bill(folder))

    assert () == costs.broken(alone)
    assert "beside what is reserved for other approved studies: small " in sentence
    assert "% (1 run). Received: " in sentence
    assert "withdraw one that will not be run, or decide on a larger [budget]." in sentence
    assert "Reserved for the runs of other approved studies: small " in " ".join(costs.lines(bill(folder)))


def test_fewer_runs_may_fit_beside_it(folder: Path) -> None:
    write(folder, epsilon=10.0, runs=3)
    approved(folder)

    assert "Write [policy] runs = 2, withdraw one" in costs.broken(bill(folder))[0]


def test_an_approval_is_not_in_the_way_of_the_one_that_replaces_it(folder: Path) -> None:
    approved(folder)

    assert () == costs.broken(bill(folder, STUDY))


def test_the_ledger_command_shows_who_has_what_reserved(folder: Path) -> None:
    study = approved(folder)
    (folder / "asked.toml").write_text(SECOND)
    said = CliRunner().invoke(cli.app, ["ledger", str(folder), str(folder / "asked.toml")], catch_exceptions=False)
    plain = CliRunner().invoke(cli.app, ["ledger", str(folder), "--json"], catch_exceptions=False)

    assert f"  reserved    small  {study.digest[:16]}  1 run  epsilon 5 alone" in said.output
    assert "it does not fit beside what is reserved, and approving it is refused" in said.output
    assert ["small"] == [each["study"] for each in json.loads(plain.output)["ledgers"][0]["reserved"]]
