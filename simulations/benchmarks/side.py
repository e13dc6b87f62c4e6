"""One side of a benchmark in a process of its own: prints its ``Timing`` as the last line of standard output.

``python -m simulations.benchmarks.side NAME STARTED``, where STARTED is ``time.time()`` at the start of the process.
"""

from __future__ import annotations

import dataclasses
import json
import sys

from simulations.benchmarks.work import Timing


def run(name: str, process_started: float) -> Timing:
    """Run the side of that name; only what it needs is imported."""
    work, _, side = name.partition("-")
    if side == "flower":
        from simulations.benchmarks import flower_peer

        return {"logistic": flower_peer.logistic, "cnn": flower_peer.cnn}[work](process_started)
    from simulations.benchmarks import our_side

    return {"logistic": our_side.logistic, "cnn": our_side.cnn}[work](process_started)


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(run(sys.argv[1], float(sys.argv[2])))))
