"""Small hospitals to audit, and entropy that repeats itself: insecure, so that no test depends on chance."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from client.data.split import SiteData
from shared.privacy.noise import Stream
from shared.study import Study
from tests.builders import examples_of, site_of, table_study

FEATURES = 8


def private_study(**changes: Any) -> Study:
    """Epsilon 1 at delta 1e-5; every site's noise counts, so that sums hold no more than the accountant wants.

    Gradients are clipped to a norm far below theirs, and words have room for sums that are not.
    """
    return table_study(
        FEATURES,
        **{
            "data__max_rows_per_site": 100_000,
            "method__name": "private-logistic-regression",
            "method__rounds": 4,
            "aggregation__secure": True,
            "aggregation__min_sites": 3,
            "privacy__epsilon": 1.0,
            "privacy__delta": 1e-5,
            "privacy__clipping_norm": 0.1,
            "privacy__colluding_sites": 0,
            **changes,
        },
    )


def three_hospitals(training: int = 60, held_out: int = 20) -> dict[str, SiteData]:
    """Hospitals a, b and c, whose patients' label leans on the first feature."""
    data = {}
    for number, name in enumerate("abc"):
        rng = np.random.default_rng(number)
        x = rng.normal(size=(training + held_out, FEATURES))
        y = (x[:, 0] + 0.5 * rng.normal(size=len(x)) > 0).astype(float)
        rows = examples_of(x, y, first=1000 * number)
        data[name] = site_of(name, rows.take(np.arange(training)), rows.take(np.arange(training, len(x))))
    return data


def insecure_entropy(seed: int) -> Callable[[int], bytes]:
    """The same bytes again and again for the same seed."""
    stream = Stream(bytes([seed] * 32))
    return lambda count: stream.words(-(-count // 8)).tobytes()[:count]
