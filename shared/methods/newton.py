"""Newton's method on sums: loss, gradient and Hessian at a broadcast point, added over the hospitals.

Damped as in Boyd and Vandenberghe, "Convex Optimization" (2004), section 9.5: a point at which the loss did not fall is
given up, and the step to it shortened to where its slope would be zero, were the slope linear (a tenth to a half of
it). The Newton decrement sqrt(g' H^-1 g) bounds the step of every coefficient in its standard errors, whatever the
columns' scale (Cauchy-Schwarz). Where it is a ten-millionth of the root of the summed curvature, and so the mean change
of predictors, the step is made and is the last: Newton's error is squared by it. Every step is made on the exact
gradient, so rounding in the Hessian slows the steps and does not stay in their end.

Everything here happens at the aggregator, on sums.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays

Floats = NDArray[np.float64]

TOLERANCE = 1e-7
_ENOUGH = 1e-4
_ROUNDING = 1e-10
"""Of a loss: a rise by less is rounding."""
_REMEMBERED = 20
_FLAT = 1e-6
"""A change of the gradient along a step, as a share of what the Hessian says, below which it tells nothing."""
_COLLINEAR = 1e-11
"""Share of a column's square that columns before it do not explain, below which it counts as explained."""
_NO_SPREAD = 1e-14
"""Mean square of a column over its bound's square, below which it holds nothing but rounding."""


_ENDLESS_BELOW = 0.1
"""Of the decrement: the standard error of what grows is then beyond 10, on the scale of log-odds."""
_ENDLESS_RATIO = 0.45
_ENDLESS_ROUNDS = 3


@dataclass(frozen=True, eq=False)
class Sums:
    """A convex loss at a point, penalty included.

    loss: at the point.
    gradient, hessian: shapes (p,) and (p, p).
    curvature: summed curvature of the predictor, the scale on which a step is small.
    held: whether the Hessian may be held while the point moves: as long as it stays the same to the last digit, how
        gradients changed along the steps corrects it.
    """

    loss: float
    gradient: Floats
    hessian: Floats
    curvature: float
    held: bool = False


@dataclass(frozen=True, eq=False)
class Moved:
    """Where to look next.

    memory: for the next call.
    point: shape (p,): to be looked at, or the minimum.
    inverse: of the Hessian, shape (p, p); None unless the point is the minimum.
    loss: at the minimum; infinite before.
    """

    memory: dict[str, NDArray[Any]]
    point: Floats
    inverse: Floats | None = None
    loss: float = np.inf


def advance(memory: Arrays, point: Floats, sums: Sums, free: NDArray[np.bool_]) -> Moved:
    """Return the next point.

    memory: empty at first, then as the last call left it: ``accepted`` (p,), ``step`` (p,), ``loss``, ``slope`` and
        ``decrements``, one for each call, infinite where the loss had risen.
    point: shape (p,), at which the sums were made.
    free: shape (p,): which parameters move.

    Raises: LinAlgError unless the Hessian of the free parameters is positive definite.
    """
    decrements = memory.get("decrements", np.zeros(0))
    if "loss" in memory and _rose(memory, sums):
        slope, there = float(memory["slope"]), float(sums.gradient @ memory["step"])
        shorter = float(np.clip(slope / min(slope - there, -1e-300), 0.1, 0.5))
        step = shorter * memory["step"]
        changed = {"step": step, "slope": np.array(shorter * slope), "decrements": np.append(decrements, np.inf)}
        return Moved({**memory, **changed}, memory["accepted"] + step)
    pairs = _pairs(memory, point, sums)
    hessian = corrected(sums.hessian, pairs)
    inverse = inverted(hessian, free)
    step = -(inverse @ sums.gradient)
    # Once more on what is left: the solution then has no rounding of the inverse in it.
    step -= inverse @ np.where(free, hessian @ step + sums.gradient, 0.0)
    slope = min(float(sums.gradient @ step), 0.0)
    decrement = np.sqrt(-slope)
    if decrement <= TOLERANCE * np.sqrt(max(sums.curvature, 0.0)):
        return Moved({}, point + step, inverse, sums.loss + 0.5 * slope)
    kept = {"accepted": point, "step": step, "loss": np.array(sums.loss), "slope": np.array(slope)}
    if sums.held:
        kept |= {"pairs": pairs, "gradient": sums.gradient, "mark": np.array(_mark(sums))}
    return Moved({**kept, "decrements": np.append(decrements, decrement)}, point + step)


