"""What a hospital allows, whatever a study proposes: the ``[policy]`` part of its own ``site.toml``.

Some rules bind every run (``min_sites``, ``unmasked``, ``shrinking``); the others are held against a study and the
hospital's data when the study is approved (``violations``). Simulated hospitals have no ``site.toml``: ``simulated``
makes their policy from the study.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from client.data.split import SiteData
from shared.errors import nearest
from shared.examples import Examples, concatenate
from shared.methods import METHODS
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
    min_class_patients: fewest patients of its own in each class of the label.
    max_parameters_per_patient: most trained parameters of a model for each of its patients.
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
    max_parameters_per_patient: Annotated[float, Field(gt=0)] = 1000.0
    runs: Annotated[int, Field(ge=1, le=1000)] = 3
    show_counts: bool = False
    show_metrics: bool = False

    def __post_init__(self) -> None:
        for name in self.methods or ():
            if name not in METHODS:
                raise ValueError(f"methods: no method {name!r}. {nearest(name, METHODS)}")


def simulated(study: Study) -> Policy:
    """Return the policy of a simulated hospital: the study's own wishes, and what its ``[simulation]`` part allows."""
    return Policy(
        min_sites=study.aggregation.min_sites,
        unmasked=not study.aggregation.secure,
        shrinking=study.simulation.contributors_may_shrink,
    )


def class_patients(contract: DataContract, examples: Examples) -> Mapping[str, int]:
    """Return the number of patients with a row of each class, by the class's name; empty for a number.

    A patient whose rows are of several classes counts in each.
    """
    return {
        name: len(np.unique(examples.patients[examples.labels == index])) for index, name in enumerate(contract.classes)
    }


def violations(policy: Policy, study: Study, data: SiteData, members: int, parameters: int) -> tuple[str, ...]:
    """Return one sentence for each rule that a study, with this hospital's data, breaks; all of them at once.

    data: the hospital's own, checked and split.
    members: number of hospitals in the roster, this one included.
    parameters: most numbers that training may move: ``client.description.parameters``.
    """
    broken = []
    if policy.methods is not None and study.method.name not in policy.methods:
        allowed = ", ".join(policy.methods) or "none"
        broken.append(f"methods: the study trains by {study.method.name}; allowed here: {allowed}.")
    if not (study.aggregation.secure or policy.unmasked):
        broken.append("unmasked: the study asks for sums without masks, so the coordinator would see this hospital's.")
    if members < policy.min_sites:
        broken.append(f"min_sites: expected at least {policy.min_sites} hospitals. Received: {members} in the roster.")
    everybody = concatenate(list(data.parts.values()))
    patients = everybody.patient_count
    if patients < policy.min_patients:
        broken.append(f"min_patients: expected at least {policy.min_patients} patients. Received: {patients}.")
    for name, count in class_patients(study.data, everybody).items():
        if count < policy.min_class_patients:
            broken.append(
                f"min_class_patients: expected at least {policy.min_class_patients} patients of class {name} of"
                f" {study.data.label}. Received: {count}."
            )
    if parameters > policy.max_parameters_per_patient * patients:
        broken.append(
            f"max_parameters_per_patient: expected at most {policy.max_parameters_per_patient:g}. Received:"
            f" {parameters / max(patients, 1):.1f}: a model of up to {parameters:,} parameters for {patients} patients."
        )
    return tuple(broken)
