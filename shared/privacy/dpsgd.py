"""DP-SGD at one site: noised steps on Poisson-sampled patients, each patient's gradient clipped.

Abadi, Chu, Goodfellow, McMahan, Mironov, Talwar, Zhang, "Deep Learning with Differential Privacy", CCS 2016,
arXiv:1607.00133, Algorithm 1. Each step is one ``SampledGaussian`` event of the accountant: every patient is drawn by
itself with probability q; S = sum over drawn patients of min(1, C / |g|) g + N(0, (z C)**2 I); v = momentum v + S / L;
w = w - learning_rate v. Neighbours differ by one patient, added or removed, with all of that patient's rows: a drawn
patient gives one row, at random. Batches and noise come from the site's secret stream, never from the study's seed.

L is a public constant, q times the nominal number of patients that the study states. The site's true number of patients
is a number about patients, and would show in the scale of the noise. With a wrong L the learning rate is
off by a constant factor, and privacy is untouched; a site with more patients moves further, as its sum is longer.

Only the weights after the last step leave: momentum, averaging and rounding are post-processing. There is no loss, and
no size of a batch. What is not a finite gradient counts as zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays
from shared.models import network, runtime, training
from shared.privacy import clipping
from shared.privacy.noise import Stream

PAD = 32
"""Rows that go through the network at once. Larger batches take as many parts as they need: none is cut."""
_NOISE_AT_ONCE = 2**22
"""Numbers of noise that are drawn before the graph is called, where one step has not more: bounds memory."""


@dataclass(frozen=True, kw_only=True)
class PrivatePlan:
    """One call of ``PrivateTrainer.train``; everything in it is public.

    steps: noised steps, >= 1.
    sampling_rate: q, each patient's chance to be in a step, 0 < q <= 1.
    nominal_patients: of a site, as the study states it; sums are divided by q times this.
    noise_multiplier: z, the noise's standard deviation on the sum divided by C, > 0.
    clipping_norm: C, largest L2 norm of one patient's gradient, > 0.
    learning_rate, momentum: of the descent.
    """

    steps: int
    sampling_rate: float
    nominal_patients: int
    noise_multiplier: float
    clipping_norm: float
    learning_rate: float
    momentum: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.sampling_rate <= 1:
            raise ValueError(f"sampling_rate must be above 0 and at most 1. Received: {self.sampling_rate}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be 0 or more, and below 1. Received: {self.momentum}")
        for name in ("steps", "nominal_patients", "noise_multiplier", "clipping_norm", "learning_rate"):
            if not 0 < getattr(self, name) < np.inf:
                raise ValueError(f"{name} must be positive and finite. Received: {getattr(self, name)}")

    @property
    def expected_batch(self) -> float:
        """L, what sums are divided by."""
        return self.sampling_rate * self.nominal_patients


@dataclass(frozen=True, eq=False)
class Patients:
    """Which rows belong to which patient.

    rows: row numbers, patient after patient, shape (rows,).
    starts, counts: where each patient's rows begin in it, and how many they are, shape (patients,).
    """

    rows: NDArray[np.int64]
    starts: NDArray[np.int64]
    counts: NDArray[np.int64]

    @classmethod
    def of(cls, patients: NDArray[Any]) -> Patients:
        """Group rows by ``patients``, the patient of each row, shape (rows,)."""
        _, patient, counts = np.unique(patients, return_inverse=True, return_counts=True)
        return cls(np.argsort(patient, kind="stable"), np.cumsum(counts) - counts, counts.astype(np.int64))

    def draw(self, sampling_rate: float, stream: Stream) -> NDArray[np.int64]:
        """Return one row of each patient that is drawn, shape (drawn patients,); it may be empty."""
        drawn = stream.sample(len(self.counts), sampling_rate)
        rows: NDArray[np.int64] = self.rows[self.starts[drawn] + stream.below(self.counts[drawn])]
        return rows


class PrivateTrainer:
    """One network with its compiled private step.

    Weights are swapped in and read out, so no call depends on an earlier one. Not for several threads at once.

    pad: rows that go through the network at once.

    Raises: StudyError if the network has a layer in which examples are not known to be apart.
    """

    def __init__(self, model: Any, threads: int, pad: int = PAD) -> None:
        self._tf = runtime.start(threads)
        clipping.check(model)
        self.model = model
        self.size = sum(math.prod(variable.shape) for variable in model.trainable_variables)
        self._pad = pad
        self._variables = network.variables(model)
        self._velocities = [self._tf.Variable(self._tf.zeros_like(own)) for own in self._variables.values()]
        self._forget = self._tf.function(self._stop, autograph=False)
        self._graph = self._compile()

    def train(
        self,
        weights: Arrays,
        x: NDArray[Any],
        y: NDArray[Any],
        patients: NDArray[Any],
        plan: PrivatePlan,
        stream: Stream,
    ) -> dict[str, NDArray[np.float32]]:
        """Return the weights after ``plan.steps`` private steps.

        x: array of shape (rows, ...), as the network reads it.
        y: class index, or standardised number; array of shape (rows,).
        patients: whose row it is; array of shape (rows,).
        stream: the site's secret randomness.
        """
        if not len(x) == len(y) == len(patients):
            raise ValueError(f"x, y and patients must be of one length. Received: {len(x)}, {len(y)}, {len(patients)}")
        units, at_once = Patients.of(patients), max(1, _NOISE_AT_ONCE // self.size)

        def drawn() -> Iterator[tuple[list[NDArray[np.int64]], NDArray[np.float32]]]:
            for start in range(0, plan.steps, at_once):
                steps = min(at_once, plan.steps - start)
                batches = [units.draw(plan.sampling_rate, stream) for _ in range(steps)]
                yield batches, stream.gaussian(steps * self.size).reshape(steps, self.size)

        return self.descend(weights, x, y, drawn(), plan)

    def descend(
        self,
        weights: Arrays,
        x: NDArray[Any],
        y: NDArray[Any],
        drawn: Iterable[tuple[Sequence[NDArray[np.int64]], NDArray[np.float32]]],
        plan: PrivatePlan,
    ) -> dict[str, NDArray[np.float32]]:
        """Return the weights after the steps that were drawn; they are private only if drawn as in ``train``.

        drawn: rows of some steps, and their standard Gaussian noise, shape (steps, size), time after time.
        """
        tf = self._tf
        network.set_weights(self.model, weights)
        self._forget()
        # The last row is nobody's: it fills up parts, and its gradient counts nothing.
        rows_x = tf.constant(np.concatenate([np.asarray(x, np.float32), np.zeros((1, *np.shape(x)[1:]), np.float32)]))
        rows_y = tf.constant(np.append(np.asarray(y, np.float32), np.float32(0)))
        rates = (plan.clipping_norm, plan.noise_multiplier, plan.expected_batch, plan.learning_rate, plan.momentum)
        for batches, noise in drawn:
            index, ends = self._dealt(batches, len(y))
            self._graph(rows_x, rows_y, index, ends, noise, np.array(rates, np.float32))
        # Copies: the next call writes into the variables' memory.
        return {name: np.array(own.numpy()) for name, own in self._variables.items()}

    def _dealt(self, batches: Sequence[NDArray[np.int64]], nobody: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Deal batches to parts: row numbers, shape (parts, pad), and which parts end a step; no batch is without."""
        parts = [max(1, -(-len(batch) // self._pad)) for batch in batches]
        index = np.full((sum(parts), self._pad), nobody, np.int32)
        ends = np.cumsum(parts) - 1
        for batch, end, count in zip(batches, ends, parts, strict=True):
            index[end - count + 1 : end + 1].reshape(-1)[: len(batch)] = batch
        return index, np.isin(np.arange(len(index)), ends)

    def _compile(self) -> Any:
        """Return the graph of some steps, traced."""
        tf, pad = self._tf, self._pad

        def run(x: Any, y: Any, index: Any, ends: Any, noise: Any, rates: Any) -> Any:
            norm, nobody = rates[0], tf.shape(y)[0] - 1

            def part(number: Any, step: Any, index: Any, total: Any) -> Any:
                rows = index[number]
                targets = tf.gather(y, rows)
                each = clipping.gradients(
                    self.model, tf.gather(x, rows), lambda outputs: training.losses(outputs, targets)
                )
                counts = rows < nobody
                wrong = counts & ~tf.math.is_finite(each.squared)
                good = ~tf.reduce_any(wrong)
                ended = good & ends[number]
                factors = clipping.factors(each.squared, norm) * tf.cast(counts, tf.float32)
                added = total + tf.concat([tf.reshape(own, (-1,)) for own in each.weighted(factors)], axis=0)

                def anew() -> tuple[Any, Any]:
                    return tf.tensor_scatter_nd_update(index, [[number]], [tf.where(wrong, nobody, rows)]), total

                # Zero times infinity is no number: the part is done anew without rows whose gradient is not finite.
                index, total = tf.cond(good, lambda: (index, added), anew)
                total = tf.cond(ended, lambda: self._move(total, tf.gather(noise, step), rates), lambda: total)
                return number + tf.cast(good, tf.int32), step + tf.cast(ended, tf.int32), index, total

            first = (tf.constant(0), tf.constant(0), index, tf.zeros(self.size))
            tf.while_loop(lambda number, *_: number < tf.shape(ends)[0], part, first)

        signature = [
            tf.TensorSpec((None, *self.model.input_shape[1:]), tf.float32),
            tf.TensorSpec((None,), tf.float32),
            tf.TensorSpec((None, pad), tf.int32),
            tf.TensorSpec((None,), tf.bool),
            tf.TensorSpec((None, self.size), tf.float32),
            tf.TensorSpec((5,), tf.float32),
        ]
        graph = tf.function(run, input_signature=signature, autograph=False)
        graph.get_concrete_function()  # what cannot be clipped is refused now, not after the first round began
        return graph

    def _stop(self) -> None:
        for velocity in self._velocities:
            velocity.assign(self._tf.zeros_like(velocity))

    def _move(self, total: Any, noise: Any, rates: Any) -> Any:
        """Add the noise to the sum of clipped gradients and descend; return the next step's sum."""
        tf = self._tf
        norm, multiplier, expected, rate, momentum = tf.unstack(rates)
        noised = (total + multiplier * norm * noise) / expected
        shapes = [tuple(variable.shape) for variable in self._variables.values()]
        gradients = tf.split(noised, [math.prod(shape) for shape in shapes])
        for variable, velocity, gradient in zip(self._variables.values(), self._velocities, gradients, strict=True):
            tf.raw_ops.ResourceApplyMomentum(
                var=variable.handle,
                accum=velocity.handle,
                lr=rate,
                grad=tf.reshape(gradient, variable.shape),
                momentum=momentum,
            )
        return tf.zeros_like(total)
