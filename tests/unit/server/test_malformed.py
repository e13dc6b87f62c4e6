"""Whatever one hospital sends, the aggregator goes on or gives the run up with a reason: it never breaks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client.policy import Policy
from server.strategies import server_optimizer
from server.training import Progress, run_study
from shared.errors import RunAbandoned
from shared.examples import Part
from shared.messages import Refused
from shared.methods.words import word_plan
from shared.plan import plan_of
from simulations.local import LocalTransport, local_sites
from tests.builders import random_consortium, table_study, ticking
from tests.secure import FaultyTransport, Step, powers

ODD = "\ud800"
"""A text that no encoding has."""


@pytest.mark.parametrize(
    ("step", "round_number", "spoil"),
    [
        pytest.param("join", 0, lambda r: replace(r, nonce=5), id="nonce is a number"),
        pytest.param("join", 0, lambda r: replace(r, min_sites=-1), id="rules below nothing"),
        pytest.param("join", 0, lambda r: replace(r, heading=None), id="no heading"),
        pytest.param("keys", 1, lambda r: replace(r, mask=-1), id="key is a number"),
        pytest.param("keys", 1, lambda r: replace(r, signature=None), id="no signature"),
        pytest.param("shares", 1, lambda r: replace(r, sealed=None), id="no shares"),
        pytest.param("shares", 1, lambda r: replace(r, sealed={**r.sealed, ODD: b""}), id="shares for no name"),
        pytest.param("shares", 1, lambda r: replace(r, sealed=dict.fromkeys(r.sealed)), id="shares of nothing"),
        pytest.param("shares", 1, lambda r: replace(r, sealed=dict.fromkeys(r.sealed, "x" * 94)), id="shares as text"),
        pytest.param("shares", 1, lambda r: replace(r, sealed=tuple(r.sealed)), id="shares are names"),
        pytest.param("contribute", 1, lambda r: replace(r, words=None), id="no words"),
        pytest.param("contribute", 1, lambda r: replace(r, words=[1, 2]), id="words are a list"),
        pytest.param("contribute", 1, lambda r: replace(r, words=np.array(["x", "y"])), id="words are texts"),
        pytest.param("contribute", 1, lambda r: replace(r, site=ODD), id="from no name"),
        pytest.param("contribute", 1, lambda r: replace(r, receipt=5), id="receipt is a number"),
        pytest.param(
            "contribute", 1, lambda r: replace(r, next_keys=replace(r.next_keys, seed_digest=-1)), id="digest"
        ),
        pytest.param("contribute", 1, lambda r: replace(r, heading=np.zeros(2)), id="heading is a vector"),
        pytest.param("contribute", 1, lambda r: replace(r, next_keys=np.zeros(2)), id="next keys are a vector"),
        pytest.param("contribute", 1, lambda r: replace(r, site=np.array(["b", "c"])), id="from many"),
        pytest.param("contribute", 1, lambda r: Refused("b", r.heading, np.zeros(2), ""), id="refused by a vector"),  # type: ignore[arg-type]
        pytest.param("reveal", 1, lambda r: replace(r, seeds=None), id="no seeds"),
        pytest.param("reveal", 1, lambda r: replace(r, seeds=dict.fromkeys(r.seeds)), id="seeds of nothing"),
        pytest.param("reveal", 1, lambda r: replace(r, next_sealed={ODD: b""}), id="next shares for no name"),
    ],
)
def test_one_unreadable_answer_leaves_its_site_out_and_the_sum_right(step: Step, round_number: int, spoil: Any) -> None:
    made = powers(5)
    progress = made.run(FaultyTransport(made.local, "b", step, round_number, spoil))
    for record in progress.history:
        expected = sum(2.0 ** "abcde".index(name) for name in record.contributors)
        assert record.measurements["first"] == expected
        assert set("acde") <= set(record.contributors)


def test_words_that_encode_nothing_end_the_run_with_a_reason() -> None:
    made = powers(5)

    def noise(reply: Any) -> Any:
        return replace(reply, words=np.random.default_rng(0).integers(0, 2**64, len(reply.words), dtype=np.uint64))

    with pytest.raises(RunAbandoned, match=r"exchange 2: .* exceeds what 5 contributions can add up to.*One of those"):
        made.run(FaultyTransport(made.local, "b", "contribute", 2, noise))


def test_an_unreadable_answer_to_a_bare_question_leaves_nothing_in_the_sum() -> None:
    made = powers(5, table_study(method__rounds=1))
    spoil = lambda reply: replace(reply, receipt=np.zeros(2), site=np.array(["b", "c"]))  # noqa: E731
    progress = made.run(FaultyTransport(made.local, "b", "contribute", 1, spoil))
    assert [record.measurements["first"] for record in progress.history] == [29.0, 31.0, 31.0]
    assert dict(progress.history[0].dropped) == {"b": "malformed"}


def test_what_a_bare_answer_need_not_have_is_not_looked_at() -> None:
    made = powers(5, table_study(method__rounds=1))
    spoil = lambda reply: replace(reply, receipt=np.zeros(2), next_keys=np.zeros(2))  # noqa: E731
    progress = made.run(FaultyTransport(made.local, "b", "contribute", 1, spoil))
    assert [record.measurements["first"] for record in progress.history] == [31.0, 31.0, 31.0]


def test_a_sum_of_no_rows_ends_the_run_with_a_reason() -> None:
    """b takes away from the weight of the sum all the rows that it learned of in the preparation."""
    study = table_study(aggregation={"secure": True, "min_sites": 3})
    plan = plan_of(study, server_optimizer(study))
    data = random_consortium(study, {"a": 20, "b": 30, "c": 25}).data
    sites = local_sites(study, plan, data)
    rows = sum(len(site.parts[Part.TRAINING]) for site in data.values())

    def cancel(reply: Any) -> Any:
        words = reply.words.copy()
        words[-1:] -= np.uint64(rows * 2 ** weight_bits())  # a scalar would warn where it wraps
        return replace(reply, words=words)

    saved: list[Progress] = []
    observers = replace(ticking(), save=saved.append)

    def weight_bits() -> int:
        return word_plan(plan.asks(saved[-1].state), 3).fraction_bits[-1]

    identities = {name: site.member.signing.public for name, site in sites.items()}
    transport = FaultyTransport(LocalTransport(sites), "b", "contribute", 2, cancel)
    with pytest.raises(RunAbandoned, match=r"exchange 2: the train stage cannot go on.*\(a, b, c\) is faulty.*mended"):
        run_study(study, plan, identities, transport, Progress("", plan.start()), observers)


def test_a_hospital_whose_policy_asks_for_more_sites_than_joined_is_named() -> None:
    made = powers(4)
    strict = replace(made.sites["c"], member=replace(made.member("c"), policy=Policy(min_sites=9)))
    made.local.sites["c"] = made.sites["c"] = strict
    with pytest.raises(RunAbandoned, match="4 sites joined the run, and the policy of c asks for 9"):
        made.run()
