"""What a finished run of a private study cost its unit of privacy, by the study's own plan.

With unit ``patient`` it is what every hospital's ledger has of the run, unless rounds were begun anew: noise that is
drawn again is charged again, and only the hospital's ledger knows. With unit ``site`` ledgers have one patient's cost.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from shared.plan import EVALUATE, PREPARE, TRAIN, multipliers_of, releases_of
from shared.privacy import accounting, calibration
from shared.study import Study


@dataclass(frozen=True)
class StageCost:
    """What one stage of a private run costs the unit of privacy that is in it.

    noise_multiplier: standard deviation of the noise over the unit's influence.
    exchanges: how many sums, or steps of local training, had that noise.
    epsilon: of this stage alone, at the delta of the study.
    pld_epsilon: the same as the privacy loss distribution proves it, which is tighter; None where there is none.
    """

    noise_multiplier: float
    exchanges: int
    epsilon: float
    pld_epsilon: float | None = None


@dataclass(frozen=True)
class PrivacySummary:
    """The guarantee of a run.

    unit: whose part is hidden; see ``shared.privacy.settings.Privacy``.
    epsilon, delta: what the study promises.
    stages: ``prepare``, ``train`` and ``evaluate``, in that order.
    epsilon_training: what a training patient spent, on preparation and training together.
    epsilon_held_out: what a held-out patient spent, on evaluation. With unit ``site`` both are the one number that a
        hospital spent, on all three.
    """

    unit: Literal["patient", "site"]
    epsilon: float
    delta: float
    stages: Mapping[str, StageCost]
    epsilon_training: float
    epsilon_held_out: float

    @property
    def whom(self) -> str:
        """Whose part is hidden, in words."""
        return "one patient at one hospital" if self.unit == "patient" else "all patients of one hospital together"

    @property
    def neighbours(self) -> str:
        """What data sets differ by between which nobody can tell, in one or two sentences."""
        if self.unit == "patient":
            return (
                "Neighbours are data sets that differ by one patient, added or removed. Patients are not linked across"
                " hospitals: for one who is at two, epsilon counts twice."
            )
        return (
            "Neighbours are data sets that differ by the patients of one hospital, whose contributions become zero;"
            " that it takes part is public. What this leaves to be learned about one patient is in each hospital's own"
            " ledger, in patients' units: it may be about twice this epsilon."
        )

    @property
    def spent(self) -> str:
        """What the run cost, in one sentence without its full stop."""
        if self.unit == "patient":
            return (
                f"training patients paid epsilon {self.epsilon_training:.3g}, for preparation and training together;"
                f" held-out ones {self.epsilon_held_out:.3g}, for evaluation"
            )
        return f"each hospital paid epsilon {self.epsilon_training:.3g}, for preparation, training and evaluation"


def summary_of(study: Study) -> PrivacySummary | None:
    """Return the guarantee of a study and the cost of each stage; None without ``[privacy]``."""
    chosen = multipliers_of(study)
    if chosen is None or study.privacy is None:
        return None
    delta = study.privacy.delta
    costs = calibration.events(releases_of(study), chosen, study.privacy.unit)
    prepare, train = costs["train"]
    (evaluate,) = costs["evaluate"]
    # A patient is in one part, a hospital in both.
    parts = {"train": costs["train"], "evaluate": costs["evaluate"]}
    if study.privacy.unit == "site":
        parts = dict.fromkeys(parts, (prepare, train, evaluate))
    stages = {
        PREPARE: (chosen.prepare, prepare),
        TRAIN: (chosen.train, train),
        EVALUATE: (chosen.evaluate, evaluate),
    }
    return PrivacySummary(
        unit=study.privacy.unit,
        epsilon=study.privacy.epsilon,
        delta=delta,
        stages={
            name: StageCost(
                multiplier,
                event.count,
                accounting.epsilon([event], delta),
                accounting.pld_epsilon([event], delta),
            )
            for name, (multiplier, event) in stages.items()
        },
        epsilon_training=accounting.epsilon(parts["train"], delta),
        epsilon_held_out=accounting.epsilon(parts["evaluate"], delta),
    )
