"""How layers are tapped whose gradients need no rule of their own file: dense, embedding, normalisation, and the rest.

A rule calls a layer on a batch, has the tape watch what is needed, and says how the gradients there give those of each
example with respect to the layer's variables (``shared/privacy/ghost.py``).
"""

from __future__ import annotations

from typing import Any

from shared.privacy import ghost
from shared.privacy.ghost import Own, PerExample, Tapped, Watch


def dense(layer: Any, x: Any, watch: Watch) -> Tapped:
    """Tap a Dense layer on (n, ..., inputs)."""
    import keras

    before = keras.ops.matmul(x, layer.kernel)
    before = watch(before if layer.bias is None else before + layer.bias)

    def finish(gradients: list[Any]) -> list[Own | PerExample]:
        g = ghost.positions(gradients[0])
        own = ghost.kernel([ghost.positions(x)], g, tuple(layer.kernel.shape))
        return [own] if layer.bias is None else [own, ghost.bias(g)]

    return Tapped(layer.activation(before), [before], finish)


def embedding(layer: Any, x: Any, watch: Watch) -> Tapped:
    """Tap an Embedding layer on indices of shape (n, ...): positions with the same index share a row."""
    import tensorflow as tf

    output = watch(_call(layer, x))
    rows, width = layer.input_dim, layer.output_dim

    def finish(gradients: list[Any]) -> list[Own | PerExample]:
        g = tf.reshape(gradients[0], (ghost.examples(x), -1, width))
        index = tf.cast(tf.reshape(x, (ghost.examples(x), -1)), tf.int32)
        same = tf.cast(index[:, :, None] == index[:, None, :], tf.float64)

        def weighted(weights: Any) -> list[Any]:
            scaled = tf.reshape(g * weights[:, None, None], (-1, width))
            return [tf.math.unsorted_segment_sum(scaled, tf.reshape(index, (-1,)), rows)]

        return [PerExample(ghost.summed(same * ghost.gram(g)), weighted)]

    return Tapped(output, [output], finish)


def normalisation(layer: Any, x: Any, watch: Watch) -> Tapped:
    """Tap Keras' LayerNormalization or GroupNormalization over the last axis, with its gain and shift outside."""
    import keras

    variables = layer.trainable_variables
    with keras.StatelessScope([(v, keras.ops.full(v.shape, float(v is layer.gamma))) for v in variables]):
        output = _call(layer, x)
    copies = [watch(ghost.copies(variable, x)) for variable in variables]
    for variable, copy in zip(variables, copies, strict=True):
        shaped = keras.ops.reshape(copy, (-1, *[1] * (len(x.shape) - 2), x.shape[-1]))
        output = output * shaped if variable is layer.gamma else output + shaped
    return Tapped(output, copies, ghost.owned)


def any_layer(layer: Any, x: Any, watch: Watch) -> Tapped:
    """Tap a layer that has no rule of its own: it is run once more for each example, and differentiated there."""
    import tensorflow as tf

    output = watch(_call(layer, x))
    variables = [variable.value for variable in layer.trainable_variables]

    def one(pair: tuple[Any, Any]) -> list[Any]:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(variables)
            again = _call(layer, pair[0][None])
        found: list[Any] = tape.gradient(again, variables, output_gradients=pair[1][None])
        return found

    return Tapped(output, [output], lambda gradients: ghost.owned(tf.vectorized_map(one, (x, gradients[0]))))


def _call(layer: Any, x: Any) -> Any:
    """Call a layer itself, whatever stands in its place while the network is tapped."""
    return type(layer).call(layer, x)
