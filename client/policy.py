"""What a hospital allows, whatever a study proposes: the ``[policy]`` part of its own ``site.toml``.

A study is held against all rules when it is approved (``violations``), so that the hospital hears of it first. They
are held against it again in every round (``check_sum``), because the file may have been changed since. Both look at the
frozen cohort and never at what is asked about it: such a refusal is the same in every round of a run, however states
are chosen, so it tells no more than once that a number lies below the hospital's own rule. How far below, and of which
class, is not said. Sums over subsets that the data choose are the exception (``check_subsets``): that refusal uses up
its round.

Simulated hospitals have no ``site.toml``: ``simulated`` makes their policy from the study.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from client.data.split import SiteData
from shared.errors import Refusal, nearest
from shared.examples import Examples, Part
from shared.methods import METHODS
from shared.methods.base import Ask, Contribution
from shared.methods.tuning import folds_of
from shared.schema import CLOSED, DataContract
from shared.study import Study


@dataclass(frozen=True, config=CLOSED)
class Policy:
    """One hospital's own rules.

    min_sites: fewest members of a sum that it takes part in, which binds every member of a run; its guarantee holds
        while fewer than a third collude.
    unmasked: whether it answers without secure aggregation.
    shrinking: whether sums of an exact method may go on without a lost site, or be made again in another run without
        it, if every other member's hospital allows it too; the lost site's part can then be found by subtraction.
    methods: names of the methods that it takes part in; None for all.
    min_patients: fewest patients of its own that it takes part with.
    min_class_patients: fewest patients of its own to train on in each class of the label; of a time, with the event.
    min_part_patients: fewest patients of its own behind any sum: to train on, and held out unless nobody is.
    max_parameters_per_patient: most trained parameters of a model for each of its patients to train on.
    min_difference: fewest patients by which two cohorts may differ that are not the same, whatever their studies; 1
        for any. Two sums that differ by fewer patients give those away (``client/differencing.py``).
    data_dependent_subsets: whether it takes part in sums over subsets that the data choose, such as a tree's nodes.
    min_subset_patients: fewest patients of its own in such a subset, empty ones apart.
    runs: how often a run of an approved study may be made before it must be approved again.
    show_counts: whether the coordinator may see how many rows and patients it brings.
    show_metrics: whether the coordinator may see how good the model is on its own patients.
    """

    min_sites: Annotated[int, Field(ge=1, le=100)] = 3
    unmasked: bool = False
    shrinking: bool = False
    methods: tuple[str, ...] | None = None
    min_patients: Annotated[int, Field(ge=1)] = 20
    min_class_patients: Annotated[int, Field(ge=0)] = 5
    min_part_patients: Annotated[int, Field(ge=1)] = 5
    max_parameters_per_patient: Annotated[float, Field(gt=0)] = 1000.0
    min_difference: Annotated[int, Field(ge=1)] = 10
    data_dependent_subsets: bool = False
    min_subset_patients: Annotated[int, Field(ge=1)] = 5
    runs: Annotated[int, Field(ge=1, le=1000)] = 3
    show_counts: bool = False
    show_metrics: bool = False

    def __post_init__(self) -> None:
        for name in self.methods or ():
            if name not in METHODS:
                raise ValueError(f"methods: no method {name!r}. {nearest(name, METHODS)}")


def simulated(study: Study) -> Policy:
    """Return the policy of a simulated hospital: the study's own wishes, and what its ``[simulation]`` part allows.

    A simulation protects nobody, so it may be as small as the researcher likes.
    """
    return Policy(
        min_sites=study.aggregation.min_sites,
        unmasked=not study.aggregation.secure,
        shrinking=study.simulation.contributors_may_shrink,
        min_patients=1,
        min_class_patients=0,
        min_part_patients=1,
        max_parameters_per_patient=1e12,
        min_difference=1,
        data_dependent_subsets=True,
        min_subset_patients=1,
    )


def class_patients(contract: DataContract, examples: Examples) -> Mapping[str, int]:
    """Return the number of patients with a row of each class, by the class's name; empty for a number.

    Of a time, those with the event. A patient whose rows are of several classes counts in each.
    """
    if contract.event and examples.events is not None:
        return {str(contract.columns[contract.event].levels[1]): _patients(examples, examples.events)}
    return {name: _patients(examples, examples.labels == index) for index, name in enumerate(contract.classes)}


def _patients(examples: Examples, rows: NDArray[np.bool_]) -> int:
    """Return the number of patients with one of these rows."""
    return int(np.count_nonzero(np.bincount(examples.patient_index[rows])))


@dataclass(frozen=True, config=CLOSED)
class Broken:
    """A rule that a study breaks.

    code: what the coordinator hears.
    sentence: for the hospital alone: it has counts.
    """

    code: str
    sentence: str


def violations(
    policy: Policy, study: Study, data: SiteData, members: int, parameters: int, subsets: int | None
) -> tuple[str, ...]:
    """Return one sentence for each rule that a study, with this hospital's data, breaks; all of them at once.

    data: the hospital's own, checked and split.
    members: number of hospitals in the roster, this one included.
    parameters: most numbers that training may move; subsets: fewest patients in subsets that the data choose, or None
        (``client.leaving.Leaving``).
    """
    broken = [*_of_study(policy, study, members), *_of_subsets(policy, subsets), *_of_cohort(policy, study, data)]
    return tuple(each.sentence for each in [*broken, *_of_model(policy, data, parameters)])


def check_cohort(policy: Policy, study: Study, data: SiteData) -> None:
    """Refuse a study about too few patients; all parts are looked at, whichever is asked for.

    data: the frozen cohort.

    Raises: Refusal ``too-few-patients`` or ``too-few-of-a-class``.
    """
    _refuse(_of_cohort(policy, study, data))


def check_sum(policy: Policy, study: Study, data: SiteData, ask: Ask, members: int, parameters: int) -> None:
    """Refuse a sum that the hospital's policy does not allow, before anything is computed from patients.

    data: the frozen cohort.
    members: number of hospitals in the run.
    parameters: numbers of the model that is trained in this round; 0 where none is.

    Raises: Refusal ``method-not-allowed``, ``unmasked``, ``too-few-members``, ``data-dependent-subsets``,
        ``too-many-parameters``, or as ``check_cohort``.
    """
    _refuse(_of_study(policy, study, members))
    _refuse(_of_subsets(policy, ask.subset_patients))
    _refuse(_of_cohort(policy, study, data))
    _refuse(_of_model(policy, data, parameters))


def check_subsets(policy: Policy, ask: Ask, contribution: Contribution) -> None:
    """Refuse sums over a data-dependent subset with too few patients of this hospital.

    Whether it comes depends on patients and on the state, so it uses up the round as every such refusal.

    Raises: Refusal ``subset-too-small``, also if the method does not say how small the smallest is.
    """
    if not ask.data_dependent_subsets:
        return
    smallest = contribution.smallest_subset
    if smallest is None or smallest < policy.min_subset_patients:
        raise Refusal("subset-too-small", _HINTS["subset-too-small"])


_HINTS = {
    "method-not-allowed": "this hospital's policy does not allow the study's method",
    "unmasked": "this hospital's policy allows no sum without secure aggregation",
    "too-few-members": "this hospital's policy asks for more hospitals in a sum",
    "too-few-patients": "this hospital's policy asks for more patients of its own behind each sum",
    "too-few-of-a-class": "this hospital's policy asks for more patients of its own in each class",
    "too-many-parameters": "this hospital's policy asks for a smaller model, or more patients of its own to train on",
    "data-dependent-subsets": "this hospital's policy allows no sums over subsets that the data choose",
    "subset-too-small": "this hospital's policy asks for more patients in each subset that the data choose",
}
"""What the coordinator hears: no count, and not which class or part."""


def _refuse(broken: Iterable[Broken]) -> None:
    for each in broken:
        raise Refusal(each.code, _HINTS[each.code])


def _of_study(policy: Policy, study: Study, members: int) -> Iterator[Broken]:
    if policy.methods is not None and study.method.name not in policy.methods:
        allowed = ", ".join(policy.methods) or "none"
        yield Broken(
            "method-not-allowed", f"methods: the study trains by {study.method.name}; allowed here: {allowed}."
        )
    if not (study.aggregation.secure or policy.unmasked):
        yield Broken(
            "unmasked", "unmasked: the study asks for sums without masks, so the coordinator would see this hospital's."
        )
    if members < policy.min_sites:
        yield Broken(
            "too-few-members",
            f"min_sites: expected at least {policy.min_sites} hospitals. Received: {members} in the roster.",
        )


def _of_subsets(policy: Policy, subsets: int | None) -> Iterator[Broken]:
    if subsets is not None and not policy.data_dependent_subsets:
        yield Broken(
            "data-dependent-subsets",
            "data_dependent_subsets: expected no sums over subsets that the data choose. Received: a study with such"
            " sums. To allow them, write data_dependent_subsets = true.",
        )
    elif subsets is not None and subsets < policy.min_subset_patients:
        yield Broken(
            "subset-too-small",
            f"min_subset_patients: expected at least {policy.min_subset_patients} patients in each subset that the data"
            f" choose. Received: a study whose sums may be over {subsets}. Ask for one with [method.options]"
            f" min_subset_patients = {policy.min_subset_patients}, or lower your own rule.",
        )


def _of_cohort(policy: Policy, study: Study, data: SiteData) -> Iterator[Broken]:
    training, held_out = (_people(study.data, data.parts[part]) for part in (Part.TRAINING, Part.HELD_OUT))
    # No patient is in both parts (client/data/split.py).
    patients = training.patients + held_out.patients
    few = "too-few-patients"
    if patients < policy.min_patients:
        yield Broken(few, f"min_patients: expected at least {policy.min_patients} patients. Received: {patients}.")
    for name, count in training.classes.items():
        if count < policy.min_class_patients:
            yield Broken(
                "too-few-of-a-class",
                f"min_class_patients: expected at least {policy.min_class_patients} patients of class {name} of"
                f" {study.data.event or study.data.label} to train on. Received: {count}.",
            )
    if training.patients < policy.min_part_patients:
        yield Broken(
            few,
            f"min_part_patients: expected at least {policy.min_part_patients} patients to train on. Received:"
            f" {training.patients}.",
        )
    if 0 < held_out.patients < policy.min_part_patients:
        yield Broken(
            few,
            f"min_part_patients: expected nobody held out, or at least {policy.min_part_patients} patients. Received:"
            f" {held_out.patients}.",
        )
    if study.tuning:
        smallest = _smallest_fold(data.parts[Part.TRAINING], study.study.seed, study.tuning.folds)
        if smallest < policy.min_part_patients:
            yield Broken(
                few,
                f"min_part_patients: expected at least {policy.min_part_patients} patients, or nobody, in each of the"
                f" {study.tuning.folds} folds on which the study's candidates are judged. Received: {smallest} in one.",
            )


def _smallest_fold(training: Examples, seed: int, folds: int) -> int:
    """Return the fewest patients of a fold that has any; counted once."""

    def count() -> int:
        counts = np.bincount(folds_of(np.unique(training.patients), seed, folds))
        return int(counts[counts > 0].min())

    return training.derived("smallest fold", (seed, folds), count)


def _of_model(policy: Policy, data: SiteData, parameters: int) -> Iterator[Broken]:
    patients = data.parts[Part.TRAINING].patient_count if parameters else 0
    if parameters > policy.max_parameters_per_patient * patients:
        yield Broken(
            "too-many-parameters",
            f"max_parameters_per_patient: expected at most {policy.max_parameters_per_patient:g}. Received:"
            f" {parameters / max(patients, 1):.1f}: a model of up to {parameters:,} parameters for {patients} patients"
            " to train on.",
        )


@dataclass(frozen=True, config=CLOSED)
class _People:
    """How many patients a part has, and how many of each class."""

    patients: int
    classes: Mapping[str, int]


def _people(contract: DataContract, examples: Examples) -> _People:
    """Return how many patients there are; counted once, because it is asked for in every round."""
    return examples.derived(
        "people", contract.classes, lambda: _People(examples.patient_count, class_patients(contract, examples))
    )
