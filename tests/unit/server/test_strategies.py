"""Flower's strategies through the adapter, against their published formulas."""

from __future__ import annotations

import numpy as np
import pytest

from server.strategies import FlowerOptimizer

START = {"w": np.array([1.0, -2.0]), "b": np.array(0.5)}
MEANS = [{"w": np.array([1.5, -2.0]), "b": np.array(0.0)}, {"w": np.array([1.0, -1.0]), "b": np.array(0.25)}]


def steps(optimizer: FlowerOptimizer) -> list[dict[str, np.ndarray]]:
    """Run two steps, carrying nothing but the returned state."""
    state, weights, out = optimizer.init(START), START, []
    for mean in MEANS:
        state, weights = optimizer.apply(state, weights, mean)
        out.append(dict(weights))
    return out


def test_fedavg_takes_the_mean() -> None:
    assert [step["w"].tolist() for step in steps(FlowerOptimizer("FedAvg", {}))] == [[1.5, -2.0], [1.0, -1.0]]


def test_fedavgm_adds_momentum_to_the_update() -> None:
    # v1 = w0 - m1 = (-0.5, 0); w1 = w0 - 0.5 v1 = (1.25, -2)
    # v2 = 0.9 v1 + (w1 - m2) = (-0.45 + 0.25, -1); w2 = w1 - 0.5 v2
    first, second = steps(FlowerOptimizer("FedAvgM", {"server_learning_rate": 0.5, "server_momentum": 0.9}))
    assert first["w"] == pytest.approx([1.25, -2.0])
    assert second["w"] == pytest.approx([1.25 + 0.1, -2.0 + 0.5])


def test_fedadagrad_sums_squares() -> None:
    # D1 = (0.5, 0): m = D1, v = D1^2; w1 = w0 + 0.1 * 0.5 / (0.5 + 0.001)
    first, second = steps(FlowerOptimizer("FedAdagrad", {"eta": 0.1, "tau": 1e-3}))
    w1 = 1.0 + 0.1 * 0.5 / 0.501
    assert first["w"][0] == pytest.approx(w1)
    delta = 1.0 - w1
    assert second["w"][0] == pytest.approx(w1 + 0.1 * delta / (np.sqrt(0.25 + delta**2) + 1e-3))


@pytest.mark.parametrize("name", ["FedAdam", "FedYogi"])
def test_the_adaptive_ones_follow_reddi_et_al(name: str) -> None:
    eta, b1, b2, tau = 0.1, 0.9, 0.99, 1e-3
    state, w, m, v = FlowerOptimizer(name, {"eta": eta, "beta_1": b1, "beta_2": b2, "tau": tau}), 1.0, 0.0, 0.0
    out = steps(state)
    for step, mean in enumerate([1.5, 1.0], start=1):
        delta = mean - w
        m = b1 * m + (1 - b1) * delta
        v = b2 * v + (1 - b2) * delta**2 if name == "FedAdam" else v - (1 - b2) * delta**2 * np.sign(v - delta**2)
        rate = eta * np.sqrt(1 - b2 ** (step + 1.0)) / (1 - b1 ** (step + 1.0)) if name == "FedAdam" else eta
        w += rate * m / (np.sqrt(v) + tau)
        assert out[step - 1]["w"][0] == pytest.approx(w)


def test_types_are_kept_and_moments_are_plain_arrays() -> None:
    optimizer = FlowerOptimizer("FedAdam", {})
    weights = {"w": np.array([1.0], dtype=np.float32)}
    state, moved = optimizer.apply(optimizer.init(weights), weights, {"w": np.array([2.0], dtype=np.float32)})
    assert moved["w"].dtype == np.float32
    assert set(state) == {"step", "m_t", "v_t"}
    assert all(isinstance(array, np.ndarray) for array in state.values())
