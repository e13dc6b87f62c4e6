"""A Keras network and its weights as named arrays.

A weight is named by its layer and its own name, ``block_1/conv/kernel``; names are unique and do not depend on what was
built before. The network ends in logits (or in one standardised number).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import ProtocolError
from shared.examples import Arrays
from shared.models import MODELS
from shared.randomness import generator


def build(architecture: str, options: Any, input_shape: tuple[int, ...], outputs: int) -> Any:
    """Return an untrained ``keras.Model``; TensorFlow must have been started (``shared.models.runtime``).

    architecture: a key of ``MODELS``.
    options: its options, an instance of ``MODELS[architecture]``.
    input_shape: of one prepared row.
    outputs: number of classes, or 1 for a number.
    """
    if not isinstance(options, MODELS[architecture]):
        raise TypeError(f"expected options of type {MODELS[architecture].__name__}. Received: {type(options).__name__}")
    return options.build(input_shape, outputs)


def variables(model: Any) -> dict[str, Any]:
    """Return the trained variables by name, in the order of the layers."""
    return {variable.path.replace(".", "/"): variable.value for variable in model.trainable_variables}


def set_weights(model: Any, arrays: Arrays) -> None:
    """Swap weights in.

    Raises: ProtocolError if names or shapes are not the model's.
    """
    own = variables(model)
    if own.keys() != arrays.keys():
        raise ProtocolError("wrong-entries", f"expected weights {sorted(own)}. Received: {sorted(arrays)}")
    for name, variable in own.items():
        if tuple(variable.shape) != arrays[name].shape:
            raise ProtocolError(
                "wrong-shape", f"{name}: expected {tuple(variable.shape)}. Received: {arrays[name].shape}"
            )
        variable.assign(arrays[name])


def initial_weights(model: Any, seed: int) -> dict[str, NDArray[np.float32]]:
    """Return the weights of round 1, the same bits for the same seed in every process.

    Kernels are uniform in +-sqrt(6 / (inputs + outputs)) (Glorot and Bengio 2010, AISTATS), gains one, the rest zero.
    """
    weights: dict[str, NDArray[np.float32]] = {}
    for name, variable in variables(model).items():
        shape = tuple(variable.shape)
        if name.endswith(("/kernel", "/recurrent_kernel")):
            field = math.prod(shape[:-2])
            limit = math.sqrt(6 / (field * (shape[-2] + shape[-1])))
            drawn = generator(seed, "initial weights", name).uniform(-limit, limit, shape)
            weights[name] = drawn.astype(np.float32)
        else:
            weights[name] = np.full(shape, name.endswith("/gamma"), np.float32)
    return weights
