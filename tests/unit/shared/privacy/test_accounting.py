"""Epsilon against closed forms, published values and an accountant of its own that integrates numerically."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import norm, skellam

from shared.privacy import accounting
from shared.privacy.accounting import ORDERS, Event, Gaussian, SampledGaussian, Skellam

MNIST = 256 / 60_000
"""A batch of 256 of the 60,000 digits."""


def at(order: int, *events: Event) -> float:
    return float(accounting.rdp(events)[ORDERS.index(order)])


# --- Closed forms ---


def test_the_divergence_of_a_gaussian_is_its_order_over_twice_the_variance() -> None:
    assert [3 * order / 8 for order in ORDERS] == pytest.approx(list(accounting.rdp([Gaussian(2.0, count=3)])))


def test_a_sample_of_everybody_costs_what_the_whole_costs() -> None:
    np.testing.assert_array_equal(accounting.rdp([Gaussian(2.0)]), accounting.rdp([SampledGaussian(2.0, 1.0)]))


def gaussian_epsilon(noise_multiplier: float, delta: float) -> float:
    """Return the exact epsilon of a Gaussian (B. Balle, Y.-X. Wang, ICML 2018, Theorem 8)."""

    def excess(epsilon: float) -> float:
        shift, slope = 1 / (2 * noise_multiplier), epsilon * noise_multiplier
        log_second = epsilon + norm.logcdf(-shift - slope)
        return float(norm.cdf(shift - slope) - math.exp(log_second) - delta)

    return float(brentq(excess, 0.0, 1000.0, xtol=1e-12))


@pytest.mark.parametrize("delta", [1e-4, 1e-6])
@pytest.mark.parametrize("noise_multiplier", [0.5, 1.0, 2.0, 10.0, 50.0])
def test_epsilon_of_a_gaussian_is_above_the_exact_one_by_at_most_a_fifth(noise_multiplier: float, delta: float) -> None:
    exact = gaussian_epsilon(noise_multiplier, delta)

    assert exact <= accounting.epsilon([Gaussian(noise_multiplier)], delta) <= 1.2 * exact


@pytest.mark.parametrize(("noise_multiplier", "count"), [(1.0, 1), (5.0, 25), (20.0, 10_000), (0.2, 1)])
def test_pld_epsilon_of_gaussians_is_the_exact_one_of_a_single_gaussian(noise_multiplier: float, count: int) -> None:
    exact = gaussian_epsilon(noise_multiplier / math.sqrt(count), 1e-5)

    assert exact == pytest.approx(accounting.pld_epsilon([Gaussian(noise_multiplier, count)], 1e-5), rel=1e-4)


# --- Published values ---


@pytest.mark.parametrize(
    ("published", "event"),
    [
        # M. Abadi et al.: Deep Learning with Differential Privacy, CCS 2016, section 3.2.
        (1.26, SampledGaussian(4.0, 0.01, count=10_000)),
        # TensorFlow Privacy, tutorials/README.md: 60 and 10 epochs on MNIST.
        (2.92, SampledGaussian(1.12, MNIST, count=14_062)),
        (1.20, SampledGaussian(1.2, MNIST, count=2_343)),
    ],
)
def test_divergences_give_the_published_epsilon_by_the_conversion_of_its_time(published: float, event: Event) -> None:
    """Mironov's Proposition 3 is what both used; the one of Canonne, Kamath and Steinke proves less."""
    orders = np.array(ORDERS)

    assert published == round(float(np.min(accounting.rdp([event]) + math.log(1e5) / (orders - 1))), 2)


@pytest.mark.parametrize(
    ("published", "event"), [(1.26, SampledGaussian(4.0, 0.01, 10_000)), (2.92, SampledGaussian(1.12, MNIST, 14_062))]
)
def test_epsilon_is_below_the_published_one_and_pld_epsilon_below_that(published: float, event: Event) -> None:
    by_distribution = accounting.pld_epsilon([event], 1e-5)

    assert by_distribution is not None
    assert by_distribution < accounting.epsilon([event], 1e-5) < published


