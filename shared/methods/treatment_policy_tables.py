"""What a treatment policy says, for people: the values' coefficients, what is recommended, and what it is not for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.examples import Arrays
from shared.interpretation import Interpretation, Table, Value
from shared.methods.design import INTERCEPT, Design

if TYPE_CHECKING:
    from shared.methods.treatment_policy import TreatmentPolicyOptions

WARNING = (
    "This is retrospective. Unless the recorded actions were drawn at random, who was treated how depended on how ill"
    " they were, also in ways that the data do not hold (confounding), so an action may only look better or worse than"
    " it is. The policy must not guide treatment; whether it helps, only a trial of it could tell."
)
_EXTRAPOLATED = (
    "Where an action was hardly ever taken in patients like these, its value is extrapolated, and the largest of"
    " several such values is too high."
)


def interpretation(
    weights: Arrays, design: Design, actions: tuple[str, ...], options: TreatmentPolicyOptions, rows: int
) -> Interpretation:
    """Return the sentences and tables.

    weights: as released.
    rows: training rows of all hospitals.
    """
    table = weights["fit/table"]
    if not table.any():
        return Interpretation((WARNING,))
    sentences = [WARNING, _EXTRAPOLATED]
    if left_out := round(rows - float(table.sum())):
        sentences.append(
            f"{left_out:,} of {rows:,} training rows are in no regression: their {options.action} is missing, or their"
            f" hospital left out what fewer than {options.min_subset_patients} of its patients had."
        )
    shown = len(actions) + bool(table[:, -1].any())
    head = ("taken", "training rows", *(f"{action} recommended" for action in actions), "not told apart")
    lines: list[tuple[Value, ...]] = [
        (name, round(float(line.sum())), *(round(float(cell)) for cell in line[:shown]))
        for name, line in zip((*actions, "all"), (*table, table.sum(axis=0)), strict=True)
    ]
    note = "Training rows by the action recorded and the one of largest value." + (
        f" Not told apart: what fewer than {options.min_subset_patients} patients of a hospital would get."
        if shown > len(actions)
        else ""
    )
    recommended = Table("Taken and recommended", head[: 2 + shown], tuple(lines), note)
    return Interpretation(tuple(sentences), (_coefficients(weights, design, actions), recommended))


def _coefficients(weights: Arrays, design: Design, actions: tuple[str, ...]) -> Table:
    parameters = design.to_own_units @ design.parameters(weights["coef"], weights["intercept"]).T
    names = [INTERCEPT, *(f"{term.name} ({term.unit})" if term.unit else term.name for term in design.terms)]
    lines: list[tuple[Value, ...]] = [
        (name, *(float(value) for value in line)) for name, line in zip(names, parameters, strict=True)
    ]
    note = (
        "By how much one unit of the column raises the value of an action, in the reward's unit. Under an L2 penalty"
        " there are no standard errors."
    )
    return Table("Values of the actions", ("column", *actions), tuple(lines), note)
