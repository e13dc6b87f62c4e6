"""How long the exact methods take over hospitals, divided by scikit-learn's time on their pooled rows.

``python -m simulations.benchmarks.methods [--repeats N] [--rows N] [--output FILE]`` prints a table and writes
``runs/bench-methods.json``. Both sides have one thread and take turns, and time is the processor's; ours is the engine
of ``consilium-simulate``, with secure aggregation, in one process, so that ten hospitals' work is done one after the
other. Two comparisons are made, like with like:

- the exchanges of our training against scikit-learn's fit, which gets the prepared matrix ready-made; the first
  exchange of ours prepares it;
- our whole run against scaling, fit, predictions for the held-out rows and the same five metrics; once more with an
  imputer before, because our preparation finds medians too. Ours adds 95 % intervals to the metrics.

Nothing is asserted.
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from client.data.split import SiteData
from server.training import Observers, Progress
from shared.examples import Examples, Part
from shared.judgement import judge
from shared.plan import EVALUATE, EVERYONE, PREPARE, TRAIN
from shared.provenance import versions
from shared.study import Study, parse_study
from simulations.benchmarks.secagg import Line, Others, exactly, ratio, report, seconds
from simulations.local import Consortium

SITES, ROWS, COLUMNS = 10, 100_000, 50
HELD_OUT = 0.25
"""Rows held out besides, as a share of those for training: a fifth of all, as in a study by default."""

T = TypeVar("T")
Table = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclasses.dataclass(frozen=True, eq=False)
class Sides:
    """What the sides of one comparison took, in seconds of the processor, one sample a repeat.

    training, whole: our exchanges of the training, and everything from the raw rows to the metrics.
    exact, default: scikit-learn's fit at tol 1e-14 and at its own.
    scaled, imputed: scikit-learn's work from the raw rows to the metrics, without an imputer and with one.
    apart: largest difference of a coefficient.
    auroc: of ours and of scikit-learn's model on the held-out rows.
    """

    training: list[float]
    whole: list[float]
    exact: list[float]
    default: list[float]
    scaled: list[float]
    imputed: list[float]
    apart: float = 0.0
    auroc: tuple[float, float] = (0.0, 0.0)


def glm(repeats: int, rows: int) -> list[Line]:
    """Compare penalised logistic regression with ``newton-cholesky``. rows: of one hospital."""
    took = glm_sides(repeats, rows)
    shape = f"{SITES} x {rows:,} x {COLUMNS}"
    return [
        seconds(f"glm, training, {shape}", took.training),
        seconds("newton-cholesky, tol 1e-14, pooled", took.exact),
        ratio("glm / newton-cholesky, tol 1e-14", took.training, took.exact, "at most", 1.3),
        ratio("glm / newton-cholesky, its own tol 1e-4", took.training, took.default),
        seconds("glm, whole run: raw rows to metrics", took.whole),
        seconds("scikit-learn: scaler, fit, predictions, metrics", took.scaled),
        ratio("whole run / these", took.whole, took.scaled, "at most", 1.3),
        ratio("whole run / these and an imputer", took.whole, took.imputed),
        ratio("whole run / newton-cholesky's fit alone", took.whole, took.exact),
        exactly("largest difference of a coefficient, x 1e8", "", took.apart * 1e8, "at most", 1.0),
        exactly("AUROC on held-out rows, glm", "", took.auroc[0]),
        exactly("AUROC on held-out rows, scikit-learn", "", took.auroc[1]),
    ]


def glm_sides(repeats: int, rows: int) -> Sides:
    """Run both sides so many times, in turns."""
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler
    from threadpoolctl import threadpool_limits

    data, study = glm_data(rows), _glm_study(rows)
    train, held_out = _pooled(data, Part.TRAINING), _pooled(data, Part.HELD_OUT)
    took = Sides([], [], [], [], [], [])
    with threadpool_limits(1):
        for _ in range(repeats):
            coefficients, x, auroc = _ours(study, data, took)
            fit, spent = _timed(lambda: LogisticRegression(solver="newton-cholesky", tol=1e-14).fit(x, train[1]))  # noqa: B023
            took.exact.append(spent)
            took.default.append(_timed(lambda: LogisticRegression(solver="newton-cholesky").fit(x, train[1]))[1])  # noqa: B023
            theirs, spent = _timed(lambda: _theirs(train, held_out, StandardScaler()))
            took.scaled.append(spent)
            imputer = SimpleImputer(strategy="median", add_indicator=True)
            took.imputed.append(_timed(lambda: _theirs(train, held_out, imputer, StandardScaler()))[1])  # noqa: B023
            apart = max(took.apart, float(np.abs(coefficients - fit.coef_).max()))
            took = dataclasses.replace(took, apart=apart, auroc=(auroc, theirs))
    return took


def _ours(
    study: Study, data: dict[str, SiteData], took: Sides
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Run a study, add what it took; return its coefficients, the prepared rows of all hospitals and the AUROC."""
    # Anew, so that nothing is remembered of the last repeat.
    fresh = {
        name: SiteData(name, {part: dataclasses.replace(rows) for part, rows in site.parts.items()})
        for name, site in data.items()
    }

    def run() -> tuple[Mapping[str, Any], Progress, float]:
        plan, progress = Consortium(study, fresh).run(Observers(clock=time.process_time))
        results = plan.result(progress.state)
        return results, progress, judge(study, EVERYONE, results[EVALUATE][EVERYONE]).metrics["auroc"].value

    (results, progress, auroc), spent = _timed(run)
    took.whole.append(spent)
    took.training.append(sum(record.seconds for record in progress.history if record.stage == TRAIN))
    rows = [results[PREPARE].transform(site.parts[Part.TRAINING]).x for site in fresh.values()]
    return results[TRAIN]["coef"], np.concatenate(rows), auroc


def _theirs(train: Table, held_out: Table, *prepared_by: Any) -> float:
    """Prepare, fit, predict and judge with scikit-learn; return the AUROC."""
    from sklearn import metrics
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(*prepared_by, LogisticRegression(solver="newton-cholesky", tol=1e-14)).fit(*train)
    y, p = held_out[1], model.predict_proba(held_out[0])[:, 1]
    metrics.average_precision_score(y, p)
    metrics.accuracy_score(y, p >= 0.5)
    metrics.brier_score_loss(y, p)
    metrics.log_loss(y, p)
    return float(metrics.roc_auc_score(y, p))


def _pooled(data: dict[str, SiteData], part: Part) -> Table:
    tables = [site.parts[part] for site in data.values()]
    return np.concatenate([each.values for each in tables]), np.concatenate([each.labels for each in tables])


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    """Return what work returned, and how many seconds of the processor it took."""
    started = time.process_time()
    made = work()
    return made, time.process_time() - started


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
            f"site_{k}", {Part.TRAINING: drawn(rows, f"t{k}"), Part.HELD_OUT: drawn(round(HELD_OUT * rows), f"h{k}")}
        )
        for k in range(SITES)
    }


def _glm_study(rows: int) -> Study:
    columns: dict[str, object] = {f"x{number}": {"type": "number", "range": [-8, 8]} for number in range(COLUMNS)}
    columns["y"] = {"type": "category", "levels": [0, 1]}
    return parse_study(
        {
            "study": {"name": "benchmark", "question": "How long does it take?"},
            "data": {"kind": "table", "label": "y", "columns": columns, "max_rows_per_site": rows},
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
    # Once with few rows, for what is imported on first use.
    glm_sides(1, 100)
    lines = glm(options.repeats, options.rows)
    report(lines, options.repeats, others.processors(), versions(), options.output)


if __name__ == "__main__":
    main()
