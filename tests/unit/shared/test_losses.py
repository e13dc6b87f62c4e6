"""Losses of rows: slopes and curvatures are those of the loss, and no row is beyond its bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.methods.losses import Logistic, Loss, MarginSquares, Multinomial, Poisson, Squared

LOSSES: list[tuple[Loss, int]] = [
    (Squared(3.0), 4),
    (Logistic(), 2),
    (Multinomial(3, referenced=True), 3),
    (Multinomial(3, referenced=False), 3),
    (Poisson(3.0), 4),
    (MarginSquares(0.7, 1), 0),
    (MarginSquares(0.7, 3), 0),
]
"""Each with the number of labels that it may have, from 0; with none for -1, 0 and 1 in each output."""
each_loss = pytest.mark.parametrize(("loss", "labels"), LOSSES, ids=lambda value: type(value).__name__)


def drawn(rng: np.random.Generator, loss: Loss, labels: int, rows: int) -> np.ndarray:
    """Labels of so many rows."""
    values = rng.integers(0, labels, rows) if labels else rng.integers(-1, 2, (rows, loss.outputs))
    return values.astype(float)


@each_loss
def test_slopes_and_curvatures_are_derivatives(loss: Loss, labels: int) -> None:
    rng = np.random.default_rng(1)
    # Some Poisson means lie beyond the largest that is an exponential, log(60) = 4.1.
    eta, y = 3.0 * rng.normal(size=(40, loss.outputs)), drawn(rng, loss, labels, 40)
    rows, step = loss.at(eta, y), 1e-6
    for k in range(loss.outputs):
        aside = np.zeros(loss.outputs)
        aside[k] = step
        up, down = loss.at(eta + aside, y), loss.at(eta - aside, y)
        assert rows.slopes[:, k] == pytest.approx((up.losses - down.losses) / (2 * step), rel=1e-6, abs=1e-6)
        for place, (one, other) in enumerate(loss.pairs):
            if one == k:
                slope = (up.slopes - down.slopes)[:, other] / (2 * step)
                assert rows.curvatures[:, place] == pytest.approx(slope, rel=1e-6, abs=1e-6)


@given(st.integers(0, len(LOSSES) - 1), st.floats(0.0, 1e4), st.integers(0, 2**32))
def test_no_row_is_beyond_the_bounds(kind: int, reach: float, seed: int) -> None:
    loss, labels = LOSSES[kind]
    rng = np.random.default_rng(seed)
    eta = reach * rng.choice([-1.0, 1.0, 0.3], size=(20, loss.outputs))
    rows, bounds = loss.at(eta, drawn(rng, loss, labels, 20)), loss.bounds(reach)
    assert np.abs(rows.losses).max() <= bounds.loss * (1 + 1e-12)
    assert np.abs(rows.slopes).max() <= bounds.slope * (1 + 1e-12)
    assert np.abs(rows.curvatures).max() <= bounds.curvature * (1 + 1e-12)
