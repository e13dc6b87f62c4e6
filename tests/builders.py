"""Small studies, tables and consortia for tests; numbers are chosen so that results can be checked by hand."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data.split import SiteData
from server.training import Observers
from shared.examples import Examples, Part
from shared.study import Study, parse_study
from simulations.local import Consortium


def table_study(features: int = 2, **changes: Any) -> Study:
    """A binary study over numbers x0, x1, ... in [-10, 10]; ``changes`` are ``section__key=value``."""
    columns: dict[str, Any] = {f"x{index}": {"type": "number", "range": [-10.0, 10.0]} for index in range(features)}
    columns["y"] = {"type": "category", "levels": [0, 1]}
    raw: dict[str, Any] = {
        "study": {"name": "small", "question": "Does it work?", "seed": 7},
        "data": {"kind": "table", "label": "y", "columns": columns, "max_rows_per_site": 1000},
        "method": {"name": "logistic-regression", "rounds": 3},
        "aggregation": {"secure": False, "min_sites": 1},
        "evaluation": {"bootstrap_replicates": 100, "histogram_bins": 1000},
        "simulation": {},
    }
    for key, value in changes.items():
        *parts, last = key.split("__")
        node = raw
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = value
    return parse_study(raw, "test")


def examples_of(x: Any, y: Sequence[float] | NDArray[Any], first: int = 0) -> Examples:
    """Rows with one patient each; patients are numbered from ``first``."""
    values = np.atleast_2d(np.asarray(x, dtype=np.float64))
    labels = np.asarray(y, dtype=np.float64)
    patients = np.array([f"p{first + index}" for index in range(len(labels))])
    return Examples(values, np.zeros(values.shape, dtype=bool), labels, patients)


def site_of(name: str, training: Examples, held_out: Examples | None = None) -> SiteData:
    """A site's data; without ``held_out`` it evaluates on its training rows."""
    return SiteData(name, {Part.TRAINING: training, Part.HELD_OUT: training if held_out is None else held_out})


def random_consortium(study: Study, sizes: Mapping[str, int], seed: int = 0) -> Consortium:
    """Sites whose label leans on the first feature."""
    rng = np.random.default_rng(seed)
    data = {}
    for name, size in sizes.items():
        x = rng.normal(size=(size, len(study.data.features)))
        y = (x[:, 0] + 0.5 * rng.normal(size=size) > 0).astype(float)
        data[name] = site_of(name, examples_of(x, y))
    return Consortium(study, data)


def ticking() -> Observers:
    """Observers whose clock advances one second a look."""
    ticks = itertools.count()
    return Observers(clock=lambda: float(next(ticks)))
