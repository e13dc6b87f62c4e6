"""How a study's epsilon and delta become noise, and what one exchange of it costs.

One accountant calibrates and charges (``shared/privacy/accounting.py``). Neighbouring data differ by one patient, added
or removed. Training patients pay for preparation and training together, held-out ones for evaluation alone: a patient
is one or the other (parallel composition; docs/privacy.md).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

from shared.methods.base import Ask, sum_noise
from shared.privacy import accounting
from shared.privacy.accounting import Event, SampledGaussian, Skellam
from shared.privacy.settings import Privacy
from shared.secagg.roster import LARGEST


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
    """Noise multiplier of each stage: standard deviation of the noise over what one patient changes, in L2."""

    prepare: float
    train: float
    evaluate: float


def event_of(ask: Ask, sites: int) -> Event | None:
    """Return what the sum that is asked for costs one patient; None if it holds no noise."""
    if ask.noise_multiplier is None:
        return ask.event
    # The more sites, the more draws, and the larger the samplers' error.
    noise = sum_noise(ask, sites, sites)
    return Skellam(noise.l1, noise.l2, noise.variance, sampler_error=noise.sampler_error)


@lru_cache(maxsize=64)
def multipliers(privacy: Privacy, releases: Releases) -> Multipliers:
    """Return the least noise with which the whole study stays within its epsilon and delta.

    Preparation alone is given ``preparation_share`` of epsilon; training gets what is left beside it.

    Raises: StudyError if no noise is enough, or words cannot hold it.
    """
    target = (privacy.epsilon, privacy.delta)
    prepare = accounting.calibrate(
        lambda z: (_once(releases.prepare, z),), privacy.preparation_share * target[0], target[1]
    )
    evaluate = accounting.calibrate(lambda z: (_once(releases.evaluate, z),), *target)
    paid = _once(releases.prepare, prepare)
    train = accounting.calibrate(lambda z: (paid, _training(releases, z)), *target)
    return Multipliers(prepare, train, evaluate)


def events(releases: Releases, chosen: Multipliers) -> Mapping[str, tuple[Event, ...]]:
    """Return what a whole study costs: a training patient under ``train``, a held-out one under ``evaluate``."""
    return {
        "train": (_once(releases.prepare, chosen.prepare), _training(releases, chosen.train)),
        "evaluate": (_once(releases.evaluate, chosen.evaluate),),
    }


def _once(ask: Ask, multiplier: float) -> Event:
    # Fewer sites spread the same noise, and draw less often.
    event = event_of(dataclasses.replace(ask, noise_multiplier=multiplier), LARGEST)
    assert event is not None
    return event


def _training(releases: Releases, multiplier: float) -> Event:
    if isinstance(releases.train, Steps):
        return SampledGaussian(multiplier, releases.train.sampling_rate, count=releases.train.a_round * releases.rounds)
    return dataclasses.replace(_once(releases.train, multiplier), count=releases.rounds)
