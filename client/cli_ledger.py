"""What ``consilium-client ledger`` shows: what was spent, by study and day, what is left, what a study would cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from client import ledger, settings
from client.budget import Budget, Cost, Orders, Spending, compose, required, spendings_of
from client.ledger import Ledger
from client.reserved import reserved, share_words, spendings
from client.settings import Settings
from shared.study import load_study
from shared.wording import plural


@dataclass(frozen=True)
class Day:
    """What one study spent on one day, in UTC.

    charges: how many; epsilon: of these charges by themselves.
    share: of the budget, spent by all charges until then. Both None without a budget.
    """

    date: str
    study: str
    digest: str
    charges: int
    epsilon: float | None
    share: float | None


@dataclass(frozen=True)
class Held:
    """What one approved study may still spend.

    runs: that are not over.
    epsilon: of all that may still be charged by itself; share: of the budget. Both None without a budget.
    """

    study: str
    digest: str
    runs: int
    epsilon: float | None
    share: float | None


@dataclass(frozen=True)
class Sheet:
    """One ledger, verified.

    data: the parts of ``site.toml`` that spend from it.
    orders: at which shares of the budget are taken; None before it is begun.
    lines, digest: of the file; noted elsewhere they prove later that nothing was taken back.
    epsilon: of all charges, at the budget's delta; share: of the budget that was spent; left: that was not. None
        without a budget.
    reserved: by approved studies whose runs are not over.
    """

    ledger: str
    data: tuple[str, ...]
    orders: Orders | None
    lines: int
    digest: str
    budget: Budget | None
    epsilon: float | None
    share: float | None
    left: float | None
    days: tuple[Day, ...]
    reserved: tuple[Held, ...]


@dataclass(frozen=True)
class Planned:
    """What a run of a study would cost.

    cost, fits: None for a study without noise: it is charged nothing. The first is on top of what was spent; the second
        says whether that is covered beside what is reserved for other studies, too.
    """

    study: str
    digest: str
    ledger: str
    budget: Budget | None
    cost: Cost | None
    fits: bool | None


def sheets(folder: Path) -> tuple[Sheet, ...]:
    """Return every ledger of a hospital: those that are there, and those that ``site.toml`` names.

    Raises: AuditError naming the first line at fault; SettingsError.
    """
    own = settings.load(folder)
    named = {own.ledger_of(name) for name in own.data}
    return tuple(_sheet(folder, own, name) for name in sorted({*named, *ledger.names(folder)}))


def planned(folder: Path, study_path: Path, wanted: str | None) -> Planned:
    """Return what a run of a study would cost this hospital on top of what was spent.

    wanted: the part of ``site.toml`` with the data, or None where it is clear which.

    Raises: AuditError as ``sheets``; SettingsError, also where there is no budget for a study with noise; StudyError.
    """
    own, source = settings.load(folder), str(folder / settings.FILE)
    study = load_study(study_path)
    name = own.ledger_of(settings.choose(own, study.name, wanted, source)[0])
    # A split of its own: until it is approved nothing says that its patients are on the same side as before.
    asked = spendings_of(study, f"planned {study.digest}")
    found = ledger.read(folder, name)
    budget = required(own.budget, source) if asked else None
    if budget is None:
        return Planned(study.name, study.digest, name, None, None, None)
    others = spendings(reserved(folder, own, name, study.digest))
    fits = found.cost(asked, budget, others).fits
    return Planned(study.name, study.digest, name, budget, found.cost(asked, budget), fits)


def text(found: Iterable[Sheet], plan: Planned | None) -> str:
    """Return ledgers and a plan as people read them."""
    parts = ["\n".join(_lines(sheet)) for sheet in found]
    parts = parts or ["no data yet: fill in a part [data.NAME] of site.toml"]
    return "\n\n".join([*parts, *([_plan_text(plan)] if plan else [])])


def plain(found: Iterable[Sheet], plan: Planned | None) -> dict[str, object]:
    """Return the same for programs."""
    value: dict[str, object] = {"ledgers": [dataclasses.asdict(sheet) for sheet in found]}
    return {**value, "planned": dataclasses.asdict(plan)} if plan else value


def _sheet(folder: Path, own: Settings, name: str) -> Sheet:
    found = ledger.read(folder, name)
    epsilon, share = _spent(found.spendings, own.budget, found.orders)
    return Sheet(
        ledger=name,
        data=tuple(each for each in own.data if own.ledger_of(each) == name),
        orders=found.orders,
        lines=found.lines,
        digest=found.digest,
        budget=own.budget,
        epsilon=epsilon,
        share=share,
        left=None if share is None else max(0.0, 1.0 - share),
        days=tuple(_days(found, own.budget)),
        reserved=tuple(
            Held(each.study, each.digest, each.runs, *_spent(each.spendings, own.budget, found.orders))
            for each in reserved(folder, own, name)
        ),
    )


def _days(found: Ledger, budget: Budget | None) -> Iterable[Day]:
    until: list[Spending] = []
    for (day, digest), group in groupby(found.entries, key=lambda entry: (entry.time.date(), entry.charge.digest)):
        charged = [entry.charge for entry in group]
        spendings = [charge.spending for charge in charged]
        until += spendings
        epsilon, share = _spent(spendings, budget, found.orders)[0], _spent(until, budget, found.orders)[1]
        yield Day(f"{day:%Y-%m-%d}", charged[0].study, digest, len(charged), epsilon, share)


def _spent(
    spendings: Sequence[Spending], budget: Budget | None, orders: Orders | None
) -> tuple[float, float] | tuple[None, None]:
    """Return epsilon and share of a budget."""
    if budget is None:
        return None, None
    spent = compose(spendings)
    return spent.epsilon(budget.delta), spent.share(budget, orders) if orders else 0.0


def _lines(sheet: Sheet) -> list[str]:
    lines = [f"{sheet.ledger}  {_data(sheet)}"]
    if sheet.budget is None or sheet.share is None or sheet.left is None:
        lines.append("  no [budget] in site.toml: studies with noise are refused")
    else:
        allowed = f"epsilon {sheet.budget.epsilon:g} at delta {sheet.budget.delta:g}"
        lines.append(
            f"  {share_words(sheet.share)} spent, {share_words(sheet.left)} left of {allowed}; spent: epsilon"
            f" {sheet.epsilon:.4g}"
        )
    for day in sheet.days:
        spent = f"{_alone(day)}, {share_words(day.share)} of the budget in all" if day.share is not None else ""
        lines.append(f"  {day.date}  {day.study}  {day.digest[:16]}  {plural(day.charges, 'charge')}{spent}")
    if sheet.days:
        lines.append(f"  intact: {plural(sheet.lines, 'line')}, digest of the last {sheet.digest}")
    else:
        lines.append("  nothing was charged yet")
    for held in sheet.reserved:
        share = f"{_alone(held)}, {share_words(held.share)} of the budget" if held.share is not None else ""
        lines.append(f"  reserved    {held.study}  {held.digest[:16]}  {plural(held.runs, 'run')}{share}")
    return lines


def _alone(part: Day | Held) -> str:
    return f"  epsilon {part.epsilon:.4g} alone"


def _data(sheet: Sheet) -> str:
    if sheet.data:
        return "data: " + ", ".join(sheet.data)
    return (
        f"no part of site.toml spends from it. If its patients have another part now: ledger = {sheet.ledger!r} there"
    )


def _plan_text(plan: Planned) -> str:
    if plan.cost is None or plan.budget is None:
        return f"{plan.study}: without noise, so it is charged nothing"
    cost = plan.cost
    verdict = "it fits"
    if not plan.fits:
        beside = " beside what is reserved" if cost.fits else ""
        verdict = f"it does not fit{beside}, and approving it is refused"
    return (
        f"{plan.study}: a run would cost {share_words(cost.share_alone)} of the budget of {plan.ledger}, alone epsilon"
        f" {cost.alone:.4g}; then {share_words(cost.share_after)} would be spent: {verdict}"
    )
