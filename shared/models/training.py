"""Local training of one network at one site: minibatch SGD with momentum, all epochs in one TensorFlow graph.

The proximal term mu/2 |w - w_broadcast|**2 is FedProx's (Li, Sahu, Zaheer, Sanjabi, Talwalkar, Smith, "Federated
Optimization in Heterogeneous Networks", MLSys 2020, arXiv:1812.06127, Algorithm 2); mu = 0 is FedAvg's local step.
Momentum starts from zero in every round, so a site remembers nothing.

Rows are dealt to batches outside the graph. The batches of one epoch differ by at most one row, so that no step follows
a tiny remainder; they are filled up to the fixed size with rows of weight zero, so that one graph serves every site.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays
from shared.models import network, runtime
from shared.models.augmentation import alterations, augmented

_SCORED_ROWS = 256
"""Rows that go through the network at once when it is only asked: bounds memory."""


@dataclass(frozen=True)
class Descent:
    """How a site descends.

    epochs: passes over the site's rows.
    batch_size: largest number of rows in one step.
    learning_rate, momentum: v = momentum v + gradient; w = w - learning_rate v.
    proximal_mu: weight of FedProx's term.
    loss_bound: largest loss of one row that is reported; larger ones count as this.
    augment: whether images are altered, anew in each step (``shared/models/augmentation.py``).
    """

    epochs: int
    batch_size: int
    learning_rate: float
    momentum: float
    proximal_mu: float
    loss_bound: float
    augment: bool = False


def batches(rows: int, descent: Descent, drawn: np.random.Generator) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Deal rows to batches, epoch after epoch.

    Returns: (row index, weight of the row), two arrays of shape (steps, batch_size); filling has weight zero.
    """
    steps = math.ceil(rows / descent.batch_size)
    index = np.zeros((descent.epochs * steps, descent.batch_size), np.int32)
    weight = np.zeros(index.shape, np.float32)
    for epoch in range(descent.epochs):
        for step, batch in enumerate(np.array_split(drawn.permutation(rows), steps), start=epoch * steps):
            index[step, : len(batch)] = batch
            weight[step, : len(batch)] = 1.0
    return index, weight


def losses(outputs: Any, y: Any) -> Any:
    """Return the loss of each row, tensor of shape (n,): cross-entropy, or the squared error of a standardised number.

    outputs: logits, or one number each; tensor of shape (n, outputs).
    y: class index, or the number; tensor of shape (n,).
    """
    import tensorflow as tf

    if outputs.shape[-1] == 1:
        return tf.square(outputs[:, 0] - y)
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.cast(y, tf.int32), logits=outputs)


