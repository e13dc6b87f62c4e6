"""Networks for sequences: what they compute, and that padding and other patients never move a prediction."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.models import network, runtime
from shared.models.sequence_cnn import SequenceCnn
from shared.models.sequence_rnn import SequenceRnn
from shared.models.training import Descent, trainer
from shared.privacy import clipping

CNN = SequenceCnn(filters=(8, 8), kernel_size=3, groups=4, dense_units=5)


def marked(steps: np.ndarray, room: int) -> np.ndarray:
    """Sequences (n, length, channels) with room for more steps, as ``Preparation`` marks them."""
    n, length, channels = steps.shape
    x = np.zeros((n, room, channels + 1), np.float32)
    x[:, :length, :-1] = steps
    x[:, length - 1, -1] = room
    return x


def steps(n: int = 2, length: int = 3, channels: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(n, length, channels)).astype(np.float32)


def built(architecture: str, options: Any, room: int = 4) -> Any:
    runtime.start(1)
    model = network.build(architecture, options, (room, 3), 2)
    network.set_weights(model, network.initial_weights(model, 1))
    return model


def test_weights_of_the_convolutions_are_named_by_layer_and_shaped_as_declared() -> None:
    expected = {
        "block_1/conv/kernel": (3, 2, 8),
        "block_1/norm/gamma": (8,),
        "block_1/norm/beta": (8,),
        "block_2/conv/kernel": (3, 8, 8),
        "block_2/norm/gamma": (8,),
        "block_2/norm/beta": (8,),
        "dense/kernel": (8, 5),
        "dense/bias": (5,),
        "head/kernel": (5, 2),
        "head/bias": (2,),
    }
    model = built("sequence_cnn", CNN)
    assert expected == {name: tuple(weight.shape) for name, weight in network.variables(model).items()}


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_padding_has_no_part_in_what_a_recurrent_network_says(cell: Any) -> None:
    short, long = (built("sequence_rnn", SequenceRnn(cell=cell, units=(5, 4)), room) for room in (3, 6))
    network.set_weights(long, {name: weight.numpy() for name, weight in network.variables(short).items()})
    expected = np.asarray(short(marked(steps(), 3)))
    assert np.abs(expected).max() > 1e-3
    np.testing.assert_allclose(expected, np.asarray(long(marked(steps(), 6))), rtol=1e-5, atol=1e-7)


def test_the_head_reads_what_keras_says_of_the_last_step() -> None:
    import keras

    model = built("sequence_rnn", SequenceRnn(units=(5,)))
    layer = keras.layers.GRU(5)
    layer.build((None, 3, 2))
    layer.set_weights(model.get_layer("recurrent_1").get_weights())
    expected = model.get_layer("head")(layer(steps()))
    np.testing.assert_allclose(np.asarray(expected), np.asarray(model(marked(steps(), 4))), rtol=1e-5, atol=1e-7)


def test_every_first_weight_of_a_recurrent_layer_is_drawn() -> None:
    first = network.initial_weights(built("sequence_rnn", SequenceRnn(units=(5,))), 1)
    kernels = {name: array for name, array in first.items() if name.endswith("kernel")}
    assert ["head/kernel", "recurrent_1/gru_cell/kernel", "recurrent_1/gru_cell/recurrent_kernel"] == sorted(kernels)
    assert all(array.all() for array in kernels.values())


@pytest.mark.parametrize(("architecture", "options"), [("sequence_cnn", CNN), ("sequence_rnn", SequenceRnn())])
def test_each_patients_gradient_can_be_clipped(architecture: str, options: Any) -> None:
    clipping.check(built(architecture, options))


@pytest.mark.parametrize(
    ("architecture", "options"), [("sequence_cnn", CNN), ("sequence_rnn", SequenceRnn(units=(4,)))]
)
def test_training_lowers_the_loss_and_gives_the_same_bits_again(architecture: str, options: Any) -> None:
    machine = trainer(architecture, options, (4, 3), 2, 1)
    x, y = marked(steps(16), 4), np.arange(16) % 2
    descent = Descent(epochs=1, batch_size=8, learning_rate=0.1, momentum=0.9, proximal_mu=0.0, loss_bound=100.0)
    weights: Any = network.initial_weights(machine.model, 1)
    losses, ends = [], []
    for _ in range(2):
        now = weights
        for _ in range(8):
            now, loss = machine.train(now, x, y, descent, np.random.default_rng(0))
            losses.append(loss)
        ends.append(now)
    assert losses[7] < losses[0]
    assert all(np.array_equal(ends[0][name], ends[1][name]) for name in weights)


def test_an_even_kernel_and_groups_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match=r"kernel_size must be odd. Received: 4"):
        SequenceCnn(kernel_size=4)
    with pytest.raises(ValueError, match=r"groups = 8, filters = \[12\]"):
        SequenceCnn(filters=(12,))
