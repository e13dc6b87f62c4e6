"""A killed aggregator asks the same again: the same sums, and no answer is used twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import replace

import pytest

from server.secagg_state import Secured
from server.training import Observers, Progress
from server.transport import Arrival, Transport
from shared.messages import Request
from tests.builders import ticking
from tests.secure import (
    STEPS,
    Hospitals,
    Loss,
    LossyTransport,
    RecordingTransport,
    Step,
    powers,
    shares_lost,
)

EVERYBODY = tuple("abcde")


class Killed(Exception):
    """The aggregator's process is gone; the hospitals' are not."""


class KillingTransport:
    """A transport during which the aggregator dies, after two answers of one step."""

    def __init__(self, inner: Transport, step: Step, round_number: int, attempt: int | None = None) -> None:
        self._inner = inner
        self._moment = (step, round_number)
        self._attempt = attempt

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        for number, arrival in enumerate(self._inner.exchange(requests, deadline_s)):
            request = requests[arrival.site]
            at = (STEPS[type(request)], request.heading.round) == self._moment
            if at and number == 2 and self._attempt in (None, request.heading.attempt):
                raise Killed
            yield arrival


class Diary:
    """What a killed aggregator had written down: the last progress, and where the round in progress stood."""

    def __init__(self, made: Hospitals, killed_after: int = 0) -> None:
        self.progress = Progress("", made.plan.start())
        self.entries = 0
        self.killed_after = killed_after

    def journal(self, secured: Secured) -> None:
        total = secured.total
        # The reveal works in place: what is written must not change with it.
        copied = replace(total, words=total.words.copy()) if total else None
        self.progress = replace(self.progress, run=secured.session.run, secured=replace(secured, total=copied))
        self.entries += 1
        if self.entries == self.killed_after:
            raise Killed

    def save(self, progress: Progress) -> None:
        self.progress = progress

    def observers(self) -> Observers:
        return dataclasses.replace(ticking(), journal=self.journal, save=self.save)


def sums(progress: Progress) -> list[tuple[tuple[str, ...], float]]:
    return [(record.contributors, record.measurements["first"]) for record in progress.history]


LOST = (Loss("e", 2, "contribute"),)


def undisturbed() -> list[tuple[tuple[str, ...], float]]:
    made = powers(5)
    return sums(made.run(LossyTransport(made.local, LOST)))


def test_a_round_is_written_down_before_contributions_and_before_the_reveal() -> None:
    made = powers(5)
    recording = RecordingTransport(made.local, made.local.states)
    written: list[tuple[Step, bool]] = []

    def journal(secured: Secured) -> None:
        assert secured.ready is not None
        written.append((recording.exchanges[-1][0], secured.total is not None))

    made.run(recording, dataclasses.replace(ticking(), journal=journal))
    before, decided = ("reveal", False), ("contribute", True)
    assert written == [("shares", False), decided, before, decided, before, decided]


@pytest.mark.parametrize("entry", range(1, 7))
def test_killed_at_an_entry_of_the_journal_the_run_ends_with_the_same_sums(entry: int) -> None:
    made = powers(5)
    diary = Diary(made, killed_after=entry)
    transport = LossyTransport(made.local, LOST)
    with pytest.raises(Killed):
        made.run(transport, diary.observers())
    assert sums(made.run(transport, diary.observers(), diary.progress)) == undisturbed()


@pytest.mark.parametrize("step", ["contribute", "reveal"])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_killed_while_answers_arrive_the_run_ends_with_the_same_sums(step: Step, number: int) -> None:
    made = powers(5)
    diary = Diary(made)
    transport = LossyTransport(made.local, LOST)
    with pytest.raises(Killed):
        made.run(KillingTransport(transport, step, number), diary.observers())
    assert sums(made.run(transport, diary.observers(), diary.progress)) == undisturbed()


def test_a_site_that_comes_back_after_the_kill_is_not_in_the_sum_that_was_decided_without_it() -> None:
    made = powers(5)
    diary = Diary(made, killed_after=4)
    with pytest.raises(Killed):
        made.run(LossyTransport(made.local, LOST), diary.observers())
    progress = made.run(made.local, diary.observers(), diary.progress)
    assert sums(progress)[1] == (("a", "b", "c", "d"), 15.0)
    assert sums(progress) == undisturbed()


@pytest.mark.parametrize("number", [1, 2])
def test_killed_between_a_finished_round_and_the_next_entry_no_sum_is_used_twice(number: int) -> None:
    """The journal's last entry is the finished round's then; its sum is not one of the round to come."""
    made = powers(5)
    diary = Diary(made)
    transport = LossyTransport(made.local, LOST)

    def save(progress: Progress) -> None:
        written = diary.progress.secured
        diary.progress = replace(progress, secured=written)
        if len(progress.history) == number:
            raise Killed

    with pytest.raises(Killed):
        made.run(transport, dataclasses.replace(diary.observers(), save=save))
    assert sums(made.run(transport, diary.observers(), diary.progress)) == undisturbed()


@pytest.mark.parametrize(("step", "again"), [("keys", 0), ("shares", 0), ("keys", 1), ("shares", 1)])
def test_killed_while_a_later_round_is_set_up_the_run_goes_on(step: Step, again: int) -> None:
    """e was away in round 2, so round 3 is set up anew, and for the second time if two shares are lost."""
    made = powers(5)
    diary = Diary(made)
    losses = LossyTransport(made.local, LOST)
    lossy = shares_lost(made, again, "b", "d", inner=losses, round_number=3)
    killing = KillingTransport(lossy, step, 3, attempt=2 + again)

    def save(progress: Progress) -> None:
        diary.progress = replace(progress, secured=diary.progress.secured)

    with pytest.raises(Killed):
        made.run(killing, dataclasses.replace(diary.observers(), save=save))
    assert sums(made.run(losses, diary.observers(), diary.progress)) == undisturbed()