# --- An accountant of its own ---


@cache
def log_densities(noise_multiplier: float, rate: float) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Return the log densities of one step without and with the patient, on a grid, and the grid's step."""
    grid, step = np.linspace(-150.0, 250.0, 400_001, retstep=True)
    without, shifted = norm.logpdf(grid, 0.0, noise_multiplier), norm.logpdf(grid, 1.0, noise_multiplier)
    return without, np.logaddexp(math.log1p(-rate) + without, math.log(rate) + shifted), float(step)


def integrated(order: int, p: NDArray[np.float64], q: NDArray[np.float64], step: float) -> float:
    return float((logsumexp(order * p + (1 - order) * q) + math.log(step)) / (order - 1))


@pytest.mark.parametrize("order", [2, 3, 8, 32])
@pytest.mark.parametrize(("noise_multiplier", "rate"), [(0.7, 0.01), (1.0, 0.1), (1.5, 0.5), (4.0, 0.1)])
def test_a_sampled_gaussian_diverges_as_the_integral_over_its_densities(
    noise_multiplier: float, rate: float, order: int
) -> None:
    without, with_patient, step = log_densities(noise_multiplier, rate)

    added = integrated(order, with_patient, without, step)

    assert added == pytest.approx(at(order, SampledGaussian(noise_multiplier, rate)), rel=1e-9)


@pytest.mark.parametrize("order", [2, 3, 8, 32])
@pytest.mark.parametrize(("noise_multiplier", "rate"), [(0.7, 0.01), (1.0, 0.1), (1.5, 0.5), (4.0, 0.1)])
def test_it_diverges_less_the_other_way_round(noise_multiplier: float, rate: float, order: int) -> None:
    """Adding a patient and removing one are both neighbours: the larger divergence counts."""
    without, with_patient, step = log_densities(noise_multiplier, rate)

    removed = integrated(order, without, with_patient, step)

    assert removed <= at(order, SampledGaussian(noise_multiplier, rate))


@pytest.mark.parametrize(("noise_multiplier", "rate", "count"), [(1.0, 0.1, 120), (2.0, 0.02, 1000)])
def test_epsilon_is_that_of_the_integrals(noise_multiplier: float, rate: float, count: int) -> None:
    without, with_patient, step = log_densities(noise_multiplier, rate)
    delta, orders = 1e-5, range(2, 41)
    divergences = [count * integrated(order, with_patient, without, step) for order in orders]

    # Canonne, Kamath, Steinke 2020, Proposition 12.
    expected = min(
        divergence + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
        for order, divergence in zip(orders, divergences, strict=True)
    )

    assert expected == pytest.approx(accounting.epsilon([SampledGaussian(noise_multiplier, rate, count)], delta))


@pytest.mark.parametrize("rate", [1e-3, 0.1, 0.5])
@pytest.mark.parametrize("noise_multiplier", [1.0, 50.0, 1000.0, 1e6])
def test_rounding_takes_nothing_off_a_small_divergence(noise_multiplier: float, rate: float) -> None:
    """At order 2 the sum is 1 + rate**2 * (e**(1 / noise_multiplier**2) - 1)."""
    exact = math.log1p(rate**2 * math.expm1(1 / noise_multiplier**2))

    assert exact <= at(2, SampledGaussian(noise_multiplier, rate))


# --- Skellam ---


def test_a_skellam_divergence_is_the_one_computed_by_hand() -> None:
    """2 * 2**2 / (2 * 100) + (3 * 2**2 + 6 * 6) / (4 * 100**2): the other term, 3 * 6 / (2 * 100), is larger."""
    assert 0.04 + 0.0012 == pytest.approx(at(2, Skellam(l1=6.0, l2=2.0, variance=100.0)))


