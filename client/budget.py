"""What the noised sums of all studies together may tell about one patient, and what they told already: pure rules.

Neighbouring data differ by one patient, added or removed. What is released is an *event*
(``shared/privacy/accounting.py``); events are composed in Rényi differential privacy, order by order, and turned into
epsilon at the budget's delta last (I. Mironov: Rényi Differential Privacy, CSF 2017, Propositions 1 and 3,
https://arxiv.org/abs/1702.07476).

**The rule.** A *split* says for each patient whether it trains or is held out. A ledger keeps two accounts: of the
patients that train in its first split, and of those that are held out there. In the first split each account pays for
the events over its own patients; in every further split, both pay the larger one, order by order, of the two sums of
events over that split's sides. What was spent is the dearer account.

**Why it holds.** Take two neighbouring data sets; they differ by a patient x. A split looks at nothing but x itself, so
within it x is on one side, in whichever of the two data sets it is, and all others stay where they are. Given all that
was released before, an event over the other side has the same distribution for both data sets: its divergence is 0. So
the divergence of the whole sequence is at most the sum, over the splits, of what the events over the side of x cost. In
the first split that is what the account of x pays, in every further one not more. With one split this is parallel
composition (F. McSherry 2009, https://doi.org/10.1145/1559845.1559850); with two, x may be on the dearer side of both,
so the dearer sides have to be added. That evaluation uses the trained model changes nothing: what was released before
is given. The samplers' errors, which add to delta, follow the same rule.

**The filter.** A later study's noise may be chosen after results of earlier ones were seen. Then divergences still add
up, but at one order that was fixed before the first release (V. Feldman, T. Zrnic: Individual Privacy Accounting via a
Rényi Filter, NeurIPS 2021, https://arxiv.org/abs/2008.11193); taking the best order each time proves nothing. So the
first study's plan fixes an order for each account for good: the one at which the plan, made over and over, could use
the budget most often (``orders_for``). A first study that was calibrated to the whole budget therefore fits. At that
order the budget is a number of which each charge takes a share; epsilon is shown beside it at the best order. Assumed:
the budget was not raised because of what was seen, and the samplers' errors are too small to matter for the order.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass as checked_dataclass

from shared.errors import SettingsError
from shared.examples import Part
from shared.plan import multipliers_of, releases_of
from shared.privacy import accounting, calibration
from shared.privacy.accounting import Event
from shared.schema import CLOSED
from shared.study import Study

_EXAMPLE = "[budget] with epsilon and delta, for example epsilon = 2.0 and delta = 1e-5"


@checked_dataclass(frozen=True, config=CLOSED, kw_only=True)
class Budget:
    """The ``[budget]`` part of ``site.toml``: what all studies together may spend of each ledger.

    epsilon, delta: of the guarantee to every patient; delta well below one in the number of patients.
    """

    epsilon: Annotated[float, Field(gt=0, le=100)]
    delta: Annotated[float, Field(gt=0, le=0.01)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Spending:
    """Events over patients of one split.

    split: a word that two spendings share only if every patient is on the same side in both. The digest of the frozen
        cohort is one, because both sides are in it; a study's seed is not, because a patient may have got another id
        between two snapshots.
    parts: the patients that are looked at; both where a number is over everybody.
    """

    split: str
    parts: tuple[Part, ...]
    events: tuple[Event, ...]

    def __post_init__(self) -> None:
        if not self.split or not self.parts or not self.events:
            raise ValueError("a spending has a split, at least one part and at least one event")


Orders = Mapping[Part, int]
"""The order at which each account is kept."""


@dataclasses.dataclass(frozen=True, eq=False)
class Spent:
    """What was spent, by account: of patients that train, and that are held out, in the first split.

    rdp: arrays of shape (len(ORDERS),), float64.
    sampler_error: bound on the total variation distance of all samplers from the ideal ones.
    """

    rdp: Mapping[Part, NDArray[np.float64]]
    sampler_error: Mapping[Part, float]

    def epsilon(self, delta: float) -> float:
        """Return the epsilon of the dearer account, at its best order."""
        return max(accounting.epsilon_of(self.rdp[part], delta, self.sampler_error[part]) for part in Part)

    def share(self, budget: Budget, orders: Orders) -> float:
        """Return what the dearer account spent, as a share of what a budget allows; infinity where it allows none.

        Samplers' errors apart: ``fits`` takes them in.
        """
        allowed = {part: _allowed(budget, orders[part]) for part in Part}
        return max(
            _at(self.rdp[part], orders[part]) / allowed[part] if allowed[part] > 0 else math.inf for part in Part
        )

    def fits(self, budget: Budget, orders: Orders) -> bool:
        """Return whether a budget covers it, and with it every patient."""
        nothing = np.zeros(len(accounting.ORDERS))
        limits = (budget.epsilon, budget.delta)
        return all(
            accounting.fits(
                nothing, self.rdp[part], *limits, order=orders[part], sampler_error=self.sampler_error[part]
            )
            for part in Part
        )


@dataclasses.dataclass(frozen=True)
class Cost:
    """What planned events would come to.

    before, alone, after: epsilon at the budget's delta of what was spent, of the plan by itself, and of both together.
    share_before, share_alone, share_after: the same as shares of the budget.
    fits: whether the budget covers both together.
    """

    before: float
    alone: float
    after: float
    share_before: float
    share_alone: float
    share_after: float
    fits: bool


def compose(spendings: Iterable[Spending]) -> Spent:
    """Return what spendings come to together, by the rule of this module; the first one is of the first split."""
    uses: dict[str, dict[Part, Counter[Event]]] = {}
    for spending in spendings:
        sides = uses.setdefault(spending.split, {part: Counter() for part in Part})
        for part in spending.parts:
            for event in spending.events:
                sides[part][event if event.count == 1 else dataclasses.replace(event, count=1)] += event.count
    rdp, error = {part: np.zeros(len(accounting.ORDERS)) for part in Part}, dict.fromkeys(Part, 0.0)
    for number, sides in enumerate(uses.values()):
        events = {part: [dataclasses.replace(each, count=n) for each, n in sides[part].items()] for part in Part}
        paid = {part: accounting.rdp(events[part]) for part in Part}
        wrong = {part: accounting.sampler_error_of(events[part]) for part in Part}
        if number:
            paid = dict.fromkeys(Part, accounting.parallel(*paid.values()))
            wrong = dict.fromkeys(Part, max(wrong.values()))
        rdp = {part: rdp[part] + paid[part] for part in Part}
        error = {part: error[part] + wrong[part] for part in Part}
    return Spent(rdp, error)


def orders_for(planned: Sequence[Spending], budget: Budget) -> Orders:
    """Return, for each account, the order at which a plan could be made most often within a budget.

    planned: one spending at least; an account that it leaves out has the order of the other.
    """
    paid = compose(planned).rdp
    found = {
        part: max(accounting.ORDERS, key=lambda order: _allowed(budget, order) / _at(rdp, order))
        for part, rdp in paid.items()
        if rdp.any()
    }
    return {part: found.get(part, next(iter(found.values()))) for part in Part}


def plan_cost(
    spent: Sequence[Spending], planned: Sequence[Spending], budget: Budget, orders: Orders | None = None
) -> Cost:
    """Return what planned events would come to on top of what was spent, and whether the budget covers it.

    orders: those that a ledger is kept at; None for the best, which is right where all events, those that were spent
        too, were fixed before the first release.
    """
    before, alone, after = map(compose, (spent, planned, (*spent, *planned)))
    kept = orders or {part: accounting.best_order(after.rdp[part], budget.delta) for part in Part}
    return Cost(
        before=before.epsilon(budget.delta),
        alone=alone.epsilon(budget.delta),
        after=after.epsilon(budget.delta),
        share_before=before.share(budget, kept),
        share_alone=alone.share(budget, kept),
        share_after=after.share(budget, kept),
        fits=after.fits(budget, kept),
    )


def spendings_of(study: Study, split: str) -> tuple[Spending, ...]:
    """Return what one run of a study will be charged; nothing for a study without ``[privacy]``.

    It is one patient's cost, whatever the study's unit of privacy is.

    split: of its patients, see ``Spending``.

    Raises: StudyError if no noise keeps the study within its ``[privacy]``.
    """
    chosen = multipliers_of(study)
    if chosen is None:
        return ()
    events = calibration.events(releases_of(study), chosen)
    return (
        Spending(split=split, parts=(Part.TRAINING,), events=events["train"]),
        Spending(split=split, parts=(Part.HELD_OUT,), events=events["evaluate"]),
    )


def required(budget: Budget | None, source: str) -> Budget:
    """Return the budget.

    source: what errors call the file.

    Raises: SettingsError saying what to write, if there is none.
    """
    if budget is None:
        raise SettingsError(f"{source}: no [budget], so a study with noise cannot be paid for. Write {_EXAMPLE}.")
    return budget


def _at(rdp: NDArray[np.float64], order: int) -> float:
    return float(rdp[accounting.ORDERS.index(order)])


@lru_cache(maxsize=256)
def _allowed(budget: Budget, order: int) -> float:
    """Return the divergence at an order that a budget allows; not above 0 where it allows none."""
    # The conversion to epsilon adds a number that the divergence does not change, if that is far from 0.
    far = 1000.0
    added = accounting.epsilon_of(np.full(len(accounting.ORDERS), far), budget.delta, order=order) - far
    return budget.epsilon - added
