"""What a study would mean for a hospital, in its own words: what leaves, how it is protected, and what it costs.

No text here holds a cell: counts, and names of the study's columns.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from client import costs, description_private
from client.costs import Bill
from client.data.split import SiteData
from client.leaving import Leaving
from client.policy import Policy, class_patients
from shared.errors import ProtocolError, StudyError
from shared.examples import Examples, Part, concatenate
from shared.secagg import roster
from shared.study import Study
from shared.wording import plural


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
    yield f"  opted out, and left out before anything else: {plural(opted_out[0], 'patient')}"
    for note in data.notes:
        yield f"  {note}"
    for name, count in class_patients(study.data, everybody).items():
        yield f"  class {name} of {study.data.event or study.data.label}: {plural(count, 'patient')}"
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
    patients = plural(examples.patient_count, "patient")
    return patients if examples.patient_count == len(examples) else f"{patients} with {plural(len(examples), 'row')}"


def _sum_lines(leaving: Leaving, policy: Policy) -> Iterator[str]:
    for number, each in enumerate(leaving.sums, start=1):
        often = "once" if each.times == 1 else f"{each.times:,} times"
        who = "to train on" if each.part is Part.TRAINING else "held out"
        size = _size(each.size_bytes)
        yield (
            f"  {number}. {each.step.capitalize()}, {often}: sums over your {plural(each.patients, 'patient')} {who};"
            f" at most {each.numbers:,} numbers, {size}{'' if each.times == 1 else ' each time'}"
        )
        yield from (f"     - {content}" for content in each.contents)
    yield f"  In one run at most {_size(leaving.size_bytes)}; an approval is for at most {plural(policy.runs, 'run')}."


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
