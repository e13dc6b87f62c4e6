"""Clipping each example's gradient to an L2 norm, in one forward and one backward pass.

What DP-SGD adds noise to (Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv:1607.00133) is
sum_i min(1, C / |g_i|) g_i: one example changes it by C at most. Layers are tapped during the forward pass; one
backward pass gives the gradients at their outputs, from which come the norms and then, without another pass, the
weighted sum (book-keeping: Bu, Wang, Zha, Karypis, "Differentially Private Optimization on Large Model at Small Cost",
ICML 2023, arXiv:2210.00038). ``shared/privacy/ghost.py`` has the formulas.

This is right only where an example's loss depends on no other example of the batch. So a network is refused unless
every layer in it is known to look at one example at a time; unknown is refused, not guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from shared.errors import StudyError
from shared.models import image_cnn
from shared.privacy import ghost, group_norm, layers
from shared.privacy.convolution import convolution
from shared.privacy.ghost import PerExample, Tapped

_ROUNDING = 2.0**-12
"""Gradients are clipped this much shorter than C, so that rounding in float32 carries none beyond it."""

_PASSIVE = (
    *("InputLayer", "Identity", "Activation", "ReLU", "Flatten", "Reshape", "Permute", "Add", "Multiply"),
    *("MaxPooling1D", "MaxPooling2D", "AveragePooling1D", "AveragePooling2D"),
    *("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalAveragePooling1D", "GlobalAveragePooling2D"),
    *("ZeroPadding1D", "ZeroPadding2D", "Cropping1D", "Cropping2D", "UpSampling1D", "UpSampling2D"),
)
"""Keras layers without weights that look at one example at a time whatever their options."""

_ELEMENTWISE = (
    *("linear", "relu", "relu6", "leaky_relu", "elu", "selu", "gelu", "silu", "sigmoid", "hard_sigmoid", "tanh"),
    *("softplus", "softsign", "exponential"),
)
"""Keras activations that are computed number by number; a softmax over the wrong axis would mix examples."""

_RULES: dict[str, ghost.Rule] = {
    "Dense": layers.dense,
    "Conv1D": convolution,
    "Conv2D": convolution,
    "Embedding": layers.embedding,
    "LayerNormalization": layers.normalisation,
    "GroupNormalization": layers.normalisation,
    "DepthwiseConv2D": layers.any_layer,
    "Conv2DTranspose": layers.any_layer,
    "SimpleRNN": layers.any_layer,
    "GRU": layers.any_layer,
    "LSTM": layers.any_layer,
}
"""Keras layers with weights that look at one example at a time, and how they are tapped."""

_MIXES = ("BatchNormalization", "SpectralNormalization")
"""Keras layers of which it is known that examples of a batch influence one another."""


def check(model: Any) -> None:
    """Raise StudyError unless every example's loss is known to depend on that example alone, layer by layer."""
    for operation in getattr(model, "operations", [model]):
        why = _objection(operation)
        if why:
            raise StudyError(
                f"differential privacy clips each patient's gradient, which is impossible with layer"
                f" {operation.name!r} ({type(operation).__name__}): {why}"
            )


def gradients(model: Any, x: Any, losses: Callable[[Any], Any]) -> PerExample:
    """Return each example's gradient of its loss; the model must have passed ``check``.

    To be called inside a ``tf.function``, by one thread at a time.

    x: tensor of shape (n, ...), as the network reads it; n may be unknown.
    losses: from the outputs, shape (n, outputs), to the loss of each example, shape (n,).

    Returns: gradients in the order of ``model.trainable_variables``.
    """
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape, _tapped(model, tape) as taps:
        total = tf.reduce_sum(losses(model(x, training=True)))
    watched = [tap.watched for tap in taps.values()]
    found = tape.gradient(total, watched, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    parts = {
        id(variable): part
        for (layer, tap), each in zip(taps.items(), found, strict=True)
        for variable, part in zip(layer.trainable_variables, tap.finish(each), strict=True)
    }
    return ghost.joined([parts[id(variable)] for variable in model.trainable_variables])


def factors(squared: Any, clipping_norm: Any) -> Any:
    """Return what each gradient is multiplied by: min(1, C / norm), just below it, and 0 where the norm is not finite.

    squared: squared norms, tensor of shape (n,).
    clipping_norm: C, > 0.
    """
    import tensorflow as tf

    short = clipping_norm * (1.0 - _ROUNDING)
    return tf.where(tf.math.is_finite(squared), short / tf.maximum(tf.sqrt(squared), short), 0.0)


def _objection(operation: Any) -> str:
    """Return why the examples of a batch are not known to be apart in this layer, or nothing."""
    import keras

    kind = type(operation).__name__
    known = kind in (*_PASSIVE, *_RULES) and type(operation) is getattr(keras.layers, kind)
    if kind in _MIXES:
        return "it mixes the examples of a batch"
    if not (known or type(operation) is image_cnn.group_norm()):
        return "it is not known to look at one example at a time"
    activation = getattr(operation, "activation", None)
    name = "linear" if activation is None else activation.__name__
    if name not in _ELEMENTWISE or activation not in (None, getattr(keras.activations, name)):
        return f"its activation is not one of {', '.join(_ELEMENTWISE)}"
    return _wrong_option(operation)


def _wrong_option(layer: Any) -> str:
    """Return why a layer of a known kind is not known with these options, or nothing."""
    kind = type(layer).__name__
    reasons = {
        "it computes in another type than float32": layer.compute_dtype not in ("float32", "int32"),
        "its channels must come last": getattr(layer, "data_format", "") == "channels_first",
        "its filters are in groups": kind in ("Conv1D", "Conv2D") and layer.groups != 1,
        "its kernel is quantised or adapted": bool(
            getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False)
        ),
        "it carries a state from batch to batch": getattr(layer, "stateful", False),
        "it drops values at random": bool(getattr(layer, "dropout", 0) or getattr(layer, "recurrent_dropout", 0)),
        "it masks positions": getattr(layer, "mask_zero", False),
        "it does not normalise over the last axis": kind in _RULES
        and "Normalization" in kind
        and layer.axis not in (-1, [-1], (-1,)),
    }
    return next((reason for reason, wrong in reasons.items() if wrong), "")


def _rule(layer: Any, before: Tapped | None) -> ghost.Rule:
    """Return how a layer is tapped.

    before: the layer whose output it reads, if that is tapped too.
    """
    if type(layer) is not image_cnn.group_norm():
        return _RULES[type(layer).__name__]
    if before is not None and before.patches is not None:
        return partial(group_norm.of_patches, patches=before.patches)
    return group_norm.of_pixels


@contextmanager
def _tapped(model: Any, tape: Any) -> Iterator[dict[Any, Tapped]]:
    """Have the layers that have weights note what goes in and comes out while the model is called."""
    taps: dict[Any, Tapped] = {}

    def watch(tensor: Any) -> Any:
        tape.watch(tensor)
        return tensor

    def tap(layer: Any) -> Callable[..., Any]:
        def call(x: Any, **_: Any) -> Any:
            if layer in taps:
                raise StudyError(f"differential privacy needs layer {layer.name!r} to be used once, not shared")
            before = next((each for each in taps.values() if each.output is x), None)
            taps[layer] = _rule(layer, before)(layer, x, watch)
            return taps[layer].output

        return call

    trained = [layer for layer in model.layers if layer.trainable_variables]
    try:
        for layer in trained:
            layer.call = tap(layer)
        yield taps
    finally:
        for layer in trained:
            del layer.call
