"""Coefficients with standard errors as tables and forest plots, in the columns' own units.

Wald's intervals and tests (McCullagh and Nelder 1989, section 4.4): the covariance is the inverse of the Hessian at the
minimum, times the residual variance in a linear regression; rows then count as independent, also those of one patient.
Where they may depend on each other it is that of ``shared/methods/patient_errors.py``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from shared.interpretation import Estimate, ForestPlot, Table, Value
from shared.methods.design import Design

Floats = NDArray[np.float64]

NORMAL = 1.959963984540054
"""The normal distribution's 97.5 % point."""


def normal_p(z: float) -> float:
    """Return the two-sided p-value of a normal statistic."""
    return math.erfc(abs(z) / math.sqrt(2.0))


@dataclass(frozen=True, eq=False)
class Fitted:
    """One output's estimates, of the prepared columns.

    parameters: shape (d,), the intercept first.
    free: shape (d,), which of them are estimated.
    covariance: shape (d, d), or None under a penalty, where there are no standard errors.
    of: what the output is about, such as a class; empty where there is one.
    """

    design: Design
    parameters: Floats
    free: NDArray[np.bool_]
    covariance: Floats | None
    of: str = ""

    @property
    def own(self) -> Floats:
        """The parameters in the columns' own units."""
        return self.design.to_own_units @ self.parameters

    @property
    def errors(self) -> Floats | None:
        """Standard errors of ``own``."""
        if self.covariance is None:
            return None
        units = self.design.to_own_units
        return np.asarray(np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", units, self.covariance, units), 0.0)))


@dataclass(frozen=True)
class Wording:
    """How a coefficient is tested and told.

    statistic: ``"z"`` or ``"t"``.
    quantile: 97.5 % point of its distribution.
    p_value: from the statistic to the two-sided p-value.
    ratio: what the exponential of a coefficient is, ``"odds ratio"``; empty where it is nothing.
    """

    statistic: str = "z"
    quantile: float = NORMAL
    p_value: Callable[[float], float] = normal_p
    ratio: str = ""


def table(fits: Sequence[Fitted], wording: Wording, note: str = "") -> Table:
    """Return the coefficient table."""
    about = ("class",) if fits[0].of else ()
    tested = ("standard error", wording.statistic, "p", "95 % low", "95 % high")
    errors = fits[0].covariance is not None
    head = (*about, "column", "coefficient", *(tested if errors else ()))
    if wording.ratio:
        head += (wording.ratio, f"{wording.ratio} 95 % low", f"{wording.ratio} 95 % high")[: 3 if errors else 1]
    rows = tuple(_row(fit, k, wording) for fit in fits for k in range(len(fit.parameters)))
    return Table("Coefficients", head, rows, note)


def _row(fit: Fitted, k: int, wording: Wording) -> tuple[Value, ...]:
    about: tuple[Value, ...] = (fit.of,) if fit.of else ()
    name, errors = fit.design.names[k], fit.errors
    ratios = bool(wording.ratio)
    if not fit.free[k]:
        cells = 1 + 5 * (errors is not None) + ratios * (1 + 2 * (errors is not None))
        return (*about, name, *([None] * cells))
    value = float(fit.own[k])
    if errors is None:
        return (*about, name, value, *((_exp(value),) if ratios else ()))
    error = float(errors[k])
    low, high = value - wording.quantile * error, value + wording.quantile * error
    statistic = value / error if error > 0 else None
    p = None if statistic is None else wording.p_value(statistic)
    row: tuple[Value, ...] = (*about, name, value, error, statistic, p, low, high)
    return (*row, _exp(value), _exp(low), _exp(high)) if ratios else row


def _exp(value: float) -> float | None:
    return math.exp(value) if value < 700.0 else None


def forest(fit: Fitted, wording: Wording) -> ForestPlot | None:
    """Return the forest plot: numbers by one standard deviation of the training patients, so that one axis holds all.

    None without standard errors, and where nothing is estimated besides the intercept.
    """
    if fit.covariance is None:
        return None
    made = []
    for k, term in enumerate(fit.design.terms, start=1):
        error = math.sqrt(max(float(fit.covariance[k, k]), 0.0))
        ends = [float(fit.parameters[k]) + share * wording.quantile * error for share in (0.0, -1.0, 1.0)]
        if wording.ratio:
            ends = [math.exp(min(end, 700.0)) for end in ends]
        if fit.free[k]:
            per = f" (per {term.scale:.3g}{f' {term.unit}' if term.unit else ''})" if term.number else ""
            made.append(Estimate(f"{term.name}{per}", *ends))
    if not made:
        return None
    axis = wording.ratio or "coefficient"
    return ForestPlot(
        f"{axis.capitalize()}s{f' of {fit.of}' if fit.of else ''}, numbers by one standard deviation",
        axis,
        1.0 if wording.ratio else 0.0,
        tuple(made),
    )


def sentences(design: Design, free: NDArray[np.bool_]) -> list[str]:
    """Return what a reader must know of the columns: reference levels, what is not estimated, missing values."""
    said = []
    if design.references:
        said.append(f"Levels are compared with {', '.join(design.references)}.")
    aliased = [name for name, estimated in zip(design.names, free, strict=True) if not estimated]
    if aliased:
        said.append(
            f"Not estimated, because constant or determined by the columns before: {', '.join(aliased)}. They count as"
            " zero."
        )
    if any(term.name.endswith(" missing") for term in design.terms):
        said.append(
            "A missing number counts as the column's median, of two levels as their share, and of more as none of them;"
            " NAME missing is what not being measured adds to that."
        )
    return said
