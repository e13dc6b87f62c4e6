"""Whatever a message holds is read again as the same bits; whatever is done to its bytes is refused, or is another one.

Precisely: ``unpack`` either raises ``ProtocolError``, or returns a value whose ``pack`` is the text and the block that
were given, byte by byte. So no two byte strings are the same message, and nothing is repaired on the way.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping
from enum import Enum
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import event, example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from client.contributors import Sums
from client.secagg_state import State
from client.store import Kept
from shared import packing
from shared.errors import ProtocolError
from shared.packing import Packed
from tests.vectors.packed import KINDS, SAMPLES, alike

DTYPES = ("?", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
SECRETS = ("keys", "sharing", "masked", "revealed")
"""Parts of a site's state that never leave its memory."""


@cache
def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Return every value of a type hint, small ones."""
    plain: Mapping[Any, st.SearchStrategy[Any]] = {
        int: st.integers(0, 2**63 - 1),
        float: st.floats(allow_nan=False, allow_infinity=False),
        str: st.text(max_size=6),
        bool: st.booleans(),
        bytes: st.binary(max_size=6),
        type(None): st.none(),
    }
    if hint in plain:
        return plain[hint]
    if isinstance(hint, type) and issubclass(hint, Enum):
        return st.sampled_from(list(hint))
    if dataclasses.is_dataclass(hint):
        kind: Any = hint
        hints = typing.get_type_hints(kind)
        names = [each.name for each in dataclasses.fields(kind) if each.init]
        return st.builds(
            kind, **{name: st.none() if kind is State and name in SECRETS else values_of(hints[name]) for name in names}
        )
    return composed(typing.get_origin(hint), typing.get_args(hint))


def composed(origin: Any, inner: tuple[Any, ...]) -> st.SearchStrategy[Any]:
    if origin is np.ndarray:
        kinds = st.sampled_from(DTYPES).map(np.dtype)
        return hnp.arrays(kinds, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3))
    if origin in (typing.Union, types.UnionType):
        return st.one_of(*map(values_of, inner))
    if origin is frozenset:
        return st.frozensets(values_of(inner[0]), max_size=3)
    if origin is tuple and inner[-1] is Ellipsis:
        return st.lists(values_of(inner[0]), max_size=3).map(tuple)
    if origin is tuple:
        return st.tuples(*map(values_of, inner))
    assert issubclass(origin, Mapping)
    return st.dictionaries(*map(values_of, inner), max_size=3)


@pytest.mark.parametrize("kind", [*KINDS, Kept, Sums], ids=lambda kind: kind.__name__)
@given(data=st.data())
def test_every_value_is_read_again_bit_by_bit(kind: type[Any], data: st.DataObject) -> None:
    value = data.draw(values_of(kind))
    packed = packing.pack(value)
    read = packing.unpack(Packed(packed.text, bytes(packed.block)), kind)
    assert alike(value, read)
    again = packing.pack(read)
    assert (packed.text, bytes(packed.block)) == (again.text, bytes(again.block))


WRITTEN = [(packed.text, bytes(packed.block)) for packed in map(packing.pack, SAMPLES.values())]


def check(text: bytes, block: bytes) -> bool:
    """Assert that bytes are refused, or are the one way to write a message; return whether they were read."""
    try:
        read = packing.unpack(Packed(text, block), *KINDS)
    except ProtocolError as error:
        assert error.code in ("malformed", "protocol-version")
        return False
    packed = packing.pack(read)
    assert (text, block) == (packed.text, bytes(packed.block))
    return True


def cut(content: bytes, start: int, length: int, put: bytes) -> bytes:
    return content[:start] + put + content[start + length :]


PIECES = st.one_of(
    st.binary(max_size=4),
    st.sampled_from(
        [*b'0123456789-.eE"[]{},:\\ tfn'],
    ).map(lambda code: bytes([code])),
    st.sampled_from(
        [b"\\u0000", b"1e999", b"NaN", b"null", b"true", b"[]", b"{}", b'""', b"\xed\xa0\x80", b"<f8", b">f8"]
    ),
)


@given(data=st.data())
def test_changed_bytes_are_refused_or_are_another_message_as_it_is_written(data: st.DataObject) -> None:
    text, block = data.draw(st.sampled_from(WRITTEN))
    for _ in range(data.draw(st.integers(1, 3))):
        part = text if data.draw(st.booleans()) or not block else block
        start = data.draw(st.integers(0, len(part)))
        changed = cut(part, start, data.draw(st.integers(0, 8)), data.draw(PIECES))
        text, block = (changed, block) if part is text else (text, changed)
    event(f"read: {check(text, block)}")


@pytest.mark.parametrize("name", SAMPLES)
def test_a_text_or_a_block_that_breaks_off_anywhere_is_refused(name: str) -> None:
    packed = packing.pack(SAMPLES[name])
    text, block = packed.text, bytes(packed.block)
    broken = [Packed(text[:length], block) for length in range(len(text))]
    broken += [Packed(text, block[:length]) for length in range(len(block))]
    for each in broken:
        with pytest.raises(ProtocolError):
            packing.unpack(each, *KINDS)


@pytest.mark.parametrize("name", SAMPLES)
def test_one_changed_bit_is_refused_or_is_another_message(name: str) -> None:
    packed = packing.pack(SAMPLES[name])
    text, block = packed.text, bytes(packed.block)
    for index in range(len(text)):
        for bit in range(8):
            check(cut(text, index, 1, bytes([text[index] ^ 1 << bit])), block)
    for index in range(len(block)):
        check(text, cut(block, index, 1, bytes([block[index] ^ 1])))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(), max_size=4)
    | st.sampled_from(["<f8", "<u4", "|b1", "|O", "(1,2)i4,(", "", "ab", "dtype", "shape"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "site", "heading", "a", ""]), inner, max_size=3)
    ),
    max_leaves=6,
)
"""What JSON can say, and Python's writer of it: surrogates, NaN and infinities, too."""


