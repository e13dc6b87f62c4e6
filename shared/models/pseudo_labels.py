"""Learning from images that nobody has labelled: the broadcast model's own classes where it is sure of them.

A row that the broadcast model gives a class with at least ``confidence`` is taught that class (Lee, "Pseudo-Label",
ICML 2013 workshop on challenges in representation learning); the others take no part in the round. What is taught is
not the image that was asked about but an altered one (Sohn et al., "FixMatch", NeurIPS 2020, arXiv:2001.07685):
without that a model only learns its own errors. Rows with a label are repeated, each time altered otherwise, so that
they weigh as much together as those without.
Nothing of this leaves a site but the change of the weights; of whom the model is sure the state decides, so a sum is
over a subset that the data choose, and with too few patients in it a site trains on its labelled rows alone.
"""

from __future__ import annotations

from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.preparation import Prepared
from shared.schema import CLOSED

_SHIFT = 3
_CUT = 8


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class PseudoLabels:
    """``[method.options.pseudo_labels]`` of ``neural``.

    confidence: a class counts as an image's label from this probability on.
    after: training rounds on labelled rows alone, before.
    min_subset_patients: fewest patients of a site of whom the model is sure; with fewer, labelled rows alone are used.
    """

    confidence: Annotated[float, Field(ge=0.5, le=1)] = 0.95
    after: Annotated[int, Field(ge=0)] = 0
    min_subset_patients: Annotated[int, Field(ge=1)] = 5


def sure(outputs: NDArray[Any], confidence: float) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Return which rows get a label, and the likeliest class of each row; both of shape (n,).

    outputs: logits, array of shape (n, classes).
    """
    shifted = np.exp(outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True, initial=-np.inf))
    likeliest = (shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1, initial=0.0)
    return likeliest >= confidence, shifted.argmax(axis=1).astype(np.float64)


def altered(x: NDArray[np.float32], drawn: np.random.Generator) -> NDArray[np.float32]:
    """Return the images shifted, with another contrast and brightness, and with a square painted over by the mean.

    x: prepared images, array of shape (n, height, width, channels).
    """
    n, height, width, _ = x.shape
    padded = np.pad(x, ((0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT), (0, 0)), mode="edge")
    places = drawn.integers(0, 2 * _SHIFT + 1, (n, 2))
    made = np.stack([row[i : i + height, j : j + width] for row, (i, j) in zip(padded, places, strict=True)])
    made = made * drawn.uniform(0.7, 1.3, (n, 1, 1, 1)) + drawn.uniform(-0.4, 0.4, (n, 1, 1, 1))
    corners = drawn.integers(0, (max(height - _CUT, 1), max(width - _CUT, 1)), (n, 2))
    for row, (i, j) in zip(made, corners, strict=True):
        row[i : i + _CUT, j : j + _CUT] = 0
    return made.astype(np.float32)


def joined(labelled: Prepared, others: Prepared) -> Prepared:
    """Return rows with a label, each as often as makes them at most as many as the others, and those others."""
    times = max(1, len(others) // len(labelled))
    x, y = ([*[getattr(labelled, name)] * times, getattr(others, name)] for name in "xy")
    return Prepared(np.concatenate(x), np.concatenate(y))
