"""Was training together worth it? The same method, on one hospital's data alone, and on all data in one place.

Baselines run through the same engine as the consortium, as a consortium of one: ``local`` has one hospital's training
rows, ``pooled`` has everybody's. Neither has noise, whatever the study's privacy. Each is judged on the same held-out
rows as the consortium's model, so that the numbers can be compared; ``at_home`` judges on the hospital's own held-out
rows, which is what that hospital would see.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data.split import SiteData
from server.training import Observers, Progress
from shared.aggregation import FedAvg
from shared.errors import RunAbandoned
from shared.examples import Examples, Part, concatenate
from shared.judgement import judge
from shared.methods import METHODS
from shared.methods.base import NOTHING
from shared.methods.combinators import InTurn
from shared.methods.measures import Sums
from shared.metrics import Judgement
from shared.plan import EVALUATE, EVERYONE
from shared.study import Study
from simulations.local import Consortium

POOLED = "pooled"


@dataclass(frozen=True, eq=False)
class Comparison:
    """Judgements of the baselines; see ``server.outcome.Outcome`` for what each is.

    failed: names of baselines that did not end, ``POOLED`` or a site's.
    """

    pooled: Judgement | None
    local: Mapping[str, Judgement]
    local_at_home: Mapping[str, Judgement]
    failed: tuple[str, ...] = ()


def compare(
    consortium: Consortium, judged_on: Sequence[str], clock: Callable[[], float], tell: Callable[[str], None]
) -> Comparison:
    """Train and judge the baselines that the study asks for. One that diverges is left out and named.

    judged_on: the sites on whose held-out rows the consortium's model was judged; baselines are judged on the same.
    tell: called with what is being trained before each baseline starts.
    """
    study, sites = consortium.study, consortium.data
    everybody = in_one_place({name: sites[name].parts[Part.HELD_OUT] for name in judged_on})
    wanted = study.simulation.compare
    pooled: Judgement | None = None
    local: dict[str, Judgement] = {}
    at_home: dict[str, Judgement] = {}
    failed: list[str] = []
    if "pooled" in wanted:
        tell("all data in one place")
        training = in_one_place({name: data.parts[Part.TRAINING] for name, data in sites.items()})
        try:
            pooled = judge(study, "pooled", _alone(study, POOLED, training, everybody, clock)[0])
        except RunAbandoned:
            failed.append(POOLED)
    for site, data in sites.items() if "local" in wanted else ():
        tell(f"{site} alone")
        try:
            sums, own = _alone(study, site, data.parts[Part.TRAINING], everybody, clock, data.parts[Part.HELD_OUT])
        except RunAbandoned:
            failed.append(site)
            continue
        local[site] = judge(study, f"local/{site}", sums)
        at_home[site] = judge(study, f"home/{site}", own)
    return Comparison(pooled, local, at_home, tuple(failed))


def kept_sums(plan: InTurn, progress: Progress, parts: Mapping[Part, Examples]) -> Sums:
    """Return what one site keeps of the released model: its sums over its own held-out rows."""
    kept: Any = plan.keep(progress.state, parts, NOTHING)
    sums: Sums = kept[EVALUATE][EVERYONE]
    return sums


def exact_sums(consortium: Consortium, plan: InTurn, progress: Progress, judged_on: Sequence[str]) -> Sums:
    """Return the sums of the released model over the held-out rows of some sites, without noise."""
    sites = {name: consortium.data[name].parts for name in judged_on}
    return kept_sums(
        plan, progress, {part: in_one_place({name: parts[part] for name, parts in sites.items()}) for part in Part}
    )


def in_one_place(parts: Mapping[str, Examples]) -> Examples:
    """Return the rows of several hospitals by name; a patient id that two of them have is that of two patients."""
    ids, hospitals = np.unique(
        np.concatenate([np.unique(rows.whole().patients) for rows in parts.values()]), return_counts=True
    )
    twice = ids[hospitals > 1]
    return concatenate([_told_apart(rows, twice, name) for name, rows in parts.items()])


def _told_apart(rows: Examples, twice: NDArray[np.str_], hospital: str) -> Examples:
    """Return the rows with the hospital's name in the ids that another one has, too."""
    if not np.isin(rows.whole().patients, twice).any():
        return rows
    own = np.char.add(rows.patients, f" ({hospital})")
    return dataclasses.replace(
        rows,
        patients=np.where(np.isin(rows.patients, twice), own, rows.patients),
        unlabelled=rows.unlabelled and _told_apart(rows.unlabelled, twice, hospital),
    )


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
    """Return the study as it is run in one place: plain steps, no masks, no noise, no faults, room for all rows."""
    rows = max(study.data.max_rows_per_site, len(training.whole()), len(held_out))
    return dataclasses.replace(
        METHODS[study.method.name].centralised(study),
        privacy=None,
        data=dataclasses.replace(study.data, max_rows_per_site=rows),
        aggregation=dataclasses.replace(
            study.aggregation, secure=False, strategy="FedAvg", options=FedAvg(), min_sites=1
        ),
        evaluation=dataclasses.replace(study.evaluation, subgroups=(), importance=False),
        simulation=dataclasses.replace(study.simulation, faults=()),
    )
