"""``make bench``: both sides one after the other, each in a process of its own, then a table and ``runs/bench.json``.

Every side runs ``--repeats`` times, and the median of each number is shown. Ratios depend on the machine and on what
else it does; nothing is asserted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from shared.provenance import versions
from simulations.benchmarks import watched
from simulations.benchmarks.watched import Usage

Numbers = dict[str, float]

# The same for both sides: one thread in the linear algebra of small matrices, nothing reported to anyone.
ENVIRONMENT = {
    "OPENBLAS_NUM_THREADS": "1",
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}

# Flower's side, and ours that it is divided by.
PAIRS = {"logistic-flower": "logistic-ours", "cnn-flower": "cnn-ours", "cnn-flower-kept": "cnn-ours"}

LABELS = {
    "imports_s": "imports, s",
    "start_up_s": "start-up, s",
    "rounds_s": "rounds, s",
    "tear_down_s": "tear-down, s",
    "loop_s": "all but imports, s",
    "same_work_s": "rounds only, s",
    "seconds": "whole process, s",
    "cpu_seconds": "processor time, s",
    "rss_mib": "peak RSS, MiB",
    "pss_mib": "peak PSS, MiB",
    "processes": "processes",
    "quality": "accuracy",
}


def measure(name: str) -> Numbers:
    """Run one side (``simulations/benchmarks/side.py``) once."""
    usage = watched.run(watched.python("simulations.benchmarks.side", name, repr(time.time())), ENVIRONMENT)
    timing = json.loads(usage.output.splitlines()[-1])
    loop = timing["start_up"] + timing["rounds"] + timing["tear_down"]
    return {**{f"{key}_s": value for key, value in timing.items() if key != "quality"}, "loop_s": loop} | {
        "quality": timing["quality"],
        **_usage(usage),
    }


def measure_command(study: str) -> Numbers:
    """Run ``consilium-simulate run STUDY`` as a whole process, report included."""
    with tempfile.TemporaryDirectory() as folder:
        command = watched.python("simulations.cli", "run", study, "--output", str(Path(folder, "run")))
        return _usage(watched.run(command, ENVIRONMENT))


def measure_steps() -> Numbers:
    """Run the bare training steps of the CNN's work, with nothing federated around them."""
    usage = watched.run(watched.python("simulations.benchmarks.training_steps"), ENVIRONMENT)
    return {"rounds_s": json.loads(usage.output.splitlines()[-1])["seconds"], **_usage(usage)}


def _usage(usage: Usage) -> Numbers:
    return {key: float(value) for key, value in dataclasses.asdict(usage).items() if key != "output"}


def _median(runs: Sequence[Numbers]) -> Numbers:
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


def ratios(results: Mapping[str, Numbers]) -> dict[str, Numbers]:
    """Return, for each of Flower's sides, its numbers divided by ours, and the share of the bare training speed.

    ``same_work_s``: Flower's side, start-up included, does nothing but the training rounds; so this divides it by ours
    without the preparation and evaluation exchanges that our run has besides.
    """
    keys = ("loop_s", "rounds_s", "seconds", "rss_mib", "pss_mib")
    found = {side: {key: results[side][key] / results[ours][key] for key in keys} for side, ours in PAIRS.items()}
    for side, ours in PAIRS.items():
        found[side]["same_work_s"] = results[side]["loop_s"] / results[ours]["rounds_s"]
    found["cnn-bare"] = {"rounds_s": results["cnn-bare"]["rounds_s"] / results["cnn-ours"]["rounds_s"]}
    return found


def table(columns: Mapping[str, Numbers]) -> str:
    """Return numbers as text: a line for each key of ``LABELS``, a column for each side."""
    width = max(map(len, LABELS.values()))
    lines = [" ".join([" " * width, *(f"{name:>{max(9, len(name))}}" for name in columns)])]
    for key, label in LABELS.items():
        if any(key in numbers for numbers in columns.values()):
            cells = (
                f"{numbers[key]:.4g}".rjust(max(9, len(name))) if key in numbers else " " * max(9, len(name))
                for name, numbers in columns.items()
            )
            lines.append(" ".join([label.ljust(width), *cells]).rstrip())
    return "\n".join(lines)


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3, help="how often each side runs")
    parser.add_argument("--output", type=Path, default=Path("runs/bench.json"))
    options = parser.parse_args()
    sides: dict[str, Callable[[], Numbers]] = {
        **{name: partial(measure, name) for pair in PAIRS.items() for name in pair},
        "cnn-bare": measure_steps,
        "run breast_cancer": partial(measure_command, "breast_cancer"),
    }
    results: dict[str, Numbers] = {}
    for name, side in sides.items():
        print(f"{name}, {options.repeats} times", flush=True)
        results[name] = _median([side() for _ in range(options.repeats)])
    compared = ratios(results)
    print(f"\n{table(results)}\n\nFlower's number divided by ours; bare training steps divided by our rounds")
    print(f"{table(compared)}\n")
    options.output.parent.mkdir(parents=True, exist_ok=True)
    report = {"results": results, "ratios": compared, "processors": os.cpu_count(), "versions": versions()}
    options.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print(f"numbers  {options.output}")


if __name__ == "__main__":
    main()
