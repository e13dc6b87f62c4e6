"""Attacks on a study, on its own data, model and settings: the steps behind ``consilium-simulate audit``.

What is attacked is a simulated run, because an audit needs what nobody has of real hospitals: who was in the data. Two
questions are asked. Does the released model tell who trained it (``simulations/attacks/membership.py``)? And does what
the aggregator sees contradict the study's epsilon (``canaries.py``, ``evidence.py``, ``lower_bound.py``)? The first is
what a patient should fear today; the second is for finding mistakes in what makes the study private.

An audit shows mistakes. It does not show that there are none: the attack may be too weak, and it knows its own limit.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data.split import SiteData
from shared.errors import StudyError
from shared.metrics import Interval
from shared.randomness import generator
from shared.secagg.keys import Entropy
from shared.study import Study
from simulations.attacks.canaries import canaries_of
from simulations.attacks.evidence import READ, Reach, read
from simulations.attacks.lower_bound import canaries_for, epsilon_bound, guesses_of, largest_bound
from simulations.attacks.membership import Attack, Membership, Patients, infer
from simulations.attacks.observed import Observed, observe

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
_NOT_ROUNDING = 1.0 + 1e-9


@dataclass(frozen=True)
class Effort:
    """How much an audit does; None is chosen by the study.

    canaries: most canaries in one run.
    runs: runs with canaries.
    shadows: shadow models of LiRA.
    """

    canaries: int | None = None
    runs: int | None = None
    shadows: int | None = None


@dataclass(frozen=True)
class CanaryAudit:
    """What guessing canaries shows.

    canaries: coins that were thrown, over all runs.
    runs: how many.
    guesses, right: how often was guessed, and how often rightly.
    delta: at which the bound holds.
    bound: epsilon is above this with ``CONFIDENCE``.
    largest: the bound had every guess been right.
    auc: chance that a canary that was in scores above one that was not.
    reaches: by stage, how much a canary changed a sum.
    """

    canaries: int
    runs: int
    guesses: int
    right: int
    delta: float
    bound: float
    largest: float
    auc: float
    reaches: Mapping[str, Reach]


@dataclass(frozen=True, eq=False)
class Audit:
    """An audit and what it found."""

    study: Study
    sites: int
    membership: Membership
    canary: CanaryAudit
    seconds: float

    @property
    def epsilon(self) -> float | None:
        """What the study promises; None without ``[privacy]``."""
        return self.study.privacy.epsilon if self.study.privacy else None

    @property
    def contradictions(self) -> tuple[str, ...]:
        """Sentences about what contradicts the study's promise; empty where nothing does."""
        if self.epsilon is None:
            return ()
        canary, found = self.canary, []
        if canary.bound > self.epsilon:
            found.append(
                f"The study promises epsilon {self.epsilon:g} at delta {canary.delta:g}, and epsilon is above"
                f" {canary.bound:.2f} with {CONFIDENCE_TEXT} confidence: {canary.right} of {canary.guesses} guesses who"
                " was in the data were right."
            )
        for stage, reach in canary.reaches.items():
            if reach.ratio > _NOT_ROUNDING:
                found.append(
                    f"In stage {stage!r} one patient changed a sum {reach.ratio:.2f} times as much as the accounting"
                    " takes for the most that a patient can: clipping does not hold."
                )
        return tuple(found)


def check(study: Study) -> None:
    """Raise StudyError for a study that keeps whole hospitals private, and for sums that nobody here can read."""
    if study.privacy and study.privacy.unit == "site":
        raise StudyError(
            f"{study.name}: an audit guesses which patients were in the data, and holds that against an epsilon for one"
            ' patient. Received: [privacy] unit = "site", whose epsilon is for one hospital.'
        )
    if study.method.name not in READ:
        raise StudyError(
            f"{study.name}: an audit reads the training sums of {', '.join(READ)}. Received: the method"
            f" {study.method.name!r}, whose sums are exact: docs/methods.md says what they give away."
        )


def audit(
    study: Study,
    data: Mapping[str, SiteData],
    effort: Effort,
    tell: Callable[[str], None] = lambda _what: None,
    entropy: Entropy = secrets.token_bytes,
) -> Audit:
    """Attack a study, and return what that shows.

    data: each hospital's checked and split data, by name.
    tell: called with what is being done.
    entropy: the sites' source of keys and noise.

    Raises: StudyError if there is no room for canaries, or as ``check``.
    """
    from threadpoolctl import threadpool_limits

    check(study)
    started = time.perf_counter()
    with threadpool_limits(limits=study.study.threads):
        tell("training the model that is attacked")
        model = observe(study, data, entropy)
        membership = _membership(study, data, model, effort, tell, entropy)
        canary = _canaries(study, data, model, effort, tell, entropy)
    return Audit(study, len(data), membership, canary, time.perf_counter() - started)