def test_with_little_noise_the_other_term_is_the_smaller_one() -> None:
    """2 * 1 / (2 * 0.5) + 3 * 2 / (2 * 0.5): the other term, (3 * 1 + 6 * 2) / (4 * 0.5**2), is 15."""
    assert 2.0 + 6.0 == pytest.approx(at(2, Skellam(l1=2.0, l2=1.0, variance=0.5)))


def skellam_log_pmf(variance: float, shift: int, reach: int) -> NDArray[np.float64]:
    return np.asarray(skellam.logpmf(np.arange(-reach, reach + 1) - shift, variance / 2, variance / 2))


def exact_divergence(order: int, shift: int, variance: float) -> float:
    """Return the Rényi divergence of a shifted Skellam variable, summed over all that has weight."""
    reach = round(12 * math.sqrt(variance)) + 2 * order * shift
    terms = order * skellam_log_pmf(variance, shift, reach) + (1 - order) * skellam_log_pmf(variance, 0, reach)
    assert max(terms[0], terms[-1]) < terms.max() - 40
    return float(logsumexp(terms)) / (order - 1)


@pytest.mark.parametrize("variance", [10.0, 100.0, 1000.0])
@pytest.mark.parametrize("shift", [1, 2, 5])
@pytest.mark.parametrize("order", [2, 3, 5, 8])
def test_the_exact_skellam_divergence_is_at_most_the_bound(order: int, shift: int, variance: float) -> None:
    assert exact_divergence(order, shift, variance) <= at(order, Skellam(l1=shift, l2=shift, variance=variance))


@pytest.mark.parametrize("shift", [1, 5])
@pytest.mark.parametrize("order", [2, 8])
def test_with_much_noise_the_bound_is_close(order: int, shift: int) -> None:
    bound = at(order, Skellam(l1=shift, l2=shift, variance=10_000.0))

    assert exact_divergence(order, shift, 10_000.0) >= 0.999 * bound


def test_several_entries_diverge_by_the_sum_of_theirs_at_most() -> None:
    """A patient adds 3, 1 and -2: 6 in L1, the square root of 14 in L2."""
    exact = sum(exact_divergence(4, shift, 100.0) for shift in (3, 1, 2))

    assert exact <= at(4, Skellam(l1=6.0, l2=math.sqrt(14), variance=100.0))


@pytest.mark.parametrize(("shift", "variance"), [(1, 4.0), (3, 30.0), (10, 1000.0)])
def test_a_skellam_sum_has_the_delta_that_epsilon_promises(shift: int, variance: float) -> None:
    delta = 1e-4
    epsilon = accounting.epsilon([Skellam(l1=shift, l2=shift, variance=variance)], delta)
    reach = round(12 * math.sqrt(variance)) + 20 * shift
    p, q = (np.exp(skellam_log_pmf(variance, by, reach)) for by in (shift, 0))

    assert np.maximum(p - math.exp(epsilon) * q, 0).sum() <= delta


def test_fine_steps_make_a_skellam_sum_cost_what_a_gaussian_one_costs() -> None:
    fine = Skellam(l1=1e6, l2=1e5, variance=(2.0 * 1e5) ** 2)

    assert accounting.epsilon([Gaussian(2.0)], 1e-5) == pytest.approx(accounting.epsilon([fine], 1e-5), rel=1e-3)


# --- Composition ---

MIXED: tuple[Event, ...] = (Gaussian(3.0, 2), SampledGaussian(1.1, 0.05, 40), Skellam(20.0, 10.0, 4000.0, 3))


def test_divergences_of_several_events_add_up() -> None:
    by_hand = 2 * accounting.rdp([Gaussian(3.0)]) + 40 * accounting.rdp([SampledGaussian(1.1, 0.05)])

    np.testing.assert_allclose(by_hand, accounting.rdp(MIXED[:2]), rtol=1e-12)