def endless(decrements: Floats, weight: float) -> bool:
    """Whether a loss falls to its lower bound at infinity, as that of separated classes does.

    Newton's decrement then falls by exp(-1/2) a round, for ever, where it is otherwise squared.

    decrements: of all rounds. weight: mean of the case weights.
    """
    last = decrements[-_ENDLESS_ROUNDS - 1 :]
    slowly = len(last) > _ENDLESS_ROUNDS and bool(np.all(last[1:] > _ENDLESS_RATIO * last[:-1]))
    return slowly and bool(last[-1] < _ENDLESS_BELOW * np.sqrt(weight))


def _rose(memory: Arrays, sums: Sums) -> bool:
    before = float(memory["loss"])
    return not sums.loss <= before + _ENOUGH * float(memory["slope"]) + _ROUNDING * abs(before)


def _pairs(memory: Arrays, point: Floats, sums: Sums) -> Floats:
    """Return the steps since the Hessian changed, and how the gradient changed along each: shape (steps, 2, p)."""
    if "mark" not in memory or float(memory["mark"]) != _mark(sums):
        return np.zeros((0, 2, len(point)))
    last = np.stack([point - memory["accepted"], sums.gradient - memory["gradient"]])
    return np.concatenate([memory["pairs"], last[None]])[-_REMEMBERED:]


def _mark(sums: Sums) -> float:
    return float(np.abs(sums.hessian).sum())


def corrected(hessian: Floats, pairs: Floats) -> Floats:
    """Return the Hessian that changes gradients along each step as they did change, nearest to the given one.

    BFGS (Nocedal and Wright 2006, "Numerical Optimization", equation 6.19). pairs: as of ``_pairs``.
    """
    for step, change in pairs:
        along, bent = float(change @ step), hessian @ step
        if along > _FLAT * float(bent @ step):
            hessian = hessian + np.outer(change, change) / along - np.outer(bent, bent) / float(bent @ step)
    return hessian


def inverted(matrix: Floats, free: NDArray[np.bool_]) -> Floats:
    """Return the inverse of the free part of a symmetric matrix, zero elsewhere.

    Raises: LinAlgError unless that part is positive definite.
    """
    part = matrix[np.ix_(free, free)]
    squares = np.diag(part)
    if not np.all(squares > 0):
        raise np.linalg.LinAlgError("a column has no curvature")
    # Of correlations, so that columns' units do not matter.
    scale = 1.0 / np.sqrt(squares)
    root = np.linalg.inv(np.linalg.cholesky(part * np.outer(scale, scale))) * scale
    whole = np.zeros_like(matrix)
    whole[np.ix_(free, free)] = root.T @ root
    return whole


def independent(gram: Floats, bounds: Floats) -> NDArray[np.bool_]:
    """Return which columns can be estimated beside those before them, as R's ``glm`` decides it.

    gram: shape (d, d), weighted sums of products of columns, of which the first is the intercept.
    bounds: shape (d,), largest absolute value of each column.

    Returns: array of shape (d,), False where a column is constant, or a linear combination of columns before it.
    """
    squares = np.diag(gram)
    rest, kept = gram.copy(), np.zeros(len(gram), dtype=bool)
    for column, square in enumerate(squares):
        enough = square > _NO_SPREAD * squares[0] * bounds[column] ** 2
        if not (enough and rest[column, column] > _COLLINEAR * square):
            continue
        kept[column] = True
        explained = rest[:, column] / np.sqrt(rest[column, column])
        rest -= np.outer(explained, explained)
    return kept
