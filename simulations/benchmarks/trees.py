"""What a forest of sums over hospitals costs: against scikit-learn's on the pooled rows, measured side by side.

``python -m simulations.benchmarks.trees [--repeats N]`` prints a table: 100 trees, depth 8, five hospitals with 20,000
rows of 30 columns each, in one process, preparation, secure aggregation and evaluation included; scikit-learn has all
rows in one place and one core. The two are taken in turns. AUROC on held-out rows shows that both did the work.
Nothing is asserted.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from client.data.split import SiteData
from server.training import Observers
from shared.examples import Examples, Part
from shared.plan import EVALUATE, EVERYONE
from shared.study import Study, parse_study
from simulations.benchmarks.secagg import exactly, ratio, seconds, table
from simulations.local import Consortium

SITES, ROWS, COLUMNS, HELD_OUT = 5, 20_000, 30, 5_000
TREES, DEPTH, LEAF = 100, 8, 5

T = TypeVar("T")
Table = tuple[NDArray[np.float64], NDArray[np.float64]]


def study() -> Study:
    """Return the study; every other option is the method's own."""
    numbers = {f"x{index}": {"type": "number", "range": [-10, 10]} for index in range(COLUMNS)}
    return parse_study(
        {
            "study": {"name": "benchmark", "question": "How long does it take?"},
            "data": {
                "kind": "table",
                "label": "y",
                "max_rows_per_site": ROWS,
                "columns": {**numbers, "y": {"type": "category", "levels": [0, 1]}},
            },
            "method": {
                "name": "random-forest",
                "rounds": 1 + DEPTH,
                "options": {"trees": TREES, "max_depth": DEPTH, "min_samples_leaf": LEAF},
            },
            "aggregation": {"min_sites": SITES},
        },
        "benchmark",
    )


def rows_of(site: int, rows: int) -> Table:
    """Return x, shape (rows, COLUMNS), and y: a linear score with an interaction, and noise."""
    slopes = np.random.default_rng(7).normal(size=COLUMNS)
    rng = np.random.default_rng((7, site))
    x = rng.normal(size=(rows, COLUMNS)).clip(-10, 10)
    y = x @ slopes + 3 * x[:, 0] * x[:, 1] + 3 * rng.normal(size=rows) > 0
    return x, y.astype(np.float64)


def data() -> dict[str, SiteData]:
    """Return each site's rows, by name; all held-out rows are the first one's."""
    nobody = (np.zeros((0, COLUMNS)), np.zeros(0))
    sites = {}
    for number in range(SITES):
        held_out = rows_of(SITES, HELD_OUT) if number == 0 else nobody
        parts = {
            Part.TRAINING: _examples(*rows_of(number, ROWS), f"t{number}"),
            Part.HELD_OUT: _examples(*held_out, "h"),
        }
        sites[f"site_{number}"] = SiteData(f"site_{number}", parts)
    return sites


def _examples(x: NDArray[np.float64], y: NDArray[np.float64], prefix: str) -> Examples:
    patients = np.array([f"{prefix}-{row}" for row in range(len(y))], dtype=np.str_)
    return Examples(x, np.zeros(x.shape, bool), y, patients)


def ours() -> float:
    """Run the study and return its AUROC on the held-out rows."""
    from shared.judgement import judge

    plan, progress = Consortium(study(), data()).run(Observers(clock=time.perf_counter))
    return judge(study(), EVERYONE, plan.result(progress.state)[EVALUATE][EVERYONE]).metrics["auroc"].value


def theirs() -> float:
    """Fit scikit-learn's forest to all rows and return its AUROC on the same held-out rows."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.metrics import roc_auc_score

    tables = [rows_of(number, ROWS) for number in range(SITES)]
    forest = RandomForestClassifier(TREES, max_depth=DEPTH, min_samples_leaf=LEAF, n_jobs=1, random_state=0)
    forest.fit(np.concatenate([x for x, _ in tables]), np.concatenate([y for _, y in tables]))
    x, y = rows_of(SITES, HELD_OUT)
    return float(roc_auc_score(y, forest.predict_proba(x)[:, 1]))


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Return how many seconds work took, and what it returned."""
    started = time.perf_counter()
    result = work()
    return time.perf_counter() - started, result


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m simulations.benchmarks.trees", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    turns = [(timed(ours), timed(theirs)) for _ in range(parser.parse_args().repeats)]
    took, peer_took = [own[0] for own, _ in turns], [peer[0] for _, peer in turns]
    lines = [
        seconds("forest over five hospitals, masked", took),
        seconds("scikit-learn's, pooled, one core", peer_took),
        ratio("ours / scikit-learn's", took, peer_took, "at most", 3.0),
        exactly("our AUROC", "", turns[0][0][1]),
        exactly("scikit-learn's AUROC", "", turns[0][1][1]),
    ]
    print(table(lines))


if __name__ == "__main__":
    main()
