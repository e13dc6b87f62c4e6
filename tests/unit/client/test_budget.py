"""What composes how: numbers that can be checked by hand. A Gaussian of multiplier s costs a / (2 s**2) at order a."""

from __future__ import annotations

import math
import tomllib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.budget import Budget, Spending, compose, orders_for, plan_cost, required, spendings_of
from shared.errors import SettingsError
from shared.examples import Part
from shared.privacy import accounting
from shared.privacy.accounting import Event, Gaussian, SampledGaussian
from shared.study import Study, parse_study
from tests.unit.client.hospitals import STUDY

ORDERS = np.asarray(accounting.ORDERS)
TRAINING, HELD_OUT = (Part.TRAINING,), (Part.HELD_OUT,)
TEN = Gaussian(10.0)
"""Costs a / 200 at order a."""


def on(split: str, parts: tuple[Part, ...], *events: Event) -> Spending:
    return Spending(split=split, parts=parts, events=events)


def units(*spendings: Spending) -> tuple[float, float]:
    """What the accounts of training and of held-out patients paid, in charges of ``TEN``, the same at each order."""
    paid = compose(spendings).rdp
    for rdp in paid.values():
        np.testing.assert_allclose(rdp[0] / ORDERS[0] * ORDERS, rdp, rtol=1e-12)
    return paid[Part.TRAINING][0] / ORDERS[0] * 200, paid[Part.HELD_OUT][0] / ORDERS[0] * 200


def tens(count: int) -> Gaussian:
    return Gaussian(10.0, count=count)


def test_charges_over_the_same_patients_add_up() -> None:
    assert pytest.approx((1 + 1 + 4, 0)) == units(on("s", TRAINING, TEN), on("s", TRAINING, TEN, Gaussian(5.0)))


def test_a_count_is_so_many_charges() -> None:
    assert pytest.approx((7, 0)) == units(on("s", TRAINING, tens(7)))


def test_in_the_first_split_each_account_pays_for_its_own_patients() -> None:
    assert pytest.approx((3, 1)) == units(on("s", TRAINING, tens(3)), on("s", HELD_OUT, TEN))


def test_in_a_further_split_both_accounts_pay_the_larger_of_its_sides() -> None:
    # Who trained in the first may be held out in the second: 3 + 4 and 1 + 4, not 3 + 2 and 1 + 4.
    assert pytest.approx((7, 5)) == units(
        on("s", TRAINING, tens(3)), on("s", HELD_OUT, TEN), on("t", TRAINING, tens(2)), on("t", HELD_OUT, tens(4))
    )


def test_two_studies_over_one_split_add_up_side_by_side() -> None:
    assert pytest.approx((5, 5)) == units(
        on("s", TRAINING, tens(3)), on("s", HELD_OUT, TEN), on("s", TRAINING, tens(2)), on("s", HELD_OUT, tens(4))
    )


def test_in_a_further_split_the_larger_side_is_taken_at_each_order() -> None:
    sampled = SampledGaussian(1.0, 0.01, count=100)
    one, other = accounting.rdp([tens(10)]), accounting.rdp([sampled])
    spent = compose([on("s", TRAINING, TEN), on("t", TRAINING, tens(10)), on("t", HELD_OUT, sampled)])

    assert (one > other).any()
    assert (other > one).any()
    np.testing.assert_allclose(np.maximum(one, other), spent.rdp[Part.HELD_OUT], rtol=1e-12)


def test_a_number_over_everybody_is_paid_by_both() -> None:
    assert pytest.approx((2, 2)) == units(on("s", tuple(Part), TEN), on("s", HELD_OUT, TEN), on("s", TRAINING, TEN))


def test_the_dearer_account_is_what_was_spent() -> None:
    spent = compose([on("s", TRAINING, tens(3)), on("s", HELD_OUT, tens(4))])

    assert accounting.epsilon([tens(4)], 1e-5) == pytest.approx(spent.epsilon(1e-5))


