"""How long the exact methods take over hospitals, divided by scikit-learn's time on their pooled rows.

``python -m simulations.benchmarks.methods [--repeats N] [--rows N] [--output FILE]`` prints a table and writes
``runs/bench-methods.json``. Both sides have one thread and take turns; ours is the engine of ``consilium-simulate``,
with secure aggregation, in one process, so that ten hospitals' work is done one after the other. scikit-learn gets the
prepared matrix ready-made; the first training round of ours prepares it. Nothing is asserted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data.split import SiteData
from server.training import Observers
from shared.examples import Examples, Part
from shared.plan import PREPARE, TRAIN
from shared.provenance import versions
from shared.study import Study, parse_study
from simulations.benchmarks.secagg import Line, Others, exactly, ratio, seconds, table
from simulations.local import Consortium

SITES, ROWS, COLUMNS = 10, 100_000, 50
HELD_OUT = 100


@dataclasses.dataclass(frozen=True, eq=False)
class Sides:
    """What the sides of one comparison took, in seconds, one sample a repeat, and how far apart their weights are."""

    training: list[float]
    whole: list[float]
    exact: list[float]
    default: list[float]
    apart: float


def glm(repeats: int, rows: int) -> list[Line]:
    """Compare penalised logistic regression with ``newton-cholesky``. rows: of one hospital."""
    took = glm_sides(repeats, rows)
    shape = f"{SITES} x {rows:,} x {COLUMNS}"
    return [
        seconds(f"glm, training, {shape}", took.training),
        seconds("newton-cholesky, tol 1e-14, pooled", took.exact),
        ratio("glm / newton-cholesky, tol 1e-14", took.training, took.exact, "at most", 1.3),
        ratio("glm / newton-cholesky, its own tol 1e-4", took.training, took.default),
        ratio("glm with preparation and evaluation / tol 1e-14", took.whole, took.exact),
        exactly("largest difference of a coefficient, x 1e8", "", took.apart * 1e8, "at most", 1.0),
    ]


def glm_sides(repeats: int, rows: int) -> Sides:
    """Run both sides so many times."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    data = glm_data(rows)
    took = Sides([], [], [], [], 0.0)
    with threadpool_limits(1):
        for _ in range(repeats):
            weights, x = _ours(_glm_study(rows), data, took)
            y = np.concatenate([site.parts[Part.TRAINING].labels for site in data.values()])
            fit, spent = _timed(lambda: LogisticRegression(solver="newton-cholesky", tol=1e-14).fit(x, y))  # noqa: B023
            took.exact.append(spent)
            took.default.append(_timed(lambda: LogisticRegression(solver="newton-cholesky").fit(x, y))[1])  # noqa: B023
            took = dataclasses.replace(took, apart=max(took.apart, float(np.abs(weights - fit.coef_).max())))
    return took


def _ours(study: Study, data: dict[str, SiteData], took: Sides) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Run a study, add what it took; return its coefficients and the prepared rows of all hospitals."""
    # Anew, so that nothing is remembered of the last repeat.
    fresh = {
        name: SiteData(name, {part: dataclasses.replace(rows) for part, rows in site.parts.items()})
        for name, site in data.items()
    }
    (plan, progress), spent = _timed(lambda: Consortium(study, fresh).run(Observers(clock=time.perf_counter)))
    took.whole.append(spent)
    took.training.append(sum(record.seconds for record in progress.history if record.stage == TRAIN))
    results = plan.result(progress.state)
    rows = [results[PREPARE].transform(site.parts[Part.TRAINING]).x for site in fresh.values()]
    return results[TRAIN]["coef"], np.concatenate(rows)


def _timed(work: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    made = work()
    return made, time.perf_counter() - started


def glm_data(rows: int) -> dict[str, SiteData]:
    """Return each hospital's rows: numbers, and a class that leans on them."""
    rng = np.random.default_rng(0)
    leaning = rng.normal(scale=0.3, size=COLUMNS)

    def drawn(count: int, prefix: str) -> Examples:
        x = np.clip(rng.normal(size=(count, COLUMNS)), -8.0, 8.0)
        y = (x @ leaning - 1.0 + rng.logistic(size=count) > 0).astype(np.float64)
        patients = np.char.add(f"{prefix}-", np.arange(count).astype(str))
        return Examples(x, np.zeros(x.shape, dtype=bool), y, patients)

    return {
        f"site_{k}": SiteData(
            f"site_{k}", {Part.TRAINING: drawn(rows, f"t{k}"), Part.HELD_OUT: drawn(HELD_OUT, f"h{k}")}
        )
        for k in range(SITES)
    }


def _glm_study(rows: int) -> Study:
    columns: dict[str, object] = {f"x{number}": {"type": "number", "range": [-8, 8]} for number in range(COLUMNS)}
    columns["y"] = {"type": "category", "levels": [0, 1]}
    return parse_study(
        {
            "study": {"name": "benchmark", "question": "How long does it take?"},
            "data": {"kind": "table", "label": "y", "columns": columns, "max_rows_per_site": max(rows, HELD_OUT)},
            "method": {"name": "glm", "rounds": 25, "options": {"family": "logistic", "l2": 1.0}},
        },
        "benchmark",
    )


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m simulations.benchmarks.methods", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="how often each side runs")
    parser.add_argument("--rows", type=int, default=ROWS, help="rows of one hospital")
    parser.add_argument("--output", type=Path, default=Path("runs/bench-methods.json"))
    options = parser.parse_args()
    others = Others()
    lines = glm(options.repeats, options.rows)
    busy = others.processors()
    print(table(lines))
    print(f"\nprocessors: {os.cpu_count()}" + ("" if busy is None else f", kept busy by others: {busy:.2f}"))
    options.output.parent.mkdir(parents=True, exist_ok=True)
    report = {
        "lines": [{**dataclasses.asdict(line), "met": line.met} for line in lines],
        "repeats": options.repeats,
        "processors": os.cpu_count(),
        "busy_with_others": busy,
        "versions": versions(),
    }
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"numbers  {options.output}")


if __name__ == "__main__":
    main()
