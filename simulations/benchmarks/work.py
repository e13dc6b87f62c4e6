"""The two pieces of work that both sides of a benchmark do, and what a side reports.

Logistic regression: scikit-learn's Wisconsin data, standardised, 455 training patients dealt to ten sites, 20 rounds of
one local iteration. CNN: 694,000 parameters, ten sites with 200 images each, 5 rounds of one epoch.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

SITES = 10
LOGISTIC_ROUNDS = 20
CNN_ROUNDS = 5


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
