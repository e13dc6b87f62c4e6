"""What a deployed run ends with, as the same value from which a simulated one's report is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from server import output
from server.judged import judged_of
from server.outcome import Outcome, SiteSummary, shown_judgement
from server.preflight import Cohort
from server.privacy import summary_of
from server.training import Progress
from shared.messages import Ended
from shared.methods.combinators import InTurn
from shared.plan import PREPARE, TRAIN, TUNE
from shared.provenance import code_digest, versions
from shared.study import Study


def outcome_of(
    study: Study, plan: InTurn, progress: Progress, cohort: Cohort, ended: Mapping[str, Ended], seconds: float
) -> Outcome:
    """Return the outcome of a run with real hospitals: nothing to compare with, and of one hospital what it shows.

    ended: what each site said at the end, by name.
    seconds: wall time.
    """
    results = plan.result(progress.state)
    judged = judged_of(study, results)
    missing = progress.history[-1].dropped
    cautions = (f"Missing when the model was judged: {', '.join(missing)}.",) if missing else ()
    method: Any = plan.method(progress.state, TRAIN)  # a ModelMethod
    return Outcome(
        study=study,
        sites=tuple(SiteSummary(name, cohort.counts.get(name)) for name in cohort.sites),
        preparation=results[PREPARE],
        weights=results[TRAIN],
        history=progress.history,
        federated=judged.everyone,
        subgroups=judged.subgroups,
        per_site={name: shown_judgement(said.rows, said.metrics) for name, said in ended.items() if said.metrics},
        pooled=None,
        local={},
        local_at_home={},
        cautions=cautions,
        attributions=(),
        description=method.description(),
        choice=results.get(TUNE),
        interpretation=judged.with_importance(method.interpretation(results[TRAIN])),
        seconds_total=seconds,
        peak_memory_bytes=output.peak_memory_bytes(),
        versions={**versions(), "code": code_digest()},
        deployed=True,
        left_out=dict(cohort.left_out),
        privacy=summary_of(study),
    )
