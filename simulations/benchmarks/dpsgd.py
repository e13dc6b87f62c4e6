"""What clipping and noise cost a training step, and how it compares to Opacus, on one pinned thread.

``python -m simulations.benchmarks.dpsgd [--repeats N] [--opacus PYTHON] [--output FILE]`` prints a table and writes
``runs/bench-dpsgd.json``. The plain step is the one that studies without privacy take (``shared/models/training.py``).
Sides take turns, and a ratio is the median of the repeats' own ratios (``simulations/benchmarks/secagg.py``). Times are
those of the processor, all threads together, so that waiting for other work on the machine counts for no side. Nothing
is asserted.

The other side is ``dpsgd_peer.py`` in a process of its own, pinned to the same processor, which waits while we run. It
needs an environment with torch and opacus: the one given, or one that is made under ``runs/``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from shared.models.image_cnn import ImageCnn
from shared.provenance import versions
from simulations.benchmarks import dpsgd_peer
from simulations.benchmarks.secagg import Line, Others, exactly, ratio, report, seconds

STEPS = 20
PEER_PACKAGES = ("torch==2.13.0+cpu", "opacus==1.6.0")
CNN = ImageCnn(filters=(16, 32, 64), dense_units=64)
"""The network of the study pneumonia_cnn."""
DEEPER = ImageCnn(filters=(64, 64, 64, 64), dense_units=64)
SHAPE = (dpsgd_peer.SIDE, dpsgd_peer.SIDE, 1)


@dataclass(frozen=True)
class Case:
    """One network and batch size, and how often the plain step's time a step may take; None where it only informs."""

    name: str
    network: ImageCnn
    batch: int
    clipped: float | None
    noised: float | None


CASES = (
    Case("CNN, batch 64", CNN, 64, 1.1, None),
    Case("CNN, batch 256", CNN, 256, 1.1, 1.5),
    Case("4 blocks of 64 channels, batch 64", DEEPER, 64, 1.5, None),
)

Work = Callable[[], float]
"""Takes the steps, and returns how many seconds of the processor they took."""


def sides(case: Case, steps: int) -> dict[str, Work]:
    """Return our three ways to take so many steps, compiled and run once."""
    import time

    from shared.models import network
    from shared.models.training import Descent, Trainer
    from shared.privacy.dpsgd import PrivatePlan, PrivateTrainer
    from shared.privacy.noise import Stream

    model = network.build("image_cnn", case.network, SHAPE, dpsgd_peer.CLASSES)
    plain, private, stream = Trainer(model, 1), PrivateTrainer(model, 1), Stream.fresh()
    weights, drawn = network.initial_weights(model, 1), np.random.default_rng(1)
    x = drawn.normal(size=(case.batch, *SHAPE)).astype(np.float32)
    y = drawn.integers(dpsgd_peer.CLASSES, size=case.batch)
    descent = Descent(steps, case.batch, learning_rate=0.01, momentum=0.9, proximal_mu=0.0, loss_bound=1e6)
    plan = PrivatePlan(
        steps=steps,
        sampling_rate=1.0,
        nominal_patients=case.batch,
        noise_multiplier=1.0,
        clipping_norm=1.0,
        learning_rate=0.01,
        momentum=0.9,
    )
    silence = np.zeros((steps, private.size), np.float32)

    def clipped() -> None:
        private.descend(weights, x, y, [([drawn.permutation(case.batch) for _ in range(steps)], silence)], plan)

    def timed(work: Callable[[], Any]) -> Work:
        def run() -> float:
            started = time.process_time()
            work()
            return time.process_time() - started

        run()
        return run

    return {
        "plain": timed(lambda: plain.train(weights, x, y, descent, drawn)),
        "clipped": timed(clipped),
        "noised": timed(lambda: private.train(weights, x, y, np.arange(case.batch), plan, stream)),
    }


