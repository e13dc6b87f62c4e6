"""Clipping finds each example's gradient, layer by layer, and refuses networks in which examples are not apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import StudyError
from shared.models import image_cnn, runtime
from shared.models.image_cnn import ImageCnn
from shared.models.tabular_mlp import TabularMlp
from shared.privacy import clipping, ghost, group_norm

EXAMPLES = 5
SAME, VALID = "same", "valid"

IMAGE, LINE, POSITIONS, ROW = (9, 8, 3), (12, 3), (4, 7), (7,)
NARROW: tuple[str, dict[str, Any]] = ("Conv2D", {"filters": 1, "kernel_size": 3})
CONVOLUTION: tuple[str, dict[str, Any]] = ("Conv2D", {"filters": 8, "kernel_size": 3, "use_bias": False})
LAYERS: dict[str, tuple[tuple[int, ...], list[tuple[str, dict[str, Any]]]]] = {
    "dense": (ROW, [("Dense", {"units": 5, "activation": "relu"})]),
    "dense without bias": (ROW, [("Dense", {"units": 5, "use_bias": False})]),
    "dense on few positions": ((3, 70), [("Dense", {"units": 50})]),
    "dense on many positions": (POSITIONS, [("Dense", {"units": 5, "activation": "gelu"})]),
    "image, same": (IMAGE, [("Conv2D", {"filters": 8, "kernel_size": 3, "padding": SAME, "activation": "tanh"})]),
    "image, same, even filter": (IMAGE, [("Conv2D", {"filters": 8, "kernel_size": 4, "padding": SAME})]),
    "image, valid": (IMAGE, [("Conv2D", {"filters": 8, "kernel_size": (2, 3), "padding": VALID})]),
    "image, one channel": ((9, 8, 1), [("Conv2D", {"filters": 8, "kernel_size": 3, "padding": SAME})]),
    "image, strides": (IMAGE, [("Conv2D", {"filters": 8, "kernel_size": 3, "strides": (2, 1), "padding": SAME})]),
    "image, dilated": (IMAGE, [("Conv2D", {"filters": 8, "kernel_size": 3, "dilation_rate": 2, "padding": SAME})]),
    "image, one channel, strides": ((9, 8, 1), [("Conv2D", {"filters": 8, "kernel_size": 3, "strides": 2})]),
    "image, smaller than the filter": ((3, 2, 3), [("Conv2D", {"filters": 8, "kernel_size": 9, "padding": SAME})]),
    "image, ghost norm": ((3, 3, 64), [("Conv2D", {"filters": 128, "kernel_size": 3, "padding": SAME})]),
    "line, same": (LINE, [("Conv1D", {"filters": 8, "kernel_size": 3, "padding": SAME})]),
    "line, causal": (LINE, [("Conv1D", {"filters": 8, "kernel_size": 3, "padding": "causal", "dilation_rate": 2})]),
    "line, one channel": ((12, 1), [("Conv1D", {"filters": 8, "kernel_size": 3, "padding": "causal"})]),
    "line, strides": (LINE, [("Conv1D", {"filters": 8, "kernel_size": 3, "strides": 2, "padding": SAME})]),
    "embedding": ((6,), [("Embedding", {"input_dim": 10, "output_dim": 4})]),
    "our group norm": (IMAGE, [("Conv2D", {"filters": 8, "kernel_size": 3}), ("GroupNorm", {"groups": 4})]),
    "our group norm, one channel": ((9, 8, 1), [CONVOLUTION, ("GroupNorm", {"groups": 4})]),
    "our group norm, one channel of the network's own": (IMAGE, [NARROW, CONVOLUTION, ("GroupNorm", {"groups": 4})]),
    "Keras' group norm": (IMAGE, [("Conv2D", {"filters": 8, "kernel_size": 3}), ("GroupNormalization", {"groups": 4})]),
    "layer norm": (ROW, [("Dense", {"units": 6}), ("LayerNormalization", {})]),
    "layer norm without shift": (POSITIONS, [("Dense", {"units": 6}), ("LayerNormalization", {"center": False})]),
    "layer norm without gain": (POSITIONS, [("Dense", {"units": 6}), ("LayerNormalization", {"scale": False})]),
    "depthwise": (IMAGE, [("DepthwiseConv2D", {"kernel_size": 3})]),
}
RECURRENT = {
    f"{kind}, {name}": (LINE, [(kind, {"units": 5, **options})])
    for kind in ("SimpleRNN", "GRU", "LSTM")
    for name, options in (("last", {}), ("all", {"return_sequences": True}), ("backwards", {"go_backwards": True}))
}


def network(shape: tuple[int, ...], layers: list[tuple[str, dict[str, Any]]]) -> Any:
    """A network of such layers with a linear head."""
    runtime.start(1)
    import keras

    kinds = {"GroupNorm": image_cnn.group_norm()}
    inputs = outputs = keras.Input(shape)
    for kind, options in layers:
        outputs = kinds.get(kind, getattr(keras.layers, kind, None))(**options)(outputs)
    return moved(keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(outputs))))


def moved(model: Any) -> Any:
    """Weights are none of those that initialisers give, which differ from run to run."""
    drawn = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(drawn.normal(0.2, 0.3, variable.shape))
    return model


def rows(model: Any) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    drawn = np.random.default_rng(2)
    shape = (EXAMPLES, *model.input_shape[1:])
    if type(model.layers[1]).__name__ == "Embedding":
        return drawn.integers(10, size=shape).astype(np.float32), drawn.integers(2, size=EXAMPLES).astype(np.int32)
    return drawn.normal(size=shape).astype(np.float32), drawn.integers(2, size=EXAMPLES).astype(np.int32)


def losses(outputs: Any, y: Any) -> Any:
    """Squared errors: unlike a cross-entropy they leave no gradient that is all rounding."""
    import tensorflow as tf

    return tf.reduce_sum(tf.square(outputs - tf.cast(y, tf.float32)[:, None]), axis=1)


def one_by_one(model: Any, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """Each example's gradient by plain backpropagation of a batch of one: shape (n, weights)."""
    import tensorflow as tf

    found = []
    for place in range(len(x)):
        with tf.GradientTape() as tape:
            loss = losses(model(x[place : place + 1], training=True), y[place : place + 1])
        gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
        found.append(np.concatenate([np.ravel(tf.convert_to_tensor(each)) for each in gradients]))
    return np.array(found, np.float64)


