"""A recurrent network for visits and sensors: GRU or LSTM layers, and a linear head on what stands at the last step.

GRU: Cho et al., "Learning Phrase Representations using RNN Encoder-Decoder for Statistical Machine Translation", EMNLP
2014, arXiv:1406.1078; LSTM: Hochreiter and Schmidhuber, "Long Short-Term Memory", Neural Computation 9:1735 (1997).

Sequences of unequal length are masked: steps run from the first row on, so what stands at a patient's last row depends
on nothing after it, and padding is never read.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.models.sequence_cnn import apart
from shared.schema import CLOSED

Units = Annotated[int, Field(ge=1, le=4096)]


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class SequenceRnn:
    """``[method.options.model]`` of ``architecture = "sequence_rnn"``.

    cell: ``gru`` or ``lstm``.
    units: width of each recurrent layer, from the input on.
    """

    reads: ClassVar[Literal["sequences"]] = "sequences"

    cell: Literal["gru", "lstm"] = "gru"
    units: Annotated[tuple[Units, ...], Field(min_length=1, max_length=8)] = (32,)

    def check(self, input_shape: tuple[int, ...]) -> None:
        """Every sequence will do."""

    def build(self, input_shape: tuple[int, ...], outputs: int) -> Any:
        """Return the ``keras.Model`` from (n, steps, channels) to (n, outputs), without softmax."""
        import keras

        layers = keras.layers
        inputs = keras.Input(input_shape, name="steps")
        x, last = apart(inputs)
        layer = layers.GRU if self.cell == "gru" else layers.LSTM
        for number, units in enumerate(self.units, start=1):
            # One way of computing on every machine: NVIDIA's own gives other bits.
            x = layer(units, return_sequences=True, use_cudnn=False, name=f"recurrent_{number}")(x)
        # The mark is the number of steps, so this mean is what stands at the last one.
        x = layers.GlobalAveragePooling1D(name="at_last")(layers.Multiply(name="marked")([x, last]))
        return keras.Model(inputs, layers.Dense(outputs, name="head")(x), name="sequence_rnn")

    def sentence(self) -> str:
        """Return what the network is, for the model card."""
        widths = ", ".join(str(units) for units in self.units)
        return f"Recurrent network of {self.cell.upper()} layers of {widths} units, read at each row's own last step"