@pytest.mark.parametrize("events", [[], [Gaussian(1e9)]])
def test_nothing_released_or_nothing_but_noise_costs_nothing(events: list[Event]) -> None:
    assert (0.0, 0.0) == (accounting.epsilon(events, 1e-5), accounting.pld_epsilon(events, 1e-5))


noises, rates, counts = st.floats(0.6, 20.0), st.floats(0.001, 1.0), st.integers(1, 1000)


@settings(max_examples=25)
@given(noise=noises, rate=rates, count=counts, factor=st.floats(1.01, 2.0))
def test_more_noise_costs_less(noise: float, rate: float, count: int, factor: float) -> None:
    more, less = (accounting.rdp([SampledGaussian(each, rate, count)]) for each in (noise * factor, noise))

    assert (more < less).all()


@settings(max_examples=25)
@given(noise=noises, rate=st.floats(0.001, 0.5), count=counts, factor=st.floats(1.01, 2.0))
def test_a_larger_sample_costs_more(noise: float, rate: float, count: int, factor: float) -> None:
    larger, smaller = (accounting.rdp([SampledGaussian(noise, each, count)]) for each in (rate * factor, rate))

    assert (larger > smaller).all()


@settings(max_examples=25)
@given(event=st.sampled_from(MIXED[:2]), count=counts, more=counts)
def test_more_releases_cost_more(event: Gaussian | SampledGaussian, count: int, more: int) -> None:
    few, many = (type(event)(**{**vars(event), "count": each}) for each in (count, count + more))

    assert accounting.epsilon([few], 1e-5) < accounting.epsilon([many], 1e-5)


@pytest.mark.parametrize(("noise", "rate", "count"), [(1.0, 0.1, 120), (0.8, 0.02, 500), (4.0, 0.01, 10_000)])
def test_pld_epsilon_is_below_epsilon_by_at_most_a_quarter(noise: float, rate: float, count: int) -> None:
    events: list[Event] = [Gaussian(10.0), SampledGaussian(noise, rate, count)]
    by_distribution, by_divergence = accounting.pld_epsilon(events, 1e-5), accounting.epsilon(events, 1e-5)

    assert by_distribution is not None
    assert 0.75 * by_divergence < by_distribution < by_divergence


def test_a_skellam_event_leaves_no_pld_epsilon() -> None:
    assert accounting.pld_epsilon(MIXED, 1e-5) is None


@pytest.mark.parametrize("noise_multiplier", [0.7, 1.0, 2.0, 5.0, 20.0])
def test_orders_that_are_integers_cost_less_than_one_percent(noise_multiplier: float) -> None:
    orders = np.linspace(1.01, 1024, 1_000_000)
    rho, delta = 1 / (2 * noise_multiplier**2), 1e-6
    finest = float(np.min(rho * orders + np.log1p(-1 / orders) - np.log(delta * orders) / (orders - 1)))

    assert finest <= accounting.epsilon([Gaussian(noise_multiplier)], delta) < 1.01 * finest


# --- Samplers that are not ideal ---


def test_sampler_errors_add_up_over_all_uses() -> None:
    events: list[Event] = [Gaussian(1.0, 10, 1e-12), Skellam(2.0, 1.0, 9.0, 3, 1e-11), SampledGaussian(1.0, 0.1, 5)]

    assert 4e-11 == pytest.approx(accounting.sampler_error_of(events))


@pytest.mark.parametrize("error", [1e-15, 1e-9, 1e-7])
def test_a_sampler_error_comes_off_delta_once_for_each_of_the_neighbours(error: float) -> None:
    delta, exact = 1e-5, accounting.rdp([Gaussian(2.0)])

    found = accounting.epsilon([Gaussian(2.0, sampler_error=error)], delta)

    assert found == pytest.approx(accounting.epsilon_of(exact, delta - (1 + math.exp(found)) * error), rel=1e-10)


def test_a_sampler_error_is_in_the_pld_epsilon_too() -> None:
    found = accounting.pld_epsilon([Gaussian(2.0, sampler_error=1e-7)], 1e-5)

    assert found is not None
    assert gaussian_epsilon(2.0, 1e-5 - (1 + math.exp(found)) * 1e-7) == pytest.approx(found, rel=1e-4)