class Trainer:
    """One network with its compiled training.

    Weights are swapped in and read out, so no call depends on an earlier one. Not for several threads at once.
    """

    def __init__(self, model: Any, threads: int) -> None:
        tf = runtime.start(threads)
        self._tf = tf
        self.model = model
        self._outputs = int(model.output_shape[-1])
        self._variables = network.variables(model)
        self._velocities = [tf.Variable(tf.zeros_like(own), trainable=False) for own in self._variables.values()]
        self._rows = tf.TensorSpec((None, *model.input_shape[1:]), tf.float32)
        self._graphs: dict[tuple[int, bool, bool], Any] = {}
        self._forward = tf.function(lambda x: model(x, training=False), input_signature=[self._rows], autograph=False)

    def train(
        self, weights: Arrays, x: NDArray[Any], y: NDArray[Any], descent: Descent, drawn: np.random.Generator
    ) -> tuple[dict[str, NDArray[np.float32]], float]:
        """Return the weights after local training, and the loss summed over the rows.

        x: array of shape (n, ...), as the network reads it.
        y: class index, or standardised number; array of shape (n,).

        The loss is what the steps of the first epoch saw before they moved, without the proximal term: no extra pass,
        and near to the loss of the weights that came in.
        """
        index, weight = batches(len(y), descent, drawn)
        how = alterations(index.shape, x.shape[1:], drawn) if descent.augment else np.zeros((0, 0, 6), np.float32)
        key = (descent.batch_size, descent.proximal_mu > 0, descent.augment)
        if key not in self._graphs:
            self._graphs[key] = self._compile(*key)
        network.set_weights(self.model, weights)
        rates = (descent.learning_rate, descent.momentum, descent.proximal_mu, descent.loss_bound)
        loss = self._graphs[key](
            np.asarray(x, np.float32),
            np.asarray(y, np.float32),
            index,
            weight,
            how,
            np.int32(len(index) // descent.epochs),
            np.array(rates, np.float32),
        )
        # Copies: the next call writes into the variables' memory.
        return {name: np.array(own.numpy()) for name, own in self._variables.items()}, float(loss)

    def outputs(self, weights: Arrays, x: NDArray[Any]) -> NDArray[np.float32]:
        """Return what the network says of each row, array of shape (n, outputs)."""
        network.set_weights(self.model, weights)
        starts = range(0, len(x), _SCORED_ROWS)
        parts = [self._forward(np.asarray(x[start : start + _SCORED_ROWS], np.float32)).numpy() for start in starts]
        return np.concatenate([np.zeros((0, self._outputs), np.float32), *parts])

    def _compile(self, batch_size: int, proximal: bool, augment: bool) -> Any:
        """Return the graph of a whole local training; it is traced once."""
        tf, own, velocities = self._tf, list(self._variables.values()), self._velocities

        def run(x: Any, y: Any, index: Any, weight: Any, how: Any, epoch_steps: Any, rates: Any) -> Any:
            rate, momentum, mu, bound = tf.unstack(rates)
            anchors = [tf.identity(variable) for variable in own] if proximal else []
            cleared = [velocity.assign(tf.zeros_like(velocity)) for velocity in velocities]

            def step(number: Any, total: Any) -> Any:
                rows, share = index[number], weight[number]
                inputs = augmented(tf.gather(x, rows), how[number]) if augment else tf.gather(x, rows)
                with tf.GradientTape(watch_accessed_variables=False) as tape:
                    tape.watch(own)
                    each = losses(self.model(inputs, training=True), tf.gather(y, rows))
                    mean = tf.reduce_sum(each * share) / tf.reduce_sum(share)
                gradients = tape.gradient(mean, own)
                if proximal:
                    gradients = [g + mu * (w - a) for g, w, a in zip(gradients, own, anchors, strict=True)]
                for variable, velocity, gradient in zip(own, velocities, gradients, strict=True):
                    # One pass over the memory for both updates.
                    tf.raw_ops.ResourceApplyMomentum(
                        var=variable.handle, accum=velocity.handle, lr=rate, grad=gradient, momentum=momentum
                    )
                seen = tf.reduce_sum(tf.cast(tf.minimum(each, bound) * share, tf.float64))
                return number + 1, total + tf.where(number < epoch_steps, seen, tf.zeros_like(seen))

            with tf.control_dependencies(cleared):
                first = (tf.constant(0), tf.constant(0.0, tf.float64))
            return tf.while_loop(lambda number, _: number < tf.shape(index)[0], step, first)[1]

        signature = [
            self._rows,
            tf.TensorSpec((None,), tf.float32),
            tf.TensorSpec((None, batch_size), tf.int32),
            tf.TensorSpec((None, batch_size), tf.float32),
            tf.TensorSpec((None, None, 6), tf.float32),
            tf.TensorSpec((), tf.int32),
            tf.TensorSpec((4,), tf.float32),
        ]
        return tf.function(run, input_signature=signature, autograph=False)


@lru_cache(maxsize=8)
def trainer(architecture: str, options: Any, input_shape: tuple[int, ...], outputs: int, threads: int) -> Trainer:
    """Return this process's one trainer of such a network; arguments as in ``network.build``."""
    runtime.start(threads)
    return Trainer(network.build(architecture, options, input_shape, outputs), threads)
