"""Networks: what they compute, how they are named, and that a step is the step of the paper."""

from __future__ import annotations

import importlib.util
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.errors import DependencyMissing, ProtocolError, StudyError
from shared.models import network, runtime
from shared.models.image_cnn import ImageCnn, group_norm
from shared.models.tabular_mlp import TabularMlp
from shared.models.training import Descent, Trainer, batches, trainer

ROOT = Path(__file__).parents[3]
LINEAR = TabularMlp(units=())
SMALL = ImageCnn(filters=(8,), groups=4, dense_units=5)


def descent(**changes: Any) -> Descent:
    """Whole-batch steps without momentum, unless told otherwise."""
    plain: dict[str, Any] = {"epochs": 1, "batch_size": 8, "learning_rate": 0.5, "momentum": 0.0, "proximal_mu": 0.0}
    return Descent(**{**plain, "loss_bound": 100.0, **changes})


def linear(outputs: int, features: int = 1) -> Trainer:
    return trainer("tabular_mlp", LINEAR, (features,), outputs, 1)


def line(weight: float = 0.0, bias: float = 0.0) -> dict[str, np.ndarray]:
    """Weights of y = weight x + bias."""
    return {"head/kernel": np.array([[weight]], np.float32), "head/bias": np.array([bias], np.float32)}


def drawn() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.fixture
def cnn() -> Any:
    """A fresh network for 4 x 4 pixels and two classes."""
    runtime.start(1)
    return network.build("image_cnn", SMALL, (4, 4, 1), 2)


def test_weights_are_named_by_layer_and_shaped_as_declared(cnn: Any) -> None:
    expected = {
        "block_1/conv/kernel": (3, 3, 1, 8),
        "block_1/norm/gamma": (8,),
        "block_1/norm/beta": (8,),
        "dense/kernel": (2 * 2 * 8, 5),
        "dense/bias": (5,),
        "head/kernel": (5, 2),
        "head/bias": (2,),
    }
    assert expected == {name: tuple(variable.shape) for name, variable in network.variables(cnn).items()}
    assert 72 + 16 + 165 + 12 == cnn.count_params()


def test_a_second_network_has_the_same_names(cnn: Any) -> None:
    again = network.build("image_cnn", SMALL, (4, 4, 1), 2)
    assert list(network.variables(cnn)) == list(network.variables(again))


def test_the_first_weights_are_glorot_uniform(cnn: Any) -> None:
    weights = network.initial_weights(cnn, seed=1)
    limit = math.sqrt(6 / (9 * (1 + 8)))
    assert np.abs(weights["block_1/conv/kernel"]).max() <= limit
    assert pytest.approx(limit / math.sqrt(3), rel=0.2) == weights["block_1/conv/kernel"].std()
    assert [1.0] * 8 == weights["block_1/norm/gamma"].tolist()
    assert [0.0, 0.0] == weights["head/bias"].tolist()
    assert {np.dtype(np.float32)} == {array.dtype for array in weights.values()}


