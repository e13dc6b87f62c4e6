"""What each example of a batch contributes to the gradient of one layer: its squared norm, and a weighted sum over all.

A layer's gradient for one example is known from what went into the layer and from the loss's gradient at what came out
of it (before the activation), so one backward pass without any filter gradient serves all examples. The layers' rules
(``layers.py``, ``convolution.py``, ``group_norm.py`` beside this) say how; there are three ways, all exact:

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
class Patches:
    """What a convolution of one channel saw, without bias or activation, for the layer that follows.

    laid: what each tap of the filter sees, and a row of ones; tensor of shape (n, taps + 1, positions).
    kernels: its kernel once for each example, watched; shape (n, taps, filters).
    """

    laid: Any
    kernels: Any


@dataclass(frozen=True)
class Tapped:
    """One call of a layer.

    output: what the layer returns.
    watched: tensors whose gradients are needed.
    finish: from these gradients to those of each trainable variable.
    patches: which the output is made of, if they are laid out.
    """

    output: Any
    watched: list[Any]
    finish: Callable[[list[Any]], list[Own | PerExample]]
    patches: Patches | None = None


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


def kernel(seen: list[Any], g: Any, shape: tuple[int, ...]) -> Own | PerExample:
    """Return the gradient of a kernel.

    seen: what each tap of the filter sees, tensors of shape (n, positions, channels).
    g: gradient before the activation, shape (n, positions, outputs).
    shape: of the kernel, taps first.
    """
    import tensorflow as tf

    count, size = g.shape[1], math.prod(shape)
    if count > 1 and size <= _OWN_UP_TO * count**2:
        return Own([tf.matmul(tap, g, transpose_a=True) for tap in seen], shape)

    a = tf.concat(seen, axis=-1)
    squared = _squared(a[:, 0]) * _squared(g[:, 0]) if count == 1 else summed(gram(a) * gram(g))

    def weighted(weights: Any) -> list[Any]:
        rows, columns = tf.reshape(a, (-1, a.shape[-1])), tf.reshape(g * weights[:, None, None], (-1, g.shape[-1]))
        return [tf.reshape(tf.matmul(rows, columns, transpose_a=True), shape)]

    return PerExample(squared, weighted)


def bias(g: Any) -> Own:
    """Return the gradient of a bias from that before the activation, shape (n, positions, outputs)."""
    import tensorflow as tf

    return Own([_flat(g) if g.shape[1] == 1 else tf.reduce_sum(g, axis=1)], (g.shape[-1],))


def owned(gradients: Sequence[Any]) -> list[Own | PerExample]:
    """Return what is known for each example, tensors of shape (n, ...), one for each variable."""
    return [Own([each], tuple(each.shape[1:])) for each in gradients]


def copies(variable: Any, x: Any) -> Any:
    """Return a Keras variable of any shape once for each example of x, shape (n, ...).

    With a variable for each example, backpropagation gives each its own gradient.
    """
    import tensorflow as tf

    return tf.tile(variable.value[None], (examples(x), *[1] * len(variable.shape)))


def examples(values: Any) -> Any:
    """Return n, as a number where it is known."""
    import tensorflow as tf

    return values.shape[0] or tf.shape(values)[0]


def positions(values: Any) -> Any:
    """Return (n, ..., width) as (n, positions, width)."""
    import tensorflow as tf

    return tf.reshape(values, (examples(values), math.prod(values.shape[1:-1]), values.shape[-1]))


def gram(values: Any) -> Any:
    """Return the inner products of an example's positions, float64, shape (n, positions, positions)."""
    import tensorflow as tf

    exact = tf.cast(values, tf.float64)
    return tf.matmul(exact, exact, transpose_b=True)


def summed(products: Any) -> Any:
    """Return the sum of each example's products, shape (n, positions, positions), as float32."""
    import tensorflow as tf

    return tf.cast(tf.reduce_sum(products, axis=(1, 2)), tf.float32)


def _flat(values: Any) -> Any:
    import tensorflow as tf

    return tf.reshape(values, (examples(values), math.prod(values.shape[1:])))


def _squared(flat: Any) -> Any:
    import tensorflow as tf

    return tf.reduce_sum(tf.square(flat), axis=1)
