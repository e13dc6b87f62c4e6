"""Sums over rows of a loss of linear predictors and of its two derivatives: where training spends its time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.methods.losses import Loss

Floats = NDArray[np.float64]

_BLOCK = 2048
"""Rows that are multiplied at a time: they stay in the processor's cache between the steps."""


class Targets(NamedTuple):
    """What a row brings besides its columns: a label; an offset and a case weight, where there are any. Shapes (n,).

    ``y`` has a column for each output where the loss says so.
    """

    y: Floats
    offset: Floats | None = None
    weight: Floats | None = None


class Summed(NamedTuple):
    """Sums over rows: loss; gradient (outputs, d); Hessian by pair of outputs (pairs, d, d); the intercept first."""

    loss: float
    gradient: Floats
    hessian: Floats


def summed(loss: Loss, x: Floats, targets: Targets, parameters: Floats) -> Summed:
    """Return loss, gradient and Hessian of linear predictors.

    x: shape (n, d - 1), without the intercept's column.
    parameters: shape (outputs, d), the intercept first.
    """
    d = parameters.shape[1]
    total, gradient, hessian = 0.0, np.zeros_like(parameters), np.zeros((len(loss.pairs), d, d))
    room = np.empty((_BLOCK, d))
    for start in range(0, len(x), _BLOCK):
        block, part = x[start : start + _BLOCK], slice(start, start + _BLOCK)
        eta = block @ parameters[:, 1:].T + parameters[:, 0]
        if targets.offset is not None:
            eta += targets.offset[part, None]
        losses, slopes, curvatures = loss.at(eta, targets.y[part])
        if targets.weight is not None:
            weight = targets.weight[part, None]
            losses, slopes, curvatures = losses * weight[:, 0], slopes * weight, curvatures * weight
        total += float(losses.sum())
        gradient[:, 0] += slopes.sum(axis=0)
        gradient[:, 1:] += slopes.T @ block
        scaled = room[: len(block)]
        for place, (one, other) in enumerate(loss.pairs):
            curvature = curvatures[:, place]
            root = np.sqrt(np.abs(curvature))
            scaled[:, 0] = root
            np.multiply(block, root[:, None], out=scaled[:, 1:])
            # A product of a matrix with its own transpose is half the work; off the diagonal curvatures are negative.
            hessian[place] += scaled.T @ scaled if one == other else -(scaled.T @ scaled)
    return Summed(total, gradient, hessian)
