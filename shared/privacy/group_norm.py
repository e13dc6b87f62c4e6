"""How our group normalisation is tapped: with a gain and a shift for each example.

A group's statistics are sums over an example's own pixels, so nothing is shared between examples. Derivatives are
written out, because automatic ones take twice as many passes over the images.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from shared.models import image_cnn
from shared.privacy import ghost
from shared.privacy.ghost import Patches, Tapped, Watch


def of_pixels(layer: Any, x: Any, watch: Watch) -> Tapped:
    """Tap our GroupNorm on (n, height, width, channels)."""
    import tensorflow as tf

    channels, pixels = x.shape[-1], math.prod(x.shape[1:-1])

    def spread(values: Any) -> Any:
        return tf.reshape(values, (-1, 1, 1, channels))

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def normalised(x: Any, gains: Any, shifts: Any) -> Any:
        mean, length = tf.reduce_mean(x, axis=(1, 2)), tf.math.reduce_euclidean_norm(x, axis=(1, 2))
        scale, shift, back = _scale(layer.groups, mean, tf.square(length) / pixels, gains, shifts)

        def gradient(g: Any) -> tuple[Any, Any, Any]:
            of_shift = tf.reduce_sum(g, axis=(1, 2))
            by_one, by_x, of_gains = back(tf.reduce_sum(g * x, axis=(1, 2)), of_shift, pixels)
            return g * spread(scale) + (x * spread(by_x) + spread(by_one)), of_gains, of_shift

        return x * spread(scale) + spread(shift), gradient

    watched = [watch(ghost.copies(variable, x)) for variable in (layer.gamma, layer.beta)]
    return Tapped(normalised(x, *watched), watched, ghost.owned)


def of_patches(layer: Any, x: Any, watch: Watch, patches: Patches) -> Tapped:
    """Tap our GroupNorm on what a linear convolution returns, from what that saw: a few numbers for each pixel.

    Scale and shift go into each example's kernel, and the kernel's gradient needs no more than sums over the patches:
    what would be passes over images with all channels, of which a first layer has the largest, is left out.
    """
    import tensorflow as tf

    taps, channels, pixels = patches.kernels.shape[1], x.shape[-1], patches.laid.shape[2]

    @tf.custom_gradient  # type: ignore[untyped-decorator]
    def normalised(x: Any, laid: Any, kernels: Any, gains: Any, shifts: Any) -> Any:
        by_x = tf.matmul(laid, x)
        length = tf.math.reduce_euclidean_norm(x, axis=1)
        scale, shift, back = _scale(layer.groups, by_x[:, taps] / pixels, tf.square(length) / pixels, gains, shifts)

        def gradient(g: Any) -> tuple[None, Any, Any, Any, Any]:
            by_g = tf.matmul(laid, g)
            of_shift = by_g[:, taps]
            one, of_x, of_gains = back(tf.reduce_sum(by_g[:, :taps] * kernels, axis=1), of_shift, pixels)
            one, of_x, of_g = one[:, None], of_x[:, None], scale[:, None]
            sums = tf.reduce_sum(laid, axis=2)[:, :taps, None]
            of_kernels = by_g[:, :taps] * of_g + by_x[:, :taps] * of_x + sums * one
            # Left out of the graph where the convolution reads the data itself.
            of_laid = tf.matmul(tf.pad(kernels, [[0, 0], [0, 1], [0, 0]]), g * of_g + x * of_x + one, transpose_b=True)
            return None, of_laid, of_kernels, of_gains, of_shift

        weights = tf.concat([kernels * scale[:, None], shift[:, None]], axis=1)
        return tf.matmul(laid, weights, transpose_a=True), gradient

    watched = [watch(ghost.copies(variable, x)) for variable in (layer.gamma, layer.beta)]
    flat = tf.reshape(x, (-1, pixels, channels))
    output = normalised(flat, patches.laid, patches.kernels, *watched)
    return Tapped(tf.reshape(output, (-1, *x.shape[1:])), watched, ghost.owned)


def _scale(
    groups: int, mean: Any, mean_square: Any, gains: Any, shifts: Any
) -> tuple[Any, Any, Callable[[Any, Any, int], tuple[Any, Any, Any]]]:
    """Return what pixels are multiplied by, what is added to them, and the way back; all of shape (n, channels).

    mean, mean_square: over the pixels.

    The way back takes the gradients of scale and shift and the number of pixels, and returns what the gradient of a
    pixel x has beside its own: a constant, and a multiple of x; and the gradient of the gains.
    """
    import tensorflow as tf

    channels = mean.shape[-1]
    inside = (-1, groups, channels // groups)

    def of(means: Any) -> Any:
        """Return the mean over each group, shape (n, groups, 1)."""
        return tf.reduce_mean(tf.reshape(means, inside), axis=-1, keepdims=True)

    gains, mean = tf.reshape(gains, inside), of(mean)
    variance = of(mean_square) - tf.square(mean)
    inverse = tf.math.rsqrt(tf.maximum(variance, 0.0) + image_cnn.EPSILON)
    scale = gains * inverse

    def flat(values: Any) -> Any:
        return tf.reshape(tf.broadcast_to(values, tf.shape(scale)), (-1, channels))

    def back(of_scale: Any, of_shift: Any, pixels: int) -> tuple[Any, Any, Any]:
        count = pixels * channels // groups
        of_shift = tf.reshape(of_shift, inside)
        of_scale = tf.reshape(of_scale, inside) - mean * of_shift
        total = tf.reduce_sum(of_scale * gains, axis=-1, keepdims=True)
        of_variance = tf.where(variance > 0.0, -0.5 * total * inverse**3, 0.0)
        of_mean = -tf.reduce_sum(of_shift * scale, axis=-1, keepdims=True) - 2.0 * mean * of_variance
        return flat(of_mean / count), flat(of_variance * (2.0 / count)), flat(of_scale * inverse)

    return flat(scale), flat(tf.reshape(shifts, inside) - mean * scale), back
