"""What would leave a hospital in one run of a study; nothing is sent to find out.

The sums follow from the study alone: preparation, training and evaluation are asked what they would ask for, as a run
would (``shared/plan.py``). How wide a model is depends on which columns lack values somewhere; here every column does,
so the numbers are the most that can leave. With ``[privacy]`` it follows from the contract, whatever the data are.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from client import description_private
from client.data.split import SiteData
from shared.examples import Part
from shared.methods.base import Ask, PlainMean, Total
from shared.methods.importance import BINS as DEALT_BINS
from shared.methods.measures import measure_of
from shared.methods.preparation import MEDIAN_BINS
from shared.methods.tuning import BINS
from shared.methods.words import word_plan
from shared.plan import DEALT, EVALUATE, EVERYONE, PREPARE, TRAIN, plan_of
from shared.study import Study
from shared.wording import plural


@dataclass(frozen=True)
class Sum:
    """One kind of sum that would leave.

    step: ``preparation``, ``training`` or ``evaluation``.
    part: over whose rows it is; patients, rows: how many of this hospital's.
    times: how often in one run.
    numbers: at most so many each time, the number of rows included; size_bytes: of these.
    contents: what the numbers are, one sentence each.
    """

    step: str
    part: Part
    patients: int
    rows: int
    times: int
    numbers: int
    size_bytes: int
    contents: tuple[str, ...]


@dataclass(frozen=True)
class Leaving:
    """All that is computed from patients and would leave in one run.

    parameters: at most so many numbers make the model.
    subsets: where a sum is over a subset that the data choose, fewest patients to which the study keeps; else None.
    """

    sums: tuple[Sum, ...]
    parameters: int
    subsets: int | None

    @property
    def size_bytes(self) -> int:
        """Of one run."""
        return sum(each.times * each.size_bytes for each in self.sums)


def what_leaves(study: Study, data: SiteData, sites: int) -> Leaving:
    """Return what would leave in one run.

    sites: number of hospitals in the roster; the proof that their sum cannot wrap is made for so many.

    Raises: StudyError if it could wrap.
    """
    plan = plan_of(dataclasses.replace(study, tuning=None), PlainMean())
    state = plan.start()
    prepare = plan.asks(state)
    totals = {entry.name: np.zeros(entry.shape) for entry in prepare.entries}
    if "missing" in totals and not study.privacy:
        # One of two rows lacks every value: every column gets its indicator, and the model its largest width.
        totals |= {"rows": np.array(2.0), "missing": np.ones_like(totals["missing"])}
    state, _ = plan.advance(state, Total(totals, 2.0, sites))
    method: Any = plan.method(state, TRAIN)
    forecast = method.forecast()
    parameters, train = forecast.parameters, forecast.ask
    judge: Any = plan.method({**state, "stage": np.array(2)}, EVALUATE)
    evaluate = judge.asks(judge.start())

    def made(step: str, ask: Ask, times: int, contents: tuple[str, ...]) -> Sum:
        rows, words = data.parts[ask.part], word_plan(ask, sites)
        if step == "training":  # the only sum in which rows without a label are
            rows = rows.whole()
        size_bytes = words.size * words.dtype.itemsize
        return Sum(step, ask.part, rows.patient_count, len(rows), times, words.size, size_bytes, contents)

    if study.privacy:
        contents = description_private.contents(study, (prepare, train, evaluate), parameters)
    else:
        contents = _prepared(study, "missing" in totals), forecast.contents, _evaluated(study, judge.methods)
    tuned: tuple[Sum, ...] = ()
    if study.tuning:
        one = made("tuning", train, study.method.rounds + 1, ())
        measure = measure_of(method, plan.result(state)[PREPARE], BINS, study.evaluation.threshold)
        tuned = (_tuned(study, one, sum(math.prod(each.shape) for each in measure.layout()) + 1),)
        parameters *= study.tuning.models
    return Leaving(
        (
            made("preparation", prepare, 1, contents[0]),
            *tuned,
            made("training", train, study.method.rounds, contents[1]),
            made("evaluation", evaluate, 1, contents[2]),
        ),
        parameters,
        train.subset_patients,
    )


def _tuned(study: Study, one: Sum, judged: int) -> Sum:
    """Return what leaves while options are chosen: the sums of many trainings, side by side.

    one: of a single training, in each exchange but the last.
    judged: numbers of its judgement on a fold, in the last one.
    """
    assert study.tuning is not None
    tried = plural(len(study.tuning.candidates), "candidate")
    contents = (
        f"the same as in training, for each of {tried} ({', '.join(study.tuning.grid)}), on all but one of"
        f" {study.tuning.folds} parts of your patients",
        "once, how good each of these models is on the part left out",
    )
    # Each keeps its own weight, and the vector has one more.
    numbers = study.tuning.models * max(one.numbers, judged) + 1
    return dataclasses.replace(one, numbers=numbers, size_bytes=8 * numbers, contents=contents)


def _prepared(study: Study, columns: bool) -> tuple[str, ...]:
    """Return what a preparation sums; columns: whether it looks at any."""
    if not columns:
        return ("how many rows there are",)
    contract = study.data
    kinds = [contract.columns[name].type for name in contract.features]
    contents = ["how many rows there are"]
    if kinds:
        contents.append("how many values are missing, and how many are outside the contract, by column")
    if "number" in kinds:
        contents.append(
            f"of each of {plural(kinds.count('number'), 'number column')}: the sum, the sum of squares, and how many"
            f" rows lie in each of {MEDIAN_BINS:,} equal parts of the declared range"
        )
    if "category" in kinds:
        contents.append(
            f"of each of {plural(kinds.count('category'), 'category column')}: how many rows have each level"
        )
    if contract.images:
        contents.append("of the pixels: mean and mean square of each image, summed over the images")
    label = contract.label
    contents.append(
        f"of {label}: the sum and the sum of squares"
        if contract.task == "number"
        else f"of {label}: how many rows have each class"
    )
    return tuple(contents)


def _evaluated(study: Study, judges: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what an evaluation sums; judges: the evaluation of everyone, and those beside it."""
    contents = list(judges[EVERYONE].measure.contents())
    if study.evaluation.subgroups:
        groups = [
            f"{name} = {level}" for name in study.evaluation.subgroups for level in study.data.columns[name].levels
        ]
        contents.append(f"all of it for everyone, and again for {', '.join(groups)}")
    if study.evaluation.importance:
        columns = plural(len(study.data.features), "column")
        # Predictions are counted in fewer steps; a method that sums something of its own sums the same once more.
        dealt = judges[f"{DEALT}{study.data.features[0]}"].measure.contents()
        steps = "" if dealt == judges[EVERYONE].measure.contents() else f" in {DEALT_BINS:,} steps"
        contents.append(f"the same{steps} for each of {columns}, with its values dealt anew among your rows")
    return tuple(contents)