def test_the_first_weights_follow_the_seed(cnn: Any) -> None:
    first, same, other = (network.initial_weights(cnn, seed)["head/kernel"] for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_other_names_or_shapes_are_refused(cnn: Any) -> None:
    weights = network.initial_weights(cnn, seed=1)
    with pytest.raises(ProtocolError, match="wrong-entries"):
        network.set_weights(cnn, {name: weights[name] for name in list(weights)[1:]})
    with pytest.raises(ProtocolError, match=r"wrong-shape: head/bias: expected \(2,\). Received: \(3,\)"):
        network.set_weights(cnn, {**weights, "head/bias": np.zeros(3, np.float32)})


def test_options_of_another_architecture_are_refused() -> None:
    with pytest.raises(TypeError, match=r"expected options of type ImageCnn\. Received: TabularMlp"):
        network.build("image_cnn", LINEAR, (4, 4, 1), 2)


def test_group_normalisation_is_that_of_keras() -> None:
    runtime.start(1)
    import keras

    x = np.random.default_rng(1).normal(3.0, 2.0, (5, 6, 7, 8)).astype(np.float32)
    gain, shift = np.linspace(-1, 2, 8, dtype=np.float32), np.linspace(0, 1, 8, dtype=np.float32)
    ours, theirs = group_norm()(4), keras.layers.GroupNormalization(4)
    for layer in (ours, theirs):
        layer.build(x.shape)
        layer.set_weights([gain, shift])
    assert pytest.approx(np.asarray(theirs(x)), abs=2e-5) == np.asarray(ours(x))


def test_a_constant_image_is_finite(cnn: Any) -> None:
    weights = network.initial_weights(cnn, seed=1)
    outputs = Trainer(cnn, 1).outputs(weights, np.full((2, 4, 4, 1), 1e3))
    assert np.isfinite(outputs).all()


def test_an_even_kernel_and_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kernel_size must be odd\. Received: 2"):
        ImageCnn(kernel_size=2)
    with pytest.raises(ValueError, match="groups must divide every entry of filters"):
        ImageCnn(filters=(16, 12), groups=8)


def test_an_image_can_only_be_halved_so_often() -> None:
    ImageCnn(filters=(8, 8, 8)).check((8, 9, 1))
    with pytest.raises(ValueError, match="at most 3 entries of filters"):
        ImageCnn(filters=(8, 8, 8, 8)).check((8, 9, 1))


def test_an_epoch_deals_every_row_once_to_batches_of_nearly_one_size() -> None:
    index, weight = batches(7, descent(epochs=3, batch_size=3), drawn())
    assert (3 * 3, 3) == index.shape == weight.shape
    assert [3, 2, 2] * 3 == weight.sum(axis=1).tolist()
    for epoch in range(3):
        part = slice(3 * epoch, 3 * epoch + 3)
        assert list(range(7)) == sorted(index[part][weight[part] == 1])


def test_batches_follow_the_generator() -> None:
    first, same, other = (batches(20, descent(), np.random.default_rng(seed))[0] for seed in (1, 1, 2))
    assert np.array_equal(first, same)
    assert not np.array_equal(first, other)


def test_one_step_for_a_class_follows_the_cross_entropy() -> None:
    """From zeros both classes have probability 1/2, so the gradient of the logits is (-1/2, 1/2) for class 0."""
    zeros = {"head/kernel": np.zeros((1, 2), np.float32), "head/bias": np.zeros(2, np.float32)}
    after, loss = linear(2).train(zeros, np.array([[3.0]]), np.array([0.0]), descent(), drawn())
    assert [[0.75, -0.75]] == after["head/kernel"].tolist()
    assert [0.25, -0.25] == after["head/bias"].tolist()
    assert pytest.approx(math.log(2)) == loss


def test_one_step_for_a_number_follows_the_squared_error() -> None:
    """The mean of 2 (0 - y) x over the two rows is -(2 * 1 * 1 + 2 * 3 * 2) / 2 = -7; of the bias, -4."""
    after, loss = linear(1).train(line(), np.array([[1.0], [2.0]]), np.array([1.0, 3.0]), descent(), drawn())
    assert [[3.5]] == after["head/kernel"].tolist()
    assert [2.0] == after["head/bias"].tolist()
    assert pytest.approx(1 + 9) == loss


def test_filling_a_batch_up_changes_nothing() -> None:
    x, y = np.array([[1.0], [2.0], [4.0]]), np.array([1.0, 3.0, 0.0])
    full, _ = linear(1).train(line(0.1), x, y, descent(batch_size=3, learning_rate=0.01), drawn())
    filled, _ = linear(1).train(line(0.1), x, y, descent(batch_size=50, learning_rate=0.01), drawn())
    assert pytest.approx(full["head/kernel"], abs=1e-7) == filled["head/kernel"]


def test_momentum_carries_the_last_step_on() -> None:
    """With x = 0 only the bias moves: gradients 2 (b - 1) are -2, then -1 at b = 1/2; v = -2, then -1 - 2/2 = -2."""
    x, y = np.array([[0.0]]), np.array([1.0])
    heavy = descent(epochs=2, learning_rate=0.25, momentum=0.5)
    after, _ = linear(1).train(line(), x, y, heavy, drawn())
    assert [0.25 * 2 + 0.25 * 2] == after["head/bias"].tolist()
    again, _ = linear(1).train(line(), x, y, heavy, drawn())
    assert after["head/bias"].tolist() == again["head/bias"].tolist()  # it starts from zero in every round


def test_the_proximal_term_pulls_back_to_the_broadcast_weights() -> None:
    """From b = 2, target 3: gradient -2, b = 2.5; then -1 + mu (2.5 - 2) = 0 for mu = 2, so the second step stays."""
    x, y = np.array([[0.0]]), np.array([3.0])
    after, _ = linear(1).train(line(0, 2), x, y, descent(epochs=2, learning_rate=0.25, proximal_mu=2.0), drawn())
    assert [2.5] == after["head/bias"].tolist()
    assert [[0.0]] == after["head/kernel"].tolist()


def test_the_loss_is_of_the_first_epoch_without_the_proximal_term_and_bounded() -> None:
    x, y = np.array([[0.0], [0.0]]), np.array([1.0, 50.0])
    slow = descent(epochs=3, learning_rate=1e-9, proximal_mu=5.0)
    _, loss = linear(1).train(line(), x, y, slow, drawn())
    assert pytest.approx(1 + 100) == loss


def test_what_is_not_a_number_is_not_hidden() -> None:
    after, loss = linear(1).train(line(), np.array([[math.nan]]), np.array([1.0]), descent(), drawn())
    assert np.isnan(after["head/kernel"]).all()
    assert math.isnan(loss)


def test_outputs_do_not_depend_on_how_many_rows_are_asked_at_once() -> None:
    x = np.arange(600.0)[:, np.newaxis]
    outputs = linear(1).outputs(line(2, 1), x)
    assert (600, 1) == outputs.shape
    assert (2 * x[:, 0] + 1).tolist() == outputs[:, 0].tolist()
    assert (0, 1) == linear(1).outputs(line(2, 1), x[:0]).shape


def test_hidden_layers_have_the_declared_widths() -> None:
    runtime.start(1)
    model = network.build("tabular_mlp", TabularMlp(units=(4, 3)), (2,), 2)
    assert (2 * 4 + 4) + (4 * 3 + 3) + (3 * 2 + 2) == model.count_params()
    assert "Multilayer perceptron with hidden layers of 4, 3 ReLU units" == TabularMlp(units=(4, 3)).sentence()
    assert "Linear model" == LINEAR.sentence()


def test_without_keras_one_is_told_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "keras" else object())
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    with pytest.raises(DependencyMissing, match=r"needs keras, .* -m pip install \"consilium\[keras-cpu\]\""):
        runtime.require()
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(DependencyMissing, match=r"consilium\[keras\]"):
        runtime.require()


def test_another_number_of_threads_in_one_process_is_refused() -> None:
    runtime.start(1).constant(0)
    with pytest.raises(StudyError, match=r"\[study\] threads: expected 1, .* Received: 2"):
        runtime.start(2)


@pytest.mark.slow
def test_tensorflow_starts_without_a_word() -> None:
    script = "from shared.models import runtime\nruntime.start(1).constant(0)\nimport os\nos.write(2, b'heard')"
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True, text=True)
    assert ("", "heard") == (ran.stdout, ran.stderr)
