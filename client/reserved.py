"""What other approved studies will still spend of a ledger: it is reserved, so that what is approved together fits.

An approval is for a number of runs, which may come at any time. Until each was made, or the approval is withdrawn, what
it costs is reserved: the plan (``client.budget.spendings_of``) of every sum that the node may still release. Nothing is
written down: it follows from the approvals and from how often each sum was released (``client/store.py``). This decides
what is approved beside what; what is charged, and refused for want of budget, is the ledger's business in every round.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from client import approval, store
from client.approval import Approval
from client.budget import Budget, Spending, spendings_of
from client.ledger import Ledger
from client.settings import Settings
from shared.errors import Refusal
from shared.plan import exchanges
from shared.wording import plural, share_text


@dataclass(frozen=True)
class Reserved:
    """What one approved study may still spend.

    runs: that are not over; spendings: what they would be charged.
    """

    study: str
    digest: str
    runs: int
    spendings: tuple[Spending, ...]


def reserved(folder: Path, own: Settings, ledger: str, but: str = "") -> tuple[Reserved, ...]:
    """Return what approved studies may still spend of a ledger; those that stand, and have sums left.

    folder: the hospital's.
    but: digest of a study that is about to be approved: its earlier approval is replaced.

    Raises: StudyError as ``client.budget.spendings_of``.
    """
    standing = [
        each for each in approval.standing(folder) if each.digest != but and own.ledger_of(each.dataset) == ledger
    ]
    found = (_of(folder, each) for each in sorted(standing, key=lambda each: (each.approved_at, each.digest)))
    return tuple(each for each in found if each.spendings)


def _of(folder: Path, approved: Approval) -> Reserved:
    released = {}
    with contextlib.suppress(Refusal):  # damaged: nothing is known of what was released, so all is reserved
        released = dict(store.read(folder / approval.STATES / approved.digest).released)
    last = exchanges(approved.study)
    left = [max(0, approved.runs - released.get(str(number), 0)) for number in range(1, last + 1)]
    return Reserved(approved.study.name, approved.digest, left[-1], tuple(_left(approved, left)))


def _left(approved: Approval, left: Sequence[int]) -> Iterator[Spending]:
    """Yield the plan's events as often as their sums are left.

    left: how often each exchange may still be made: the preparation, the rounds of training, the evaluation.
    """
    sums = iter([left[:1], left[1:-1], left[-1:]])
    for planned in spendings_of(approved.study, approved.cohort):
        events = []
        for event, times in zip(planned.events, sums, strict=False):
            count = event.count // len(times) * sum(times)
            events += [dataclasses.replace(event, count=count)] if count else []
        if events:
            yield dataclasses.replace(planned, events=tuple(events))


def spendings(others: Iterable[Reserved]) -> tuple[Spending, ...]:
    """Return all that is reserved."""
    return tuple(spending for each in others for spending in each.spendings)


def in_words(others: Iterable[Reserved], found: Ledger, budget: Budget) -> str:
    """Return who has how much reserved: ``heart_disease_private 60.0 % (2 runs)``."""
    parts = [
        f"{each.study} {share_words(found.cost(each.spendings, budget).share_alone)} ({plural(each.runs, 'run')})"
        for each in others
    ]
    return ", ".join(parts)


def share_words(share: float) -> str:
    """Return a share of a budget in words: ``12.5 %``."""
    return share_text(share, 1.0) if math.isfinite(share) else "more than all"
