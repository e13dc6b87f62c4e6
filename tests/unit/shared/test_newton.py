"""Newton's method on sums: one step for a quadratic, shorter ones where the loss rises, none without a minimum."""

from __future__ import annotations

import math

import numpy as np
import pytest

from shared.methods import newton

FREE = np.array([True])


def log_cosh(x: float) -> newton.Sums:
    """A convex loss from which undamped steps run away beyond 1.09."""
    curvature = 1.0 / math.cosh(x) ** 2
    return newton.Sums(math.log(math.cosh(x)), np.array([math.tanh(x)]), np.array([[curvature]]), 1.0)


def test_a_quadratic_is_minimal_after_one_step_and_a_look() -> None:
    hessian, target = np.array([[4.0, 1.0], [1.0, 3.0]]), np.array([2.0, -1.0])

    def at(point: np.ndarray) -> newton.Sums:
        off = point - target
        return newton.Sums(float(0.5 * off @ hessian @ off), hessian @ off, hessian, 4.0)

    free = np.array([True, True])
    first = newton.advance({}, np.zeros(2), at(np.zeros(2)), free)
    second = newton.advance(first.memory, first.point, at(first.point), free)
    assert first.inverse is None
    assert second.point == pytest.approx(target, abs=1e-15)
    assert second.inverse == pytest.approx(np.linalg.inv(hessian), abs=1e-15)


def test_a_step_after_which_the_loss_is_larger_is_shortened() -> None:
    first = newton.advance({}, np.array([2.0]), log_cosh(2.0), FREE)
    assert first.point[0] < -11.0
    second = newton.advance(first.memory, first.point, log_cosh(first.point[0]), FREE)
    assert 0.1 * (first.point[0] - 2.0) >= second.point[0] - 2.0 >= 0.5 * (first.point[0] - 2.0)


def test_shortened_steps_end_at_the_minimum() -> None:
    moved = newton.Moved({}, np.array([2.0]))
    for _ in range(12):
        moved = newton.advance(moved.memory, moved.point, log_cosh(moved.point[0]), FREE)
        if moved.inverse is not None:
            break
    assert moved.point[0] == pytest.approx(0.0, abs=1e-9)


def test_a_hessian_that_is_held_is_corrected_by_how_gradients_change() -> None:
    """Its second column says half of what it should: steps by it alone would end after about fifty rounds."""
    true, target = np.diag([4.0, 2.0]), np.array([2.0, -1.0])
    moved = newton.Moved({}, np.zeros(2))
    for _ in range(8):
        off = moved.point - target
        sums = newton.Sums(float(0.5 * off @ true @ off), true @ off, np.diag([4.0, 1.2]), 4.0, held=True)
        moved = newton.advance(moved.memory, moved.point, sums, np.array([True, True]))
        if moved.inverse is not None:
            break
    assert moved.inverse is not None
    assert moved.point == pytest.approx(target, abs=1e-9)


def test_what_is_not_free_stays_where_it_is() -> None:
    sums = newton.Sums(1.0, np.array([2.0, 7.0]), np.array([[4.0, 4.0], [4.0, 4.0]]), 4.0)
    assert [-0.5, 3.0] == newton.advance({}, np.array([0.0, 3.0]), sums, np.array([True, False])).point.tolist()


def test_a_flat_loss_has_no_minimum() -> None:
    sums = newton.Sums(1.0, np.array([2.0, 2.0]), np.array([[4.0, 4.0], [4.0, 4.0]]), 4.0)
    with pytest.raises(np.linalg.LinAlgError):
        newton.advance({}, np.zeros(2), sums, np.array([True, True]))


def test_columns_that_earlier_ones_determine_are_not_independent() -> None:
    x = np.random.default_rng(0).normal(size=(50, 2))
    columns = np.column_stack(
        [np.ones(50), x, 3.0 * x[:, 0] - x[:, 1], np.full(50, 5.0), x[:, 1] + 1e-4 * x[:, 0] ** 2]
    )
    assert [True, True, True, False, False, True] == newton.independent(columns.T @ columns, np.full(6, 8.0)).tolist()


def test_a_column_of_rounding_is_not_independent() -> None:
    noise = 1e-13 * np.random.default_rng(0).normal(size=50)
    columns = np.column_stack([np.ones(50), noise])
    assert [True, False] == newton.independent(columns.T @ columns, np.array([1.0, 4.0])).tolist()
