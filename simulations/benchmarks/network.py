"""What the network part costs on one machine: real processes, started by the real commands, on loopback.

``python -m simulations.benchmarks.network [--only exchange idle start weights] [--repeats N] [--output FILE]`` prints a
table and writes ``runs/bench-network.json``. Needs Linux, and 16 GB of memory for ``weights``. Stock Flower's side
(``network_peer.py``) runs in the same run, in turn with ours. Nothing is asserted.

A round is one sum of training, of two exchanges: the masked words, and the reveal. What the network adds is the round
without the time in which the slowest hospital worked on its answers, as its node logs it. Work that two
hospitals do at once on the same processor counts as work.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from shared.provenance import versions
from shared.study import load_study
from simulations.benchmarks import network_peer
from simulations.benchmarks.network_consortium import Consortium, until, write_data, write_study, write_wide_study
from simulations.benchmarks.secagg import Line, Others, Sense, ratio, report
from simulations.datasets import DATASETS
from simulations.datasets.base import load
from simulations.partition import partition

HOSPITALS = ("Aarhus", "Basel", "Cork", "Delft")
ROUNDS = 10
EXCHANGES = 2
"""Of a round under masks: the sum, and the reveal; each is a message to every hospital and its answer."""
IDLE_S, SETTLED_S = 30.0, 5.0
WIDTH = 8000
"""Units of both layers of a network with 64 million weights, 256 MB."""
WIDE_ROWS = 80
_WORKED = re.compile(r"answered worked_s=([0-9.]+)")


def exchange(folder: Path, repeats: int) -> list[Line]:
    """Measure rounds with four hospitals, of a cheap method and of a network of Keras, and Flower's own beside them."""
    lines = []
    for shipped, what in (("breast_cancer", "logistic regression"), ("digits_cnn", "a network of Keras")):
        root = _folder(folder / shipped)
        study = write_study(root / f"{shipped}.toml", shipped, rounds=ROUNDS)
        consortium = Consortium.make(root, _dealt(root, study, shipped, HOSPITALS), study)
        rounds: list[float] = []
        work: list[float] = []
        try:
            consortium.begin()
            consortium.wait_connected()
            for _ in range(repeats):
                took, worked = _rounds(consortium, study, messages=EXCHANGES)
                # In the first round a node reads its data, and imports TensorFlow.
                rounds += took[1:]
                work += worked[1:]
        finally:
            consortium.close()
        lines += [
            _seconds(f"a round, {what}", rounds),
            _seconds("  the slowest hospital's work in it", work),
            _seconds(
                "  what the network adds to one of its two exchanges, gateway and masks included",
                [(one - other) / EXCHANGES for one, other in zip(rounds, work, strict=True)],
                "at most",
                1.5,
            ),
        ]
    flower = network_peer.rounds(folder / "flower", len(HOSPITALS), 1 + repeats)
    return [*lines, _seconds("a round of stock Flower, no work, no gateway", flower[1:])]


def idle(folder: Path, _repeats: int) -> list[Line]:
    """Measure the processor time of hospitals of which nobody asks anything."""
    root = _folder(folder / "idle")
    study = write_study(root / "idle.toml", "breast_cancer", rounds=1)
    consortium = Consortium.make(root, _dealt(root, study, "breast_cancer", HOSPITALS), study)
    try:
        consortium.begin()
        consortium.wait_connected()
        time.sleep(SETTLED_S)
        pids = [consortium.node(name) for name in HOSPITALS]
        before = [(_cpu_s(supervisor), _cpu_s(node)) for supervisor, node in pids]
        time.sleep(IDLE_S)
        after = [(_cpu_s(supervisor), _cpu_s(node)) for supervisor, node in pids]
    finally:
        consortium.close()
    used = [
        tuple(100 * (b - a) / IDLE_S for a, b in zip(*pair, strict=True)) for pair in zip(before, after, strict=True)
    ]
    return [
        _share("an idle hospital's node, of a processor", [node for _, node in used], "at most", 5.0),
        _share("  and its supervisor", [supervisor for supervisor, _ in used]),
    ]


def start(folder: Path, repeats: int) -> list[Line]:
    """Measure from ``consilium-server start``, hospitals starting at the same time, to the first round of training."""
    root = _folder(folder / "start")
    study = write_study(root / "start.toml", "breast_cancer", rounds=2)
    consortium = Consortium.make(root, _dealt(root, study, "breast_cancer", HOSPITALS), study)
    first: list[float] = []
    for _ in range(repeats):
        run = consortium.ask(study)
        began = time.perf_counter()
        try:
            consortium.begin()
            until("the first round", lambda run=run: _stages(run).count("train") > 0)  # type: ignore[misc]
            first.append(time.perf_counter() - began)
            until("the end of the run", lambda run=run: (run / "metrics.json").exists())  # type: ignore[misc]
        finally:
            consortium.close()
    return [_seconds("start to the first round of training", first, "at most", 30.0)]


