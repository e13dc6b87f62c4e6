"""How a study's epsilon and delta become noise, and what one exchange of it costs.

One accountant calibrates and charges (``shared/privacy/accounting.py``). With unit ``patient``, neighbouring data
differ by one patient, added or removed. Training patients pay for preparation and training together, held-out ones for
evaluation alone: a patient is one or the other (parallel composition; docs/privacy.md). With unit ``site`` they differ
by the patients of one hospital, which is in all three stages: it pays for all of them (sequential composition).

Hospitals' ledgers are in patients' units whatever the study's unit is: of a study of unit ``site`` they are charged
what the same noise says of one patient.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from shared.layout import size_of
from shared.methods.base import Ask
from shared.methods.words import sum_noise
from shared.privacy import accounting, mechanisms
from shared.privacy.accounting import Event, SampledGaussian, Skellam
from shared.privacy.settings import Privacy
from shared.secagg.roster import LARGEST

Payer = Literal["patient", "site"]
"""Who a cost is of: one patient, or all of one site's."""


@dataclass(frozen=True)
class Steps:
    """Training by DP-SGD at the sites: so many steps a round, each over patients drawn at a rate."""

    a_round: int
    sampling_rate: float


@dataclass(frozen=True)
class Releases:
    """What a private study releases, as far as the accountant sees it; noise multipliers in the asks are not looked at.

    prepare, evaluate: one sum each.
    train: one sum a round, or the steps at the sites.
    rounds: of training.
    """

    prepare: Ask
    train: Ask | Steps
    evaluate: Ask
    rounds: int


@dataclass(frozen=True)
class Multipliers:
    """Noise multiplier of each stage: standard deviation of the noise over what the unit changes, in L2."""

    prepare: float
    train: float
    evaluate: float


def event_of(ask: Ask, sites: int, payer: Payer = "patient") -> Event | None:
    """Return what the sum that is asked for costs; None if it holds no noise."""
    if ask.noise_multiplier is None:
        return ask.event
    # The more sites, the more draws, and the larger the samplers' error.
    noise = sum_noise(ask, sites, sites)
    l1, l2 = noise.l1, noise.l2
    if payer == "patient" and ask.patient_influence:
        influence = ask.patient_influence
        l1, l2 = mechanisms.sensitivity(influence.l1, influence.l2, size_of(ask.entries), noise.scale)
    # Shares are rounded up: however many there are, they add up to this at least.
    variance = (ask.noise_multiplier * noise.l2) ** 2
    return Skellam(l1, l2, variance, sampler_error=noise.sampler_error)


@lru_cache(maxsize=64)
def multipliers(privacy: Privacy, releases: Releases) -> Multipliers:
    """Return the least noise with which the whole study stays within its epsilon and delta.

    Preparation alone is given ``preparation_share`` of epsilon; training gets what is left beside it. With unit
    ``site`` evaluation alone is given the same share, and training what is left beside both.

    Raises: StudyError if no noise is enough, or words cannot hold it.
    """
    payer, (epsilon, delta) = privacy.unit, (privacy.epsilon, privacy.delta)
    part = privacy.preparation_share * epsilon
    prepare = accounting.calibrate(lambda z: (_once(releases.prepare, z, payer),), part, delta)
    paid = [_once(releases.prepare, prepare, payer)]
    evaluate = accounting.calibrate(
        lambda z: (_once(releases.evaluate, z, payer),), part if payer == "site" else epsilon, delta
    )
    if payer == "site":
        paid.append(_once(releases.evaluate, evaluate, payer))
    train = accounting.calibrate(lambda z: (*paid, _training(releases, z, payer)), epsilon, delta)
    return Multipliers(prepare, train, evaluate)


def events(releases: Releases, chosen: Multipliers, payer: Payer = "patient") -> Mapping[str, tuple[Event, ...]]:
    """Return what a whole study costs: preparation and training under ``train``, evaluation under ``evaluate``.

    A patient pays for one of them, a site for both.
    """
    return {
        "train": (_once(releases.prepare, chosen.prepare, payer), _training(releases, chosen.train, payer)),
        "evaluate": (_once(releases.evaluate, chosen.evaluate, payer),),
    }


def _once(ask: Ask, multiplier: float, payer: Payer) -> Event:
    # Fewer sites spread the same noise, and draw less often.
    event = event_of(dataclasses.replace(ask, noise_multiplier=multiplier), LARGEST, payer)
    assert event is not None
    return event


def _training(releases: Releases, multiplier: float, payer: Payer) -> Event:
    if isinstance(releases.train, Steps):
        return SampledGaussian(multiplier, releases.train.sampling_rate, count=releases.train.a_round * releases.rounds)
    return dataclasses.replace(_once(releases.train, multiplier, payer), count=releases.rounds)
