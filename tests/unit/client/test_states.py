"""Whatever state an aggregator broadcasts, a site answers what was asked or refuses: it never breaks, or says more."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Iterator
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from client.site import answer
from server.training import Progress, run_study
from shared.layout import size_of
from shared.messages import Contributed, ContributeRequest, Refused
from shared.methods.base import PlainMean
from shared.plan import plan_of
from simulations.local import LocalTransport, local_sites
from tests.builders import random_consortium, table_study, ticking
from tests.secure import RecordingTransport

STUDIES: dict[str, dict[str, Any]] = {
    "describe": {"method__rounds": 1},
    "glm": {
        "method__rounds": 20,
        "method__options": {"family": "logistic"},
        "tuning": {"grid": {"l2": [1.0]}, "folds": 2},
    },
    "gradient-boosting": {"method__rounds": 5, "method__options": {"iterations": 2, "max_depth": 2}},
    "k-means": {"method__rounds": 4, "method__options": {"clusters": 2, "starts": 2}},
    "linear-regression": {"method__rounds": 2, "data__columns__y": {"type": "number", "range": [-10.0, 10.0]}},
    "pca": {"method__rounds": 1, "method__options": {"components": 1}},
    "random-forest": {"method__rounds": 3, "method__options": {"trees": 2, "max_depth": 2}},
    "svm": {"method__rounds": 40},
}
ODD: dict[str, Callable[[NDArray[Any]], Any]] = {
    "one more axis": lambda array: array[None],
    "twice as long": lambda array: np.concatenate([np.atleast_1d(array)] * 2),
    "empty": lambda array: array.ravel()[:0],
    "not a number": lambda array: np.full(array.shape, np.nan),
    "infinite": lambda array: np.full(array.shape, np.inf),
    "negative": lambda array: np.full(array.shape, -1, array.dtype),
    "huge": lambda array: np.full(array.shape, 2**62),
    "text": lambda array: np.full(array.shape, "x"),
}


def mutated(state: dict[str, Any], settled: Container[str]) -> Iterator[dict[str, Any]]:
    """Each array dropped, or as it should not be, but those of finished stages: these stay as they are."""
    for name, array in state.items():
        if name.split("/")[0] in settled:
            continue
        yield {other: each for other, each in state.items() if other != name}
        for change in ODD.values():
            yield {**state, name: change(np.asarray(array))}


@pytest.mark.filterwarnings("ignore")  # a node goes on after a warning of NumPy's
@pytest.mark.parametrize("method", STUDIES)
def test_a_state_that_is_none_is_refused_before_patients_are_read_or_uses_up_the_round(method: str) -> None:
    study = table_study(method__name=method, aggregation__secure=True, aggregation__min_sites=3, **STUDIES[method])
    plan = plan_of(study, PlainMean())
    sites = local_sites(study, plan, random_consortium(study, {"a": 30, "b": 30, "c": 30}).data)
    local = LocalTransport(sites)
    recording = RecordingTransport(local, local.states)
    identities = {name: site.member.signing.public for name, site in sites.items()}
    run_study(study, plan, identities, recording, Progress("", plan.start()), ticking())
    # The last sum of each stage.
    last: dict[str, Any] = {
        plan.stage(each.request.state): each
        for each in recording.asked
        if each.site == "a" and isinstance(each.request, ContributeRequest)
    }
    for asked in last.values():
        for state in mutated(dict(asked.request.state), asked.before.settled):
            request = dataclasses.replace(asked.request, state=state)
            reply, after = answer(request, asked.before, sites["a"])
            if isinstance(reply, Contributed):
                assert len(reply.words) == size_of(plan.asks(state).entries) + 1
                continue
            assert isinstance(reply, Refused)
            used_up = after.round == request.heading.round and after.secure.masked is None
            assert used_up or (reply.code != "internal-error" and after is asked.before)
