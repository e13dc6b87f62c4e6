"""What would leave a hospital if it approved a study, in the hospital's words; nothing is sent to find out.

The sums follow from the study alone: preparation, training and evaluation are asked what they would ask for, as a run
would (``shared/plan.py``). How wide a model is depends on which columns lack values somewhere; here every column does,
so the numbers are the most that can leave. With ``[privacy]`` it follows from the contract, whatever the data are. No
text here holds a cell: counts, and names of the study's columns.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from client import costs, description_private
from client.costs import Bill
from client.data.split import SiteData
from client.policy import Policy, class_patients
from shared.errors import ProtocolError, StudyError
from shared.examples import Examples, Part, concatenate
from shared.methods.base import Ask, PlainMean, Total, word_plan
from shared.methods.importance import BINS as DEALT_BINS
from shared.methods.measures import measure_of
from shared.methods.preparation import MEDIAN_BINS
from shared.methods.tuning import BINS
from shared.plan import EVALUATE, EVERYONE, PREPARE, TRAIN, plan_of
from shared.secagg import roster
from shared.study import Study


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
        contents = _prepared(study, "missing" in totals), forecast.contents, _evaluated(study, judge.methods[EVERYONE])
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
    tried = _count(len(study.tuning.candidates), "candidate")
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
            f"of each of {_count(kinds.count('number'), 'number column')}: the sum, the sum of squares, and how many"
            f" rows lie in each of {MEDIAN_BINS:,} equal parts of the declared range"
        )
    if "category" in kinds:
        contents.append(
            f"of each of {_count(kinds.count('category'), 'category column')}: how many rows have each level"
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


def _evaluated(study: Study, judge: Any) -> tuple[str, ...]:
    """Return what an evaluation sums; judge: the evaluation of everyone."""
    contents = list(judge.measure.contents())
    if study.evaluation.subgroups:
        groups = [
            f"{name} = {level}" for name in study.evaluation.subgroups for level in study.data.columns[name].levels
        ]
        contents.append(f"all of it for everyone, and again for {', '.join(groups)}")
    if study.evaluation.importance:
        columns = _count(len(study.data.features), "column")
        contents.append(
            f"the same in {DEALT_BINS:,} steps for each of {columns}, with its values dealt anew among your rows"
        )
    return tuple(contents)


def shown(policy: Policy, study: Study) -> Policy:
    """Return a policy as it works in a study: with ``[privacy]`` nothing is shown by name, since that has no noise."""
    return dataclasses.replace(policy, show_counts=False, show_metrics=False) if study.privacy else policy


def text(
    study: Study,
    data: SiteData,
    opted_out: tuple[int, int],
    policy: Policy,
    sites: int,
    leaving: Leaving,
    owed: Bill | None = None,
) -> str:
    """Return the description that ``check`` and ``approve`` show.

    opted_out: (patients, rows) left out before anything else.
    sites: number of hospitals in the roster.
    leaving: of ``what_leaves``.
    owed: what the study would cost of the budget; None for a study without ``[privacy]``.

    Raises: StudyError as ``client.description_private.guarantee``.
    """
    priced = (
        ["", "What it costs of your privacy budget", *(f"  - {line}" for line in costs.lines(owed))] if owed else []
    )
    return "\n".join(
        [
            f"Study {study.name}: {study.study.question}",
            f"Digest {study.digest}",
            "",
            "Your data",
            *_data_lines(study, data, opted_out),
            "",
            "What would leave, and nothing else of your patients",
            *_sum_lines(leaving, policy),
            *(f"  {line}" for line in _shown_lines(study, policy)),
            "",
            "How it is protected",
            *(f"  - {line}" for line in _protection(study, policy, sites, leaving.subsets)),
            *priced,
        ]
    )


def _data_lines(study: Study, data: SiteData, opted_out: tuple[int, int]) -> Iterator[str]:
    everybody = concatenate(list(data.parts.values()))
    training, held_out = data.parts[Part.TRAINING], data.parts[Part.HELD_OUT]
    yield f"  {_people(everybody)}: {_people(training)} to train on, {_people(held_out)} held out to judge the model"
    yield f"  opted out, and left out before anything else: {_count(opted_out[0], 'patient')}"
    for note in data.notes:
        yield f"  {note}"
    for name, count in class_patients(study.data, everybody).items():
        yield f"  class {name} of {study.data.event or study.data.label}: {_count(count, 'patient')}"
    missing = (np.isnan(everybody.values) & ~everybody.outside).sum(axis=0)
    found = False
    for name, absent in zip(study.data.features, missing.tolist(), strict=True):
        outside = data.findings.outside.get(name, 0)
        if absent or outside:
            found = True
            beyond = f", outside the contract {outside:,} (they count as missing)" if outside else ""
            yield f"  column {name}: missing {absent:,} of {len(everybody):,}{beyond}"
    if study.data.features and not found:
        yield "  no value is missing or outside the contract"


def _people(examples: Examples) -> str:
    patients = _count(examples.patient_count, "patient")
    return patients if examples.patient_count == len(examples) else f"{patients} with {_count(len(examples), 'row')}"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def _sum_lines(leaving: Leaving, policy: Policy) -> Iterator[str]:
    for number, each in enumerate(leaving.sums, start=1):
        often = "once" if each.times == 1 else f"{each.times:,} times"
        who = "to train on" if each.part is Part.TRAINING else "held out"
        size = _size(each.size_bytes)
        yield (
            f"  {number}. {each.step.capitalize()}, {often}: sums over your {_count(each.patients, 'patient')} {who};"
            f" at most {each.numbers:,} numbers, {size}{'' if each.times == 1 else ' each time'}"
        )
        yield from (f"     - {content}" for content in each.contents)
    yield f"  In one run at most {_size(leaving.size_bytes)}; an approval is for at most {_count(policy.runs, 'run')}."


def _shown_lines(study: Study, policy: Policy) -> Iterator[str]:
    by_name = {
        "how many rows and patients you bring": policy.show_counts,
        "how good the model is on your patients": policy.show_metrics,
    }
    if study.privacy:
        yield f"The coordinator does not see, whatever your policy says, since it has no noise: {', '.join(by_name)}."
    else:
        seen = [what for what, allowed in by_name.items() if allowed]
        hidden = [what for what, allowed in by_name.items() if not allowed]
        if seen:
            yield f"By your policy the coordinator sees, with your name: {', '.join(seen)}."
        if hidden:
            yield f"By your policy the coordinator does not see: {', '.join(hidden)}."
    yield "Beside these: keys, signatures, this hospital's rules and, when something fails, a code and a hint."


def _protection(study: Study, policy: Policy, sites: int, subsets: int | None) -> Iterator[str]:
    if not study.aggregation.secure:
        yield "NOT masked: the study asks for bare sums, and the coordinator sees this hospital's own."
    else:
        least = max(roster.SMALLEST, policy.min_sites, study.aggregation.min_sites)
        if sites >= roster.SMALLEST:
            least = max(least, roster.threshold_of(sites, study.aggregation.threshold))
        yield (
            f"Masked: the coordinator learns only totals, over at least {least} hospitals. This holds while fewer than"
            " a third of the hospitals help the coordinator to cheat."
        )
        if policy.shrinking and not study.privacy:
            yield "Your policy lets sums go on without a lost hospital: its part can then be found by subtraction."
        if study.privacy:
            yield from description_private.guarantee(study, sites, least)
    if not study.privacy:
        yield (
            "No noise is added: totals and the model are exact. Masks do not hide what a total itself says, for"
            " instance to somebody who knows all other patients in it."
        )
    if subsets is not None:
        yield (
            "Some sums are over groups that the data choose, such as the nodes of a tree: each group holds at least"
            f" {policy.min_subset_patients} of your patients, or nobody. What is counted within a group may be fewer."
        )
    yield "Only this frozen snapshot is used; a patient who opts out later is in it until you withdraw or approve anew."


def _size(size_bytes: int) -> str:
    for unit, factor in (("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= factor:
            return f"{size_bytes / factor:.3g} {unit}"
    return f"{size_bytes} bytes"


def check_threshold(study: Study, sites: int) -> None:
    """Raise StudyError if so many hospitals cannot aggregate securely as the study wants."""
    if not study.aggregation.secure:
        return
    if not roster.SMALLEST <= sites <= roster.LARGEST:
        raise StudyError(
            f"{study.name}: a masked study needs {roster.SMALLEST} to {roster.LARGEST} hospitals. Received: {sites} in"
            " the roster. Ask the coordinator for the newest one, and give it with --roster."
        )
    try:
        roster.threshold_of(sites, study.aggregation.threshold)
    except ProtocolError as error:
        raise StudyError(f"{study.name}: [aggregation] threshold: {error.hint}") from None
