"""What a study with noise would cost on top of what was spent, and what the hospital is told of it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client import costs, ledger, settings
from client.budget import spendings_of
from client.charges import Charge
from client.costs import Bill
from shared.errors import AuditError
from shared.study import Study
from tests.unit.client.private import patients_of
from tests.unit.client.test_description import noised

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
DATA = patients_of("a")


def owed(folder: Path, epsilon: float = 20.0, runs: int = 3, study: Study | None = None) -> Bill:
    write(folder, f"[budget]\nepsilon = {epsilon}\ndelta = 1e-4\n", runs)
    return bill_of(folder, study or noised())


def write(folder: Path, budget: str, runs: int = 3) -> None:
    text = '[data.heart]\npath = "heart.csv"\nledger = "cardiology"\n'
    (folder / "site.toml").write_text(f"{text}{budget}[policy]\nruns = {runs}\n")


def bill_of(folder: Path, study: Study) -> Bill:
    found = costs.bill(folder, settings.load(folder), "heart", study, DATA)
    assert found is not None
    return found


def spend(folder: Path, study: Study) -> None:
    """Charge the ledger what one run of a study costs."""
    budget = settings.load(folder).budget
    for number, spending in enumerate(spendings_of(study, "earlier")):
        about = {"study": "s", "digest": "d", "run": "r", "stage": "train"}
        charge = Charge(**about, round=number, attempt=1, draw=f"{number}", spending=spending)  # type: ignore[arg-type]
        ledger.charge(folder, "cardiology", charge, budget, NOON)


def test_a_study_without_noise_costs_nothing(tmp_path: Path) -> None:
    write(tmp_path, "")

    assert (
        costs.bill(tmp_path, settings.load(tmp_path), "heart", dataclasses.replace(noised(), privacy=None), DATA)
        is None
    )


def test_one_run_costs_the_studys_epsilon_and_no_more(tmp_path: Path) -> None:
    found = owed(tmp_path)
    assert found.one

    assert ("cardiology", 0.0) == (found.ledger, found.one.before)
    assert 4.99 < found.one.alone <= 5.0
    assert found.one.alone == found.one.after


def test_every_run_that_is_approved_is_counted(tmp_path: Path) -> None:
    found = owed(tmp_path, runs=3)
    assert found.one and found.every

    assert found.every.share_alone == pytest.approx(3 * found.one.share_alone)
    assert (3, ()) == (found.covered, costs.broken(found))


def test_a_budget_of_the_studys_own_epsilon_covers_one_run_of_three_and_says_what_to_write(tmp_path: Path) -> None:
    found = owed(tmp_path, 5.0, runs=3)
    [sentence] = costs.broken(found)

    assert 1 == found.covered
    assert sentence.startswith(
        "budget: expected at most the 100.0 % that is left of epsilon 5 in the ledger cardiology"
    )
    assert "Write [policy] runs = 1" in sentence
    assert () == costs.broken(owed(tmp_path, 5.0, runs=1))


def test_a_budget_that_covers_not_one_run_says_so(tmp_path: Path) -> None:
    found = owed(tmp_path, 4.9)

    assert 0 == found.covered
    assert "the budget covers not one run. Ask for a study with a smaller epsilon" in costs.broken(found)[0]


def test_noise_too_little_to_prove_any_epsilon_is_not_said_to_cost_too_large_a_share(tmp_path: Path) -> None:
    found = owed(tmp_path, 60.0, runs=3, study=noised(privacy={"epsilon": 8.0, "delta": 1e-4}))
    [sentence] = costs.broken(found)
    assert found.every and found.every.share_after < 0.2

    assert sentence.startswith("budget: expected noise that proves an epsilon at delta 0.0001. Received: so little for")
    assert sentence.endswith("the budget covers 2 of 3 runs. Write [policy] runs = 2.")


def test_without_a_budget_it_is_said_what_to_write(tmp_path: Path) -> None:
    write(tmp_path, "")
    found = bill_of(tmp_path, noised())

    assert "budget: no [budget], so a study with noise cannot be paid for. Write [budget]" in costs.broken(found)[0]
    assert "no [budget]" in " ".join(costs.lines(found))


def test_what_was_spent_before_is_counted_in(tmp_path: Path) -> None:
    """The patients of an earlier cohort may be the same: what it cost and what the study costs add up."""
    alone = owed(tmp_path, 9.0, runs=1)
    spend(tmp_path, noised())
    found = owed(tmp_path, 9.0, runs=1)
    assert found.one and alone.one

    assert 4.99 < found.one.before <= 5.0 < found.one.after
    assert found.one.share_after == pytest.approx(found.one.share_before + found.one.share_alone)
    assert "Spent so far: 0.0 %" in " ".join(costs.lines(alone))
    assert "Spent so far: 0.0 %" not in " ".join(costs.lines(found))


def test_what_was_spent_before_may_leave_too_little(tmp_path: Path) -> None:
    write(tmp_path, "[budget]\nepsilon = 6.0\ndelta = 1e-4\n")
    spend(tmp_path, noised())

    assert ("budget",) == tuple(each.split(":")[0] for each in costs.broken(owed(tmp_path, 6.0, runs=1)))


def test_a_damaged_ledger_prices_nothing(tmp_path: Path) -> None:
    write(tmp_path, "[budget]\nepsilon = 6.0\ndelta = 1e-4\n")
    spend(tmp_path, noised())
    ledger.place(tmp_path, "cardiology").unlink()

    with pytest.raises(AuditError):
        owed(tmp_path)


def test_a_ledger_is_begun_once_by_the_first_study_that_is_approved(tmp_path: Path) -> None:
    costs.begin(tmp_path, owed(tmp_path), NOON)
    begun = ledger.read(tmp_path, "cardiology")
    costs.begin(tmp_path, owed(tmp_path, study=noised(privacy={"epsilon": 0.5, "delta": 1e-5})), NOON)

    assert begun.orders is not None and () == begun.entries
    assert begun == ledger.read(tmp_path, "cardiology")


def test_the_lines_say_what_is_spent_what_a_run_costs_and_what_is_left(tmp_path: Path) -> None:
    said = " ".join(costs.lines(owed(tmp_path, 5.0, runs=2)))

    assert "ledger cardiology, for each patient and over all studies: epsilon 5 at delta 0.0001" in said
    assert "One run of this study by itself: 100.0 % of the budget (epsilon 5.00)" in said
    assert "All 2 that an approval is for: 200.0 % of the budget" in said
    assert "approving is refused: it covers 1 run." in said


def test_a_budget_that_its_ledgers_order_does_not_allow_at_all_has_no_number(tmp_path: Path) -> None:
    """At the order that a large budget fixed, a small one allows nothing."""
    costs.begin(tmp_path, owed(tmp_path, 50.0), NOON)
    found = owed(tmp_path, 0.5)

    assert "more than all of the budget" in " ".join(costs.lines(found))
    assert "expected at most the 0.0 % that is left" in costs.broken(found)[0]