@pytest.mark.parametrize(("noise_multiplier", "error"), [(2.0, 5e-6), (2.0, 1.0), (0.01, 5e-324)])
def test_a_sampler_whose_error_takes_all_of_delta_proves_nothing(noise_multiplier: float, error: float) -> None:
    events = [Gaussian(noise_multiplier, sampler_error=error)]

    assert (math.inf, math.inf) == (accounting.epsilon(events, 1e-5), accounting.pld_epsilon(events, 1e-5))


# --- Calibration ---


@pytest.mark.parametrize("count", [120, 10_000])
@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
def test_calibrated_noise_costs_at_most_the_target_and_hardly_less(epsilon: float, count: int) -> None:
    def events(multiplier: float) -> Sequence[Event]:
        return [Skellam(1e4, 1e3, (20 * 1e3) ** 2), SampledGaussian(multiplier, 0.02, count, 1e-15)]

    found = accounting.epsilon(events(accounting.calibrate(events, epsilon, 1e-4)), 1e-4)

    assert 0.999 * epsilon < found <= epsilon


def test_calibrated_noise_of_a_gaussian_is_the_one_that_epsilon_was_computed_from() -> None:
    epsilon = accounting.epsilon([Gaussian(0.05)], 1e-5)

    assert 0.05 == pytest.approx(accounting.calibrate(lambda z: [Gaussian(z)], epsilon, 1e-5), rel=2e-5)


def test_noise_that_was_calibrated_for_all_rounds_pays_for_them_one_by_one() -> None:
    multiplier = accounting.calibrate(lambda z: [SampledGaussian(z, 0.1, 120)], 5.0, 1e-4)
    one = accounting.rdp([SampledGaussian(multiplier, 0.1)])

    spent = sum([one] * 120, start=np.zeros(len(ORDERS)))

    assert accounting.epsilon_of(spent, 1e-4) <= 5.0


def test_a_billionth_of_epsilon_is_left_for_rounding() -> None:
    epsilon = accounting.epsilon([Gaussian(2.0)], 1e-5)

    assert 2.0**-10 == pytest.approx(
        accounting.calibrate(lambda z: [Gaussian(2.0)], epsilon * (1 + 2e-9), 1e-5), rel=0.5
    )
    with pytest.raises(ValueError, match=r"within reach of some noise"):
        accounting.calibrate(lambda z: [Gaussian(2.0)], epsilon, 1e-5)


def test_no_noise_is_enough_where_other_events_cost_more() -> None:
    with pytest.raises(ValueError, match=r"epsilon 0.5 at delta 1e-05 must be within reach of some noise"):
        accounting.calibrate(lambda z: [Gaussian(1.0), Gaussian(z)], 0.5, 1e-5)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf, True])
def test_an_epsilon_that_is_no_target_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match=r"epsilon must be a number above 0"):
        accounting.calibrate(lambda z: [Gaussian(z)], epsilon, 1e-5)


# --- Parts of the patients, and a budget that is spent on the way ---


def test_two_parts_cost_the_larger_one_at_each_order() -> None:
    training, evaluation = accounting.rdp([SampledGaussian(1.0, 0.1)]), accounting.rdp([Gaussian(1.2)])

    expected = [max(pair) for pair in zip(training, evaluation, strict=True)]

    assert expected == list(accounting.parallel(training, evaluation))
    assert {True, False} == set((training > evaluation).tolist()), "each is the larger one somewhere"


def test_the_best_order_is_the_one_at_which_epsilon_is_reached() -> None:
    divergences = accounting.rdp([Gaussian(2.0)])

    order = accounting.best_order(divergences, 1e-5)

    # 1 + noise_multiplier * sqrt(2 log(1 / delta)) is 10.6 by Mironov's conversion; the better one moves it down a bit.
    assert 10 == order
    assert accounting.epsilon_of(divergences, 1e-5) == accounting.epsilon_of(divergences, 1e-5, order=order)


