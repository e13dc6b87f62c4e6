"""The ledger at the desk: each sum is charged once before it leaves, what does not leave is not, the budget ends it.

The questions are those of a whole run that was kept: hospitals with the same secrets answer them as they did then.
"""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest

from client import deployment, store
from client.budget import compose, spendings_of
from client.charges import Charge
from shared import files, packing
from shared.errors import RunAbandoned
from shared.examples import Part
from shared.messages import Contributed, ContributeRequest, Masking, Refused, Reply, Request
from shared.packing import Packed
from shared.study import load_study
from tests.unit.client.private import BUDGET, STUDY, Listening, PrivateDesks, Said, patients_of, run


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> tuple[PrivateDesks, Listening]:
    """A whole run of four hospitals."""
    desks = PrivateDesks(tmp_path_factory.mktemp("heard"))
    return desks, run(desks)[1]


@pytest.fixture(scope="module")
def approved(tmp_path_factory: pytest.TempPathFactory) -> PrivateDesks:
    """The same hospitals before the run."""
    return PrivateDesks(tmp_path_factory.mktemp("approved"))


class Hospital:
    """Hospital a, just before it is asked for the sum of one exchange."""

    def __init__(self, desks: PrivateDesks, said: list[Said], exchange: int) -> None:
        self.desks = desks
        for each in said:
            if isinstance(each.request, ContributeRequest) and each.request.heading.round == exchange:
                self.question, self.request = each.asked, each.request
                return
            self.said(each.asked)

    def said(self, asked: Packed) -> bytes:
        packed, _ = self.desks.desks["a"].answer(asked, "message")
        return packed.text + bytes(packed.block)

    def reply(self, request: Request) -> Reply:
        packed, _ = self.desks.desks["a"].answer(packing.pack(request), "message")
        reply: Reply = packing.unpack(packed, *get_args(Reply))
        return reply

    @property
    def rounds(self) -> list[int]:
        """Of the charges, in order."""
        return [entry.charge.round for entry in self.desks.ledger("a").entries]

    @property
    def kept(self) -> bytes:
        """What is on the disk of where the study stands."""
        return (self.desks.folder / "a" / "states" / self.desks.study.digest / store.FILE).read_bytes()


@pytest.fixture
def before(tmp_path: Path, approved: PrivateDesks, heard: tuple[PrivateDesks, Listening]) -> Callable[[int], Hospital]:
    """Bring a copy of hospital a to one exchange."""
    desks = approved.copied(tmp_path / "copy", 0)
    return lambda exchange: Hospital(desks, heard[1].of("a"), exchange)


def code(reply: Reply) -> str:
    assert isinstance(reply, Refused)
    return reply.code


def test_each_exchange_is_charged_once_at_every_hospital(heard: tuple[PrivateDesks, Listening]) -> None:
    for name in "abcd":
        assert [1, 2, 3, 4, 5] == [entry.charge.round for entry in heard[0].ledger(name).entries]


def test_what_is_charged_is_no_more_than_the_plan_that_was_approved(heard: tuple[PrivateDesks, Listening]) -> None:
    """And hardly less: the plan counts with as many hospitals as there may be, each of which draws noise."""
    plan = compose(spendings_of(heard[0].study, "any"))
    for name in "abcd":
        spent = compose(heard[0].ledger(name).spendings)
        for part in Part:
            assert plan.rdp[part] == pytest.approx(spent.rdp[part])
            assert spent.sampler_error[part] <= plan.sampler_error[part]


def test_the_budget_covers_one_run_exactly_and_not_the_first_sum_of_another(
    heard: tuple[PrivateDesks, Listening], tmp_path: Path
) -> None:
    desks = heard[0].copied(tmp_path / "copy", 1)
    with pytest.raises(RunAbandoned, match=r"a \(budget-exhausted\), b \(budget-exhausted\)"):
        run(desks)

    assert 5 == len(desks.ledger("a").entries)


def test_the_same_question_again_gets_the_same_bytes_and_is_not_charged(before: Callable[[int], Hospital]) -> None:
    a = before(2)
    first = a.said(a.question)

    assert first == a.said(a.question)
    a.desks.restart("a")
    assert first == a.said(a.question)
    assert [1, 2] == a.rounds


def test_another_question_in_an_exchange_that_was_answered_is_refused_and_not_charged(
    before: Callable[[int], Hospital],
) -> None:
    a = before(2)
    a.said(a.question)
    state = {**a.request.state, "train/weights/coef": a.request.state["train/weights/coef"] + 1.0}

    assert "already-answered" == code(a.reply(dataclasses.replace(a.request, state=state)))
    assert [1, 2] == a.rounds


def spoiled(request: ContributeRequest) -> ContributeRequest:
    assert request.masking
    sealed = {**request.masking.sealed, "b": bytes(len(request.masking.sealed["b"]))}
    return dataclasses.replace(request, masking=Masking(sealed))


