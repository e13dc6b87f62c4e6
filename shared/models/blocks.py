"""The options that convolutional networks share: blocks that halve what they read, and a hidden layer after them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.schema import CLOSED

Filters = Annotated[int, Field(ge=1, le=4096)]


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Blocks:
    """Part of ``[method.options.model]``.

    filters: channels of each block.
    kernel_size: places that a filter spans, odd; a network says how many there may be.
    groups: channel groups that are normalised together; divides every entry of ``filters``.
    dense_units: width of the hidden layer after Flatten.
    """

    filters: Annotated[tuple[Filters, ...], Field(min_length=1, max_length=10)] = (16, 32)
    kernel_size: int = 3
    groups: Annotated[int, Field(ge=1)] = 8
    dense_units: Annotated[int, Field(ge=1, le=65536)] = 64

    def __post_init__(self) -> None:
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd. Received: {self.kernel_size}")
        if any(filters % self.groups for filters in self.filters):
            received = f"groups = {self.groups}, filters = {list(self.filters)}"
            raise ValueError(f"groups must divide every entry of filters. Received: {received}")

    def check_halving(self, size: int, what: str, places: str) -> None:
        """Raise ValueError if the blocks halve away what they read.

        size: of it, in ``places``, such as the pixels of an image's shorter side.
        """
        if size >> len(self.filters) < 1:
            raise ValueError(
                f"options.model: expected at most {size.bit_length() - 1} entries of filters, because every block"
                f" halves the {what}, which has {size} {places}. Received: {len(self.filters)}"
            )

    @property
    def channels(self) -> str:
        """The blocks' channels in words."""
        return ", ".join(str(filters) for filters in self.filters)
