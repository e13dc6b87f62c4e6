"""A simulated trial of chemotherapy doses: 1000 patients who do not exist, each given a dose at random every month.

The model is that of Zhao, Kosorok and Zeng 2009, "Reinforcement learning design for cancer clinical trials", Statistics
in Medicine 28(26):3294-3315, doi 10.1002/sim.3720. With toxicity W, tumour size M and dose D in [0, 1], a month adds

    W:  a1 max(M, M0) + b1 (D - d1)
    M: (a2 max(W, W0) - b2 (D - d2)) where M > 0: a tumour that is gone stays gone

with a1 = 0.1, a2 = 0.15, b1 = b2 = 1.2, d1 = d2 = 0.5, W0 and M0 uniform on (0, 2), and neither below 0. Whoever is
alive dies in the month with probability 1 - exp(-exp(mu0 + W + M)), of W and M at its end. The reward of a month is

    death: -60;  W falls by 0.5 or more: 5, rises by as much: -5;  no tumour: 15, else M as W

The paper leaves mu0 open, and others who wrote the model down took 0, -4 or -8.5: here -4, by which five of six
patients die within the six months. Unlike there, a dose is one of four, drawn alike in every month (not from 0.5 to 1
in the first), so that each was tried in every state.

Because the truth is known, a dosing that was learned from these records can be followed here, in new patients and
against the best there is: no study of real records can do that.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from client.data.base import RawData
from shared.randomness import generator
from simulations.datasets.base import Dataset

if TYPE_CHECKING:
    from shared.bundle import Bundle

PATIENTS, MONTHS = 1000, 6

DOSES = ("0", "1/3", "2/3", "1")
"""Levels of ``dose``, shares of the largest one."""

_SHARES = np.array([0.0, 1 / 3, 2 / 3, 1.0])
_LOG_HAZARD = -4.0
_DEATH = -60.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class State:
    """Where n patients are; arrays of shape (n,), by which the first toxicity and tumour may stand for many."""

    toxicity: Floats
    tumour: Floats
    first_toxicity: Floats
    first_tumour: Floats

    def columns(self, month: int) -> dict[str, NDArray[Any]]:
        """Return what a record says of them in a month, by column."""
        return {
            "month": np.full(len(self.tumour), month),
            "toxicity": self.toxicity,
            "tumour": self.tumour,
            "tumour_gone": np.where(self.tumour > 0, "no", "yes"),
            "first_toxicity": self.first_toxicity,
            "first_tumour": self.first_tumour,
        }


class Month(NamedTuple):
    """What a month brings; arrays of shape (n,). reward: of those who live; risk: of dying."""

    state: State
    reward: Floats
    risk: Floats


Choice = Callable[[int, State], NDArray[np.int64]]
"""From the month and where patients are to the index of each one's dose."""


def new_patients(count: int, seed: int) -> State:
    """Return patients before their first month."""
    toxicity, tumour = generator(seed, "patients").uniform(0, 2, (2, count))
    return State(toxicity, tumour, toxicity, tumour)


def month_after(state: State, doses: NDArray[np.int64]) -> Month:
    """Return what a month on these doses brings; there is no chance in it but death."""
    beyond = 1.2 * (_SHARES[doses] - 0.5)
    grown = np.where(state.tumour > 0, 0.15 * np.maximum(state.toxicity, state.first_toxicity) - beyond, 0)
    toxicity = np.maximum(state.toxicity + 0.1 * np.maximum(state.tumour, state.first_tumour) + beyond, 0)
    tumour = np.maximum(state.tumour + grown, 0)
    reward = _reward(toxicity - state.toxicity) + np.where(tumour > 0, _reward(tumour - state.tumour), 15.0)
    risk = 1 - np.exp(-np.exp(_LOG_HAZARD + toxicity + tumour))
    return Month(State(toxicity, tumour, state.first_toxicity, state.first_tumour), reward, risk)


def _reward(change: Floats) -> Floats:
    return np.where(change <= -0.5, 5.0, np.where(change >= 0.5, -5.0, 0.0))


def dosing_of(model: Bundle) -> Choice:
    """Return the doses that a released model of the study recommends."""

    def choice(month: int, state: State) -> NDArray[np.int64]:
        columns = {**state.columns(month), "dose": np.full(len(state.tumour), None)}
        rows = [dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True)]
        return np.asarray(model.predict(model.examples(rows)).argmax(axis=1))

    return choice


class Followed(NamedTuple):
    """What a dosing is worth to n patients, shape (n,): the expected sum of rewards, and the chance to live through."""

    rewards: Floats
    survival: Floats


def followed(choice: Choice, state: State) -> Followed:
    """Return what six months of a dosing are worth; exactly, since death is the only chance and ends everything."""
    rewards, survival = np.zeros(len(state.tumour)), np.ones(len(state.tumour))
    for month in range(MONTHS):
        state, reward, risk = month_after(state, choice(month, state))
        rewards += survival * (reward + _DEATH * risk)
        survival = survival * (1 - risk)
    return Followed(rewards, survival)


def best(patients: State) -> Followed:
    """Return what the best of all sequences of doses is worth to each patient; nothing that is learned can be better.

    All 4096 sequences are tried on each patient.
    """
    sequences = np.array(list(itertools.product(range(len(DOSES)), repeat=MONTHS)))
    found = []
    for toxicity, tumour in zip(patients.toxicity, patients.tumour, strict=True):
        first = [np.full(len(sequences), value) for value in (toxicity, tumour)]
        worth = followed(lambda month, _state: sequences[:, month], State(*first, *first))
        top = worth.rewards.argmax()
        found.append((worth.rewards[top], worth.survival[top]))
    return Followed(*np.array(found).T)


def read(_folder: Path) -> RawData:
    """Return a row for each month that a patient began: where the patient was, ``dose`` and ``reward``.

    The patient's last row is that of death, or the sixth. The rows are always the same.
    """
    state, alive, chance = new_patients(PATIENTS, 0), np.arange(PATIENTS), generator(0, "trial")
    rows: list[dict[str, NDArray[Any]]] = []
    for month in range(MONTHS):
        doses = chance.integers(len(DOSES), size=PATIENTS)
        began, (state, reward, risk) = state, month_after(state, doses)
        died = chance.uniform(size=PATIENTS) < risk
        columns = {
            "patient": np.array([f"simulated {patient}" for patient in range(PATIENTS)]),
            **began.columns(month),
            "dose": np.array(DOSES)[doses],
            "reward": reward + np.where(died, _DEATH, 0),
        }
        rows.append({name: cells[alive] for name, cells in columns.items()})
        alive = alive[~died[alive]]
    return RawData({name: np.concatenate([row[name] for row in rows]) for name in rows[0]})


CANCER_TRIAL = Dataset(
    name="cancer_trial",
    title="Simulated patients, not real ones: 1000 in a trial of monthly chemotherapy doses, by a published model",
    licence="Apache-2.0 (made by this package)",
    attribution=(
        "SIMULATED: no such patients exist. The model is that of Y. Zhao, M. R. Kosorok, D. Zeng (2009). Reinforcement"
        " learning design for cancer clinical trials. Statistics in Medicine 28:3294-3315."
    ),
    files=(),
    read=read,
    simulated=True,
)
