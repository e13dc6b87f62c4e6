"""What a finished run of a private study cost its patients, by the study's own plan.

It is what every hospital's ledger has of the run, unless rounds were begun anew: noise that is drawn again is charged
again, and only the hospital's ledger knows.
"""

from __future__ import annotations

from server.outcome import PrivacySummary, StageCost
from shared.plan import EVALUATE, PREPARE, TRAIN, multipliers_of, releases_of
from shared.privacy import accounting, calibration
from shared.study import Study


def summary_of(study: Study) -> PrivacySummary | None:
    """Return the guarantee of a study and the cost of each stage; None without ``[privacy]``."""
    chosen = multipliers_of(study)
    if chosen is None or study.privacy is None:
        return None
    delta = study.privacy.delta
    costs = calibration.events(releases_of(study), chosen)
    prepare, train = costs["train"]
    (evaluate,) = costs["evaluate"]
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
            name: StageCost(multiplier, event.count, accounting.epsilon([event], delta))
            for name, (multiplier, event) in stages.items()
        },
        epsilon_training=accounting.epsilon([prepare, train], delta),
        epsilon_held_out=accounting.epsilon([evaluate], delta),
    )