def weights(folder: Path, repeats: int) -> list[Line]:
    """Measure 256 MB to two hospitals and back, once for three repeats, in turn with stock Flower."""
    ours: list[float] = []
    work: list[float] = []
    flower: list[float] = []
    for number in range(max(1, repeats // 3)):
        root = _folder(folder / f"weights-{number}")
        study = write_wide_study(root / "wide.toml", WIDTH)
        names = HOSPITALS[:2]
        policy = {"unmasked": True, "min_sites": 2, "max_parameters_per_patient": 1e9}
        consortium = Consortium.make(root, _dealt(root, study, "breast_cancer", names, WIDE_ROWS), study, **policy)
        try:
            consortium.begin()
            consortium.wait_connected()
            took, worked = _rounds(consortium, study, messages=1)
        finally:
            consortium.close()
        ours += took
        work += worked
        flower += network_peer.rounds(folder / f"flower-weights-{number}", len(names), 1, WIDTH)
    return [
        _seconds("256 MB to 2 hospitals and back, and training", ours),
        _seconds("  the slower hospital's work in it", work),
        _seconds("the same in stock Flower, without masks or gateway", flower),
        ratio("stock Flower / ours", flower, ours, "at least", 1.0),
    ]


PARTS: Mapping[str, Callable[[Path, int], list[Line]]] = {
    "exchange": exchange,
    "idle": idle,
    "start": start,
    "weights": weights,
}


def _folder(path: Path) -> Path:
    path.mkdir()
    return path


def _dealt(folder: Path, study: Path, dataset: str, names: Sequence[str], rows: int | None = None) -> dict[str, Path]:
    """Deal a data set that comes with scikit-learn, or its first rows, to hospitals."""
    raw = load(DATASETS["digits" if dataset.startswith("digits") else dataset], None)
    raw = raw if rows is None else raw.take(np.arange(rows))
    dealt = partition(raw, load_study(study).data, "iid", len(names), np.random.default_rng(0))
    return write_data(folder / "data", dict(zip(names, dealt.values(), strict=True)))


def _rounds(consortium: Consortium, study: Path, messages: int) -> tuple[list[float], list[float]]:
    """Run a study; return the seconds of each round of training, and the slowest hospital's work in each.

    messages: to each hospital in a round.
    """
    history = consortium.run(study)["history"]
    logs = [
        (consortium.hospital(name) / "processes" / "node.log").read_text(encoding="utf-8")
        for name in consortium.hospitals
    ]
    return [float(entry["seconds"]) for entry in history], slowest(logs, len(history), messages)


def slowest(logs: Sequence[str], rounds: int, messages: int) -> list[float]:
    """Return the work on each round of training of the last run, in seconds: of each message, that which took longest.

    The last message to a hospital ends the run, and before that stand those of the evaluation.

    logs: of each hospital's node.
    messages: to each hospital in a round.
    """
    hospitals = []
    for log in logs:
        seconds = [float(found) for found in _WORKED.findall(log)]
        end = len(seconds) - 1 - messages
        hospitals.append(seconds[end - rounds * messages : end])
    longest = [max(each) for each in zip(*hospitals, strict=True)]
    return [sum(longest[number * messages : (number + 1) * messages]) for number in range(rounds)]


def _stages(run: Path) -> list[str]:
    """Return the stage of every finished exchange of a run."""
    try:
        status: dict[str, Any] = json.loads((run / "status.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return []
    return [entry["stage"] for entry in status.get("history", [])]


def _cpu_s(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def _seconds(what: str, samples: Sequence[float], sense: Sense = "", goal: float | None = None) -> Line:
    return Line(what, "s", statistics.median(samples), min(samples), sense, goal)


def _share(what: str, samples: Sequence[float], sense: Sense = "", goal: float | None = None) -> Line:
    return Line(what, "%", statistics.median(samples), min(samples), sense, goal)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m simulations.benchmarks.network", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="parts of it")
    parser.add_argument("--repeats", type=int, default=3, help="how often each part runs")
    parser.add_argument("--output", type=Path, default=Path("runs/bench-network.json"))
    options = parser.parse_args()
    others = Others()
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="consilium-bench-") as folder:
        for part in options.only:
            print(f"{part}", flush=True)
            lines += PARTS[part](Path(folder), options.repeats)
    print()
    report(lines, options.repeats, others.processors(), versions(), options.output)


if __name__ == "__main__":
    main()
