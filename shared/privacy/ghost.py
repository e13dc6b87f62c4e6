"""What each example of a batch contributes to the gradient of one layer: its squared norm, and a weighted sum over all.

A layer's gradient for one example is known from what went into the layer and from the loss's gradient at what came out
of it (before the activation), so one backward pass without any filter gradient serves all examples. There are three
ways, all exact:

* Product: a Dense layer's gradient a g' has the norm |a| |g| (Goodfellow 2015, arXiv:1510.01799).
* Ghost norm: over positions t, |sum_t a_t g_t'|**2 = sum_ts <a_t, a_s> <g_t, g_s> (Li, Tramer, Liang, Hashimoto,
  "Large Language Models Can Be Strong Differentially Private Learners", ICLR 2022, arXiv:2110.05679). Summed in
  float64, for terms that cancel would hide a gradient in float32.
* Each example's own gradient, which the weighted sum then reuses, in place of the plain filter gradient: cheaper with
  many positions and few weights (mixed clipping: Bu, Mao, Xu, "Scalable and Efficient Training of Large Convolutional
  Neural Networks with Differential Privacy", NeurIPS 2022, arXiv:2205.10683).

Nothing here clips. TensorFlow must have been started (``shared.models.runtime``); channels come last.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from shared.models import image_cnn
from shared.privacy.taps import Taps

_OWN_UP_TO = 64
"""Weights for each pair of positions up to which own gradients are cheaper than ghost norms (measured on a CPU)."""
_SMALL = 512
"""Weights of a variable up to which own gradients are laid side by side, to be summed at once."""

Watch = Callable[[Any], Any]
"""Has the tape watch a tensor, and returns it."""


@dataclass(frozen=True)
class PerExample:
    """Gradients of n examples with respect to some variables.

    squared: squared L2 norm of each example's gradient, tensor of shape (n,).
    weighted: takes weights of shape (n,) and returns the weighted sum, one tensor for each variable.
    """

    squared: Any
    weighted: Callable[[Any], list[Any]]


@dataclass(frozen=True)
class Own:
    """Gradients of n examples with respect to one variable, each for itself.

    pieces: tensors of shape (n, ...), which one after the other make the variable.
    shape: of the variable.
    """

    pieces: list[Any]
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Tapped:
    """One call of a layer.

    output: what the layer returns.
    watched: tensors whose gradients are needed.
    finish: from these gradients to those of each trainable variable.
    """

    output: Any
    watched: list[Any]
    finish: Callable[[list[Any]], list[Own | PerExample]]


Rule = Callable[[Any, Any, Watch], Tapped]
"""From a layer and what goes into it."""


def joined(parts: Sequence[Own | PerExample]) -> PerExample:
    """Return the gradients with respect to all variables, in their order.

    parts: of each variable.
    """
    import tensorflow as tf

    ghosts = {place: part for place, part in enumerate(parts) if isinstance(part, PerExample)}
    flat = [(place, _flat(piece)) for place, part in enumerate(parts) if isinstance(part, Own) for piece in part.pieces]
    small = [(place, piece) for place, piece in flat if piece.shape[1] <= _SMALL]
    large = [(place, piece) for place, piece in flat if piece.shape[1] > _SMALL]
    beside = [tf.concat([piece for _, piece in small], axis=1)] if small else []
    blocks = [*beside, *(piece for _, piece in large)]
    # One pass over each, where squares and their sum would take two.
    norms = [tf.math.reduce_euclidean_norm(block, axis=1) for block in blocks]
    squared = tf.add_n([part.squared for part in ghosts.values()] + [tf.reduce_sum(tf.square(tf.stack(norms)), axis=0)])

    shapes = {place: part.shape for place, part in enumerate(parts) if isinstance(part, Own)}

    def weighted(weights: Any) -> list[Any]:
        row = weights[None]
        sums = [tf.matmul(row, block) for block in blocks]
        shorter = tf.split(sums[0], [piece.shape[1] for _, piece in small], axis=1) if small else []
        pieces: dict[int, list[Any]] = {}
        for (place, _), total in zip([*small, *large], [*shorter, *sums[len(beside) :]], strict=True):
            pieces.setdefault(place, []).append(total)
        found = {place: part.weighted(weights)[0] for place, part in ghosts.items()}
        for place, totals in pieces.items():
            found[place] = tf.reshape(tf.concat(totals, axis=1), shapes[place])
        return [found[place] for place in range(len(parts))]

    return PerExample(squared, weighted)


def dense(layer: Any, x: Any, watch: Watch) -> Tapped:
    """Tap a Dense layer on (n, ..., inputs)."""
    import keras

    before = keras.ops.matmul(x, layer.kernel)
    before = watch(before if layer.bias is None else before + layer.bias)

    def finish(gradients: list[Any]) -> list[Own | PerExample]:
        g = _positions(gradients[0])
        kernel = _kernel([_positions(x)], g, tuple(layer.kernel.shape))
        return [kernel] if layer.bias is None else [kernel, _bias(g)]

    return Tapped(layer.activation(before), [before], finish)


def convolution(layer: Any, x: Any, watch: Watch) -> Tapped:
    """Tap a Conv1D or Conv2D layer without groups on (n, ..., channels)."""
    import tensorflow as tf

    if layer.padding == "causal":
        x = tf.pad(x, [[0, 0], [layer.dilation_rate[0] * (layer.kernel_size[0] - 1), 0], [0, 0]])
    taps, shape = Taps.of(layer, x.shape[1:-1]), tuple(layer.kernel.shape)
    # Of a single channel, what the taps see is laid out once for the output and for the gradient.
    laid = tf.stack([tf.squeeze(each, -1) for each in _seen(taps, x)], axis=1) if shape[-2] == 1 else None
    if laid is None:
        padding = "SAME" if layer.padding == "same" else "VALID"
        before = tf.nn.convolution(x, layer.kernel.value, layer.strides, padding, dilations=layer.dilation_rate)
    else:
        before = tf.matmul(laid, tf.reshape(layer.kernel.value, (1, -1, shape[-1])), transpose_a=True)
        before = tf.reshape(before, (_examples(x), *taps.outputs[-len(layer.kernel_size) :], shape[-1]))
    before = watch(before + layer.bias.value if layer.use_bias else before)

    def finish(gradients: list[Any]) -> list[Own | PerExample]:
        g = _positions(gradients[0])
        if laid is not None:
            kernel: Own | PerExample = Own([tf.matmul(laid, g)], shape)
        elif taps.strides == (1, 1):
            kernel = _kernel(*_seen_in_a_row(taps, x, gradients[0]), shape)
        else:
            kernel = _kernel(_seen(taps, x), g, shape)
        return [kernel, _bias(g)] if layer.use_bias else [kernel]

    return Tapped(layer.activation(before), [before], finish)


def embedding(layer: Any, x: Any, watch: Watch) -> Tapped:
    """Tap an Embedding layer on indices of shape (n, ...): positions with the same index share a row."""
    import tensorflow as tf

    output = watch(_call(layer, x))
    rows, width = layer.input_dim, layer.output_dim

    def finish(gradients: list[Any]) -> list[Own | PerExample]:
        g = tf.reshape(gradients[0], (_examples(x), -1, width))
        index = tf.cast(tf.reshape(x, (_examples(x), -1)), tf.int32)
        same = tf.cast(index[:, :, None] == index[:, None, :], tf.float64)

        def weighted(weights: Any) -> list[Any]:
            scaled = tf.reshape(g * weights[:, None, None], (-1, width))
            return [tf.math.unsorted_segment_sum(scaled, tf.reshape(index, (-1,)), rows)]

        return [PerExample(_summed(same * _gram(g)), weighted)]

    return Tapped(output, [output], finish)


def group_norm(layer: Any, x: Any, watch: Watch) -> Tapped:
    """Tap our GroupNorm: with a gain and a shift for each example, backpropagation gives each its own gradient.

    Derivatives are written out, because automatic ones take twice as many passes over the images.
    """
    import tensorflow as tf

    groups, (height, width, channels) = layer.groups, x.shape[1:]
    inside = (-1, groups, channels // groups)
    pixels = height * width * channels // groups

    def of(sums: Any) -> Any:
        """Return the mean over each group, shape (n, groups, 1), of means over the pixels, shape (n, channels)."""
        return tf.reduce_mean(tf.reshape(sums, inside), axis=-1, keepdims=True)

    def spread(values: Any) -> Any:
        return tf.reshape(values, (-1, 1, 1, channels))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def normalised(x: Any, gains: Any, shifts: Any) -> Any:
        gains = tf.reshape(gains, inside)
        mean = of(tf.reduce_mean(x, axis=(1, 2)))
        variance = of(tf.reduce_mean(tf.square(x), axis=(1, 2))) - tf.square(mean)
        inverse = tf.math.rsqrt(tf.maximum(variance, 0.0) + image_cnn._EPSILON)
        scale = gains * inverse

        def gradient(g: Any) -> tuple[Any, Any, Any]:
            of_shifts = tf.reshape(tf.reduce_sum(g, axis=(1, 2)), inside)
            of_scale = tf.reshape(tf.reduce_sum(g * x, axis=(1, 2)), inside) - mean * of_shifts
            total = tf.reduce_sum(of_scale * gains, axis=-1, keepdims=True)
            of_variance = tf.where(variance > 0.0, -0.5 * total * inverse**3, 0.0)
            of_mean = -tf.reduce_sum(of_shifts * scale, axis=-1, keepdims=True) - 2.0 * mean * of_variance
            by_x = tf.broadcast_to(of_variance * (2.0 / pixels), tf.shape(scale))
            by_one = tf.broadcast_to(of_mean / pixels, tf.shape(scale))
            of_x = g * spread(scale) + (x * spread(by_x) + spread(by_one))
            return of_x, tf.reshape(of_scale * inverse, (-1, channels)), tf.reshape(of_shifts, (-1, channels))

        return x * spread(scale) + spread(tf.reshape(shifts, inside) - mean * scale), gradient

    copies = [watch(_copies(variable, x)) for variable in (layer.gamma, layer.beta)]
    return Tapped(normalised(x, *copies), copies, _owned)


def normalisation(layer: Any, x: Any, watch: Watch) -> Tapped:
    """Tap Keras' LayerNormalization or GroupNormalization over the last axis, with its gain and shift outside."""
    import keras

    variables = layer.trainable_variables
    with keras.StatelessScope([(v, keras.ops.full(v.shape, float(v is layer.gamma))) for v in variables]):
        output = _call(layer, x)
    copies = [watch(_copies(variable, x)) for variable in variables]
    for variable, copy in zip(variables, copies, strict=True):
        shaped = keras.ops.reshape(copy, (-1, *[1] * (len(x.shape) - 2), x.shape[-1]))
        output = output * shaped if variable is layer.gamma else output + shaped
    return Tapped(output, copies, _owned)


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

    return Tapped(output, [output], lambda gradients: _owned(tf.vectorized_map(one, (x, gradients[0]))))


