"""Where the taps of a convolution's filter lie, in whole numbers: how ``shared/privacy/convolution.py`` cuts images.

A line is an image of height 1. Keras pads "same" with zeros so that every stride-th pixel has an output; of an odd
number of zeros, the larger half comes last (TensorFlow's "SAME").
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Taps:
    """A filter on an image of known height and width; all pairs are of rows and columns.

    offsets: of each tap from the first, in the kernel's order.
    strides: from one output to the next.
    before, after: zeros that the filter needs around the image.
    outputs: height and width of what comes out.
    """

    offsets: tuple[tuple[int, int], ...]
    strides: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]
    outputs: tuple[int, int]

    @classmethod
    def of(cls, layer: Any, lengths: Sequence[int]) -> Taps:
        """Return the taps of a Conv1D or Conv2D layer.

        lengths: of what goes in, without examples and channels; where padding is "causal", already padded.
        """
        same = layer.padding == "same"
        pairs = [
            (1, *each) if len(each) == 1 else tuple(each)
            for each in (layer.kernel_size, layer.strides, layer.dilation_rate, lengths)
        ]
        rows, columns = (_axis(*each, same=same) for each in zip(*pairs, strict=True))
        return cls(
            offsets=tuple((row, column) for row in rows.offsets for column in columns.offsets),
            strides=(rows.stride, columns.stride),
            before=(rows.before, columns.before),
            after=(rows.after, columns.after),
            outputs=(rows.outputs, columns.outputs),
        )


@dataclass(frozen=True)
class _Axis:
    offsets: range
    stride: int
    before: int
    after: int
    outputs: int


def _axis(size: int, stride: int, dilation: int, length: int, *, same: bool) -> _Axis:
    span = (size - 1) * dilation
    outputs = -(-(length if same else length - span) // stride)
    lack = max((outputs - 1) * stride + span + 1 - length, 0)
    return _Axis(range(0, span + 1, dilation), stride, lack // 2, lack - lack // 2, outputs)
