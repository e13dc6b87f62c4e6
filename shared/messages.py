"""What the two halves say to each other in a round: one frozen dataclass per message.

Every message names the run, the round and the attempt, so that an answer to another question is never taken for one
to this. A reply carries words, a refusal a code and a hint; nothing that was computed from patients travels beside
the words.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shared.examples import Arrays
from shared.fixedpoint import Words


@dataclass(frozen=True, eq=False)
class ContributeRequest:
    """The aggregator asks one site for its contribution.

    run: this run's id.
    study: digest of the study; a site that approved another one refuses.
    round: number of this exchange in the run, from 1.
    attempt: from 1; a round given up may be asked again.
    sites: number of sites that are asked, for which the words must not wrap.
    counted: the last round in which this site was in the sum, 0 for none; what it staged then is now its memory.
    state: the broadcast state.
    """

    run: str
    study: str
    round: int
    attempt: int
    sites: int
    counted: int
    state: Arrays


@dataclass(frozen=True, eq=False)
class Contributed:
    """One site's contribution: the layout's words, and the weight as the last one."""

    site: str
    run: str
    round: int
    attempt: int
    words: Words


@dataclass(frozen=True)
class Refused:
    """One site says no.

    code: short stable word.
    hint: one sentence without data.
    """

    site: str
    run: str
    round: int
    attempt: int
    code: str
    hint: str


Reply = Contributed | Refused


def payload_bytes(message: ContributeRequest | Reply) -> int:
    """Return the bytes of a message's content: arrays, their names, texts, and 8 for every other number."""
    size = 0
    for value in vars(message).values():
        if isinstance(value, np.ndarray):
            size += value.nbytes
        elif isinstance(value, dict):
            size += sum(len(name) + array.nbytes for name, array in value.items())
        else:
            size += len(value.encode()) if isinstance(value, str) else 8
    return size
