"""How fast a vector is masked in place: against NumPy's own addition, and against Flower's mask and addition.

Flower's side is what its SecAgg+ does for one mask (``flwr.client.mod.secure_aggregation``, ``_share_keys``'s second
stage): ``pseudo_rand_gen`` and ``parameters_addition`` on words of 64 bits, with its default modulus of 2**32.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np

from shared.secagg import masks

Samples = dict[str, list[float]]
"""Seconds by name of the work, one for each repeat."""

KEY = bytes(range(32))
_FLOWER_MODULUS = 2**32


def measure(words: int, repeats: int) -> Samples:
    """Return the seconds of each piece of work, taken in turns.

    words: of 32 bits, in each vector.
    """
    return interleaved(pieces(words), repeats)


def pieces(words: int) -> Mapping[str, Callable[[], object]]:
    """Return the work by name: ``add``, ``mask``, ``mask, one thread``, ``flower``. Vectors were written to before."""
    from flwr.common.secure_aggregation.ndarrays_arithmetic import parameters_addition
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    vector, other = np.ones(words, dtype=np.uint32), np.ones(words, dtype=np.uint32)
    quantised = [np.ones(words, dtype=np.int64)]
    return {
        "add": lambda: np.add(vector, other, out=vector),
        "mask": lambda: masks.apply(vector, [KEY], []),
        "mask, one thread": lambda: masks.apply(vector, [KEY], [], threads=1),
        "flower": lambda: parameters_addition(quantised, pseudo_rand_gen(KEY, _FLOWER_MODULUS, [(words,)])),
    }


def interleaved(work: Mapping[str, Callable[[], object]], repeats: int) -> Samples:
    """Time pieces of work in turns, so that whatever else the machine does meets all of them.

    Each is called twice and timed the second time: it finds in the caches what it left there itself.
    """
    samples: Samples = {name: [] for name in work}
    for _ in range(repeats):
        for name, call in work.items():
            call()
            started = time.perf_counter()
            call()
            samples[name].append(time.perf_counter() - started)
    return samples