parts = st.sampled_from([TRAINING, HELD_OUT, tuple(Part)])
gaussians = st.builds(Gaussian, st.sampled_from([1.0, 3.0, 10.0]), count=st.integers(1, 5))
spendings = st.builds(on, st.sampled_from("stu"), parts, gaussians)


@given(st.lists(spendings, min_size=1, max_size=12))
def test_no_patient_pays_more_than_its_account_whatever_sides_it_is_on(made: list[Spending]) -> None:
    accounts = compose(made).rdp
    for sides in ({"s": a, "t": b, "u": c} for a in Part for b in Part for c in Part):
        events = [event for each in made if sides[each.split] in each.parts for event in each.events]
        account = accounts[sides[made[0].split]]

        assert (accounting.rdp(events) <= account * (1 + 1e-12)).all()


def test_the_samplers_errors_add_up_on_a_side_and_over_the_splits() -> None:
    rough = Gaussian(10.0, count=3, sampler_error=1e-9)
    less = Gaussian(10.0, count=2, sampler_error=1e-9)
    spent = compose(
        [on("s", TRAINING, rough), on("s", HELD_OUT, less), on("t", HELD_OUT, rough), on("t", TRAINING, less)]
    )

    assert pytest.approx({Part.TRAINING: 6e-9, Part.HELD_OUT: 5e-9}, rel=1e-12) == dict(spent.sampler_error)


def test_nothing_costs_nothing() -> None:
    assert 0.0 == compose([]).epsilon(1e-5)


# What a budget covers.


def test_a_plan_is_said_before_alone_and_after() -> None:
    cost = plan_cost([on("s", TRAINING, tens(3))], [on("s", TRAINING, TEN)], Budget(epsilon=2.0, delta=1e-5))
    expected = [accounting.epsilon([tens(count)], 1e-5) for count in (3, 1, 4)]

    assert expected == pytest.approx([cost.before, cost.alone, cost.after])


def test_at_the_orders_of_a_ledger_shares_of_the_budget_add_up() -> None:
    budget = budget_for(tens(10))
    orders = orders_for([on("s", TRAINING, TEN)], budget)
    cost = plan_cost([on("s", TRAINING, tens(3))], [on("s", TRAINING, tens(4))], budget, orders)

    assert (0.3, 0.4, 0.7) == pytest.approx((cost.share_before, cost.share_alone, cost.share_after))


def test_the_very_last_of_a_budget_may_be_spent_and_not_more() -> None:
    budget, spent = budget_for(tens(10)), [on("s", TRAINING, TEN)] * 9
    orders = orders_for([on("s", TRAINING, TEN)], budget)

    assert (True, False) == (
        plan_cost(spent, [on("s", TRAINING, TEN)], budget, orders).fits,
        plan_cost(spent, [on("s", TRAINING, TEN, Gaussian(1000.0))], budget, orders).fits,
    )


def test_a_first_study_that_was_calibrated_to_the_budget_fits_though_its_sides_have_other_best_orders() -> None:
    budget = Budget(epsilon=8.0, delta=1e-5)
    steps = accounting.calibrate(lambda z: [SampledGaussian(z, 0.1, count=120)], 8.0, 1e-5)
    once = accounting.calibrate(lambda z: [Gaussian(z)], 8.0, 1e-5)
    plan = [on("s", TRAINING, SampledGaussian(steps, 0.1, count=120)), on("s", HELD_OUT, Gaussian(once))]
    orders = orders_for(plan, budget)

    assert {Part.TRAINING: 3, Part.HELD_OUT: 4} == orders
    assert plan_cost([], plan, budget, orders).fits
    assert not plan_cost([], plan, budget, {Part.TRAINING: 4, Part.HELD_OUT: 4}).fits


