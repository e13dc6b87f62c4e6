"""A site answers what it was asked, refuses what it should, and lets no data out with an error."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np
import pytest

from client.site import Site, SiteState, answer
from server.strategies import server_optimizer
from shared.messages import Contributed, ContributeRequest, Heading, Refused
from shared.plan import plan_of
from simulations.local import local_sites
from tests.builders import examples_of, random_consortium, site_of, table_study, ticking

STUDY = table_study()
PLAN = plan_of(STUDY, server_optimizer(STUDY))
DATA = site_of("a", examples_of([[1.0, 2.0], [3.0, 5.0]], [0, 1]))
SITE = local_sites(STUDY, PLAN, {"a": DATA})["a"]


def request(
    study: str = STUDY.digest, run: str = "run", number: int = 1, counted: int = 0, state: object = None
) -> ContributeRequest:
    return ContributeRequest(Heading(run, study, number), 3, counted, PLAN.start() if state is None else state)  # type: ignore[arg-type]


def site_with(method: object) -> Site:
    return dataclasses.replace(SITE, method=method)  # type: ignore[arg-type]


def test_an_answer_carries_the_heading_of_the_question() -> None:
    reply, state = answer(request(), SiteState(), SITE)
    assert isinstance(reply, Contributed)
    assert (reply.site, reply.heading) == ("a", Heading("run", STUDY.digest, 1, 1))
    assert (state.run, state.round) == ("run", 1)


def test_the_same_question_gets_the_same_words() -> None:
    first, state = answer(request(), SiteState(), SITE)
    second, _ = answer(request(), state, SITE)
    assert np.array_equal(first.words, second.words)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"study": "0" * 64}, "another-study"),
        ({"number": 0}, "round-went-back"),
        ({"number": 6}, "beyond-plan"),
        ({"state": {}}, "internal-error"),
    ],
)
def test_a_refusal_has_its_own_code(changes: dict[str, Any], code: str) -> None:
    _, state = answer(request(), SiteState(), SITE)
    reply, after = answer(request(**changes), state, SITE)
    assert isinstance(reply, Refused)
    assert reply.code == code
    assert after.round == 1


def test_weights_of_huge_norm_are_refused() -> None:
    """Two chosen states of norm 1e9 isolate one patient through a perfect sum; a site does not answer them."""
    consortium = random_consortium(STUDY, {"a": 10})
    plan, progress = consortium.run(ticking())
    state = {**progress.state, "stage": np.array(1), "train/round": np.array(0)}
    for coefficient, code in ((1e9, "state-out-of-bounds"), (np.nan, "state-out-of-bounds")):
        bad = {**state, "train/weights/coef": np.full((1, 2), coefficient)}
        reply, _ = answer(request(state=bad, number=2), SiteState(), local_sites(STUDY, plan, consortium.data)["a"])
        assert isinstance(reply, Refused)
        assert reply.code == code


def test_an_error_inside_a_method_lets_no_patient_text_out(caplog: pytest.LogCaptureFixture) -> None:
    message = "patient Alice Example 123-45-6789"

    class Leaky:
        def asks(self, _state: object) -> object:
            raise RuntimeError(message)

    with caplog.at_level(logging.DEBUG):
        reply, _ = answer(request(), SiteState(), site_with(Leaky()))
    assert isinstance(reply, Refused)
    assert "Alice" not in f"{reply}{caplog.text}"
    assert "RuntimeError" in caplog.text
    assert "test_site.py" in caplog.text  # the place in the code is in the site's own log


class Counting:
    """A method that remembers how often it was counted."""

    def asks(self, state: object) -> object:
        return PLAN.asks(PLAN.start())

    def contribute(self, state, examples, memory, randomness):  # type: ignore[no-untyped-def]
        contribution, _ = PLAN.contribute(PLAN.start(), examples, {}, randomness)
        return contribution, {"times": np.array(int(memory.get("times", 0)) + 1)}


def test_memory_is_committed_only_when_the_site_was_counted() -> None:
    state, method = SiteState(), Counting()
    _, state = answer(request(number=1), state, site_with(method))
    _, state = answer(request(number=2, counted=1), state, site_with(method))
    assert int(state.memory["times"]) == 1
    # Round 2 was not counted: what it staged is forgotten.
    _, state = answer(request(number=3, counted=1), state, site_with(method))
    assert int(state.memory["times"]) == 1
    assert int(state.staged["times"]) == 2


def test_another_run_starts_without_memory() -> None:
    _, state = answer(request(), SiteState(), site_with(Counting()))
    _, state = answer(request(run="other", counted=1), state, site_with(Counting()))
    assert state.memory == {}
