"""Integrated gradients: exact for a linear model, and complete for a network."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("keras")

from shared.models import network
from shared.models.image_cnn import ImageCnn
from shared.models.saliency import integrated_gradients
from shared.models.tabular_mlp import TabularMlp
from shared.models.training import trainer
from shared.scores import log_odds


def test_of_a_linear_model_each_input_gets_its_weight_times_its_way() -> None:
    """z = (2 a - b, -a): the log-odds of class 0 are 3 a - b, those of class 1 the opposite."""
    weights = {"head/kernel": np.array([[2, -1], [-1, 0]], np.float32), "head/bias": np.ones(2, np.float32)}
    linear = trainer("tabular_mlp", TabularMlp(units=()), (2,), 2, 1)
    x, baseline = np.array([[5.0, 4.0], [5.0, 4.0]]), np.array([1.0, 2.0])
    found = integrated_gradients(linear, weights, x, baseline, np.array([0, 1]), steps=2)
    assert [[3 * 4, -1 * 2], [-3 * 4, 1 * 2]] == pytest.approx(found, rel=1e-6)


def test_attributions_of_a_network_add_up_to_what_the_image_changes() -> None:
    cnn = trainer("image_cnn", ImageCnn(filters=(8,), groups=4, dense_units=5), (4, 4, 1), 3, 1)
    weights = network.initial_weights(cnn.model, seed=1)
    x = np.random.default_rng(0).normal(size=(3, 4, 4, 1))
    black = np.full((4, 4, 1), -2.0)
    classes = np.array([0, 1, 2])

    found = integrated_gradients(cnn, weights, x, black, classes, steps=400).sum(axis=(1, 2, 3))

    odds = log_odds(cnn.outputs(weights, np.concatenate([x, black[np.newaxis]])))
    assert odds[[0, 1, 2], classes] - odds[3, classes] == pytest.approx(found, rel=1e-2)
