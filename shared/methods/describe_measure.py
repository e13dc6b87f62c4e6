"""How far the means of held-out patients lie from a table of the training patients, in its standard deviations.

The standardised difference of Austin 2009 ("Balance diagnostics for comparing the distribution of baseline covariates",
Statistics in Medicine 28), its absolute value averaged over numbers and levels. The label has no part in it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared.examples import Arrays, Examples
from shared.methods.describe_tables import Described, once
from shared.methods.measures import Summed
from shared.methods.unsupervised import Floats
from shared.metrics import Interval, Judgement, centred, interval_of

SMALLEST_DEVIATION = 1e-3
"""As a share of the range; what varies less is not compared."""


@dataclass(frozen=True, eq=False)
class DifferenceSums:
    """Sums over n patients, by number or level: how many are known, and their standardised differences."""

    n: int
    known: Floats
    differences: Floats

    def judge(self, replicates: int, generator: np.random.Generator) -> Judgement:
        """Return the mean absolute standardised difference; resamples draw each mean with its standard error."""
        known = self.known > 0
        if not known.any():
            return Judgement(
                {"mean_difference": Interval(math.nan, math.nan, math.nan)}, self.n, curves=(), by_patient=True
            )
        means = self.differences[known] / self.known[known]
        value = float(np.abs(means).mean())
        drawn = means + generator.standard_normal((replicates, len(means))) / np.sqrt(self.known[known])
        samples = centred(np.abs(drawn).mean(axis=1), value, most=math.inf)
        return Judgement({"mean_difference": interval_of(value, samples)}, self.n, curves=(), by_patient=True)


@dataclass(frozen=True, eq=False)
class Differences:
    """How a table is judged: a ``Measure``."""

    columns: tuple[Described, ...]

    @property
    def width(self) -> int:
        """Number of numbers and levels."""
        return sum(column.width for column in self.columns)

    def layout(self) -> list[Summed]:
        """Return what is summed."""
        return [
            Summed("rows", (), 1.0, True),
            Summed("known", (self.width,), 1.0, True),
            Summed("differences", (self.width,), 1.0 / SMALLEST_DEVIATION, False),
        ]

    def contents(self) -> tuple[str, ...]:
        """Return what the numbers are."""
        return (
            "how many patients there are, and of each number and level how many have it and how far they lie from the"
            " table's mean; each counts with its first row",
        )

    def standardised(self, weights: Arrays, examples: Examples) -> Floats:
        """Return rows less the means over the deviations, shape (n, numbers and levels); NaN where unknown."""
        made = np.full((len(examples), self.width), np.nan)
        place = 0
        for column in self.columns:
            there, unit = column.observed(examples)
            if column.number:
                made[there, place] = unit
            else:
                # A level that is missing is not this level: shares are of all patients.
                made[:, place : place + column.width] = 0.0
                made[np.flatnonzero(there), place + unit.astype(np.int64)] = 1.0
            place += column.width
        mean, deviation = weights["mean"][: self.width], weights["deviation"][: self.width]
        judged = deviation > 0
        made[:, ~judged] = np.nan
        return np.asarray((made - mean) / np.where(judged, deviation, 1.0))

    def count(self, weights: Arrays, examples: Examples) -> DifferenceSums:
        """Return the sums over some rows."""
        examples = once(examples)
        off = self.standardised(weights, examples)
        known = (~np.isnan(off)).sum(axis=0).astype(np.float64)
        return DifferenceSums(len(examples), known, np.nansum(off, axis=0))

    def arrays(self, sums: Any) -> Arrays:
        """Return sums as arrays."""
        return {"rows": np.array(float(sums.n)), "known": sums.known, "differences": sums.differences}

    def sums(self, arrays: Arrays) -> DifferenceSums:
        """Return the sums over the contributing hospitals."""
        return DifferenceSums(round(float(arrays["rows"])), arrays["known"], arrays["differences"])
