"""What a study with ``[privacy]`` would cost this hospital's patients, on top of what was spent of their budget.

It is known before anything is asked: noise multipliers follow from the study alone (``shared/plan.py``). What the
ledger is charged in the end is no more than this (``client/site.py``, ``cost``).
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from client import cohort, ledger
from client.budget import Budget, Cost, Spending, required, spendings_of
from client.data.split import SiteData
from client.reserved import in_words, reserved, share_words, spendings
from client.settings import FILE, Settings
from shared.errors import SettingsError
from shared.study import Study
from shared.wording import number_text, plural


@dataclass(frozen=True)
class Bill:
    """What an approval would cost.

    ledger: the one that is charged.
    run: what one run is charged; runs: how many an approval is for.
    budget: of the hospital; None where it has none, and then so is the rest.
    one, every: cost of one run, and of all.
    beside: cost of all on top of what other approved studies may still spend, too; reserved: who may, and how much.
    covered: how many of the runs the budget covers beside those, from none to all.
    """

    ledger: str
    run: tuple[Spending, ...]
    runs: int
    budget: Budget | None
    one: Cost | None = None
    every: Cost | None = None
    beside: Cost | None = None
    reserved: str = ""
    covered: int = 0


def bill(folder: Path, own: Settings, dataset: str, study: Study, data: SiteData) -> Bill | None:
    """Return what a study would cost for as many runs as the policy approves; None for one without ``[privacy]``.

    folder: the hospital's; dataset: the part of ``site.toml`` with the data, which are checked and split.

    Raises: AuditError if the ledger is damaged; StudyError as ``client.budget.spendings_of``.
    """
    # As the desk charges it: the split is the frozen cohort's.
    run = spendings_of(study, cohort.digest(data)) if study.privacy else ()
    if not run:
        return None
    name, runs = own.ledger_of(dataset), own.policy.runs
    found = ledger.read(folder, name)
    budget = own.budget
    if budget is None:
        return Bill(name, run, runs, None)
    one, every = (found.cost(run * times, budget) for times in (1, runs))
    others = reserved(folder, own, name, study.digest)
    held = spendings(others)
    beside = found.cost(run * runs, budget, held)
    covered = _covered(runs, lambda times: found.cost(run * times, budget, held).fits)
    return Bill(name, run, runs, budget, one, every, beside, in_words(others, found, budget), covered)


def begin(folder: Path, owed: Bill, now: datetime) -> None:
    """Begin the ledger of a study that is about to be approved, unless it was begun before.

    Raises: AuditError if the ledger is damaged; NotWritten.
    """
    if owed.budget:
        ledger.begin(folder, owed.ledger, owed.run, owed.budget, now)


def _covered(runs: int, fit: Callable[[int], bool]) -> int:
    """Return the largest number of runs that fit: if so many do, fewer do."""
    return bisect.bisect_left(range(1, runs + 1), True, key=lambda times: not fit(times))


def broken(owed: Bill) -> tuple[str, ...]:
    """Return in one sentence why an approval cannot be paid for; nothing if it can."""
    if owed.budget is None or owed.beside is None:
        try:
            required(None, "budget")
        except SettingsError as error:
            return (str(error),)
    elif not owed.beside.fits:
        allowed = f"{owed.covered:,} of {plural(owed.runs, 'run')}" if owed.covered else "not one run"
        advice = f"Write [policy] runs = {owed.covered}" if owed.covered else "Ask for a study with a smaller epsilon"
        others = f" beside what is reserved for other approved studies: {owed.reserved}" if owed.reserved else ""
        withdraw = ", withdraw one that will not be run" if owed.reserved else ""
        if owed.beside.share_after <= 1.0:
            return (
                f"budget: expected noise that proves an epsilon at delta {owed.budget.delta:g}. Received: so little for"
                f" {plural(owed.runs, 'run')} that its sampler's errors, which count e to the power of epsilon times,"
                f" are beyond delta; the budget covers {allowed}. {advice}{withdraw}.",
            )
        return (
            f"budget: expected at most the {share_words(max(0.0, 1.0 - owed.beside.share_before))} that is left of"
            f" epsilon {owed.budget.epsilon:g} in the ledger {owed.ledger}{others}. Received:"
            f" {share_words(owed.beside.share_alone)} for {plural(owed.runs, 'run')}; the budget covers {allowed}."
            f" {advice}{withdraw}, or decide on a larger [budget].",
        )
    return ()


def lines(owed: Bill) -> Iterator[str]:
    """Yield what an approval would cost, in words."""
    if owed.budget is None or owed.one is None or owed.every is None:
        yield f"{FILE} has no [budget], so nothing can be spent, and approving is refused"
        return
    budget, one, every = owed.budget, owed.one, owed.every
    yield (
        f"Budget of the ledger {owed.ledger}, for each patient and over all studies: epsilon {budget.epsilon:g} at"
        f" delta {budget.delta:g}."
    )
    yield f"Spent so far: {_part(one.share_before, one.before)}."
    yield f"One run of this study by itself: {_part(one.share_alone, one.alone)}; after it: " + (
        f"{_part(one.share_after, one.after)}; left {share_words(max(0.0, 1.0 - one.share_after))}."
    )
    if owed.runs > 1:
        yield (
            f"Each run is charged. All {owed.runs:,} that an approval is for: {_part(every.share_alone, every.alone)};"
            f" after them: {_part(every.share_after, every.after)}; left"
            f" {share_words(max(0.0, 1.0 - every.share_after))}."
        )
    if owed.reserved:
        yield f"Reserved for the runs of other approved studies: {owed.reserved}. What is left must cover that, too."
    if owed.covered < owed.runs:
        yield f"The budget does not cover that, and approving is refused: it covers {plural(owed.covered, 'run')}."
    yield "Charged sum by sum, before it leaves: a run that ends early costs less."


def _part(share: float, epsilon: float) -> str:
    return f"{share_words(share)} of the budget (epsilon {number_text(epsilon)})"