def _membership(
    study: Study,
    data: Mapping[str, SiteData],
    model: Observed,
    effort: Effort,
    tell: Callable[[str], None],
    entropy: Entropy,
) -> Membership:
    shadows = (4 if _network(study) else 24) if effort.shadows is None else effort.shadows
    trained = 0

    def train(dealt: Mapping[str, SiteData]) -> Observed:
        nonlocal trained
        trained += 1
        tell(f"membership: shadow model {trained} of {shadows}")
        return observe(study, dealt, entropy)

    drawn = generator(study.study.seed, "audit", "shadows")
    if study.data.split_column:
        # Whoever a column marks as held out may be of another kind: that would be told apart, not who trained.
        tell("membership: the model on another split, by chance")
        patients = Patients(data)
        data = patients.dealt(patients.some(float(patients.members.mean()), drawn))
        model = observe(study, data, entropy)
    return infer(data, model, train, shadows, drawn)


def _canaries(
    study: Study,
    data: Mapping[str, SiteData],
    model: Observed,
    effort: Effort,
    tell: Callable[[str], None],
    entropy: Entropy,
) -> CanaryAudit:
    drawn = generator(study.study.seed, "audit", "canaries")
    canaries = canaries_of(study, data, model, effort.canaries or _MOST_CANARIES, drawn)
    count, delta = len(canaries.each), study.privacy.delta if study.privacy else ASSUMED_DELTA
    runs = effort.runs or _runs(study, count, delta)
    present, scores, reaches = [], [], []
    for number in range(1, runs + 1):
        tell(f"canaries: run {number} of {runs}, {count} canaries")
        coins = drawn.random(count) < 0.5
        reading = read(observe(study, canaries.put(data, coins), entropy), data, canaries.each)
        present.append(coins)
        scores.append(reading.log_odds)
        reaches.append(reading.reaches)
    return judge_guesses(np.concatenate(present), np.concatenate(scores), delta, runs, _farthest(reaches))


def judge_guesses(
    present: NDArray[np.bool_],
    scores: NDArray[np.float64],
    delta: float,
    runs: int = 1,
    reaches: Mapping[str, Reach] | None = None,
) -> CanaryAudit:
    """Guess which canaries were in, for those of which the scores say most, and judge that.

    present: which canaries were in, shape (m,).
    scores: logarithm of the odds that one was in, shape (m,).
    """
    total = len(present)
    guesses = guesses_of(total, GUESSED)
    surest = np.argsort(-np.abs(scores), kind="stable")[:guesses]
    right = int(((scores > 0.0) == present)[surest].sum())
    above = scores[present][:, None] - scores[~present][None, :]
    auc = float((above > 0).mean() + 0.5 * (above == 0).mean()) if above.size else 0.5
    return CanaryAudit(
        canaries=total,
        runs=runs,
        guesses=guesses,
        right=right,
        delta=delta,
        bound=epsilon_bound(total, guesses, right, delta, CONFIDENCE),
        largest=largest_bound(total, GUESSED, delta, CONFIDENCE),
        auc=auc,
        reaches=reaches or {},
    )


def _runs(study: Study, canaries: int, delta: float) -> int:
    """Return how many runs could contradict the study's epsilon; for a network, one, because it takes long."""
    if _network(study):
        return 1
    if study.privacy is None:
        return _FEWEST_RUNS
    most = _MOST_RUNS * canaries
    wanted = canaries_for(_ROOM * study.privacy.epsilon, GUESSED, delta, most, canaries, CONFIDENCE)
    return max((wanted or most) // canaries, _FEWEST_RUNS)


def _network(study: Study) -> bool:
    return study.method.name == "neural"


def _farthest(reaches: list[Mapping[str, Reach]]) -> dict[str, Reach]:
    """Return by stage the largest norms of all runs."""
    return {
        stage: Reach(max(each[stage].l1 for each in reaches), max(each[stage].l2 for each in reaches), first.influence)
        for stage, first in reaches[0].items()
    }


def audit_of(found: Audit) -> dict[str, Any]:
    """Return the content of ``audit.json``."""
    canary, membership = found.canary, found.membership
    return {
        "study": found.study.name,
        "digest": found.study.digest,
        "method": found.study.method.name,
        "epsilon": found.epsilon,
        "delta": canary.delta,
        "confidence": CONFIDENCE,
        "contradictions": list(found.contradictions),
        "canaries": {
            **{name: getattr(canary, name) for name in ("canaries", "runs", "guesses", "right", "auc")},
            "epsilon_lower_bound": canary.bound,
            "largest_possible_bound": canary.largest,
            "influence": {
                stage: {
                    **{key: getattr(reach, key) for key in ("l1", "l2")},
                    "declared": dataclasses.asdict(reach.influence),
                }
                for stage, reach in canary.reaches.items()
            },
        },
        "membership": {
            "members": membership.members,
            "others": membership.others,
            "shadow_models": membership.shadows,
            "loss_threshold": _plain(membership.loss),
            "lira": _plain(membership.lira) if membership.lira else None,
        },
        "seconds": found.seconds,
    }


def _plain(attack: Attack) -> dict[str, Any]:
    def interval(value: Interval) -> dict[str, float]:
        return {"value": value.value, "low": value.low, "high": value.high}

    return {"auc": interval(attack.auc), "true_positive_rate_at_1_percent": interval(attack.low_rate)}
