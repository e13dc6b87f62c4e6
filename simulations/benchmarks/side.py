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
    if "flower" in name:
        from simulations.benchmarks import flower_peer

        sides = {
            "logistic-flower": flower_peer.logistic,
            "cnn-flower": flower_peer.cnn,
            "cnn-flower-kept": flower_peer.cnn_kept,
        }
    else:
        from simulations.benchmarks import our_side

        sides = {"logistic-ours": our_side.logistic, "cnn-ours": our_side.cnn}
    return sides[name](process_started)


if __name__ == "__main__":
    print(json.dumps(dataclasses.asdict(run(sys.argv[1], float(sys.argv[2])))))
