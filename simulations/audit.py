"""Attacks on a study, on its own data, model and settings: the steps behind ``consilium-simulate audit``.

What is attacked is a simulated run, because an audit needs what nobody has of real hospitals: who was in the data.
Three questions are asked, of every method through its own functions alone. Does the released model tell who trained it
(``simulations/attacks/membership.py``)? Does what the aggregator sees tell who was in the data, and does that
contradict the study's epsilon (``audit_canaries.py``)? And how many patients stand alone in some number of a total
(``attacks/presence.py``)? The first is what a patient should fear today; the second is for finding mistakes in what
makes the study private, and for saying what no noise means.

An audit shows mistakes. It does not show that there are none: the attack may be too weak, and it knows its own limit.
"""

from __future__ import annotations

import dataclasses
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from client.data.split import SiteData
from shared.errors import StudyError
from shared.methods import METHODS
from shared.metrics import Interval
from shared.randomness import generator
from shared.secagg.keys import Entropy
from shared.study import Study
from simulations.attacks.membership import Attack, Membership, Patients, infer
from simulations.attacks.observed import Observed, observe
from simulations.attacks.presence import Alone, standing_alone
from simulations.audit_canaries import CONFIDENCE, CONFIDENCE_TEXT, CanaryAudit, guess_canaries

LOOKED_AT = 100
"""Patients who are looked at, whether they stand alone in a total."""
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


@dataclass(frozen=True, eq=False)
class Audit:
    """An audit and what it found.

    membership: None where the model does not predict the label.
    alone: by stage whose sums have no noise.
    """

    study: Study
    sites: int
    membership: Membership | None
    canary: CanaryAudit
    alone: Mapping[str, Alone]
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
                f" {canary.bound:.2f} with {CONFIDENCE_TEXT} confidence: {canary.guessed.right} of"
                f" {canary.guessed.guesses} guesses who was in the data were right."
            )
        for stage, reach in canary.reaches.items():
            if reach.ratio > _NOT_ROUNDING:
                found.append(
                    f"In stage {stage!r} one patient changed a sum {reach.ratio:.2f} times as much as the accounting"
                    " takes for the most that a patient can: clipping does not hold."
                )
        return tuple(found)


def check(study: Study) -> None:
    """Raise StudyError for a study that keeps whole hospitals private, and for a method that no attack applies to."""
    if study.privacy and study.privacy.unit == "site":
        raise StudyError(
            f"{study.name}: an audit guesses which patients were in the data, and holds that against an epsilon for one"
            ' patient. Received: [privacy] unit = "site", whose epsilon is for one hospital.'
        )
    if not METHODS[study.method.name].prepared:
        served = ", ".join(name for name, method in METHODS.items() if method.prepared)
        raise StudyError(
            f"{study.name}: an audit attacks what is made of prepared columns, by {served}. Received: the method"
            f" {study.method.name!r}, which counts the columns as they are. Nothing remembers a patient there: what it"
            " releases is a table whose small cells are hidden, and docs/methods.md says what its sums are."
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

    Raises: StudyError if there is no room for canaries, or as ``check``; NoEstimate if the study has no model.
    """
    from threadpoolctl import threadpool_limits

    check(study)
    started = time.perf_counter()
    with threadpool_limits(limits=study.study.threads):
        tell("training the model that is attacked")
        model = observe(study, data, entropy)
        if model.no_estimate:
            raise model.no_estimate
        predicts = not METHODS[study.method.name].outputs
        membership = _membership(study, data, model, effort, tell, entropy) if predicts else None
        canary = guess_canaries(study, data, model, effort.canaries, effort.runs, tell, entropy)
        tell("totals: who stands alone in one")
        alone = standing_alone(model, data, LOOKED_AT, generator(study.study.seed, "audit", "alone"))
    return Audit(study, len(data), membership, canary, alone, time.perf_counter() - started)


def _membership(
    study: Study,
    data: Mapping[str, SiteData],
    model: Observed,
    effort: Effort,
    tell: Callable[[str], None],
    entropy: Entropy,
) -> Membership:
    shadows = (4 if study.method.name == "neural" else 24) if effort.shadows is None else effort.shadows
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
            "canaries": canary.canaries,
            "runs": canary.runs,
            **dataclasses.asdict(canary.guessed),
            "epsilon_lower_bound": canary.bound,
            "largest_possible_bound": canary.largest,
            "stages": {stage: dataclasses.asdict(guessed) for stage, guessed in canary.stages.items()},
            "influence": {
                stage: {
                    **{key: getattr(reach, key) for key in ("l1", "l2")},
                    "declared": dataclasses.asdict(reach.influence),
                }
                for stage, reach in canary.reaches.items()
            },
        },
        "alone_in_a_total": {stage: dataclasses.asdict(alone) for stage, alone in found.alone.items()},
        "membership": membership
        and {
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
