"""A message's size counts what it carries, and what is secret in it is not shown."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from shared.messages import (
    Contributed,
    ContributeRequest,
    Counts,
    Ended,
    EndRequest,
    Heading,
    Keys,
    Masking,
    PreflightRequest,
    Ready,
    Receipt,
    Revealed,
    RevealRequest,
    Shares,
    Shown,
    payload_bytes,
)

WHERE = Heading("run", "study", 1)
HEADING_BYTES = 3 + 5 + 8 + 8
KEYS = Keys("a", WHERE, bytes(32), bytes(32), bytes(32), bytes(64))
KEYS_BYTES = 1 + HEADING_BYTES + 3 * 32 + 64
RECEIPT = Receipt("a", WHERE, bytes(32), bytes(32), bytes(64))
RECEIPT_BYTES = 1 + HEADING_BYTES + 2 * 32 + 64


@pytest.mark.parametrize(
    ("expected", "content"),
    [
        pytest.param(0, None, id="nothing"),
        pytest.param(8, 7, id="a number"),
        pytest.param(8, 0.5, id="a real number"),
        pytest.param(3, b"abc", id="bytes"),
        pytest.param(3, "aé", id="a text, in UTF-8"),
        pytest.param(12, np.zeros(3, dtype=np.uint32), id="words"),
        pytest.param(48, np.zeros((2, 3)), id="a matrix"),
        pytest.param(8, np.array(1.0), id="an array of one number"),
        pytest.param(0, (), id="no parts"),
        pytest.param(14, (b"abc", ("def", 1)), id="parts of parts"),
        pytest.param(3 + 4 + 24, {"one": b"abcd", "": np.zeros(3)}, id="names and what is named"),
        pytest.param(HEADING_BYTES, WHERE, id="a heading"),
    ],
)
def test_the_size_of_content_is_that_of_its_bytes(expected: int, content: Any) -> None:
    assert expected == payload_bytes(content)


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        pytest.param(HEADING_BYTES, PreflightRequest(WHERE), id="a question whether a site is ready"),
        pytest.param(
            1 + HEADING_BYTES + (1 + 32) + 4 + (4 * 8 + 2 * 8 + (3 + 8)),
            Ready("a", WHERE, {"a": bytes(32)}, "code", Counts(10, 20, 16, 4, (12, 8), {"age": 2})),
            id="ready",
        ),
        pytest.param(HEADING_BYTES + 8, EndRequest(WHERE, True), id="a request to forget"),
        pytest.param(1 + HEADING_BYTES + 8, Ended("a", WHERE), id="ended"),
        pytest.param(
            1 + HEADING_BYTES + 8 + (5 + 3 * 8),
            Ended("a", WHERE, 62, {"auroc": Shown(0.9, 0.8, 1.0)}),
            id="ended, with what is shown",
        ),
        pytest.param(KEYS_BYTES, KEYS, id="keys"),
        pytest.param(1 + HEADING_BYTES + 2 * (1 + 98), Shares("a", WHERE, dict.fromkeys("bc", bytes(98))), id="shares"),
        pytest.param(
            HEADING_BYTES + 8 + 8 + (7 + 80) + (1 + 98),
            ContributeRequest(WHERE, 3, 0, {"weights": np.zeros(10)}, Masking({"b": bytes(98)})),
            id="a request for words",
        ),
        pytest.param(
            1 + HEADING_BYTES + 40 + RECEIPT_BYTES + KEYS_BYTES,
            Contributed("a", WHERE, np.zeros(10, dtype=np.uint32), RECEIPT, KEYS),
            id="words",
        ),
        pytest.param(1 + HEADING_BYTES + 40, Contributed("a", WHERE, np.zeros(5, dtype=np.uint64)), id="bare words"),
        pytest.param(
            HEADING_BYTES + 2 * RECEIPT_BYTES + (1 + 1) + KEYS_BYTES,
            RevealRequest(WHERE, (RECEIPT, RECEIPT), ("c", "d"), (KEYS,)),
            id="a request for shares",
        ),
        pytest.param(
            1 + HEADING_BYTES + 2 * (1 + 33) + (1 + 33) + (1 + 98),
            Revealed("a", WHERE, dict.fromkeys("ab", bytes(33)), {"c": bytes(33)}, {"b": bytes(98)}),
            id="shares of masks",
        ),
    ],
)
def test_the_size_of_a_message_is_that_of_all_it_carries(expected: int, message: Any) -> None:
    assert expected == payload_bytes(message)


SECRET = {"b": b"a share of a secret"}


@pytest.mark.parametrize(
    "message",
    [
        Shares("a", WHERE, SECRET),
        Masking(SECRET),
        ContributeRequest(WHERE, 3, 0, {}, Masking(SECRET)),
        Revealed("a", WHERE, SECRET, SECRET, SECRET),
    ],
    ids=lambda message: type(message).__name__,
)
def test_a_message_that_is_shown_hides_its_shares(message: Any) -> None:
    assert type(message).__name__ in repr(message)
    assert "secret" not in repr(message)


def test_words_of_equal_messages_are_not_compared() -> None:
    """A message with an array is equal to itself alone: comparing arrays gives no single truth."""
    one, other = (Contributed("a", WHERE, np.zeros(2, dtype=np.uint32)) for _ in range(2))
    assert one == one
    assert one != other


def test_the_first_attempt_is_the_one_that_is_not_stated() -> None:
    assert Heading("run", "study", 1, 1) == WHERE
