"""The bound on epsilon by guesses, against closed forms, exact arithmetic, and mechanisms whose epsilon is known."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from scipy.stats import beta

from shared.privacy.accounting import Gaussian, pld_epsilon
from simulations.attacks.lower_bound import canaries_for, epsilon_bound, largest_bound, p_value


@pytest.mark.parametrize("guesses", [10, 100, 1000])
def test_right_guesses_only_leave_the_epsilon_at_which_they_have_a_chance_of_one_in_twenty(guesses: int) -> None:
    """Without delta, (e^eps / (1 + e^eps))^r = 1/20."""
    accuracy = 0.05 ** (1 / guesses)

    assert math.log(accuracy / (1 - accuracy)) == pytest.approx(epsilon_bound(guesses, guesses, guesses, 0.0), abs=2e-4)


@pytest.mark.parametrize(("guesses", "right"), [(100, 60), (100, 95), (1000, 731)])
def test_without_delta_the_bound_is_that_of_clopper_and_pearson_on_the_accuracy(guesses: int, right: int) -> None:
    accuracy = beta.ppf(0.05, right, guesses - right + 1)

    assert max(math.log(accuracy / (1 - accuracy)), 0.0) == pytest.approx(
        epsilon_bound(5000, guesses, right, 0.0), abs=2e-4
    )


def test_the_probability_with_delta_is_the_theorems_in_exact_arithmetic() -> None:
    """Epsilon = log 3, so that a guess is right three times in four; 40 canaries, 20 guesses, 18 right."""
    chance = Fraction(3, 4)
    law = [math.comb(20, k) * chance**k * (1 - chance) ** (20 - k) for k in range(21)]
    nearly = max(sum(law[18 - i : 18]) / i for i in range(1, 19))
    expected = sum(law[18:]) + 2 * 40 * Fraction(1, 1000) * nearly

    assert float(expected) == pytest.approx(p_value(40, 20, 18, math.log(3.0), 1e-3), rel=1e-12)


def test_half_of_the_guesses_right_bound_nothing() -> None:
    assert epsilon_bound(1000, 1000, 500, 1e-5) == 0.0


def test_more_delta_leaves_less_epsilon() -> None:
    bounds = [epsilon_bound(600, 600, 600, delta) for delta in (0.0, 1e-5, 1e-4, 1e-3)]

    assert sorted(bounds, reverse=True) == bounds
    assert len(set(bounds)) == 4


def test_more_right_guesses_than_guesses_are_refused() -> None:
    with pytest.raises(ValueError, match=r"right <= guesses <= canaries. Received: 11, 10, 20"):
        p_value(20, 10, 11, 1.0, 0.0)


def test_randomised_response_is_within_its_epsilon_and_nearly_reaches_it() -> None:
    """It tells the truth with probability e / (1 + e) and is exactly 1-private: the bound is tight for it."""
    rng = np.random.default_rng(1)
    right = rng.binomial(2000, math.e / (1 + math.e), size=100)
    bounds = np.array([epsilon_bound(2000, 2000, int(each), 0.0) for each in right])

    assert (bounds > 1.0).mean() <= 0.05
    assert bounds.mean() == pytest.approx(0.92, abs=0.02)


def test_the_gaussian_mechanism_is_within_its_exact_epsilon_and_a_tenth_of_its_noise_is_not() -> None:
    """Each of 2000 canaries has a number of its own, 0 or 1, with noise of deviation 2; the surest tenth is guessed."""
    rng = np.random.default_rng(2)
    exact = pld_epsilon([Gaussian(2.0)], 1e-5)
    assert exact is not None

    def bound(deviation: float) -> float:
        present = rng.random(2000) < 0.5
        said = present + rng.normal(scale=deviation, size=2000) - 0.5
        surest = np.argsort(-np.abs(said))[:200]
        return epsilon_bound(2000, 200, int(((said > 0) == present)[surest].sum()), 1e-5)

    assert max(bound(2.0) for _ in range(50)) < exact
    assert min(bound(0.2) for _ in range(10)) > exact


def test_so_many_canaries_are_planned_as_can_contradict_an_epsilon_and_no_fewer() -> None:
    canaries = canaries_for(2.0, 0.9, 1e-5, most=1000)

    assert canaries is not None
    assert largest_bound(canaries, 0.9, 1e-5) > 2.0 >= largest_bound(canaries - 1, 0.9, 1e-5)


def test_no_number_of_canaries_contradicts_epsilon_8_at_a_delta_that_may_give_everybody_away() -> None:
    assert canaries_for(8.0, 1.0, 1e-3, most=3000, step=100) is None
