"""How convolutions are tapped: by what each tap of the filter sees of the image (``shared/privacy/taps.py``)."""

from __future__ import annotations

from typing import Any

from shared.privacy import ghost
from shared.privacy.ghost import Own, Patches, PerExample, Tapped, Watch
from shared.privacy.taps import Taps


def convolution(layer: Any, x: Any, watch: Watch) -> Tapped:
    """Tap a Conv1D or Conv2D layer without groups on (n, ..., channels)."""
    import tensorflow as tf

    if layer.padding == "causal":
        x = tf.pad(x, [[0, 0], [layer.dilation_rate[0] * (layer.kernel_size[0] - 1), 0], [0, 0]])
    taps, shape = Taps.of(layer, x.shape[1:-1]), tuple(layer.kernel.shape)
    if shape[-2] == 1:
        return _of_one_channel(layer, x, taps, watch)
    padding = "SAME" if layer.padding == "same" else "VALID"
    before = tf.nn.convolution(x, layer.kernel.value, layer.strides, padding, dilations=layer.dilation_rate)
    before = watch(before + layer.bias.value if layer.use_bias else before)

    def finish(gradients: list[Any]) -> list[Own | PerExample]:
        g = ghost.positions(gradients[0])
        if taps.strides == (1, 1):
            own = ghost.kernel(*_seen_in_a_row(taps, x, gradients[0]), shape)
        else:
            own = ghost.kernel(_seen(taps, x), g, shape)
        return [own, ghost.bias(g)] if layer.use_bias else [own]

    return Tapped(layer.activation(before), [before], finish)


def _of_one_channel(layer: Any, x: Any, taps: Taps, watch: Watch) -> Tapped:
    """Tap by a kernel for each example, for which what the taps see is laid out once, beside ones for the bias."""
    import tensorflow as tf

    shape = tuple(layer.kernel.shape)
    laid = _laid(taps, x)
    kernels = watch(tf.reshape(ghost.copies(layer.kernel, x), (-1, len(taps.offsets), shape[-1])))
    biases = watch(ghost.copies(layer.bias, x)) if layer.use_bias else tf.zeros((ghost.examples(x), shape[-1]))
    before = tf.matmul(laid, tf.concat([kernels, biases[:, None]], axis=1), transpose_a=True)
    before = tf.reshape(before, (-1, *taps.outputs[-len(layer.kernel_size) :], shape[-1]))

    def finish(gradients: list[Any]) -> list[Own | PerExample]:
        return [Own([gradients[0]], shape), *ghost.owned(gradients[1:])]

    output = layer.activation(before)
    bare = not layer.use_bias and output is before
    watched = [kernels, biases] if layer.use_bias else [kernels]
    return Tapped(output, watched, finish, Patches(laid, kernels) if bare else None)


def _laid(taps: Taps, x: Any) -> Any:
    """Return what each tap sees of x, shape (n, ..., 1), and a row of ones: (n, taps + 1, positions)."""
    import tensorflow as tf

    x = _padded(taps, x)[..., 0]
    (rows, columns), (down, right) = taps.outputs, taps.strides
    tops, lefts = (sorted(set(offsets)) for offsets in zip(*taps.offsets, strict=True))
    # Columns first: rows are then cut in longer pieces.
    across = tf.stack([x[:, :, left : left + (columns - 1) * right + 1 : right] for left in lefts], axis=1)
    seen = [across[:, :, top : top + (rows - 1) * down + 1 : down] for top in tops]
    laid = tf.concat([*seen, tf.ones_like(seen[0][:, :1])], axis=1)
    return tf.reshape(laid, (ghost.examples(x), len(taps.offsets) + 1, rows * columns))


def _padded(taps: Taps, x: Any) -> Any:
    import tensorflow as tf

    return tf.pad(_image(x), [[0, 0], *zip(taps.before, taps.after, strict=True), [0, 0]])


def _seen(taps: Taps, x: Any) -> list[Any]:
    """Return what each tap of a filter sees of x: (n, positions, channels) each."""
    x = _padded(taps, x)
    (rows, columns), (down, right) = taps.outputs, taps.strides
    return [
        ghost.positions(x[:, top : top + (rows - 1) * down + 1 : down, left : left + (columns - 1) * right + 1 : right])
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
    row, count = tf.reshape(x, (-1,)), ghost.examples(g) * height * width * channels
    starts = [(top * width + left) * channels for top, left in taps.offsets]
    return [tf.reshape(row[s : s + count], (-1, height * width, channels)) for s in starts], ghost.positions(g)


def _image(values: Any) -> Any:
    """Return (n, length, channels) as images of height 1."""
    return values if len(values.shape) == 4 else values[:, None]