class Peer:
    """The other side, running."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.versions: dict[str, str] = self._answer()

    def side(self, case: Case, steps: int) -> Work:
        """Return its way to take so many noised steps, set up and run once.

        Raises: RuntimeError if its network has another number of weights.
        """
        asked = {"filters": case.network.filters, "dense_units": case.network.dense_units, "batch": case.batch}

        def run() -> float:
            return float(self._ask({**asked, "steps": steps})["seconds"])

        weights, expected = self._ask({**asked, "steps": steps})["weights"], count(case.network)
        if weights != expected:
            raise RuntimeError(f"expected the peer's network to have {expected} weights. Received: {weights}")
        return run

    def _ask(self, asked: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError("the peer has ended; what went wrong stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


def count(options: ImageCnn) -> int:
    """Return the number of weights of a network on the benchmark's images."""
    from shared.models import network

    return int(network.build("image_cnn", options, SHAPE, dpsgd_peer.CLASSES).count_params())


@contextmanager
def peer(python: Path) -> Iterator[Peer]:
    """Start the other side in its environment; end it."""
    process = subprocess.Popen(
        [str(python), "-W", "ignore", dpsgd_peer.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield Peer(process)
    finally:
        process.kill()
        process.communicate()


def environment(folder: Path) -> Path:
    """Return the Python of an environment with the peer's packages, made if it is not there.

    Raises: subprocess.CalledProcessError if pip cannot have them.
    """
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *PEER_PACKAGES], check=True)
        (folder / "complete").touch()
    return python


def measured(works: dict[str, Work], repeats: int) -> dict[str, list[float]]:
    """Run each work once in every repeat, in turns, and return what they took, in seconds."""
    took: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            took[name].append(work())
    return took


def lines_of(case: Case, took: dict[str, list[float]], steps: int) -> list[Line]:
    """Return one case's lines."""
    plain, clipped, noised = took["plain"], took["clipped"], took["noised"]
    lines = [
        seconds(f"{case.name}: plain step", [each / steps for each in plain]),
        ratio("  clipped / plain", clipped, plain, "at most" if case.clipped else "", case.clipped),
        ratio("  clipped and noised / plain", noised, plain, "at most" if case.noised else "", case.noised),
    ]
    if "opacus" not in took:
        return lines
    samples = case.batch * steps
    speeds = {name: [samples / each for each in took[name]] for name in ("noised", "opacus")}
    lines += [
        Line(f"  {label}, samples per second", "1/s", float(np.median(each)), max(each))
        for label, each in (("ours, noised", speeds["noised"]), ("Opacus, noised", speeds["opacus"]))
    ]
    return [*lines, ratio("  ours / Opacus, samples per second", took["opacus"], noised, "at least", 2.0)]


def run(cases: Sequence[Case], repeats: int, steps: int, other: Peer | None) -> list[Line]:
    """Measure all cases."""
    lines = []
    for case in cases:
        works = sides(case, steps)
        if other is not None:
            works["opacus"] = other.side(case, steps)
        lines += [exactly(f"{case.name}: weights", "", count(case.network))]
        lines += lines_of(case, measured(works, repeats), steps)
    return lines


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(prog="python -m simulations.benchmarks.dpsgd", description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--opacus", type=Path, help="a Python that has torch and opacus")
    parser.add_argument("--without-opacus", action="store_true", help="measure our side alone")
    parser.add_argument("--output", type=Path, default=Path("runs/bench-dpsgd.json"))
    options = parser.parse_args()
    python = None
    if not options.without_opacus:
        python = options.opacus or environment(options.output.parent / "opacus")
    if hasattr(os, "sched_setaffinity"):  # before any thread is started, so that all are held to it
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    from shared.models import runtime

    runtime.start(1)
    others, peer_versions = Others(), {}
    if python is None:
        lines = run(CASES, options.repeats, STEPS, None)
    else:
        with peer(python) as other:
            peer_versions = other.versions
            lines = run(CASES, options.repeats, STEPS, other)
    report(lines, options.repeats, others.processors(), {**versions(), **peer_versions}, options.output)


if __name__ == "__main__":
    main()
