"""A few held-out images with what in them the model goes by: for the hospital's own report alone.

They are patients' images. They are computed when the report is written, and nothing that leaves is made of them. A
hospital leaves them out by ``[report] pictures`` in its ``site.toml``; with a study that it withdraws they go.
"""

from __future__ import annotations

import base64
import io
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data.split import SiteData
from shared import files, scores
from shared.examples import Arrays, Part
from shared.methods.combinators import InTurn
from shared.plan import PREPARE, TRAIN
from shared.study import Study

_OF_EACH = 2
"""Images called right, and images called wrong."""
_SIDE = 448
"""Pixels of the longer side that a picture has at most: enough for a screen, and the page stays small."""
_FOR, _AGAINST = np.array([255, 140, 26]), np.array([58, 160, 255])
"""Orange and light blue, which those who see no red and green tell apart, on grey that is dimmed."""
_DIMMED = 0.6
_IN_A_PAGE = re.compile(b"<!-- pictures -->.*?<!-- end of pictures -->", re.DOTALL)
"""What ``templates/report.html`` has of them; texts of a study are escaped, so none looks like it."""


@dataclass(frozen=True)
class Picture:
    """One held-out image.

    called, truth: names of classes.
    probability: that the model gives the called class.
    image, marked: the image, and the image with what speaks for the call and against it; PNG as data URIs.
    """

    called: str
    truth: str
    probability: float
    image: str = field(repr=False)
    marked: str = field(repr=False)


def own_pictures(study: Study, data: SiteData, plan: InTurn, judged: Arrays) -> tuple[Picture, ...]:
    """Return up to two images that the model calls right and two that it calls wrong: those of which it is surest.

    Of two classes, the right ones are of class 1. None where the study is not about classes of images, or the model
    does not predict them.

    plan: of the study; judged: the state from which the model was judged (``SiteState.judged``).
    """
    rows, classes = data.parts[Part.HELD_OUT], study.data.classes
    method: Any = plan.method(judged, TRAIN)
    if not (study.data.images and classes and rows and hasattr(method, "saliency")):
        return ()
    results = plan.result(judged)
    preparation, weights = results[PREPARE], results[TRAIN]
    odds = method.scores(weights, preparation.transform(rows))
    called = scores.calls(odds, study.evaluation.threshold)
    sure = odds[np.arange(len(rows)), called]
    chosen = choose(rows.labels, called, sure, len(classes))
    shown = rows.take(chosen)
    assert shown.images is not None
    marks = method.saliency(weights, preparation.transform(shown), called[chosen])
    low, high = study.data.images.range
    pixels = (shown.images.astype(np.float64) - low) / (high - low)
    return tuple(
        Picture(
            classes[called[row]],
            classes[int(rows.labels[row])],
            float(scores.probabilities(sure[row])),
            _png(image),
            _png(overlaid(image, mark)),
        )
        for row, image, mark in zip(chosen, pixels, marks, strict=True)
    )


def choose(
    labels: NDArray[np.float64], called: NDArray[np.int64], sure: NDArray[np.float64], classes: int
) -> NDArray[np.int64]:
    """Return the rows that are shown, called right first; of equally sure ones, the first.

    labels, called: class indices; sure: log-odds of the called class; arrays of shape (n,).
    """
    order = np.argsort(-sure, kind="stable")
    right = called[order] == labels[order]
    wanted = right & (called[order] == 1) if classes == 2 else right
    return np.concatenate([order[wanted][:_OF_EACH], order[~right][:_OF_EACH]])


def overlaid(image: NDArray[np.float64], marks: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a dimmed grey image with positive marks in orange and negative ones in blue, (height, width, 3).

    image: array of shape (height, width, channels), 0 black to 1.
    marks: array of shape (height, width). The hundredth part that is strongest has the full colour.
    """
    strength = np.abs(marks) / max(float(np.quantile(np.abs(marks), 0.99)), np.finfo(float).tiny)
    strength = np.minimum(strength, 1.0)[..., np.newaxis]
    colours = np.where(marks[..., np.newaxis] > 0, _FOR, _AGAINST) / 255.0
    grey = _DIMMED * image.mean(axis=-1, keepdims=True)
    return np.asarray((1.0 - strength) * grey + strength * colours)


def remove(page: Path) -> None:
    """Take the images out of a hospital's own report; what is no report, or has none, stays as it is.

    Raises: OSError if it cannot be written.
    """
    if not page.exists():
        return
    text = page.read_bytes()
    if _IN_A_PAGE.search(text):
        files.replace_bytes(page, _IN_A_PAGE.sub(b"", text), files.SECRET_MODE)


def _png(image: NDArray[np.float64]) -> str:
    """Return pixels of 0 to 1, (height, width, 1 or 3), as a PNG of a size to look at, in a data URI."""
    from PIL import Image

    times = max(1, _SIDE // max(image.shape[:2]))
    enlarged = np.rint(255.0 * image).astype(np.uint8).repeat(times, axis=0).repeat(times, axis=1)
    drawn = Image.fromarray(enlarged.squeeze(axis=-1) if enlarged.shape[-1] == 1 else enlarged)
    drawn.thumbnail((_SIDE, _SIDE))
    written = io.BytesIO()
    drawn.save(written, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}"
