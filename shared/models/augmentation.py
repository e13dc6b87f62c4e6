"""Data augmentation of images: each is altered by chance whenever it is trained on.

It is shifted by up to a tenth of its sides, gets another contrast and brightness, and a rectangle of three tenths of
its sides is painted over by the mean (Cutout; DeVries and Taylor 2017, arXiv:1708.04552). It is not mirrored: a heart
is on the left. Assumed is that the label holds for the altered image, too.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_SHIFT = 0.1
_CUT = 0.3
_CONTRAST = (0.7, 1.3)
_BRIGHTNESS = (-0.4, 0.4)


def alterations(shape: tuple[int, ...], image: tuple[int, ...], drawn: np.random.Generator) -> NDArray[np.float32]:
    """Draw how images are altered, array of shape (*shape, 6).

    image: height, width and channels of one.

    The last axis is: pixels down, pixels right, contrast, brightness, and the upper left corner of the rectangle.
    """
    height, width, _ = image
    down, right = round(_SHIFT * height), round(_SHIFT * width)
    free = (height - round(_CUT * height) + 1, width - round(_CUT * width) + 1)
    parts = [
        drawn.integers((-down, -right), (down + 1, right + 1), (*shape, 2)),
        drawn.uniform(*_CONTRAST, (*shape, 1)),
        drawn.uniform(*_BRIGHTNESS, (*shape, 1)),
        drawn.integers(0, free, (*shape, 2)),
    ]
    return np.concatenate(parts, axis=-1).astype(np.float32)


def augmented(x: Any, how: Any) -> Any:
    """Return the altered images, tensor of shape (n, height, width, channels); a shift repeats the edge.

    x: prepared images, of mean 0 and deviation 1; tensor of that shape.
    how: tensor of shape (n, 6), as ``alterations`` draws it.
    """
    import tensorflow as tf

    down, right, contrast, brightness, top, left = tf.unstack(how[:, :, tf.newaxis], axis=1)
    height, width = x.shape[1:3]
    rows, columns = (tf.range(side, dtype=tf.float32)[tf.newaxis] for side in (height, width))
    x = tf.gather(x, tf.cast(tf.clip_by_value(rows - down, 0, height - 1), tf.int32), axis=1, batch_dims=1)
    x = tf.gather(x, tf.cast(tf.clip_by_value(columns - right, 0, width - 1), tf.int32), axis=2, batch_dims=1)
    cut_rows = (rows >= top) & (rows < top + round(_CUT * height))
    cut_columns = (columns >= left) & (columns < left + round(_CUT * width))
    kept = ~(cut_rows[:, :, tf.newaxis] & cut_columns[:, tf.newaxis])
    x = x * contrast[..., tf.newaxis, tf.newaxis] + brightness[..., tf.newaxis, tf.newaxis]
    return x * tf.cast(kept, x.dtype)[..., tf.newaxis]