def _call(layer: Any, x: Any) -> Any:
    """Call a layer itself, whatever stands in its place while the network is tapped."""
    return type(layer).call(layer, x)


def _examples(values: Any) -> Any:
    """Return n, as a number where it is known."""
    import tensorflow as tf

    return values.shape[0] or tf.shape(values)[0]


def _flat(values: Any) -> Any:
    import tensorflow as tf

    return tf.reshape(values, (_examples(values), math.prod(values.shape[1:])))


def _squared(flat: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_sum(tf.square(flat), axis=1)


def _owned(gradients: Sequence[Any]) -> list[Own | PerExample]:
    """Return what is known for each example, tensors of shape (n, ...), one for each variable."""
    return [Own([each], tuple(each.shape[1:])) for each in gradients]


def _positions(values: Any) -> Any:
    """Return (n, ..., width) as (n, positions, width)."""
    import tensorflow as tf

    return tf.reshape(values, (_examples(values), math.prod(values.shape[1:-1]), values.shape[-1]))


def _gram(values: Any) -> Any:
    """Return the inner products of an example's positions, float64, shape (n, positions, positions)."""
    import tensorflow as tf

    exact = tf.cast(values, tf.float64)
    return tf.matmul(exact, exact, transpose_b=True)


def _summed(products: Any) -> Any:
    import tensorflow as tf

    return tf.cast(tf.reduce_sum(products, axis=(1, 2)), tf.float32)


def _bias(g: Any) -> Own:
    import tensorflow as tf

    return Own([_flat(g) if g.shape[1] == 1 else tf.reduce_sum(g, axis=1)], (g.shape[-1],))


def _copies(variable: Any, x: Any) -> Any:
    """Return a variable of shape (channels,) once for each example, shape (n, channels)."""
    import tensorflow as tf

    return tf.tile(variable.value[None], (_examples(x), 1))


def _kernel(seen: list[Any], g: Any, shape: tuple[int, ...]) -> Own | PerExample:
    """Return the gradient of a kernel, as in ``Tapped.finish``.

    seen: what each tap of the filter sees, tensors of shape (n, positions, channels).
    g: gradient before the activation, shape (n, positions, outputs).
    shape: of the kernel, taps first.
    """
    import tensorflow as tf

    positions, size = g.shape[1], math.prod(shape)
    if positions > 1 and size <= _OWN_UP_TO * positions**2:
        return Own([tf.matmul(tap, g, transpose_a=True) for tap in seen], shape)

    a = tf.concat(seen, axis=-1)
    squared = _squared(a[:, 0]) * _squared(g[:, 0]) if positions == 1 else _summed(_gram(a) * _gram(g))

    def weighted(weights: Any) -> list[Any]:
        rows, columns = tf.reshape(a, (-1, a.shape[-1])), tf.reshape(g * weights[:, None, None], (-1, g.shape[-1]))
        return [tf.reshape(tf.matmul(rows, columns, transpose_a=True), shape)]

    return PerExample(squared, weighted)


def _seen(taps: Taps, x: Any) -> list[Any]:
    """Return what each tap of a filter sees of x: (n, positions, channels) each."""
    import tensorflow as tf

    x = tf.pad(_image(x), [[0, 0], *zip(taps.before, taps.after, strict=True), [0, 0]])
    (rows, columns), (down, right) = taps.outputs, taps.strides
    return [
        _positions(x[:, top : top + (rows - 1) * down + 1 : down, left : left + (columns - 1) * right + 1 : right])
        for top, left in taps.offsets
    ]


def _seen_in_a_row(taps: Taps, x: Any, g: Any) -> tuple[list[Any], Any]:
    """Return the same without a copy, and g at these positions; for strides of 1.

    The images stand in one long row, and zeros between them serve both neighbours: each tap sees the row from another
    place on. Positions that are no output have a gradient of zero.
    """
    import tensorflow as tf

    x, g = _image(x), _image(g)
    more = [max(last - first, 0) for first, last in zip(taps.before, taps.after, strict=True)]
    height, width = (sum(sizes) for sizes in zip(x.shape[1:3], taps.before, more, strict=True))
    # Images of zeros at the end, for the last taps to see.
    last_top, last_left = taps.offsets[-1]
    empty = -(-(last_top * width + last_left) // (height * width))
    x = tf.pad(x, [[0, empty], *zip(taps.before, more, strict=True), [0, 0]])
    g = tf.pad(g, [[0, 0], [0, height - g.shape[1]], [0, width - g.shape[2]], [0, 0]])
    channels = x.shape[-1]
    row, count = tf.reshape(x, (-1,)), _examples(g) * height * width * channels
    starts = [(top * width + left) * channels for top, left in taps.offsets]
    return [tf.reshape(row[s : s + count], (-1, height * width, channels)) for s in starts], _positions(g)


def _image(values: Any) -> Any:
    """Return (n, length, channels) as images of height 1."""
    return values if len(values.shape) == 4 else values[:, None]
