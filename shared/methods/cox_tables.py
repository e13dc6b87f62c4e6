"""How well a proportional hazards model fits, and its baseline hazard, as tables."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays
from shared.interpretation import Table, Value
from shared.methods.survival import Grid
from shared.schema import DataContract


def fit_table(fit: Arrays) -> Table:
    """Return rows, events and likelihoods, as statsmodels and R's ``survival`` have them."""
    from scipy.special import chdtrc

    count, ratio = int((fit["free"] > 0).sum()), 2.0 * (float(fit["first_loss"]) - float(fit["loss"]))
    rows: tuple[tuple[str, Value], ...] = (
        ("rows", round(float(fit["rows"]))),
        ("events", round(float(fit["events"]))),
        ("estimated coefficients", count),
        ("log partial likelihood", -float(fit["loss"])),
        ("log partial likelihood without columns", -float(fit["first_loss"])),
        ("likelihood ratio", ratio),
        ("p of the likelihood ratio", float(chdtrc(count, max(ratio, 0.0)))),
        ("AIC", 2.0 * (count + float(fit["loss"]))),
    )
    return Table("Fit", ("", "value"), rows)


def baseline(hazard: NDArray[np.float64], grid: Grid, contract: DataContract) -> Table:
    """Return the cumulative hazard by the end of each interval with events. hazard: in each, shape (intervals,)."""
    unit = contract.columns[contract.label].unit
    cumulative = np.cumsum(hazard)
    rows = tuple(
        (float(grid.ends[cell]), float(cumulative[cell]), math.exp(-float(cumulative[cell])))
        for cell in np.flatnonzero(hazard)
    )
    return Table(
        "Baseline cumulative hazard",
        (f"{contract.label} up to{f' ({unit})' if unit else ''}", "cumulative hazard", "without the event"),
        rows,
        "Of a patient with the mean of every number and the first level of every category (Breslow's estimate).",
    )
