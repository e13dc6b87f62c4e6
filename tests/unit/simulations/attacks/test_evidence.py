"""What the adversary makes of sums: numbers that can be checked by hand."""

from __future__ import annotations

import numpy as np
import pytest

from simulations.attacks.canaries import canaries_of
from simulations.attacks.evidence import Evidence, log_odds, read
from simulations.attacks.observed import observe
from tests.unit.simulations.attacks.audited import insecure_entropy, private_study, three_hospitals


def evidence(said: list[float], moved: list[list[float]]) -> Evidence:
    found = Evidence(np.zeros((len(moved), len(moved))), np.zeros(len(moved)))
    found.add(np.array(said), np.array(moved), 1.0)
    return found


def test_the_odds_of_one_canary_are_those_of_two_gaussians() -> None:
    """y = (0.8, 1, -1): without noise from nowhere, a = 1 in the first number; the others say that v = (1 + 1) / 2."""
    assert log_odds([evidence([0.8, 1.0, -1.0], [[1.0, 0.0, 0.0]])]) == pytest.approx([0.8 - 0.5])


def test_two_stages_say_the_sum_of_what_each_says() -> None:
    stages = [evidence([0.8, 1.0, -1.0], [[1.0, 0.0, 0.0]]), evidence([0.6, 1.0, -1.0], [[1.0, 0.0, 0.0]])]

    assert log_odds(stages) == pytest.approx([0.3 + 0.1])


def test_a_sum_without_noise_is_read_however_alike_the_canaries_are() -> None:
    moved = [[1.0, 0.0, 0.0, 0.0], [0.9, 0.4, 0.0, 0.0], [0.9, 0.0, 0.4, 0.0]]
    for coins in np.ndindex(2, 2, 2):
        found = log_odds([evidence(list(np.array(coins) @ np.array(moved)), moved)])
        assert [bool(coin) for coin in coins] == (found > 0).tolist()


def test_a_stage_in_which_canaries_add_nothing_says_nothing() -> None:
    assert log_odds([evidence([1.0, 2.0], [[0.0, 0.0]])]).tolist() == [0.0]


def test_a_length_that_is_not_known_is_learned_from_the_sum() -> None:
    """Both directions are ten times too long; without noise the canary that is in is told all the same."""
    stage = evidence([0.0, 0.0, 0.0], [[10.0, 0.0, 0.0], [0.0, 10.0, 0.0]])
    stage.match, stage.square = np.array([5.0, -5.0]), 0.5
    stage.known_length = False

    odds = log_odds([stage])
    assert odds[0] > 6.0
    assert odds[1] < -6.0


def test_the_adversary_knows_everything_but_the_coins() -> None:
    """What is left of a sum without the others' and the present canaries' part is the noise, of the declared size."""
    study, data = private_study(), three_hospitals()
    trained = observe(study, data, insecure_entropy(1))
    canaries = canaries_of(study, data, trained, 5, np.random.default_rng(1))
    present = np.array([True, False, True, True, False])

    observed = observe(study, canaries.put(data, present), insecure_entropy(2))
    reading = read(observed, data, canaries)

    assert {"prepare", "train"} == set(reading.reaches)
    assert reading.reaches["train"].l2 == pytest.approx(0.1)
    assert all(reach.ratio <= 1.0 + 1e-9 for reach in reading.reaches.values())
