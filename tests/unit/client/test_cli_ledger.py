"""``consilium-client ledger``: what was spent, by study and day, what is left, and what a study would cost."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client import cli, settings
from client.budget import Budget, Spending
from client.charges import Charge
from client.ledger import charge, read
from shared.errors import AuditError, ConsiliumError, SettingsError
from shared.examples import Part
from shared.privacy import accounting
from shared.privacy.accounting import Gaussian
from tests.unit.client.hospitals import STUDY

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
BUDGET = Budget(epsilon=accounting.epsilon([Gaussian(10.0, count=10)], 1e-5) * (1 + 1e-9), delta=1e-5)
"""Covers ten charges."""
SETTINGS = f"""
[data.small]
path = "table.csv"
[data.follow_up]
path = "later.csv"
ledger = "small"
[data.lungs]
path = "lungs.csv"
[budget]
epsilon = {BUDGET.epsilon}
delta = 1e-5
"""
PRIVATE = (
    STUDY.replace('"small"', '"private"').replace("logistic", "private-logistic")
    + "[privacy]\nepsilon = {}\ndelta = 1e-5\n"
)


def epsilon(count: int) -> float:
    return accounting.epsilon([Gaussian(10.0, count=count)], 1e-5)


def charged(folder: Path, study: str, day: int, rounds: int) -> None:
    for number in range(1, rounds + 1):
        spending = Spending(split="cohort", parts=(Part.TRAINING,), events=(Gaussian(10.0),))
        wanted = Charge(
            study=study,
            digest=f"{study}-digest",
            run="run",
            round=number,
            attempt=1,
            stage="train",
            draw=f"{study} {day} {number}",
            spending=spending,
        )
        assert charge(folder, "small", wanted, BUDGET, NOON + timedelta(days=day))


@pytest.fixture
def north(tmp_path: Path) -> Path:
    """A hospital where two studies spent on three days: 3, 2 and 4 charges."""
    (tmp_path / "site.toml").write_text(SETTINGS)
    (tmp_path / "small.toml").write_text(STUDY)
    charged(tmp_path, "heart", day=0, rounds=3)
    charged(tmp_path, "stroke", day=0, rounds=2)
    charged(tmp_path, "heart", day=1, rounds=4)
    return tmp_path


def ran(*arguments: object) -> str:
    result = CliRunner().invoke(cli.app, ["ledger", *map(str, arguments)], catch_exceptions=False)
    assert 0 == result.exit_code, result.output
    return result.output


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_explains_itself_with_an_example() -> None:
    assert "Example: consilium-client ledger charite heart_disease.toml" in " ".join(ran("--help").split())


def test_it_shows_what_was_spent_by_study_and_day(north: Path) -> None:
    days = json.loads(ran(north, "--json"))["ledgers"][1]["days"]

    assert [
        ("2026-11-21", "heart", 3, pytest.approx(epsilon(3)), pytest.approx(0.3)),
        ("2026-11-21", "stroke", 2, pytest.approx(epsilon(2)), pytest.approx(0.5)),
        ("2026-11-22", "heart", 4, pytest.approx(epsilon(4)), pytest.approx(0.9)),
    ] == [(day["date"], day["study"], day["charges"], day["epsilon"], day["share"]) for day in days]


def test_it_shows_what_is_left(north: Path) -> None:
    found = json.loads(ran(north, "--json"))["ledgers"][1]

    assert [epsilon(9), 0.9, 0.1] == pytest.approx([found["epsilon"], found["share"], found["left"]])
    assert "90.0 % spent, 10.0 % left of epsilon 1.3085 at delta 1e-05; spent: epsilon 1.235" in ran(north)


def test_it_says_which_data_share_a_ledger_and_shows_those_without_a_charge(north: Path) -> None:
    found = json.loads(ran(north, "--json"))["ledgers"]

    assert [("lungs", ["lungs"], 0), ("small", ["small", "follow_up"], 10)] == [
        (each["ledger"], each["data"], each["lines"]) for each in found
    ]
    assert ran(north).startswith("lungs  data: lungs\n  0.0 % spent, 100.0 % left of ")
    assert "spent: epsilon 0\n  nothing was charged yet" in ran(north)


def test_it_prints_the_number_of_lines_and_the_digest_to_be_noted(north: Path) -> None:
    assert f"intact: 10 lines, digest of the last {read(north, 'small').digest}" in ran(north)


def test_it_reads_only(north: Path) -> None:
    before = files_in(north)
    ran(north, north / "small.toml")

    assert before == files_in(north)


def test_a_line_that_was_changed_is_named(north: Path) -> None:
    path = north / "ledger" / "small.jsonl"
    path.write_text(path.read_text().replace('"stroke 0 1"', '"stroke 0 9"'))
    with pytest.raises(AuditError, match=r"small.jsonl: changed. Line 5 was changed") as raised:
        ran(north)

    assert 2 == raised.value.exit_code


def test_a_ledger_whose_data_have_another_name_now_is_shown_with_what_to_write(north: Path) -> None:
    (north / "site.toml").write_text('[data.smaller]\npath = "table.csv"\n')
    said = ran(north)

    assert "small  no part of site.toml spends from it." in said
    assert "ledger = 'small'" in said


def test_without_a_budget_the_charges_are_shown_and_that_noise_is_refused(north: Path) -> None:
    (north / "site.toml").write_text('[data.small]\npath = "table.csv"\n')
    said = ran(north)

    assert "no [budget] in site.toml: studies with noise are refused" in said
    assert "2026-11-21  heart  heart-digest  3 charges\n" in said


def test_a_hospital_without_data_is_told_what_to_fill_in(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text("")

    assert "no data yet: fill in a part [data.NAME] of site.toml\n" == ran(tmp_path)


# What a study would cost.


def test_a_study_without_noise_costs_nothing(north: Path) -> None:
    assert "small: without noise, so it is charged nothing" in ran(north, north / "small.toml")
    assert {"study": "small", "ledger": "small", "cost": None}.items() <= json.loads(
        ran(north, north / "small.toml", "--json")
    )["planned"].items()


@pytest.mark.parametrize(
    ("wanted", "verdict"),
    [(0.2, "would be spent: it fits"), (1.5, "would be spent: it does not fit, and approving it is refused")],
)
def test_a_plan_says_what_it_costs_alone_and_whether_it_fits(north: Path, wanted: float, verdict: str) -> None:
    (north / "private.toml").write_text(PRIVATE.format(wanted))
    said = ran(north, north / "private.toml", "--data", "small")

    assert f"of the budget of small, alone epsilon {wanted}" in said
    assert verdict in said


def test_a_first_study_may_cost_the_whole_budget(north: Path) -> None:
    (north / "private.toml").write_text(PRIVATE.format(BUDGET.epsilon))
    found = json.loads(ran(north, north / "private.toml", "--data", "lungs", "--json"))["planned"]

    assert (True, 0.0) == (found["cost"]["fits"], found["cost"]["share_before"])
    assert 1.0 == pytest.approx(found["cost"]["share_after"], rel=1e-3)


def test_a_study_with_noise_at_a_hospital_without_a_budget_is_told_what_to_write(north: Path) -> None:
    (north / "site.toml").write_text('[data.small]\npath = "table.csv"\n')
    (north / "private.toml").write_text(PRIVATE.format(1.0))
    with pytest.raises(SettingsError, match=r"no \[budget\].* Write \[budget\] with epsilon and delta"):
        ran(north, north / "private.toml")


def test_a_study_whose_data_are_not_clear_is_asked_about(north: Path) -> None:
    (north / "another.toml").write_text(STUDY.replace('name = "small"', 'name = "another"'))
    with pytest.raises(SettingsError, match="Name one with --data"):
        ran(north, north / "another.toml")

    assert "another: without noise" in ran(north, north / "another.toml", "--data", "lungs")


def test_a_file_that_is_no_study_is_said(north: Path) -> None:
    with pytest.raises(ConsiliumError, match="no such study file"):
        ran(north, north / "none.toml")


# Which ledger.


def test_two_parts_about_one_file_must_share_a_ledger(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(SETTINGS.replace("lungs.csv", "./table.csv"))
    with pytest.raises(SettingsError, match=r'\[data.small\] and \[data.lungs\] are the same file.* ledger = "small"'):
        settings.load(tmp_path)


def test_a_link_to_a_file_is_the_same_file(tmp_path: Path) -> None:
    (tmp_path / "table.csv").touch()
    (tmp_path / "lungs.csv").symlink_to(tmp_path / "table.csv")
    (tmp_path / "site.toml").write_text(SETTINGS)
    with pytest.raises(SettingsError, match="are the same file"):
        settings.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[budget]\nepsilon = 0\ndelta = 1e-5", "site.toml: [budget] epsilon: expected greater than 0. Received: 0."),
        ("[budget]\nepsilon = 1\n", "site.toml: [budget] delta: missing. Expected this key to be set."),
        ("[budget]\nepsilon = 1\ndelta = 0.1", "site.toml: [budget] delta: expected less than or equal to 0.01."),
        ("[budget]\nepsilon = 1\ndelta = 1e-5\nepsilom = 2", "[budget] epsilom: unknown key. Did you mean 'epsilon'?"),
    ],
)
def test_a_budget_is_an_epsilon_and_a_delta(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "site.toml").write_text(text)
    with pytest.raises(SettingsError) as raised:
        settings.load(tmp_path)

    assert expected in str(raised.value)


def test_the_budget_of_the_sample_is_read() -> None:
    sample = Path(__file__).parents[3] / "docs" / "samples"

    assert Budget(epsilon=5.0, delta=1e-4) == settings.load(sample).budget