def test_a_plan_fits_into_what_it_was_calibrated_for_to_the_last_round() -> None:
    multiplier = accounting.calibrate(lambda z: [SampledGaussian(z, 0.1, 120)], 5.0, 1e-4)
    rounds = [count * accounting.rdp([SampledGaussian(multiplier, 0.1)]) for count in (1, 119, 120)]
    order = accounting.best_order(rounds[2], 1e-4)

    assert accounting.fits(rounds[1], rounds[0], 5.0, 1e-4, order=order)
    assert not accounting.fits(rounds[2], rounds[0], 5.0, 1e-4, order=order)


def test_the_filter_looks_at_its_own_order_only() -> None:
    nothing, divergences = np.zeros(len(ORDERS)), accounting.rdp([Gaussian(2.0)])
    budget = 1.01 * accounting.epsilon_of(divergences, 1e-5)

    assert [True, False] == [accounting.fits(nothing, divergences, budget, 1e-5, order=order) for order in (10, 30)]


def test_the_filter_holds_back_for_the_samplers() -> None:
    nothing, divergences = np.zeros(len(ORDERS)), accounting.rdp([Gaussian(2.0)])
    budget = 1.001 * accounting.epsilon_of(divergences, 1e-5)

    assert not accounting.fits(nothing, divergences, budget, 1e-5, order=10, sampler_error=1e-7)


def test_an_order_that_is_not_kept_is_refused() -> None:
    with pytest.raises(ValueError, match=r"order must be one of ORDERS. Received: 65"):
        accounting.epsilon_of(np.zeros(len(ORDERS)), 1e-5, order=65)


# --- What is refused ---


@pytest.mark.parametrize("noise", [0.0, -1.0, math.nan, math.inf, 1e-7, 1e10, 10**400, True, "1", None])
def test_a_noise_multiplier_that_is_none_is_refused(noise: Any) -> None:
    for made in (lambda: Gaussian(noise), lambda: SampledGaussian(noise, 0.1)):
        with pytest.raises(ValueError, match=r"noise_multiplier must be a number from 1e-06 to 1e\+09. Received:"):
            made()


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.0000001, math.nan, True])
def test_a_sampling_rate_outside_zero_to_one_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=r"sampling_rate must be a number from 1e-12 to 1. Received:"):
        SampledGaussian(1.0, rate)


@pytest.mark.parametrize("count", [0, -1, 1.0, True, 2**53 + 1, math.nan])
def test_a_count_that_is_none_is_refused(count: Any) -> None:
    for made in (lambda: Gaussian(1.0, count), lambda: Skellam(2.0, 1.0, 9.0, count)):
        with pytest.raises(ValueError, match=r"count must be an integer from 1 to"):
            made()


@pytest.mark.parametrize("error", [-1e-12, 1.1, math.nan])
def test_a_sampler_error_that_is_no_distance_is_refused(error: float) -> None:
    with pytest.raises(ValueError, match=r"sampler_error must be a number from 0 to 1"):
        Gaussian(1.0, sampler_error=error)


@pytest.mark.parametrize(
    ("said", "l1", "l2", "variance"),
    [
        ("l2 must be a number from 1 to", 2.0, 0.5, 9.0),
        ("l2 must be a number from 1 to", math.nan, math.nan, 9.0),
        ("l1 must be a number from 4 to", 2.0, 4.0, 9.0),
        ("l1 must be a number from 1 to", math.inf, 1.0, 9.0),
        ("variance must be a number from 1e-12 to", 2.0, 1.0, 0.0),
        ("variance must be a number from 1e-12 to", 2.0, 1.0, -9.0),
        ("variance must be a number from 1e-12 to", 2.0, 1.0, math.nan),
    ],
)
def test_a_skellam_sum_that_cannot_be_is_refused(said: str, l1: float, l2: float, variance: float) -> None:
    with pytest.raises(ValueError, match=said):
        Skellam(l1, l2, variance)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, 2.0, math.nan, True])
