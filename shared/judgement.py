"""How good a model is on some rows, with intervals whose resamples follow from the study's seed and a label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.randomness import generator

if TYPE_CHECKING:
    import numpy as np

    from shared.methods.measures import Sums
    from shared.metrics import Judgement
    from shared.scores_private import PrivateSums
    from shared.study import Study


def judge(study: Study, label: str, sums: Sums | PrivateSums) -> Judgement:
    """Return the judgement of some sums, exact or noised.

    label: what is judged, such as ``site/Cleveland``; it seeds the resamples.
    """
    return _judge(sums, study.evaluation.bootstrap_replicates, generator(study.study.seed, "bootstrap", label))


def point(sums: Sums) -> tuple[str, float]:
    """Return the main metric of some sums and its value, without an interval; NaN where it is not defined."""
    metric, found = next(iter(_judge(sums, 1, generator(0, "point")).metrics.items()))
    return metric, found.value


def _judge(sums: Sums | PrivateSums, replicates: int, drawn: np.random.Generator) -> Judgement:
    from shared import metrics, metrics_private
    from shared.scores import ClassSums, NumberSums
    from shared.scores_private import PrivateSums

    if isinstance(sums, PrivateSums):
        return metrics_private.judge(sums, replicates, drawn)
    if isinstance(sums, ClassSums | NumberSums):
        return metrics.judge(sums, replicates, drawn)
    return sums.judge(replicates, drawn)
