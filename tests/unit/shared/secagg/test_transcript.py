"""What is signed, derived from and digested is one unambiguous byte string, and it never changes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.messages import Heading
from shared.secagg.transcript import Broadcast, digest, encode, state_digest, statement
from tests.unit.shared.secagg import independent
from tests.unit.shared.secagg.independent import HEADING, ours

WHERE = Heading(*HEADING)
NESTED = ("aé", 5, (), ("x", (0, b"")))

fields = st.recursive(
    st.binary(max_size=3) | st.text(max_size=3) | st.integers(0, 2**64 - 1) | st.integers(0, 300),
    lambda inner: st.lists(inner, max_size=3).map(tuple),
    max_leaves=6,
)


def test_the_encoding_of_a_field_can_be_written_by_hand() -> None:
    length = bytes(7)
    assert b"t" + length + b"\x02" + b"i" + length + b"\x03" + b"s" + length + b"\x01a" == encode((3, "a"))


@given(fields)
@example((b"", "", 0, ()))
def test_a_second_writing_of_the_encoding_agrees(field: Any) -> None:
    assert independent.encoded(field) == encode(field)


def decoded(data: bytes) -> tuple[Any, bytes]:
    """Return the field with which an encoding opens, and the rest: what can be read back is injective."""
    kind, value, rest = data[:1], int.from_bytes(data[1:9], "big"), data[9:]
    if kind == b"i":
        return value, rest
    if kind == b"t":
        found = []
        for _ in range(value):
            field, rest = decoded(rest)
            found.append(field)
        return tuple(found), rest
    content = rest[:value]
    return (content.decode() if kind == b"s" else content), rest[value:]


@given(fields, st.binary(max_size=5))
def test_a_field_is_read_back_from_its_encoding_whatever_follows(field: Any, after: bytes) -> None:
    """So the encoding is injective, and no encoding is the beginning of another."""
    assert (field, after) == decoded(encode(field) + after)


@given(fields, fields)
@example(("ab", "c"), ("a", "bc"))
@example((b"a",), ("a",))
@example(("a",), "a")
@example((1, ()), ((1,),))
def test_two_encodings_are_equal_only_if_the_fields_are(one: Any, other: Any) -> None:
    assert (one == other) == (encode(one) == encode(other))


@pytest.mark.parametrize(
    "field",
    [None, 1.5, -1, 2**64, "\ud800", np.int64(3), np.zeros(2), ("a", None), {"a": 1}, {"a"}, bytearray(b"ab"), ["a"]],
)
def test_what_has_no_encoding_is_an_error(field: Any) -> None:
    with pytest.raises((TypeError, OverflowError, UnicodeEncodeError)):
        encode(field)


def test_the_encoding_never_changes() -> None:
    assert ours("encode") == encode((b"\x01\x02", *NESTED))


def test_statements_and_digests_never_change() -> None:
    said = ("site", b"\x00", 3)
    assert independent.statement("label", *said) == ours("statement") == statement("label", WHERE, *said)
    assert independent.digest("label", *said) == ours("digest") == digest("label", WHERE, *said)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(statement("join", WHERE, "a"), id="label"),
        pytest.param(statement("keys", Heading("other", *HEADING[1:]), "a"), id="run"),
        pytest.param(statement("keys", Heading(HEADING[0], "other", *HEADING[2:]), "a"), id="study"),
        pytest.param(statement("keys", Heading(*HEADING[:2], 8, 2), "a"), id="round"),
        pytest.param(statement("keys", Heading(*HEADING[:3], 3), "a"), id="attempt"),
        pytest.param(statement("keys", WHERE, "b"), id="field"),
        pytest.param(statement("keys", WHERE, "a", ""), id="one field more"),
    ],
)
def test_a_statement_for_one_purpose_is_none_for_another(other: bytes) -> None:
    assert statement("keys", WHERE, "a") != other


def test_the_digest_of_a_state_never_changes() -> None:
    state = {"weights": np.array([[1.0], [-2.0]]), "bias": np.array(0.5, dtype=np.float32)}
    assert ours("state_digest") == state_digest(state)


STATE = {"a": np.array([1.0, 0.0]), "b": np.array([3, 4], dtype=np.int32)}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"c": STATE["a"], "b": STATE["b"]}, id="name"),
        pytest.param({"a": STATE["b"], "b": STATE["a"]}, id="names exchanged"),
        pytest.param({**STATE, "a": np.array([1.0, 1e-300])}, id="value"),
        pytest.param({**STATE, "a": np.array([1.0, -0.0])}, id="sign of zero"),
        pytest.param({**STATE, "a": np.array([1.0, np.nan])}, id="NaN"),
        pytest.param({**STATE, "a": np.array([[1.0, 0.0]])}, id="shape of as many values"),
        pytest.param({**STATE, "b": np.array([3, 4], dtype=np.uint32)}, id="type of the same bytes"),
        pytest.param({**STATE, "b": np.array([3, 4], dtype=np.int64)}, id="type of the same values"),
        pytest.param({"a": STATE["a"]}, id="one array fewer"),
        pytest.param({**STATE, "c": np.zeros(0)}, id="an empty array more"),
    ],
)
def test_another_state_has_another_digest(other: dict[str, np.ndarray]) -> None:
    assert state_digest(STATE) != state_digest(other)


def test_one_number_is_no_vector_of_one_number() -> None:
    assert state_digest({"a": np.array(1.0)}) != state_digest({"a": np.array([1.0])})


@pytest.mark.parametrize(
    "same",
    [
        pytest.param(dict(reversed(STATE.items())), id="order of the names"),
        pytest.param({**STATE, "a": np.array([1.0, 9.0, 0.0])[::2]}, id="place in memory"),
        pytest.param({**STATE, "a": STATE["a"].astype(">f8")}, id="order of the bytes"),
        pytest.param(Broadcast(STATE), id="as it is sent"),
    ],
)
def test_how_a_state_lies_in_memory_does_not_change_its_digest(same: dict[str, np.ndarray]) -> None:
    assert state_digest(STATE) == state_digest(same)


def test_a_state_with_the_same_nan_has_the_same_digest() -> None:
    assert state_digest({"a": np.array([np.nan])}) == state_digest({"a": np.array([np.nan])})


def test_a_broadcast_state_is_read_like_the_arrays_it_was_made_of() -> None:
    sent = Broadcast(STATE)
    assert (["a", "b"], 2) == (list(sent), len(sent))
    assert sent["b"] is STATE["b"]
