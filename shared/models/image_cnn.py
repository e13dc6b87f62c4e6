"""A small convolutional network for images: Conv-GroupNorm-ReLU-MaxPool blocks, Flatten, Dense, and a linear head.

Group normalisation (Wu and He 2018, arXiv:1803.08494) looks at one image at a time. Batch normalisation would mix the
patients of a batch and average statistics that differ between hospitals, which costs accuracy (Hsieh et al. 2020,
arXiv:1910.00189).
"""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.models.blocks import Blocks
from shared.schema import CLOSED

EPSILON = 1e-3
"""Added to a variance, as Keras does."""


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class ImageCnn(Blocks):
    """``[method.options.model]`` of ``architecture = "image_cnn"``.

    Every block halves height and width; ``kernel_size`` is height and width of a filter.
    """

    reads: ClassVar[Literal["table", "images"]] = "images"

    kernel_size: Annotated[int, Field(ge=1, le=15)] = 3

    def check(self, input_shape: tuple[int, ...]) -> None:
        """Raise ValueError if the blocks halve the image away."""
        self.check_halving(min(input_shape[:2]), "image", "pixels")

    def build(self, input_shape: tuple[int, ...], outputs: int) -> Any:
        """Return the ``keras.Model`` from (n, height, width, channels) to (n, outputs), without softmax."""
        import keras

        layers = keras.layers
        inputs = keras.Input(input_shape, name="pixels")
        x = inputs
        for number, filters in enumerate(self.filters, start=1):
            block = f"block_{number}"
            # No bias: the normalisation that follows has its own.
            x = layers.Conv2D(filters, self.kernel_size, padding="same", use_bias=False, name=f"{block}.conv")(x)
            x = group_norm()(self.groups, name=f"{block}.norm")(x)
            x = layers.ReLU(name=f"{block}.relu")(x)
            x = layers.MaxPooling2D(name=f"{block}.pool")(x)
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(self.dense_units, activation="relu", name="dense")(x)
        return keras.Model(inputs, layers.Dense(outputs, name="head")(x), name="image_cnn")

    def sentence(self) -> str:
        """Return what the network is, for the model card."""
        return (
            f"Convolutional network of {len(self.filters)} Conv-GroupNorm-ReLU-MaxPool block(s) ({self.channels}"
            f" channels, {self.kernel_size} x {self.kernel_size} filters) and a hidden layer of {self.dense_units} ReLU"
            " units"
        )


@cache
def group_norm() -> Any:
    """Return the layer class; made on first use, because Keras is imported on use.

    The same function as ``keras.layers.GroupNormalization``, computed from sums over the pixels of each channel: a
    training step of a network of 694,000 weights on one thread takes 7.1 ms with it, 10.2 ms with Keras' layer, and 5.2
    ms without normalisation (measured).
    """
    import keras

    ops = keras.ops

    class GroupNorm(keras.layers.Layer):  # type: ignore[misc]  # keras has no types
        def __init__(self, groups: int, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.groups = groups

        def build(self, input_shape: tuple[int | None, ...]) -> None:
            self.gamma = self.add_weight(name="gamma", shape=input_shape[-1:], initializer="ones")
            self.beta = self.add_weight(name="beta", shape=input_shape[-1:], initializer="zeros")

        def call(self, x: Any) -> Any:
            channels = x.shape[-1]

            def by_group(values: Any) -> Any:
                """Average (n, channels) over each group's channels."""
                means = ops.mean(ops.reshape(values, (-1, self.groups, channels // self.groups)), axis=-1)
                return ops.repeat(means, channels // self.groups, axis=1)

            mean = by_group(ops.mean(x, axis=(1, 2)))
            # Rounding may leave a constant image a variance just below zero.
            variance = ops.maximum(by_group(ops.mean(ops.square(x), axis=(1, 2))) - ops.square(mean), 0.0)
            scale = self.gamma * ops.rsqrt(variance + EPSILON)
            shift = self.beta - mean * scale
            return x * scale[:, None, None, :] + shift[:, None, None, :]

    return GroupNorm
