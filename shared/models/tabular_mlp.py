"""A multilayer perceptron for tables: Dense-ReLU layers and a linear head."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.schema import CLOSED

Units = Annotated[int, Field(ge=1, le=65536)]


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class TabularMlp:
    """``[method.options.model]`` of ``architecture = "tabular_mlp"``.

    units: width of each hidden layer, from the input on; without any the model is linear.
    """

    reads: ClassVar[Literal["table", "images"]] = "table"

    units: Annotated[tuple[Units, ...], Field(max_length=32)] = (32, 16)

    def check(self, input_shape: tuple[int, ...]) -> None:
        """Every table will do."""

    def build(self, input_shape: tuple[int, ...], outputs: int) -> Any:
        """Return the ``keras.Model`` from (n, features) to (n, outputs), without softmax."""
        import keras

        inputs = keras.Input(input_shape, name="features")
        x = inputs
        for number, units in enumerate(self.units, start=1):
            x = keras.layers.Dense(units, activation="relu", name=f"dense_{number}")(x)
        return keras.Model(inputs, keras.layers.Dense(outputs, name="head")(x), name="tabular_mlp")

    def sentence(self) -> str:
        """Return what the network is, for the model card."""
        widths = ", ".join(str(units) for units in self.units)
        return f"Multilayer perceptron with hidden layers of {widths} ReLU units" if self.units else "Linear model"