def test_a_small_first_study_fixes_the_order_for_the_whole_budget() -> None:
    # Alone its best order is 14; ten times as much, the whole budget, has 8.
    plan = [on("s", TRAINING, Gaussian(accounting.calibrate(lambda z: [Gaussian(z)], 1.0, 1e-4)))]
    budget = Budget(epsilon=2.0, delta=1e-4)

    assert (14, 8) == (
        accounting.best_order(compose(plan).rdp[Part.TRAINING], 1e-4),
        orders_for(plan, budget)[Part.TRAINING],
    )


def test_an_account_that_the_first_plan_leaves_out_has_the_order_of_the_other() -> None:
    orders = orders_for([on("s", TRAINING, TEN)], Budget(epsilon=2.0, delta=1e-4))

    assert orders[Part.TRAINING] == orders[Part.HELD_OUT]


def test_without_orders_the_best_ones_are_taken() -> None:
    budget = budget_for(SampledGaussian(0.6, 0.01, count=1000))

    assert plan_cost([], [on("s", TRAINING, SampledGaussian(0.6, 0.01, count=1000))], budget).fits
    assert not plan_cost([], [on("s", TRAINING, SampledGaussian(0.6, 0.01, count=1001))], budget).fits


@given(st.lists(spendings, min_size=1, max_size=6), st.lists(spendings, min_size=1, max_size=6))
def test_what_fits_has_an_epsilon_within_the_budget(spent: list[Spending], planned: list[Spending]) -> None:
    budget = Budget(epsilon=8.0, delta=1e-5)
    cost = plan_cost(spent, planned, budget, orders_for(spent, budget))

    assert (cost.share_after <= 1) == cost.fits
    assert cost.after <= 8.0 or not cost.fits


def test_a_sampler_whose_error_uses_delta_up_is_not_covered() -> None:
    rough = on("s", TRAINING, Gaussian(1000.0, sampler_error=1e-5))

    assert not plan_cost([], [rough], Budget(epsilon=8.0, delta=1e-5), dict.fromkeys(Part, 4)).fits


def test_a_budget_that_allows_nothing_covers_nothing() -> None:
    budget = Budget(epsilon=0.001, delta=1e-9)
    cost = plan_cost([], [on("s", TRAINING, TEN)], budget, dict.fromkeys(Part, 2))

    assert (False, math.inf) == (cost.fits, cost.share_after)


def budget_for(*events: Event) -> Budget:
    """Just enough for events; the last digits may differ in another order of addition."""
    return Budget(epsilon=accounting.epsilon(events, 1e-5) * (1 + 1e-9), delta=1e-5)


# A study's plan.


def test_a_study_without_privacy_is_charged_nothing() -> None:
    assert () == spendings_of(a_study(""), "s")


def test_a_study_with_privacy_is_charged_its_own_epsilon_on_both_sides() -> None:
    plan = spendings_of(a_study("[privacy]\nepsilon = 2.0\ndelta = 1e-4"), "s")
    paid = [compose([each]).epsilon(1e-4) for each in plan]

    assert [(TRAINING, 2), (HELD_OUT, 1)] == [(each.parts, len(each.events)) for each in plan]
    assert [2.0, 2.0] == pytest.approx(paid, rel=1e-4)
    assert plan_cost([], plan, Budget(epsilon=2.0, delta=1e-4), orders_for(plan, Budget(epsilon=2.0, delta=1e-4))).fits


def a_study(more: str) -> Study:
    method = "private-logistic-regression" if more else "logistic-regression"
    return parse_study(tomllib.loads(f"{STUDY.replace('logistic-regression', method)}\n{more}"), "study.toml")


@pytest.mark.parametrize(
    "wrong", [{"split": "", "parts": TRAINING, "events": (TEN,)}, {"split": "s", "parts": (), "events": (TEN,)}]
)
def test_a_spending_says_where_it_is_spent(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="has a split"):
        Spending(**wrong)  # type: ignore[arg-type]


def test_without_a_budget_it_is_said_what_to_write() -> None:
    with pytest.raises(SettingsError, match=r"site.toml: no \[budget\].* epsilon = 2.0 and delta = 1e-5"):
        required(None, "site.toml")
