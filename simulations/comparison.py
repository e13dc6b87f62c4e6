"""Was training together worth it? The same method, on one hospital's data alone, and on all data in one place.

Baselines run through the same engine as the consortium, as a consortium of one: ``local`` has one hospital's training
rows, ``pooled`` has everybody's. Each is judged on everybody's held-out rows, so that the numbers can be compared;
``at_home`` judges on the hospital's own held-out rows, which is what that hospital would see.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from client.data.split import SiteData
from server.training import Observers, Progress
from shared import metrics
from shared.examples import Examples, Part, concatenate
from shared.methods import METHODS
from shared.methods.base import NOTHING
from shared.methods.combinators import InTurn
from shared.metrics import Judgement, Sums
from shared.plan import EVALUATE, EVERYONE
from shared.randomness import generator
from shared.study import FedAvg, Study
from simulations.local import Consortium

POOLED = "pooled"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Judgements of the baselines; see ``server.outcome.Outcome`` for what each is."""

    pooled: Judgement | None
    local: Mapping[str, Judgement]
    local_at_home: Mapping[str, Judgement]


def compare(consortium: Consortium, clock: Callable[[], float], tell: Callable[[str], None]) -> Comparison:
    """Train and judge the baselines that the study asks for.

    tell: called with what is being trained before each baseline starts.
    """
    study = consortium.study
    everybody = concatenate([data.parts[Part.HELD_OUT] for data in consortium.data.values()])
    wanted = study.simulation.compare
    pooled: Judgement | None = None
    local: dict[str, Judgement] = {}
    at_home: dict[str, Judgement] = {}
    if "pooled" in wanted:
        tell("all data in one place")
        training = concatenate([data.parts[Part.TRAINING] for data in consortium.data.values()])
        pooled = judge(study, "pooled", _alone(study, POOLED, training, everybody, clock)[0])
    if "local" in wanted:
        for site, data in consortium.data.items():
            tell(f"{site} alone")
            sums, own = _alone(study, site, data.parts[Part.TRAINING], everybody, clock, data.parts[Part.HELD_OUT])
            local[site] = judge(study, f"local/{site}", sums)
            at_home[site] = judge(study, f"home/{site}", own)
    return Comparison(pooled, local, at_home)


def judge(study: Study, label: str, sums: Sums) -> Judgement:
    """Return the judgement of some sums; the label seeds its resamples."""
    drawn = generator(study.study.seed, "bootstrap", label)
    return metrics.judge(sums, study.evaluation.bootstrap_replicates, drawn)


def kept_sums(plan: InTurn, progress: Progress, parts: Mapping[Part, Examples]) -> Sums:
    """Return what one site keeps of the released model: its sums over its own held-out rows."""
    kept: Any = plan.keep(progress.state, parts, NOTHING)
    sums: Sums = kept[EVALUATE][EVERYONE]
    return sums


def _alone(
    study: Study,
    name: str,
    training: Examples,
    held_out: Examples,
    clock: Callable[[], float],
    home: Examples | None = None,
) -> tuple[Sums, Sums]:
    """Train on one set of rows; return the sums on ``held_out`` and on ``home``."""
    parts = {Part.TRAINING: training, Part.HELD_OUT: held_out}
    consortium = Consortium(_centralised(study, training, held_out), {name: SiteData(name, parts)})
    plan, progress = consortium.run(Observers(clock=clock))
    sums: Sums = plan.result(progress.state)[EVALUATE][EVERYONE]
    return sums, kept_sums(plan, progress, {**parts, Part.HELD_OUT: held_out if home is None else home})


def _centralised(study: Study, training: Examples, held_out: Examples) -> Study:
    """Return the study as it is run in one place: plain steps, no faults, room for all rows."""
    rows = max(study.data.max_rows_per_site, len(training), len(held_out))
    return dataclasses.replace(
        METHODS[study.method.name].centralised(study),
        data=dataclasses.replace(study.data, max_rows_per_site=rows),
        aggregation=dataclasses.replace(study.aggregation, strategy="FedAvg", options=FedAvg()),
        evaluation=dataclasses.replace(study.evaluation, subgroups=()),
        simulation=dataclasses.replace(study.simulation, faults=()),
    )
