"""What clusters say, for people: how large they are, their centres, and how the label is distributed in them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays
from shared.interpretation import Interpretation, Table, Value
from shared.methods.design import Term
from shared.schema import DataContract

_MOST_SHOWN = 20
"""Tables of more clusters are not read."""


def interpretation(weights: Arrays, contract: DataContract, terms: Sequence[Term], least: int) -> Interpretation:
    """Return the tables.

    weights: ``centres``, ``fit/rows`` and ``fit/labels`` as released.
    least: fewest patients of a hospital behind a number.
    """
    count = len(weights["centres"])
    if count > _MOST_SHOWN:
        return Interpretation((f"Tables of {count} clusters are left out: the model's folder has the centres.",))
    names = tuple(f"cluster {index + 1}" for index in range(count))
    own: tuple[tuple[Value, ...], ...] = tuple(
        (
            f"{term.name} ({term.unit})" if term.unit else term.name,
            *(float(term.center + term.scale * value) for value in column),
        )
        for term, column in zip(terms, weights["centres"].T, strict=True)
    )
    note = "Means in the columns' own units, with missing values filled in; of a level, the share of the rows."
    centres = Table("Centres", ("column", *names), own, note)
    return Interpretation(
        tables=(_members(names, weights["fit/rows"], weights["fit/labels"], contract, least), centres)
    )


def _members(
    names: Sequence[str], rows: NDArray[np.float64], labels: NDArray[np.float64], contract: DataContract, least: int
) -> Table:
    label, classes = contract.label, contract.classes
    filled = [index for index in range(len(names)) if rows[index]]
    notes = []
    if not classes:
        told: tuple[str, ...] = (f"{label}, mean", f"{label}, deviation")
    else:
        told = tuple(f"{label} = {name}" for name in classes)
        if least > 1:
            told = (*told, f"{label} not told")
            notes.append(
                f"Not told: classes with fewer than {least} patients of a hospital in the cluster, and the next"
                " smallest ones until they have so many together."
            )
    if len(filled) < len(names):
        notes.append(f"Empty clusters: {len(names) - len(filled)}.")
    whole = max(float(rows.sum()), 1.0)
    body: tuple[tuple[Value, ...], ...] = tuple(
        (
            names[index],
            round(float(rows[index])),
            float(rows[index]) / whole,
            *(round(float(cell)) if classes else float(cell) for cell in labels[index, : len(told)]),
        )
        for index in filled
    )
    return Table("Clusters", ("cluster", "training rows", "share", *told), body, " ".join(notes))
