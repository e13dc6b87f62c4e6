"""The simulated trial: a month by hand, records that keep to the model, and what a dosing is worth in truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from client.data.conform import conform
from shared.errors import DataError
from shared.study import load_study
from simulations.datasets import DATASETS
from simulations.datasets.base import fetch, load
from simulations.datasets.cancer_trial import State, best, followed, month_after, new_patients

STUDY = Path(__file__).parents[3] / "simulations" / "studies" / "cancer_trial_policy.toml"
NONE, FULL = 0, 3


def patient(toxicity: float, tumour: float, first_toxicity: float, first_tumour: float) -> State:
    return State(*(np.array([value]) for value in (toxicity, tumour, first_toxicity, first_tumour)))


def test_a_month_of_the_full_dose_is_that_of_the_paper() -> None:
    """Toxicity 1 + 0.1 x 2 + 1.2 x 0.5, a rise that costs 5; tumour 1 + 0.15 x 1 - 1.2 x 0.5, too small a fall."""
    state, reward, risk = month_after(patient(1.0, 1.0, 0.5, 2.0), np.array([FULL]))
    assert [1.8, 0.55] == pytest.approx([state.toxicity[0], state.tumour[0]])
    assert reward[0] == -5
    assert 1 - np.exp(-np.exp(-4 + 2.35)) == pytest.approx(risk[0])


def test_a_tumour_that_is_gone_stays_gone_and_nothing_falls_below_zero() -> None:
    state, reward, _ = month_after(patient(0.1, 0.0, 0.1, 1.0), np.array([NONE]))
    assert (0, 0) == (state.toxicity[0], state.tumour[0])
    assert reward[0] == 15


def test_two_months_of_a_dosing_are_worth_their_rewards_while_the_patient_lives() -> None:
    state, reward, risk = month_after(new_patients(1, 0), np.array([FULL]))
    worth, lived = reward - 60 * risk, 1 - risk
    for _ in range(5):
        state, reward, risk = month_after(state, np.array([NONE]))
        worth, lived = worth + lived * (reward - 60 * risk), lived * (1 - risk)
    found = followed(lambda month, _state: np.array([NONE if month else FULL]), new_patients(1, 0))
    assert (worth[0], lived[0]) == pytest.approx((found.rewards[0], found.survival[0]))


def test_nothing_is_better_than_the_best() -> None:
    patients = new_patients(20, 1)
    top = best(patients).rewards
    until_gone = followed(lambda _month, state: np.where(state.tumour > 0, FULL, NONE), patients).rewards
    always = followed(lambda _month, _state: np.full(20, FULL), patients).rewards
    assert np.all(np.maximum(until_gone, always) <= top + 1e-9)


def test_the_records_are_always_the_same_and_within_the_study() -> None:
    raw, again = (load(DATASETS["cancer_trial"], None) for _ in range(2))
    result = conform(load_study(STUDY).data, raw, "all")
    assert ({}, ()) == (result.findings.outside, result.findings.notes)
    assert (3448, 1000) == (len(raw), result.examples.patient_count)
    assert all(np.array_equal(cells, again.columns[name]) for name, cells in raw.columns.items())


def test_what_was_recorded_is_what_doses_at_random_are_worth() -> None:
    raw, chance = load(DATASETS["cancer_trial"], None), np.random.default_rng(0)
    _, own = np.unique(raw.columns["patient"], return_inverse=True)
    recorded = np.bincount(own, weights=raw.columns["reward"])
    expected = followed(lambda _month, state: chance.integers(4, size=len(state.tumour)), new_patients(4000, 1)).rewards
    assert expected.mean() == pytest.approx(recorded.mean(), abs=2 * recorded.std() / np.sqrt(1000))


def test_the_data_set_says_that_nobody_in_it_exists() -> None:
    trial = DATASETS["cancer_trial"]
    assert trial.simulated
    assert all("simulated" in text.lower() for text in (trial.title, trial.origin, trial.attribution))
    assert "SIMULATED PATIENTS" in load_study(STUDY).study.question
    with pytest.raises(DataError, match=r"is simulated when it is read.*nothing to fetch"):
        fetch(trial)
