"""A small convolutional network for sequences, such as genes: Conv-GroupNorm-ReLU-MaxPool blocks along the steps.

Group normalisation (Wu and He 2018, arXiv:1803.08494) looks at one sequence at a time; see ``image_cnn.py``. All
sequences have one length: where a patient's rows are fewer, the convolution reads zeros.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.models.blocks import Blocks
from shared.schema import CLOSED


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class SequenceCnn(Blocks):
    """``[method.options.model]`` of ``architecture = "sequence_cnn"``.

    Every block halves the number of steps; ``kernel_size`` is how many a filter spans.
    """

    reads: ClassVar[Literal["sequences"]] = "sequences"

    kernel_size: Annotated[int, Field(ge=1, le=63)] = 7

    def check(self, input_shape: tuple[int, ...]) -> None:
        """Raise ValueError if the blocks halve the sequence away."""
        self.check_halving(input_shape[0], "sequence", "steps")

    def build(self, input_shape: tuple[int, ...], outputs: int) -> Any:
        """Return the ``keras.Model`` from (n, steps, channels) to (n, outputs), without softmax."""
        import keras

        layers = keras.layers
        inputs = keras.Input(input_shape, name="steps")
        x, _ = apart(inputs)
        for number, filters in enumerate(self.filters, start=1):
            block = f"block_{number}"
            # No bias: the normalisation that follows has its own.
            x = layers.Conv1D(filters, self.kernel_size, padding="same", use_bias=False, name=f"{block}.conv")(x)
            x = layers.GroupNormalization(self.groups, name=f"{block}.norm")(x)
            x = layers.ReLU(name=f"{block}.relu")(x)
            x = layers.MaxPooling1D(name=f"{block}.pool")(x)
        x = layers.Flatten(name="flatten")(x)
        x = layers.Dense(self.dense_units, activation="relu", name="dense")(x)
        return keras.Model(inputs, layers.Dense(outputs, name="head")(x), name="sequence_cnn")

    def sentence(self) -> str:
        """Return what the network is, for the model card."""
        return (
            f"Convolutional network along the sequence, of {len(self.filters)} Conv-GroupNorm-ReLU-MaxPool block(s)"
            f" ({self.channels} channels, filters of {self.kernel_size} steps) and a hidden layer of {self.dense_units}"
            " ReLU units"
        )


def apart(inputs: Any) -> tuple[Any, Any]:
    """Return what each step says, and the last channel, which marks the last step (``Preparation``).

    Made of layers that look at one patient at a time, which differential privacy asks for.
    """
    import keras

    layers = keras.layers
    channels = inputs.shape[-1]
    turned = layers.Permute((2, 1), name="turn")(inputs)
    said = layers.Permute((2, 1), name="said")(layers.Cropping1D((0, 1), name="said.crop")(turned))
    last = layers.Permute((2, 1), name="last")(layers.Cropping1D((channels - 1, 0), name="last.crop")(turned))
    return said, last
