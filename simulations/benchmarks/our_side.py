"""Our side: the engine of ``consilium-simulate``, on the same rows as Flower's side.

It does more than Flower's: preparation and evaluation are exchanges of the run, and everything travels as fixed-point
words. Their time is in the numbers. What the loop imports on first use is imported before it, as Flower's driver does.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np
from numpy.typing import NDArray

from client.data.split import SiteData
from server.strategies import server_optimizer
from server.training import Observers
from shared.examples import Arrays, Examples, Part
from shared.methods.combinators import InTurn
from shared.models import runtime
from shared.plan import EVALUATE, EVERYONE, TRAIN
from shared.study import Study, parse_study
from simulations.benchmarks import work
from simulations.benchmarks.work import Timing
from simulations.local import Consortium


def logistic(process_started: float) -> Timing:
    """Run the logistic regression through our engine; times are of ``time.time``."""
    import sklearn.linear_model  # noqa: F401

    table = work.breast_cancer()
    held_out = np.array_split(np.arange(len(table.held_out[1])), work.SITES)
    data = {
        f"site_{number}": SiteData(
            f"site_{number}",
            {
                Part.TRAINING: _rows(x, y, f"t{number}"),
                Part.HELD_OUT: _rows(table.held_out[0][own], table.held_out[1][own], f"h{number}"),
            },
        )
        for number, ((x, y), own) in enumerate(zip(table.sites, held_out, strict=True))
    }
    return timed(_logistic_study(), data, process_started)


def _logistic_study() -> Study:
    columns: dict[str, object] = {f"x{number}": {"type": "number", "range": [-20, 20]} for number in range(30)}
    columns["y"] = {"type": "category", "levels": [0, 1]}
    return parse_study(
        {
            "study": {"name": "benchmark", "question": "How long does it take?"},
            "data": {"kind": "table", "label": "y", "columns": columns, "max_rows_per_site": 1000},
            "method": {"name": "logistic-regression", "rounds": work.LOGISTIC_ROUNDS},
            "aggregation": {"secure": False},
        },
        "benchmark",
    )


def _rows(x: NDArray[np.float64], y: NDArray[np.int64], prefix: str) -> Examples:
    patients = np.array([f"{prefix}-{row}" for row in range(len(y))])
    return Examples(x, np.zeros(x.shape, dtype=bool), y.astype(np.float64), patients)


def cnn(process_started: float) -> Timing:
    """Run the CNN through our engine; times are of ``time.time``."""
    study = work.cnn_study()
    runtime.start(study.study.threads)
    held_out = work.cnn_site(work.HELD_OUT)
    own = np.array_split(np.arange(len(held_out[1])), work.SITES)
    data = {
        f"site_{number}": SiteData(
            f"site_{number}",
            {
                Part.TRAINING: _images(*work.cnn_site(number), f"t{number}"),
                Part.HELD_OUT: _images(held_out[0][rows], held_out[1][rows], f"h{number}"),
            },
        )
        for number, rows in enumerate(own)
    }
    return timed(study, data, process_started)


def _images(x: NDArray[np.float32], y: NDArray[np.int64], prefix: str) -> Examples:
    return dataclasses.replace(_rows(np.zeros((len(y), 0)), y, prefix), images=x)


def timed(study: Study, data: dict[str, SiteData], process_started: float) -> Timing:
    """Run a study over sites' data and say where the time went."""
    server_optimizer(study)
    entered = time.time()
    ended: list[tuple[str, float]] = []
    observers = Observers(clock=time.perf_counter, report=lambda record: ended.append((record.stage, time.time())))
    plan, progress = Consortium(study, data).run(observers)
    left = time.time()
    training = [index for index, (stage, _) in enumerate(ended) if stage == TRAIN]
    begun, done = ended[training[0] - 1][1], ended[training[-1]][1]
    return Timing(
        imports=entered - process_started,
        start_up=begun - entered,
        rounds=done - begun,
        tear_down=left - done,
        quality=_accuracy(plan, progress.state),
    )


def _accuracy(plan: InTurn, state: Arrays) -> float:
    confusion = plan.result(state)[EVALUATE][EVERYONE].confusion
    return float(np.trace(confusion) / confusion.sum())
