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


def tail(x: float, floor: float = 0.0) -> newton.Sums:
    """exp(-x) + floor x, whose minimum is at -log(floor), or nowhere."""
    return newton.Sums(math.exp(-x) + floor * x, np.array([floor - math.exp(-x)]), np.array([[math.exp(-x)]]), 1.0)


def test_an_exponential_tail_is_taken_by_steps_of_twice_newtons_own() -> None:
    points, moved = [], newton.Moved({}, np.zeros(1))
    for _ in range(4):
        moved = newton.advance(moved.memory, moved.point, tail(moved.point[0]), FREE)
        points.append(moved.point[0])
    assert [1.0, 3.0, 5.0, 7.0] == pytest.approx(points, abs=1e-12)
    assert [1.0, 2.0, 2.0, 2.0] == moved.memory["lengths"].tolist()
    assert newton.endless(moved.memory, 1.0)


def test_the_end_of_an_exponential_tail_is_found_by_the_fourth_look() -> None:
    """At -log(0.02) = 3.9; Newton's own steps end there at the ninth."""
    moved, looks = newton.Moved({}, np.zeros(1)), 0
    while moved.inverse is None:
        moved, looks = newton.advance(moved.memory, moved.point, tail(moved.point[0], 0.02), FREE), looks + 1
        assert moved.inverse is not None or not newton.endless(moved.memory, 1.0)
    assert (-math.log(0.02), 4) == pytest.approx((moved.point[0], looks), abs=1e-12)


def test_a_tail_is_taken_for_endless_later_where_weights_are_frequencies() -> None:
    """Of 1e6 times the loss the decrement is a thousand times as large; of a millionth it is a thousandth."""
    memory = {"decrements": np.array([2.0, 0.7, 0.26, 0.095]), "lengths": np.full(4, 2.0)}
    assert newton.endless(memory, 1.0)
    heavy, light = (memory | {"decrements": scale * memory["decrements"]} for scale in (1e3, 1e-3))
    assert not newton.endless(heavy, 1e6)
    assert newton.endless(light, 1e-6)
    assert not newton.endless(light | {"decrements": 2e-3 * memory["decrements"]}, 1e-6)


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
