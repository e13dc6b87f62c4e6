"""Which prepared columns a linear method reads, what bounds them, and how its coefficients read in their own units.

Without a penalty the first level of a category of more than two levels is the reference and has no column; with one,
every level has, and the penalty decides between them. The intercept comes first. A column that stands for an offset or
for weights is none of these.

With z = (v - center) / scale, a model theta_0 + sum_j theta_j z_j says of the columns' own units that the coefficient
of v_j is theta_j / scale_j, and the intercept theta_0 - sum_j theta_j center_j / scale_j: linear, so a covariance S
becomes T S T'.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from shared.preparation import FeatureColumn, Preparation
from shared.schema import DataContract

INTERCEPT = "(intercept)"


@dataclass(frozen=True)
class Term:
    """One column of the design.

    name: ``age``, ``cp=2``, ``chol missing``.
    index: the column of ``Prepared.x``.
    bound: largest absolute value of a row, a power of two, so that dividing by it is exact.
    center, scale: as prepared.
    unit: of a number; empty for a level and an indicator.
    number: whether it is a number, and not a level or an indicator.
    """

    name: str
    index: int
    bound: float
    center: float = 0.0
    scale: float = 1.0
    unit: str = ""
    number: bool = False


@dataclass(frozen=True)
class Design:
    """The columns of a linear method, the intercept apart.

    width: number of columns of the matrix that the terms' indices point into.
    references: the levels that have no column, ``cp=1``.
    """

    terms: tuple[Term, ...]
    width: int
    references: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of all columns, the intercept first."""
        return (INTERCEPT, *(term.name for term in self.terms))

    @cached_property
    def index(self) -> NDArray[np.intp]:
        """Columns of the matrix, shape (terms,)."""
        return np.array([term.index for term in self.terms], dtype=np.intp)

    @cached_property
    def bounds(self) -> NDArray[np.float64]:
        """Largest absolute value of each column, the intercept's 1 first: shape (1 + terms,)."""
        return np.array([1.0, *(term.bound for term in self.terms)])

    def rows(self, matrix: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the terms' columns of a matrix of shape (n, width); the matrix itself where they are all of it."""
        return matrix if len(self.terms) == self.width else np.ascontiguousarray(matrix[:, self.index])

    def parameters(self, weights_coef: NDArray[np.float64], intercept: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return (outputs, 1 + terms) of coefficients of shape (outputs, width) and intercepts (outputs,)."""
        return np.column_stack([intercept, weights_coef[:, self.index]])

    def coefficients(self, parameters: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
        """Return ``coef`` of shape (outputs, width), zero for columns that are not read, and ``intercept``."""
        coef = np.zeros((len(parameters), self.width))
        coef[:, self.index] = parameters[:, 1:]
        return {"coef": coef, "intercept": parameters[:, 0].copy()}

    @cached_property
    def to_own_units(self) -> NDArray[np.float64]:
        """The matrix T that takes parameters of prepared columns to those of the columns' own units."""
        matrix = np.diag([1.0, *(1.0 / term.scale for term in self.terms)])
        matrix[0, 1:] = [-term.center / term.scale for term in self.terms]
        return matrix


def design_of(preparation: Preparation, every_level: bool, without: tuple[str, ...] = ()) -> Design:
    """Return the design of a table.

    every_level: whether the first level of a category of more than two has a column too: with a penalty.
    without: columns of the contract that are not read.
    """
    terms: list[Term] = []
    references: list[str] = []
    place = 0
    for column in preparation.columns:
        made = _terms(column, preparation.contract, place)
        place += len(made)
        if column.name in without:
            continue
        if column.levels > 2 and not every_level:
            references.append(made.pop(0).name)
        terms += made
    return Design(tuple(terms), place, tuple(references))


def _terms(column: FeatureColumn, contract: DataContract, place: int) -> list[Term]:
    declared = contract.columns[column.name]
    if column.levels > 2:
        made = [Term(f"{column.name}={level}", place + k, 1.0) for k, level in enumerate(declared.levels)]
    elif column.levels:
        made = [Term(f"{column.name}={declared.levels[1]}", place, 1.0)]
    else:
        assert declared.range is not None
        farthest = max(abs(value - column.center) for value in (*declared.range, column.fill)) / column.scale
        bound = 2.0 ** math.ceil(math.log2(farthest))
        made = [Term(column.name, place, bound, column.center, column.scale, declared.unit, number=True)]
    if column.indicator:
        made.append(Term(f"{column.name} missing", place + len(made), 1.0))
    return made
