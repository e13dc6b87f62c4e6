"""Slots, token buckets and the number of log lines."""

from __future__ import annotations

import logging

import pytest

from server.gateway_limits import Buckets, Notes, Slots


def test_each_key_has_its_own_slots_and_all_share_the_total() -> None:
    slots = Slots(in_all=3, for_each=2)

    assert [True, True, False, True, False] == [slots.take(key) for key in ("a", "a", "a", "b", "c")]


def test_a_slot_that_was_given_back_can_be_taken_again() -> None:
    slots = Slots(in_all=1, for_each=1)
    slots.take("a")
    slots.give("a")

    assert slots.take("b")


def test_a_bucket_holds_its_burst_and_fills_at_its_rate() -> None:
    buckets = Buckets(per_s=2, burst=3)
    times = [0.0, 0.0, 0.0, 0.0, 0.4, 0.5, 0.5]

    assert [True, True, True, False, False, True, False] == [buckets.take("a", now) for now in times]


def test_a_bucket_holds_no_more_than_its_burst_however_long_nobody_asked() -> None:
    buckets = Buckets(per_s=2, burst=1)
    buckets.take("a", 0)

    assert [True, False] == [buckets.take("a", 1000) for _ in range(2)]


def test_one_hospital_does_not_use_up_the_tokens_of_another() -> None:
    buckets = Buckets(per_s=1, burst=1)
    buckets.take("a", 0)

    assert buckets.take("b", 0)


def test_refusals_beyond_the_burst_are_not_written_one_by_one(caplog: pytest.LogCaptureFixture) -> None:
    notes = Notes(per_s=0.0, burst=2)
    with caplog.at_level(logging.WARNING, "consilium.gateway"):
        for number in range(5):
            notes.refused("10.0.0.1", f"try {number}")

    assert ["refused: 10.0.0.1: try 0", "refused: 10.0.0.1: try 1"] == caplog.messages
