"""What a round of secure aggregation costs: one site's seconds, the aggregator's seconds, and the aggregator's memory.

Sites and aggregator do the protocol and nothing else (``secagg_rounds``): no model, no encoding, no network.
"""

from __future__ import annotations

import gc
import secrets
import statistics
import tracemalloc
from collections.abc import Mapping

import numpy as np

from shared.fixedpoint import Words
from shared.secagg.keys import Entropy
from simulations.benchmarks.secagg_masking import Samples
from simulations.benchmarks.secagg_rounds import (
    Aggregator,
    RealSites,
    Replay,
    members_of,
    study_of_rounds,
    timed_round,
)

_SMALL = 16
"""Words of the rounds that are recorded: receipts and shares do not depend on their number."""


def crypto(sites: int, words: int, lost: int, repeats: int, entropy: Entropy = secrets.token_bytes) -> Samples:
    """Return the seconds of one site, the median one, and of the aggregator, for each repeat.

    A repeat is three rounds: one that has to be set up, because sites were away in the one before; one in the steady
    state; and one in which ``lost`` sites mask and do not contribute.

    Every site checks every signature itself, as in a process of its own, and digests the state, as many weights as
    there are words.

    Returns: ``site, set-up`` of the first, ``site`` of the second, ``aggregator, lost`` of the last.
    """
    study = study_of_rounds()
    members = members_of(study, sites, entropy)
    same = np.ones(words, dtype=np.uint32)
    transport = RealSites(members, dict.fromkeys(members, same))
    aggregator = Aggregator(study, members, transport, words, weights=words)
    samples: Samples = {name: [] for name in ("site, set-up", "site", "aggregator, lost")}
    for _ in range(repeats):
        for name in ("site, set-up", "site"):
            samples[name].append(statistics.median(timed_round(aggregator, transport, apart=True).sites))
        samples["aggregator, lost"].append(timed_round(aggregator, transport, list(members)[:lost]).aggregator)
    return samples


def memory(sites: int, words: int, entropy: Entropy = secrets.token_bytes) -> dict[str, int]:
    """Return the aggregator's peak of traced bytes in a round in the steady state.

    Returns: ``messages``, with a vector of a few words: what keys, receipts and shares take; ``vectors``, by how much
        it is more with ``words`` of them.
    """
    study = study_of_rounds()
    members = members_of(study, sites, entropy)
    few: Mapping[str, Words] = dict.fromkeys(members, np.ones(_SMALL, dtype=np.uint32))
    recording = RealSites(members, few, keep=True)
    aggregator = Aggregator(study, members, recording, _SMALL)
    for _ in range(2):
        aggregator.round()

    def peak(size: int) -> int:
        replay = Replay(recording, size)
        gc.collect()
        tracemalloc.start()
        try:
            replayed = Aggregator(study, members, replay, size)
            replayed.round()
            tracemalloc.reset_peak()
            replayed.round()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    messages = peak(_SMALL)
    return {"messages": messages, "vectors": peak(words) - messages}
