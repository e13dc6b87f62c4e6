"""What secure aggregation costs: ratios and times, measured side by side in one run.

``python -m simulations.benchmarks.secagg [--repeats N] [--output FILE]`` prints a table and writes
``runs/bench-secagg.json``. Pieces of work that are compared are taken in turns, and a ratio is the median of the
repeats' own ratios; ``fastest`` compares each side's fastest repeat, which other work on the machine disturbs least.
Nothing is asserted.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from shared.provenance import versions
from simulations.benchmarks import secagg_costs, secagg_masking, secagg_training, work

MASKED_WORDS = 10**7
SITES, LOST, WORDS = 50, 5, 10**6
FEW_SITES, MANY_SITES = 10, 100
SEALED_BYTES = 94
"""A sealed pair of shares: nonce 12, two shares of 33, tag 16."""
CNN_WEIGHTS = 692_380

Sense = Literal["at least", "at most", ""]


@dataclass(frozen=True)
class Line:
    """One measured number.

    median: over the repeats.
    fastest: of the fastest repeat.
    goal: None where a number only explains others.
    """

    what: str
    unit: str
    median: float
    fastest: float
    sense: Sense = ""
    goal: float | None = None

    @property
    def met(self) -> bool | None:
        """Whether the median reaches the goal; None without one."""
        if self.goal is None:
            return None
        return self.median >= self.goal if self.sense == "at least" else self.median <= self.goal


def ratio(
    what: str, above: Sequence[float], below: Sequence[float], sense: Sense = "", goal: float | None = None
) -> Line:
    """Return the line of one work's seconds divided by those of another, measured in turns."""
    each = [one / other for one, other in zip(above, below, strict=True)]
    return Line(what, "x", statistics.median(each), min(above) / min(below), sense, goal)


def seconds(what: str, samples: Sequence[float], sense: Sense = "", goal_ms: float | None = None) -> Line:
    """Return the line of one work's milliseconds."""
    return Line(what, "ms", statistics.median(samples) * 1e3, min(samples) * 1e3, sense, goal_ms)


def exactly(what: str, unit: str, number: float, sense: Sense = "", goal: float | None = None) -> Line:
    """Return the line of a number that is the same in every repeat."""
    return Line(what, unit, number, number, sense, goal)


def masking(repeats: int) -> list[Line]:
    """Compare masking in place with an addition, and with Flower's mask and addition."""
    took = secagg_masking.measure(MASKED_WORDS, repeats)
    return [
        seconds("addition in place, 1e7 words", took["add"]),
        seconds("mask in place, 1e7 words", took["mask"]),
        ratio("speed of the mask / of the addition", took["add"], took["mask"], "at least", 0.45),
        ratio("the same, one thread", took["add"], took["mask, one thread"]),
        ratio("Flower's mask and addition / ours", took["flower"], took["mask"], "at least", 6.0),
        ratio("the same, one thread", took["flower"], took["mask, one thread"]),
    ]


def crypto(repeats: int) -> list[Line]:
    """Measure one site and the aggregator, 50 sites, 1e6 words."""
    took = secagg_costs.crypto(SITES, WORDS, LOST, repeats)
    return [
        seconds("one site's round, n = 50, 1e6 words", took["site"], "at most", 100.0),
        seconds("the same, set up anew", took["site, set-up"]),
        seconds("aggregator's round, 5 of 50 dropped", took["aggregator, lost"], "at most", 400.0),
    ]


def memory() -> list[Line]:
    """Measure the aggregator's memory with few sites and with many, 1e6 words."""
    few, many = (secagg_costs.memory(sites, WORDS) for sites in (FEW_SITES, MANY_SITES))
    mib = 2**20
    sealed = MANY_SITES**2 * SEALED_BYTES / mib
    return [
        exactly("aggregator's peak, n = 10, 1e6 words", "MiB", sum(few.values()) / mib),
        exactly("aggregator's peak, n = 100, 1e6 words", "MiB", sum(many.values()) / mib),
        exactly("of which keys, receipts, shares, n = 10", "MiB", few["messages"] / mib),
        exactly("of which keys, receipts, shares, n = 100", "MiB", many["messages"] / mib),
        exactly("sealed shares of a round, n = 100", "MiB", sealed),
        exactly("vectors, n = 100 / n = 10", "x", many["vectors"] / few["vectors"], "at most", 1.05),
    ]


def training(repeats: int) -> list[Line]:
    """Compare training rounds of the CNN with masks and without, ten sites."""
    masked, bare = secagg_training.cnn(repeats)
    took, bare_took = ([record.seconds for record in records] for records in (masked, bare))
    floats = 4 * CNN_WEIGHTS * work.SITES
    return [
        seconds("CNN round without masks", bare_took),
        seconds("CNN round with masks", took),
        ratio("CNN round with masks / without", took, bare_took, "at most", 1.15),
        exactly("bytes up / float32 weights", "x", max(each.bytes_up for each in masked) / floats, "at most", 1.02),
    ]


def table(lines: Sequence[Line]) -> str:
    """Return the lines as text."""
    width = max(len(line.what) for line in lines)
    rows = [f"{'':{width}}      {'median':>9} {'fastest':>9}  goal"]
    for line in lines:
        goal = "" if line.goal is None else f"{line.sense} {line.goal:g}{'' if line.met else '   MISSED'}"
        rows.append(f"{line.what:{width}} {line.unit:>4} {line.median:9.4g} {line.fastest:9.4g}  {goal}".rstrip())
    return "\n".join(rows)


def report(lines: Sequence[Line], repeats: int, busy: float | None, packages: Mapping[str, str], output: Path) -> None:
    """Print a benchmark's lines, and write them into a file.

    busy: how many processors others kept busy meanwhile; packages: their versions.
    """
    print(table(lines))
    print(f"\nprocessors: {os.cpu_count()}" + ("" if busy is None else f", kept busy by others: {busy:.2f}"))
    numbers = {
        "lines": [{**dataclasses.asdict(line), "met": line.met} for line in lines],
        "repeats": repeats,
        "processors": os.cpu_count(),
        "busy_with_others": busy,
        "versions": dict(packages),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(numbers, indent=2) + "\n", encoding="utf-8")
    print(f"numbers  {output}")


class Others:
    """How busy other processes kept the processors, from ``/proc/stat``; unknown where there is none.

    This process's own children count as its own once they have ended.
    """

    def __init__(self) -> None:
        self._before = (time.perf_counter(), _busy_s(), _own_s())

    def processors(self) -> float | None:
        """Return how many processors they kept busy, on average, since this was made."""
        started, busy, own = self._before
        now = _busy_s()
        if busy is None or now is None:
            return None
        return max(0.0, now - busy - (_own_s() - own)) / (time.perf_counter() - started)


def _busy_s() -> float | None:
    try:
        words = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()
    except OSError:
        return None
    user, nice, system, _idle, _waiting, interrupts, soft = map(int, words[1:8])
    return (user + nice + system + interrupts + soft) / os.sysconf("SC_CLK_TCK")


def _own_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def main() -> None:
    """Run the benchmark."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    parser = argparse.ArgumentParser(prog="python -m simulations.benchmarks.secagg", description=__doc__)
    parser.add_argument(
        "--repeats", type=int, default=5, help="how often rounds are repeated; masks ten times as often"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/bench-secagg.json"))
    options = parser.parse_args()
    others = Others()
    # The network last: its threads stay behind in the process.
    lines = [*masking(10 * options.repeats), *crypto(options.repeats), *memory(), *training(options.repeats)]
    report(lines, options.repeats, others.processors(), versions(), options.output)


if __name__ == "__main__":
    main()
