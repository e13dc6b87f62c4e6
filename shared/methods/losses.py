"""Losses of rows that Newton's method sums: of a predictor eta, each with its slope, its curvature, and their bounds.

McCullagh and Nelder, "Generalized Linear Models" (1989), chapters 2, 5 and 6, with canonical links: the loss is the
negative log-likelihood without the terms that depend on the label alone. ``MarginSquares``: Chapelle, "Training a
Support Vector Machine in the Primal", Neural Computation 19(5), 2007.

``reach`` is the largest absolute value that any row's predictor can have at a broadcast point, from the columns' bounds
alone; so every sum has a bound before any row is looked at.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COUNTS_BEYOND = 20.0
"""A fitted mean beyond so many times the label's largest value is not Poisson's any more."""


class Rows(NamedTuple):
    """What a loss is at each of n rows: ``losses`` (n,), ``slopes`` (n, outputs), ``curvatures`` (n, pairs)."""

    losses: Floats
    slopes: Floats
    curvatures: Floats


class Bounds(NamedTuple):
    """Largest absolute value of one row's loss, slope and curvature."""

    loss: float
    slope: float
    curvature: float


class Loss(Protocol):
    """A convex function of a row's predictors and its label."""

    @property
    def outputs(self) -> int:
        """Predictors of a row."""
        ...

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Pairs of predictors with a mixed curvature."""
        ...

    def at(self, eta: Floats, y: Floats) -> Rows:
        """Return the loss at predictors of shape (n, outputs) and labels of shape (n,)."""
        ...

    def bounds(self, reach: float) -> Bounds:
        """Return what no row exceeds."""
        ...


@dataclass(frozen=True)
class Squared:
    """(eta - y)**2 / 2. largest: absolute value of a label."""

    largest: float
    outputs: int = 1
    pairs: tuple[tuple[int, int], ...] = ((0, 0),)

    def at(self, eta: Floats, y: Floats) -> Rows:
        """Return the loss at each row."""
        slopes = eta - y[:, None]
        return Rows(0.5 * np.square(slopes[:, 0]), slopes, np.ones_like(slopes))

    def bounds(self, reach: float) -> Bounds:
        """Return what no row exceeds."""
        slope = reach + self.largest
        return Bounds(0.5 * slope**2, slope, 1.0)


@dataclass(frozen=True)
class Logistic:
    """log(1 + exp(eta)) - y eta, of classes 0 and 1."""

    outputs: int = 1
    pairs: tuple[tuple[int, int], ...] = ((0, 0),)

    def at(self, eta: Floats, y: Floats) -> Rows:
        """Return the loss at each row."""
        odds = eta[:, 0]
        small = np.exp(-np.abs(odds))
        whole = 1.0 + small
        probability = np.where(odds >= 0, 1.0, small) / whole
        losses = np.log1p(small) + np.maximum(odds, 0.0) - y * odds
        return Rows(losses, (probability - y)[:, None], (small / np.square(whole))[:, None])

    def bounds(self, reach: float) -> Bounds:
        """Return what no row exceeds."""
        return Bounds(reach + 1.0, 1.0, 0.25)


@dataclass(frozen=True)
class Multinomial:
    """log sum_k exp(eta_k) - eta_y, of several classes.

    referenced: whether class 0 has no predictor of its own, but zero: without a penalty.
    """

    classes: int
    referenced: bool

    @property
    def outputs(self) -> int:
        """Classes with a predictor."""
        return self.classes - self.referenced

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """All pairs of them."""
        return tuple((k, other) for k in range(self.outputs) for other in range(k, self.outputs))

    def at(self, eta: Floats, y: Floats) -> Rows:
        """Return the loss at each row."""
        if self.referenced:
            eta = np.column_stack([np.zeros(len(eta)), eta])
        own, rows = y.astype(np.intp), np.arange(len(y))
        eta = eta - eta.max(axis=1, keepdims=True)
        shares = np.exp(eta)
        whole = shares.sum(axis=1)
        losses = np.log(whole) - eta[rows, own]
        shares /= whole[:, None]
        slopes = shares.copy()
        slopes[rows, own] -= 1.0
        first = int(self.referenced)
        curvatures = np.empty((len(y), len(self.pairs)))
        for place, (k, other) in enumerate(self.pairs):
            one, two = shares[:, first + k], shares[:, first + other]
            curvatures[:, place] = one * (1.0 - one) if k == other else -one * two
        return Rows(losses, slopes[:, first:], curvatures)

    def bounds(self, reach: float) -> Bounds:
        """Return what no row exceeds."""
        return Bounds(2.0 * reach + math.log(self.classes), 1.0, 0.25)


@dataclass(frozen=True)
class Poisson:
    """exp(eta) - y eta, of counts.

    Beyond ``COUNTS_BEYOND`` times the largest label the mean goes on as a straight line, so that a bad step stays
    bounded and the loss convex; a fit that ends there is none (``shared/methods/glm.py``).

    largest: label.
    """

    largest: float
    outputs: int = 1
    pairs: tuple[tuple[int, int], ...] = ((0, 0),)

    @property
    def cap(self) -> float:
        """Largest predictor whose mean is still the exponential."""
        return math.log(COUNTS_BEYOND * self.largest)

    def at(self, eta: Floats, y: Floats) -> Rows:
        """Return the loss at each row."""
        log_mean = eta[:, 0]
        beyond = np.maximum(log_mean - self.cap, 0.0)
        curvature = np.exp(np.minimum(log_mean, self.cap))
        mean = curvature * (1.0 + beyond)
        losses = curvature * (1.0 + beyond + 0.5 * beyond**2) - y * log_mean
        return Rows(losses, (mean - y)[:, None], curvature[:, None])

    def bounds(self, reach: float) -> Bounds:
        """Return what no row exceeds."""
        most, beyond = COUNTS_BEYOND * self.largest, max(reach - self.cap, 0.0)
        loss = most * (1.0 + beyond + 0.5 * beyond**2) + self.largest * reach
        return Bounds(loss, most * (1.0 + beyond), most)


@dataclass(frozen=True)
class MarginSquares:
    """C (1 - y eta)**2 in each output: the squared hinge of rows inside the margin.

    Labels have the shape (n, outputs): 1 inside a class, -1 outside, and 0 where the row is not summed.
    """

    C: float
    outputs: int

    @cached_property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Each with itself: they do not depend on each other."""
        return tuple((k, k) for k in range(self.outputs))

    def at(self, eta: Floats, y: Floats) -> Rows:
        """Return the loss at each row."""
        summed = np.abs(y)
        rest = y - summed * eta
        return Rows(self.C * np.square(rest).sum(axis=1), -2.0 * self.C * rest, 2.0 * self.C * summed)

    def bounds(self, reach: float) -> Bounds:
        """Return what no row exceeds."""
        return Bounds(self.outputs * self.C * (1.0 + reach) ** 2, 2.0 * self.C * (1.0 + reach), 2.0 * self.C)