def without_noise(request: ContributeRequest) -> ContributeRequest:
    return dataclasses.replace(request, masking=None)


def beyond(request: ContributeRequest) -> ContributeRequest:
    return dataclasses.replace(request, heading=dataclasses.replace(request.heading, round=6))


def endless(request: ContributeRequest) -> ContributeRequest:
    state = {**request.state, "train/weights/coef": request.state["train/weights/coef"] + np.inf}
    return dataclasses.replace(request, state=state)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (spoiled, "seal-broken"),
        (without_noise, "unmasked"),
        (beyond, "beyond-plan"),
        (endless, "state-out-of-bounds"),
    ],
)
def test_what_is_refused_is_not_charged_and_the_question_of_the_plan_is_answered_after_it(
    before: Callable[[int], Hospital], change: Callable[[ContributeRequest], ContributeRequest], expected: str
) -> None:
    a = before(2)

    assert expected == code(a.reply(change(a.request)))
    assert [1] == a.rounds
    assert isinstance(a.reply(a.request), Contributed)
    assert [1, 2] == a.rounds


def test_a_run_that_is_over_gives_no_sum_more_than_planned(
    before: Callable[[int], Hospital], heard: tuple[PrivateDesks, Listening]
) -> None:
    a = before(5)
    a.said(a.question)
    more = [each.request for each in heard[1].of("a", ContributeRequest)][-1]
    assert isinstance(more, ContributeRequest)

    assert "beyond-plan" == code(a.reply(beyond(more)))
    assert [1, 2, 3, 4, 5] == a.rounds


def test_an_exhausted_budget_refuses_keeps_the_state_and_answers_once_there_is_one(
    before: Callable[[int], Hospital],
) -> None:
    a = before(2)
    kept = a.kept
    a.desks.pays("a", "epsilon = 1.0\ndelta = 1e-4")

    assert "budget-exhausted" == code(a.reply(a.request))
    assert ([1], kept) == (a.rounds, a.kept)
    a.desks.pays("a", BUDGET)
    assert isinstance(a.reply(a.request), Contributed)
    assert [1, 2] == a.rounds


def test_without_a_budget_nothing_leaves(before: Callable[[int], Hospital]) -> None:
    a = before(1)
    a.desks.pays("a", "")

    assert "no-budget" == code(a.reply(a.request))


def test_a_damaged_ledger_lets_nothing_leave(before: Callable[[int], Hospital]) -> None:
    a = before(2)
    (a.desks.folder / "a" / "ledger" / "small.jsonl").unlink()

    assert "ledger-damaged" == code(a.reply(a.request))


class Killed(BaseException):
    """The node's process is gone."""


def test_a_node_that_is_killed_after_the_charge_has_charged_and_said_nothing(
    before: Callable[[int], Hospital],
) -> None:
    a = before(2)
    kept, pay = a.kept, deployment.pay(a.desks.folder / "a")

    def strike(dataset: str, wanted: Charge) -> None:
        pay(dataset, wanted)
        raise Killed

    a.desks.desks["a"].hospital = dataclasses.replace(a.desks.desks["a"].hospital, pay=strike)
    with pytest.raises(Killed):
        a.said(a.question)

    assert ([1, 2], kept) == (a.rounds, a.kept)
    # Its secrets are gone, so the aggregator has to begin the exchange anew; until then nothing more is charged.
    a.desks.restart("a")
    assert "not-shared" == code(a.reply(a.request))
    assert [1, 2] == a.rounds


def test_what_could_not_be_kept_is_charged_again_when_it_is_asked_again(
    before: Callable[[int], Hospital], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise that was drawn and not kept is drawn anew: what was charged first was for nothing, and stays charged."""
    a = before(2)

    whole = files.replace

    def full(path: Path, *arguments: Any) -> None:
        if path.name == store.FILE:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        whole(path, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(files, "replace", full)
        assert "disk" == code(a.reply(a.request))
    assert isinstance(a.reply(a.request), Contributed)
    assert [1, 2, 2] == a.rounds
    assert 3 == len({entry.charge.draw for entry in a.desks.ledger("a").entries})


def test_two_studies_of_the_same_patients_share_one_ledger(tmp_path: Path) -> None:
    """Each costs the whole budget of the other: the second gets nothing."""
    short = STUDY.replace("rounds = 3", "rounds = 1")
    desks = PrivateDesks(tmp_path, "abc", short)
    run(desks)
    (tmp_path / "second.toml").write_text(short.replace('name = "small"', 'name = "second"'))
    first, desks.study = desks.study, load_study(tmp_path / "second.toml")
    desks.text = (tmp_path / "second.toml").read_text()
    for name in "abc":
        desks.treats(name, patients_of(name))
    with pytest.raises(RunAbandoned, match="budget-exhausted"):
        run(desks)

    assert {first.digest} == {entry.charge.digest for entry in desks.ledger("a").entries}
    assert 3 == len(desks.ledger("a").entries)
