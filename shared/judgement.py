"""How good a model is on some rows, with intervals whose resamples follow from the study's seed and a label."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.randomness import generator

if TYPE_CHECKING:
    from shared.metrics import Judgement
    from shared.scores import Sums
    from shared.study import Study


def judge(study: Study, label: str, sums: Sums) -> Judgement:
    """Return the judgement of some sums.

    label: what is judged, such as ``site/Cleveland``; it seeds the resamples.
    """
    from shared import metrics

    drawn = generator(study.study.seed, "bootstrap", label)
    return metrics.judge(sums, study.evaluation.bootstrap_replicates, drawn)
