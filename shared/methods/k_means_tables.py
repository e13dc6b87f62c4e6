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
_ROUNDING = 1e-6


def interpretation(weights: Arrays, contract: DataContract, terms: Sequence[Term], least: int) -> Interpretation:
    """Return the tables.

    weights: ``centres``, ``fit/rows`` and ``fit/labels`` as released.
    least: fewest patients of a hospital behind a number.
    """
    count = len(weights["centres"])
    if count > _MOST_SHOWN:
        return Interpretation((f"Tables of {count} clusters are left out: the model's folder has the centres.",))
    names = tuple(f"cluster {index + 1}" for index in range(count))
    filled = np.flatnonzero(weights["fit/rows"])
    own: tuple[tuple[Value, ...], ...] = tuple(
        (f"{term.name} ({term.unit})" if term.unit else term.name, *(_own(term, column[index]) for index in filled))
        for term, column in zip(terms, weights["centres"].T, strict=True)
    )
    note = "Means in the columns' own units, with missing values filled in; of a level, the share of the rows."
    centres = Table("Centres", ("column", *(names[index] for index in filled)), own, note)
    return Interpretation(
        tables=(_members(names, weights["fit/rows"], weights["fit/labels"], contract, least), centres)
    )


def _own(term: Term, value: float) -> float:
    """Return a centre's value in the column's own unit, without what rounding left of nothing."""
    own = float(term.center + term.scale * value)
    return own if abs(own) > _ROUNDING * term.scale else 0.0


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
                " smallest ones until they have so many together. A class may have more rows than are told; a dash is"
                " none told."
            )
    if len(filled) < len(names):
        notes.append(f"Empty clusters: {len(names) - len(filled)}.")
    whole = max(float(rows.sum()), 1.0)
    hidden = labels[:, len(told) - 1] > 0 if classes and least > 1 else np.zeros(len(names), dtype=np.bool_)
    body: tuple[tuple[Value, ...], ...] = tuple(
        (
            names[index],
            round(float(rows[index])),
            float(rows[index]) / whole,
            *(
                None if hidden[index] and not cell else round(float(cell)) if classes else float(cell)
                for cell in labels[index, : len(told)]
            ),
        )
        for index in filled
    )
    return Table("Clusters", ("cluster", "training rows", "share", *told), body, " ".join(notes))