def places(plain: Any) -> list[tuple[Any, Any]]:
    """Return every container in JSON values with each of its keys."""
    if not isinstance(plain, dict | list):
        return []
    keys = list(plain) if isinstance(plain, dict) else list(range(len(plain)))
    return [*((plain, key) for key in keys), *(place for key in keys for place in places(plain[key]))]


EXCHANGES: Mapping[str, Callable[[st.DataObject, Any, Any], None]] = {
    "replace": lambda data, inside, key: inside.__setitem__(key, data.draw(JSON)),
    "remove": lambda _data, inside, key: inside.__delitem__(key),
    "wrap": lambda _data, inside, key: inside.__setitem__(key, [inside[key]]),
    "add": lambda data, inside, _key: (
        inside.append(data.draw(JSON)) if isinstance(inside, list) else inside.update(more=data.draw(JSON))
    ),
}


@given(data=st.data())
def test_other_values_in_any_place_are_refused_or_are_another_message(data: st.DataObject) -> None:
    text, block = data.draw(st.sampled_from(WRITTEN))
    plain = json.loads(text)
    inside, key = data.draw(st.sampled_from(places(plain)))
    EXCHANGES[data.draw(st.sampled_from(sorted(EXCHANGES)))](data, inside, key)
    text = json.dumps(plain, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "surrogatepass")
    event(f"read: {check(text, block)}")


@given(text=st.binary(max_size=64) | JSON.map(lambda plain: json.dumps(plain).encode()), block=st.binary(max_size=16))
@example(text=b"", block=b"")
@example(text=b'{"protocol":1}', block=b"")
def test_any_bytes_are_refused(text: bytes, block: bytes) -> None:
    with pytest.raises(ProtocolError):
        packing.unpack(Packed(text, block), *KINDS)
