"""Cox's partial likelihood from sums by interval, and the exponential whose sums these are.

With R, R', R'' the sums over the rows at risk in an interval of exp(x b) and its two derivatives, and d events there,
Breslow's loss is d log R - sum_events x b (Breslow 1974, Biometrics 30(1)). Efron's has for the l-th of the d events R
less l / d of the same sum over the d (Efron 1977, JASA 72(359)). R, R' and R'' are one matrix: the sum of
(1, x)(1, x)' exp(x b).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from shared.methods import newton
from shared.methods.losses import Bounds, Rows

Floats = NDArray[np.float64]

FARTHEST = 20.0
"""Largest log relative hazard of a row: half a billion times the hazard of the mean row."""


@dataclass(frozen=True)
class RelativeHazard:
    """exp(eta), whose slope and curvature it is, too; constant beyond ``FARTHEST``."""

    outputs: int = 1
    pairs: tuple[tuple[int, int], ...] = ((0, 0),)

    def at(self, eta: Floats, y: Floats) -> Rows:
        """Return it at each row."""
        hazards = np.exp(np.minimum(eta, FARTHEST))
        return Rows(hazards[:, 0], hazards, hazards)

    def bounds(self, reach: float) -> Bounds:
        """Return what no row exceeds; room for the last digits."""
        most = 1.001 * math.exp(min(reach, FARTHEST))
        return Bounds(most, most, most)


def nowhere(d: int, events: Floats) -> newton.Sums:
    """Return an infinite loss: where a point is given up whatever the sums. d: parameters."""
    return newton.Sums(math.inf, np.zeros(d), np.zeros((d, d)), float(events.sum()))


def at(parameters: Floats, at_risk: Floats, events: Floats, events_x: Floats, tied: Floats | None) -> newton.Sums:
    """Return the negative log partial likelihood with its derivatives; the first parameter, a constant, has no part.

    Infinite where a risk set is lost in the words' last digit.

    parameters: shape (d,).
    at_risk: (1, x)(1, x)' exp(x b) summed over the rows at risk, by interval: shape (intervals, d, d).
    events: how many, by interval.
    events_x: the sum of (1, x) over all events, shape (d,).
    tied: as ``at_risk``, over the rows with the event, for Efron's ties; None for Breslow's.
    """
    d, happened = len(parameters), np.flatnonzero(events > 0.5)
    least = at_risk[happened, 0, 0]
    if tied is not None:
        # Of the last of the events of an interval, 1 / events of those with the event are still at risk.
        least = least - tied[happened, 0, 0] * (1.0 - 1.0 / events[happened])
    if not np.all(least > 0):
        return nowhere(d, events)
    gradient, hessian = -events_x, np.zeros((d, d))
    loss = float(gradient @ parameters)
    for cell in happened:
        term = _interval(at_risk[cell], None if tied is None else tied[cell], round(float(events[cell])))
        loss, gradient, hessian = loss + term.loss, gradient + term.gradient, hessian + term.hessian
    return newton.Sums(loss, gradient, hessian, float(events.sum()))


class _Term(NamedTuple):
    loss: float
    gradient: Floats
    hessian: Floats


def _interval(at_risk: Floats, tied: Floats | None, events: int) -> _Term:
    """Return what the events of one interval add, but for their own predictors."""
    if tied is None:
        mean = at_risk[0] / at_risk[0, 0]
        scatter = at_risk / at_risk[0, 0] - np.outer(mean, mean)
        return _Term(events * math.log(at_risk[0, 0]), events * mean, events * scatter)
    share = np.arange(events) / events
    left = at_risk[0, 0] - share * tied[0, 0]
    # Sums over the events of 1, share and share^2, over what is left and over its square.
    once = [float((share**power / left).sum()) for power in (0, 1)]
    twice = [float((share**power / left**2).sum()) for power in (0, 1, 2)]
    risk, own = at_risk[0], tied[0]
    mixed = np.outer(risk, own)
    outer = twice[0] * np.outer(risk, risk) - twice[1] * (mixed + mixed.T) + twice[2] * np.outer(own, own)
    hessian = once[0] * at_risk - once[1] * tied - outer
    return _Term(float(np.log(left).sum()), once[0] * risk - once[1] * own, hessian)
