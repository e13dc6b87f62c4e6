"""Planned faults: what may go wrong with a site, put between the aggregator and a healthy one.

A fault is written ``SITE EXCHANGE KIND``, for instance ``hospital_2 4 late``, in the study's ``[simulation] faults``.
Exchanges are counted from 1 over the whole run: 1 is the preparation, and training round r is exchange r + 1. A fourth
word names the step of secure aggregation in which it happens, ``keys``, ``shares`` or ``reveal``; without it, the fault
is in the contribution.

    lost        the site never answers
    late        the answer comes after the deadline, and turns up in the next exchange
    twice       the answer comes twice
    nan         the words are replaced by floating-point NaN
    shape       one word is missing
    exception   the site's method raises, because its request came without a state

In the other steps than the contribution, a fault is ``lost``, ``late`` or ``twice``. A site has one fault in a step of
an exchange at most.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from server.transport import Arrival, Transport
from shared.errors import StudyError, nearest
from shared.messages import (
    Contributed,
    ContributeRequest,
    KeysRequest,
    Reply,
    Request,
    RevealRequest,
    SharesRequest,
)
from shared.study import Study

Kind = Literal["lost", "late", "twice", "nan", "shape", "exception"]
Step = Literal["contribute", "keys", "shares", "reveal"]

_ANYWHERE = ("lost", "late", "twice")
_STEPS: dict[type[Any], str] = {
    ContributeRequest: "contribute",
    KeysRequest: "keys",
    SharesRequest: "shares",
    RevealRequest: "reveal",
}


@dataclass(frozen=True)
class Fault:
    """One planned fault: which site, in which exchange and step, and what happens."""

    site: str
    exchange: int
    kind: Kind
    step: Step = "contribute"


def parse(text: str, sites: Sequence[str]) -> Fault:
    """Return the fault that ``SITE EXCHANGE KIND [STEP]`` describes.

    Raises: StudyError naming what is wrong.
    """
    words = text.split()
    if len(words) not in (3, 4) or not words[1].isdecimal() or int(words[1]) < 1:
        raise StudyError(
            "[simulation] faults: expected 'SITE EXCHANGE KIND' or 'SITE EXCHANGE KIND STEP', as in 'hospital_2 4 late'"
            f" or 'hospital_2 4 lost reveal'. Received: {text!r}"
        )
    site, number, kind = words[:3]
    step = words[3] if len(words) == 4 else "contribute"
    kinds = get_args(Kind) if step == "contribute" else _ANYWHERE
    for word, known in ((site, sites), (step, get_args(Step)), (kind, kinds)):
        if word not in known:
            raise StudyError(f"[simulation] faults: {text!r}: unknown {word!r}. {nearest(word, known)}")
    return Fault(site, int(number), kind, step)  # type: ignore[arg-type]  # checked above


def planned(study: Study, sites: Sequence[str]) -> tuple[Fault, ...]:
    """Return the faults of a study.

    sites: names of the hospitals.

    Raises: StudyError naming the fault that cannot be.
    """
    known: dict[tuple[str, int, str], Fault] = {}
    rounds = study.method.rounds
    for text in study.simulation.faults:
        fault = parse(text, sites)
        if fault.exchange > rounds + 2:
            raise StudyError(
                f"[simulation] faults: {text!r}: expected an exchange from 1 to {rounds + 2}: the preparation, {rounds}"
                f" rounds and the evaluation. Received: {fault.exchange}"
            )
        if fault.step != "contribute" and not study.aggregation.secure:
            raise StudyError(
                f"[simulation] faults: {text!r}: without secure aggregation there is no step {fault.step!r}: leave the"
                " word out"
            )
        if (fault.site, fault.exchange, fault.step) in known:
            raise StudyError(
                f"[simulation] faults: {text!r}: site {fault.site!r} has another fault in exchange {fault.exchange}"
                " already. Remove one."
            )
        known[fault.site, fault.exchange, fault.step] = fault
    return tuple(known.values())


class FaultyTransport:
    """A transport that does what ``inner`` does, except for the planned faults."""

    def __init__(self, inner: Transport, faults: Sequence[Fault]) -> None:
        self._inner = inner
        self._faults = tuple(faults)
        self._late: dict[str, Reply] = {}

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        """Yield what arrives, spoiled as planned."""
        kinds = {
            fault.site: fault.kind
            for fault in self._faults
            if fault.site in requests
            and fault.exchange == requests[fault.site].heading.round
            and fault.step == _STEPS.get(type(requests[fault.site]))
        }
        late, self._late = self._late, {}
        for site, reply in late.items():
            yield Arrival(site, reply)
        sent: dict[str, Request] = {}
        for site, request in requests.items():
            if kinds.get(site) == "lost":
                yield Arrival(site, None, "no-reply")
            elif kinds.get(site) == "exception" and isinstance(request, ContributeRequest):
                sent[site] = dataclasses.replace(request, state={})
            else:
                sent[site] = request
        for arrival in self._inner.exchange(sent, deadline_s):
            yield from self._spoil(arrival, kinds.get(arrival.site))

    def _spoil(self, arrival: Arrival, kind: Kind | None) -> Iterator[Arrival]:
        reply = arrival.reply
        if kind == "late" and reply is not None:
            self._late[arrival.site] = reply
            yield Arrival(arrival.site, None, "late")
            return
        if kind in ("nan", "shape") and isinstance(reply, Contributed):
            words: Any = np.full(len(reply.words), np.nan) if kind == "nan" else reply.words[:-1]
            arrival = Arrival(arrival.site, dataclasses.replace(reply, words=words))
        yield arrival
        if kind == "twice":
            yield arrival