def test_a_delta_outside_zero_to_one_is_refused(delta: float) -> None:
    for found in (accounting.epsilon, accounting.pld_epsilon):
        with pytest.raises(ValueError, match=r"delta must be a number above 0 and below 1. Received:"):
            found([Gaussian(1.0)], delta)


def test_an_event_that_the_accountant_does_not_know_is_refused() -> None:
    for used in (lambda: accounting.rdp(["laplace"]), lambda: accounting.to_plain("laplace")):  # type: ignore[arg-type,list-item]
        with pytest.raises(ValueError, match=r"expected an event: gaussian, sampled-gaussian, skellam. Received: 'lap"):
            used()


@pytest.mark.parametrize(
    "divergences", [np.zeros(3), np.full(len(ORDERS), math.nan), np.full(len(ORDERS), -1.0), np.zeros((2, len(ORDERS)))]
)
def test_divergences_that_are_none_are_refused(divergences: NDArray[np.float64]) -> None:
    nothing = np.zeros(len(ORDERS))
    for used in (
        lambda: accounting.epsilon_of(divergences, 1e-5),
        lambda: accounting.parallel(nothing, divergences),
        lambda: accounting.fits(nothing, divergences, 1.0, 1e-5, order=2),
    ):
        with pytest.raises(ValueError, match=r"divergences, none negative"):
            used()


# --- As the ledger writes them down ---

WRITTEN: list[Event] = [
    Gaussian(0.1 + 0.2, 3, 1e-15),
    SampledGaussian(1.1, 1 / 3, 120, 2e-16),
    Skellam(math.sqrt(14) * 3, math.sqrt(14), 1e15 / 3, 1, 5e-324),
    Gaussian(2, 1, 0),
]


@pytest.mark.parametrize("event", WRITTEN)
def test_an_event_comes_back_from_json_as_it_was(event: Event) -> None:
    assert event == accounting.from_plain(json.loads(json.dumps(accounting.to_plain(event))))


def test_an_event_is_written_with_all_its_numbers() -> None:
    written = {"kind": "skellam", "l1": 6.0, "l2": 3.0, "variance": 400.0, "count": 2, "sampler_error": 0.0}

    assert json.dumps(written) == json.dumps(accounting.to_plain(Skellam(6, 3, 400, 2)))


GAUSSIAN = {"kind": "gaussian", "noise_multiplier": 1.0, "count": 1, "sampler_error": 0.0}


@pytest.mark.parametrize(
    ("said", "value"),
    [
        ("an event must have a kind", {**GAUSSIAN, "kind": "laplace"}),
        ("an event must have a kind", {**GAUSSIAN, "kind": ["gaussian"]}),
        ("an event must have a kind", {"noise_multiplier": 1.0, "count": 1, "sampler_error": 0.0}),
        ("an event must have a kind", ["gaussian"]),
        (
            "gaussian must have kind, noise_multiplier, count, sampler_error. Received",
            {**GAUSSIAN, "sampling_rate": 1.0},
        ),
        ("gaussian must have kind, noise_multiplier, count, sampler_error. Received", {"kind": "gaussian"}),
        ("skellam must have kind, l1, l2, variance", {**GAUSSIAN, "kind": "skellam"}),
        ("noise_multiplier must be a number", {**GAUSSIAN, "noise_multiplier": "1.0"}),
        ("noise_multiplier must be a number", {**GAUSSIAN, "noise_multiplier": None}),
        ("count must be an integer", {**GAUSSIAN, "count": 1.0}),
        ("count must be an integer", {**GAUSSIAN, "count": True}),
    ],
)
def test_what_is_no_event_is_refused(said: str, value: Any) -> None:
    with pytest.raises(ValueError, match=said):
        accounting.from_plain(value)
