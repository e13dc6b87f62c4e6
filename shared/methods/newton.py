"""Newton's method on sums: loss, gradient and Hessian at a broadcast point, added over the hospitals.

Damped as in Boyd and Vandenberghe, "Convex Optimization" (2004), section 9.5: a point at which the loss did not fall is
given up, and the step to it shortened to where its slope would be zero, were the slope linear (a tenth to a half of
it). Where it fell, the next step is as long as is best should the curvature go on changing exponentially, as it did
along the last one, and at most twice Newton's own: far from their minimum likelihoods have such tails, and Newton's
steps walk down in equal paces.

The Newton decrement sqrt(g' H^-1 g) bounds the step of every coefficient in its standard errors, whatever the columns'
scale (Cauchy-Schwarz). Where it is a billionth of the root of the summed curvature, and so the mean change of
predictors, Newton's own step is made and is the last: the error is squared by it. Every step is made on the exact
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

TOLERANCE = 1e-9
_ENOUGH = 1e-4
_ROUNDING = 1e-10
"""Of a loss: a rise by less is rounding."""
_LONGEST = 2.0
"""Of a step, in Newton's own."""
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
    """

    loss: float
    gradient: Floats
    hessian: Floats
    curvature: float


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
        ``curvature`` along the step at its start; and of each call the ``decrements``, infinite where the loss had
        risen, and the ``lengths`` of the steps.
    point: shape (p,), at which the sums were made.
    free: shape (p,): which parameters move.

    Raises: LinAlgError unless the Hessian of the free parameters is positive definite.
    """
    if "loss" in memory and _rose(memory, sums):
        return _shortened(memory, sums)
    inverse = inverted(sums.hessian, free)
    step = -(inverse @ sums.gradient)
    # Once more on what is left: the solution then has no rounding of the inverse in it.
    step -= inverse @ np.where(free, sums.hessian @ step + sums.gradient, 0.0)
    slope = min(float(sums.gradient @ step), 0.0)
    decrement = np.sqrt(-slope)
    if decrement <= TOLERANCE * np.sqrt(max(sums.curvature, 0.0)):
        return Moved({}, point + step, inverse, sums.loss + 0.5 * slope)
    length = _length(memory, step, sums.hessian)
    kept = {
        "accepted": point,
        "step": length * step,
        "loss": np.array(sums.loss),
        "slope": np.array(length * slope),
        "curvature": np.array(-(length**2) * slope),
    }
    return Moved({**kept, **_noted(memory, decrement, length)}, point + length * step)


def _shortened(memory: Arrays, sums: Sums) -> Moved:
    slope, there = float(memory["slope"]), float(sums.gradient @ memory["step"])
    shorter = float(np.clip(slope / min(slope - there, -1e-300), 0.1, 0.5))
    moved = nearer(memory, shorter)
    return Moved({**moved.memory, **_noted(memory, np.inf, shorter)}, moved.point)


def nearer(memory: Arrays, share: float) -> Moved:
    """Return the point after that share of the last step. memory: as ``advance`` left it."""
    changed = {
        "step": share * memory["step"],
        "slope": share * memory["slope"],
        "curvature": share**2 * memory["curvature"],
    }
    return Moved({**memory, **changed}, memory["accepted"] + changed["step"])


def _noted(memory: Arrays, decrement: float, length: float) -> dict[str, NDArray[Any]]:
    none = np.zeros(0)
    return {
        "decrements": np.append(memory.get("decrements", none), decrement),
        "lengths": np.append(memory.get("lengths", none), length),
    }


def _length(memory: Arrays, step: Floats, hessian: Floats) -> float:
    """Return how much of Newton's step to make.

    With the curvature c exp(-r t) after a share t of it, the slope is zero at -log(1 - r) / r. r is how the logarithm
    of the curvature fell along the last step, times the part of that step in this one.
    """
    if "step" not in memory:
        return 1.0
    last = memory["step"]
    there = float(last @ hessian @ last)
    if not (there > 0 and memory["curvature"] > 0):
        return 1.0
    rate = float(np.log(memory["curvature"] / there) * (step @ hessian @ last) / there)
    if abs(rate) < 1e-8:
        return 1.0
    return float(min(-np.log1p(-rate) / rate, _LONGEST)) if rate < 1 else _LONGEST


def endless(memory: Arrays, weight: float) -> bool:
    """Whether a loss falls to its lower bound at infinity, as that of separated classes does.

    Newton's decrement then falls by exp(-1/2) with each of Newton's own steps, for ever, where it is otherwise squared.

    memory: as ``advance`` left it.
    weight: mean of the case weights. Weights are frequencies; where they are shares of one, so is the decrement.
    """
    last, lengths = (memory[name][-_ENDLESS_ROUNDS - 1 :] for name in ("decrements", "lengths"))
    slowly = len(last) > _ENDLESS_ROUNDS and bool(np.all(last[1:] > _ENDLESS_RATIO ** lengths[:-1] * last[:-1]))
    return slowly and bool(last[-1] < _ENDLESS_BELOW * np.sqrt(min(weight, 1.0)))


def _rose(memory: Arrays, sums: Sums) -> bool:
    before = float(memory["loss"])
    return not sums.loss <= before + _ENOUGH * float(memory["slope"]) + _ROUNDING * abs(before)


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
