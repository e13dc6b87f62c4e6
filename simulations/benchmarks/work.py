"""The two pieces of work that both sides of a benchmark do, and what a side reports.

Logistic regression: scikit-learn's Wisconsin data, standardised, 455 training patients dealt to ten sites, 20 rounds of
one local iteration. CNN: 692,380 parameters, ten sites with 200 images each, 5 rounds of one epoch; an image shows
noise and a bright square, whose place is the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from shared.study import Study

SITES = 10
LOGISTIC_ROUNDS = 20
CNN_ROUNDS = 5
CNN_ROWS = 200
HELD_OUT = SITES


@dataclass(frozen=True)
class Timing:
    """What one side took, in seconds of the wall clock.

    imports: from the start of Python to the first line of work.
    start_up: from there until the first site begins.
    rounds: until the last round's weights are there.
    tear_down: until the side has cleaned up.
    quality: accuracy of the trained model on held-out rows, to show that both sides did the same work.
    """

    imports: float
    start_up: float
    rounds: float
    tear_down: float
    quality: float


@dataclass(frozen=True, eq=False)
class Table:
    """Rows dealt to sites, and held-out rows.

    sites: (x, y) of each site, shapes (n, 30) and (n,).
    held_out: (x, y) of the held-out rows.
    """

    sites: tuple[tuple[NDArray[np.float64], NDArray[np.int64]], ...]
    held_out: tuple[NDArray[np.float64], NDArray[np.int64]]


@cache
def breast_cancer() -> Table:
    """Return the logistic regression's rows, standardised by the training part's mean and deviation."""
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import train_test_split

    x, y = load_breast_cancer(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.2, stratify=y, random_state=42)
    mean, deviation = x_train.mean(axis=0), x_train.std(axis=0)
    x_train, x_test = (x_train - mean) / deviation, (x_test - mean) / deviation
    dealt = np.array_split(np.random.RandomState(0).permutation(len(x_train)), SITES)
    return Table(tuple((x_train[rows], y_train[rows]) for rows in dealt), (x_test, y_test))


@cache
def cnn_study() -> Study:
    """Return the study of the CNN: images of 28 x 28 pixels, ten classes."""
    from shared.study import parse_study

    return parse_study(
        {
            "study": {"name": "benchmark", "question": "How long does it take?"},
            "data": {
                "kind": "images",
                "label": "place",
                "max_rows_per_site": 1000,
                "images": {"height": 28, "width": 28, "channels": 1, "range": [0, 1]},
                "columns": {"place": {"type": "category", "levels": list(range(10))}},
            },
            # Flower's side masks nothing; what masking costs is measured in secagg.py.
            "aggregation": {"secure": False},
            "method": {
                "name": "neural",
                "rounds": CNN_ROUNDS,
                "options": {
                    "architecture": "image_cnn",
                    "local_epochs": 1,
                    "batch_size": 32,
                    "learning_rate": 0.05,
                    "momentum": 0.9,
                    "model": {"filters": [32, 64], "dense_units": 214},
                },
            },
        },
        "benchmark",
    )


@cache
def cnn_site(site: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return one site's images, shape (200, 28, 28, 1), and their classes. ``HELD_OUT`` counts as a site too."""
    rng = np.random.default_rng((7, site))
    y = rng.integers(10, size=CNN_ROWS)
    x = rng.uniform(0.0, 0.5, (CNN_ROWS, 28, 28, 1)).astype(np.float32)
    for image, place in zip(x, y, strict=True):
        top, left = 3 + 14 * (place // 5), 1 + 5 * (place % 5)
        image[top : top + 6, left : left + 5] += 0.5
    return x, y
