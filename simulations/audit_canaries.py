"""Canaries: what all that the aggregator sees tells of who was in the data, and the lower bound on epsilon from that.

The canaries are made, put into the data by coins, and guessed (``simulations/attacks``), in several runs of the study.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from client.data.split import SiteData
from shared.randomness import generator
from shared.secagg.keys import Entropy
from shared.study import Study
from simulations.attacks.canaries import canaries_of
from simulations.attacks.evidence import Reach, read
from simulations.attacks.lower_bound import canaries_for, epsilon_bound, guesses_of, largest_bound
from simulations.attacks.observed import Observed, observe

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
CONFIDENCE_TEXT = f"{100 * CONFIDENCE:.0f} %"
GUESSED = 0.9
"""Share of the canaries for which is guessed; chosen before anything is seen, as the theorem wants."""
ASSUMED_DELTA = 1e-5
"""Delta of the bound where the study has no ``[privacy]``."""
_MOST_CANARIES = 100
_FEWEST_RUNS, _MOST_RUNS = 10, 60
_ROOM = 1.05
"""As many canaries are planned as could contradict an epsilon this much larger: a few guesses may be wrong."""


@dataclass(frozen=True)
class Guessed:
    """How often was guessed, and how often rightly.

    auc: chance that a canary that was in scores above one that was not.
    """

    guesses: int
    right: int
    auc: float


@dataclass(frozen=True)
class CanaryAudit:
    """What guessing canaries shows.

    canaries: coins that were thrown, over all runs.
    runs: how many.
    guessed: by all sums together; stages: by those of each stage alone.
    delta: at which the bound holds.
    bound: epsilon is above this with ``CONFIDENCE``, by ``guessed``.
    largest: the bound had every guess been right.
    reaches: by stage, how much a canary changed a sum.
    """

    canaries: int
    runs: int
    guessed: Guessed
    delta: float
    bound: float
    largest: float
    stages: Mapping[str, Guessed] = field(default_factory=dict)
    reaches: Mapping[str, Reach] = field(default_factory=dict)


def guess_canaries(
    study: Study,
    data: Mapping[str, SiteData],
    model: Observed,
    most: int | None,
    runs: int | None,
    tell: Callable[[str], None],
    entropy: Entropy,
) -> CanaryAudit:
    """Put canaries into a study's data, in so many runs as it takes, and return what guessing them shows.

    model: the study on the hospitals' own patients.
    most: canaries in a run; runs: how many. None is chosen by the study.

    Raises: StudyError if there is no room for canaries.
    """
    drawn = generator(study.study.seed, "audit", "canaries")
    canaries = canaries_of(study, data, model, most or _MOST_CANARIES, drawn)
    count, delta = len(canaries.each), study.privacy.delta if study.privacy else ASSUMED_DELTA
    runs = runs or _runs(study, count, delta)
    present, readings = [], []
    for number in range(1, runs + 1):
        tell(f"canaries: run {number} of {runs}, {count} canaries")
        coins = drawn.random(count) < 0.5
        readings.append(read(observe(study, canaries.put(data, coins), entropy), data, canaries))
        present.append(coins)
    there = np.concatenate(present)
    guessed = judge_guesses(there, np.concatenate([each.log_odds for each in readings]))
    return CanaryAudit(
        canaries=len(there),
        runs=runs,
        guessed=guessed,
        delta=delta,
        bound=epsilon_bound(len(there), guessed.guesses, guessed.right, delta, CONFIDENCE),
        largest=largest_bound(len(there), GUESSED, delta, CONFIDENCE),
        stages={
            stage: judge_guesses(there, np.concatenate([each.by_stage[stage] for each in readings]))
            for stage in readings[0].by_stage
        },
        reaches=_farthest([each.reaches for each in readings]),
    )


def judge_guesses(present: NDArray[np.bool_], scores: Floats) -> Guessed:
    """Guess which canaries were in, for those of which the scores say most, and judge that.

    present: which canaries were in, shape (m,).
    scores: logarithm of the odds that one was in, shape (m,).
    """
    guesses = guesses_of(len(present), GUESSED)
    surest = np.argsort(-np.abs(scores), kind="stable")[:guesses]
    right = int(((scores > 0.0) == present)[surest].sum())
    above = scores[present][:, None] - scores[~present][None, :]
    auc = float((above > 0).mean() + 0.5 * (above == 0).mean()) if above.size else 0.5
    return Guessed(guesses, right, auc)


def _runs(study: Study, canaries: int, delta: float) -> int:
    """Return how many runs could contradict the study's epsilon; for a network, one, because it takes long."""
    if study.method.name == "neural":
        return 1
    if study.privacy is None:
        # Nothing is promised that more of them could contradict.
        return -(-_MOST_CANARIES // canaries)
    most = _MOST_RUNS * canaries
    wanted = canaries_for(_ROOM * study.privacy.epsilon, GUESSED, delta, most, canaries, CONFIDENCE)
    return max((wanted or most) // canaries, _FEWEST_RUNS)


def _farthest(reaches: list[Mapping[str, Reach]]) -> dict[str, Reach]:
    """Return by stage the largest norms of all runs."""
    return {
        stage: Reach(max(each[stage].l1 for each in reaches), max(each[stage].l2 for each in reaches), first.influence)
        for stage, first in reaches[0].items()
    }
