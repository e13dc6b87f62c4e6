"""In the place of a preparation, for a method that reads rows as they are: how many training rows there are."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from shared.examples import Arrays, Examples, Part
from shared.layout import Entry
from shared.methods.base import NOTHING, Ask, Contribution, Measurements, Total
from shared.preparation import Preparation
from shared.randomness import Randomness
from shared.schema import DataContract


class RowCount:
    """One exchange; its result is a ``Preparation`` without columns, under which rows stay as they are."""

    def __init__(self, contract: DataContract) -> None:
        self.contract = contract

    def start(self) -> Arrays:
        """Return the state before the exchange."""
        return {"rounds": np.array(0)}

    def asks(self, state: Arrays) -> Ask:
        """Return the layout: the rows."""
        most = float(self.contract.max_rows_per_site)
        return Ask(Part.TRAINING, (Entry("rows", (), most, 0.5),), most, 64, False, 0.0, 0.0)

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return how many rows this site has."""
        return Contribution({"rows": np.array(float(len(examples)))}, float(len(examples))), NOTHING

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the rows of all sites."""
        return {"rounds": np.array(1), "rows": total.arrays["rows"]}, {}

    def finished(self, state: Arrays) -> bool:
        """Whether the one exchange has been made."""
        return bool(state["rounds"] >= 1)

    def result(self, state: Arrays) -> Preparation:
        """Return a preparation without columns."""
        return Preparation(self.contract, (), (), (), 0.0, 1.0, int(state["rows"]), {}, {}, ())

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> None:
        """Nothing stays at the hospital."""
        return