def vectorised(model: Any, x: NDArray[Any], y: NDArray[Any]) -> NDArray[np.float64]:
    """The same by ``tf.vectorized_map`` over the whole network."""
    import tensorflow as tf

    own = [variable.value for variable in model.trainable_variables]

    def one(pair: tuple[Any, Any]) -> Any:
        with tf.GradientTape() as tape:
            loss = losses(model(pair[0][None], training=True), pair[1][None])
        return tf.concat([tf.reshape(each, (-1,)) for each in tape.gradient(loss, own)], axis=0)

    return np.asarray(tf.vectorized_map(one, (tf.constant(x), tf.constant(y))), np.float64)


def clipped(model: Any, x: NDArray[Any], y: NDArray[Any], weights: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """What is under test: norms, and the weighted sum."""
    import tensorflow as tf

    def run(x: Any, y: Any, weights: Any) -> Any:
        each = clipping.gradients(model, x, lambda outputs: losses(outputs, y))
        return each.squared, tf.concat([tf.reshape(own, (-1,)) for own in each.weighted(weights)], axis=0)

    squared, total = tf.function(run, autograph=False)(tf.constant(x), tf.constant(y), tf.constant(weights))
    return np.sqrt(np.asarray(squared, np.float64)), np.asarray(total, np.float64)


def assert_exact(model: Any, oracle: Any) -> None:
    x, y = rows(model)
    clipping.check(model)
    each = oracle(model, x, y)
    weights = np.linspace(0.1, 1.0, EXAMPLES, dtype=np.float32)
    norms, total = clipped(model, x, y, weights)
    expected_norms, expected = np.linalg.norm(each, axis=1), weights @ each
    assert pytest.approx(expected_norms, rel=1e-5) == norms
    assert np.linalg.norm(expected - total) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", LAYERS)
def test_norms_and_the_weighted_sum_are_those_of_gradients_taken_one_by_one(name: str) -> None:
    assert_exact(network(*LAYERS[name]), one_by_one)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECURRENT)
def test_recurrent_layers_are_exact(name: str) -> None:
    assert_exact(network(*RECURRENT[name]), one_by_one)


def test_our_networks_are_exact_by_the_vectorised_oracle() -> None:
    runtime.start(1)
    assert_exact(moved(ImageCnn(filters=(8, 16), dense_units=5).build((8, 8, 1), 2)), vectorised)
    assert_exact(moved(TabularMlp(units=(6, 4)).build((7,), 2)), vectorised)


def test_group_norm_on_a_convolution_of_one_channel_takes_no_pass_over_its_images(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delattr(group_norm, "of_pixels")
    assert_exact(network(*LAYERS["our group norm, one channel"]), one_by_one)


def test_layers_side_by_side_are_exact() -> None:
    runtime.start(1)
    import keras

    inputs = keras.Input((7,))
    sides = [keras.layers.Dense(4, activation="relu", name=name)(inputs) for name in ("left", "right")]
    assert_exact(moved(keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Add()(sides)))), one_by_one)


