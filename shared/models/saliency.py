"""What of an image speaks for a class: integrated gradients of the class's log-odds.

Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017, arXiv:1703.01365, equation 1: what
differs from a baseline, times the mean gradient on the straight line from the baseline to the image. The attributions
of an image add up to how much its log-odds differ from the baseline's (completeness), up to the error of the steps.

The baseline should not be the mean image: it is zero when prepared, and scaling an image up from zero changes nothing
after the first group normalisation, so that all that happens is in the first step. From a black image, 128 steps leave
the sum 0.4 % off in the median and 7 % at most, and 32 steps 3 % and 23 % (16 test images of ``pneumonia_cnn``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays
from shared.models import network
from shared.models.training import Trainer

STEPS = 128


def integrated_gradients(
    trainer: Trainer,
    weights: Arrays,
    x: NDArray[Any],
    baseline: NDArray[Any],
    classes: NDArray[np.integer],
    steps: int = STEPS,
) -> NDArray[np.float64]:
    """Return how much each entry of ``x`` raises the log-odds of a class against the rest, array of ``x``'s shape.

    x: rows as the network reads them, array of shape (n, ...).
    baseline: array of shape (...,).
    classes: of each row, whose log-odds are explained; array of shape (n,).
    steps: at whose midpoints the gradient is taken.
    """
    import tensorflow as tf

    network.set_weights(trainer.model, weights)
    explained = tf.one_hot(classes, trainer.model.output_shape[-1], on_value=True, off_value=False, dtype=tf.bool)

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]  # tensorflow has no types
    def gradient(rows: Any) -> Any:
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(rows)
            logits = trainer.model(rows, training=False)
            rest = tf.reduce_logsumexp(tf.where(explained, -np.inf, logits), axis=1)
            odds = tf.boolean_mask(logits, explained) - rest
        return tape.gradient(odds, rows)

    start = np.asarray(baseline, np.float32)
    way = np.asarray(x, np.float32) - start
    total = np.zeros(way.shape)
    for step in range(steps):
        total += gradient(tf.constant(start + np.float32((step + 0.5) / steps) * way)).numpy()
    return total / steps * way
