"""How good a model is on some rows, with intervals whose resamples follow from the study's seed and a label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.randomness import generator

if TYPE_CHECKING:
    from shared.methods.measures import Sums
    from shared.metrics import Judgement
    from shared.scores_private import PrivateSums
    from shared.study import Study


def judge(study: Study, label: str, sums: Sums | PrivateSums) -> Judgement:
    """Return the judgement of some sums, exact or noised.

    label: what is judged, such as ``site/Cleveland``; it seeds the resamples.
    """
    from shared import metrics, metrics_private
    from shared.scores import ClassSums, NumberSums
    from shared.scores_private import PrivateSums

    drawn = generator(study.study.seed, "bootstrap", label)
    replicates = study.evaluation.bootstrap_replicates
    if isinstance(sums, PrivateSums):
        return metrics_private.judge(sums, replicates, drawn)
    if isinstance(sums, ClassSums | NumberSums):
        return metrics.judge(sums, replicates, drawn)
    return sums.judge(replicates, drawn)