@pytest.mark.parametrize("own_up_to", [0, 10**9])
def test_ghost_norms_and_own_gradients_agree(own_up_to: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ghost, "_OWN_UP_TO", own_up_to)
    assert_exact(network(*LAYERS["image, same"]), one_by_one)


def test_terms_that_cancel_do_not_hide_a_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two positions whose products are 1e4 times as long as their sum: in float32 it would be mere rounding."""
    import tensorflow as tf

    monkeypatch.setattr(ghost, "_OWN_UP_TO", 0)
    a, g = np.array([[[1e4], [1e4]]], np.float32), np.array([[[1.0], [-0.9999]]], np.float32)
    exact = 1e4 * (1.0 + np.float64(g[0, 1, 0]))
    found = ghost.kernel([tf.constant(a)], tf.constant(g), (1, 1))
    assert isinstance(found, ghost.PerExample)
    assert pytest.approx([exact], rel=1e-5) == np.sqrt(found.squared)


def test_gradients_are_scaled_to_the_clipping_norm_and_never_beyond() -> None:
    factors = np.asarray(clipping.factors(np.array([0.0, 1.0, 4.0, 1e30], np.float32), np.float32(2.0)))
    assert [1.0, 1.0] == factors[:2].tolist()
    assert np.all(factors[2:] * [2.0, 1e15] <= 2.0)
    assert pytest.approx([1.0, 2e-15], rel=1e-3) == factors[2:]


def test_a_norm_that_is_no_number_counts_as_nothing() -> None:
    assert [0.0, 0.0] == np.asarray(clipping.factors(np.array([np.inf, np.nan], np.float32), 1.0)).tolist()


@pytest.mark.parametrize(
    ("layers", "reason"),
    [
        ([("BatchNormalization", {})], "mixes the examples of a batch"),
        ([("LSTM", {"units": 2, "dropout": 0.5})], "drops values at random"),
        ([("LayerNormalization", {"axis": 1})], "over the last axis"),
        ([("Conv1D", {"filters": 3, "kernel_size": 3, "groups": 3})], "in groups"),
        ([("Dense", {"units": 3, "activation": "softmax"})], "activation"),
        ([("Dense", {"units": 3, "activation": lambda x: x - x[::-1]})], "activation"),
        ([("Dense", {"units": 3, "dtype": "mixed_float16"})], "float32"),
        ([("MultiHeadAttention", {"num_heads": 1, "key_dim": 1})], "not known"),
    ],
)
def test_a_network_whose_examples_are_not_known_to_be_apart_is_refused(layers: Any, reason: str) -> None:
    runtime.start(1)
    import keras

    inputs = keras.Input(LINE)
    kind, options = layers[0]
    layer = getattr(keras.layers, kind)(**options)
    outputs = layer(inputs, inputs) if kind == "MultiHeadAttention" else layer(inputs)
    with pytest.raises(StudyError, match=reason):
        clipping.check(keras.Model(inputs, keras.layers.Dense(2)(keras.layers.Flatten()(outputs))))


def test_an_operation_that_is_no_layer_is_refused() -> None:
    runtime.start(1)
    import keras

    inputs = keras.Input(ROW)
    centred = inputs - keras.ops.mean(inputs, axis=0)
    with pytest.raises(StudyError, match="not known"):
        clipping.check(keras.Model(inputs, keras.layers.Dense(2)(centred)))


def test_a_layer_of_the_same_name_as_a_known_one_is_refused() -> None:
    runtime.start(1)
    import keras

    class Dense(keras.layers.Dense):  # type: ignore[misc]
        def call(self, x: Any, training: Any = None) -> Any:
            return super().call(x - keras.ops.mean(x, axis=0))

    inputs = keras.Input(ROW)
    with pytest.raises(StudyError, match="not known"):
        clipping.check(keras.Model(inputs, Dense(2)(inputs)))


def test_a_layer_that_is_used_twice_is_refused() -> None:
    runtime.start(1)
    import keras

    inputs, layer = keras.Input(ROW), keras.layers.Dense(7)
    model = keras.Model(inputs, layer(layer(inputs)))
    with pytest.raises(StudyError, match="used once"):
        clipping.gradients(model, np.zeros((2, 7), np.float32), lambda outputs: outputs[:, 0])


def test_the_network_is_left_as_it_was() -> None:
    model = network(*LAYERS["dense"])
    x, y = rows(model)
    before = model(x).numpy()
    clipped(model, x, y, np.ones(EXAMPLES, np.float32))
    assert np.array_equal(before, model(x).numpy())
    assert not any("call" in vars(layer) for layer in model.layers)
