"""Frozen dataclasses as bytes, and back, strictly: messages on the wire, and what a site keeps on its disk.

``pack`` writes a frozen dataclass as a JSON text and, beside it, one block of bytes with all its arrays, little-endian,
in the order in which they stand. ``unpack`` reads it by the type hints of the dataclass that is expected: a field more,
a field less, ``true`` for a number, a byte too many are errors, never conversions. There is no pickle, and no type is
taken from what is read. A value is written in one way only: what was read is written again, and any other spelling (a
space, a key twice, ``1e0`` for ``1.0``, uppercase hex) is refused. So equal bytes and equal values are the same thing.

One text and one block, because Flower sends every array as objects of its own, each a request: a preparation's thirty
arrays would be sixty. The block of a state is the same for all sites, and Flower stores and sends it once.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import ProtocolError

PROTOCOL = 1
"""Version of the messages. Another one is refused by name; it grows whenever ``shared/messages.py`` changes meaning."""

_DTYPES = {
    name: np.dtype(name) for name in ("|b1", "|i1", "|u1", *(f"<{kind}{size}" for kind in "iuf" for size in (2, 4, 8)))
}
"""What travels, by its name; NumPy's own reading of names knows far more, and raises more than ValueError."""
_ALIGN = 8
_LONGEST_TEXT = 16 * 2**20
"""More than any message has; parsed, it takes twenty times as much memory."""
_MOST_SIDES = 64
"""NumPy's own limit; the product of millions would take hours."""


@dataclass(frozen=True, eq=False)
class Packed:
    """A value as bytes.

    text: JSON, UTF-8.
    block: the arrays, one after the other, each at a multiple of 8 bytes.
    """

    text: bytes = field(repr=False)
    block: bytes | memoryview = field(repr=False, default=b"")

    @functools.cached_property
    def digest(self) -> bytes:
        """SHA-256 of the text's length, the text and the block, 32 bytes."""
        hashed = hashlib.sha256(len(self.text).to_bytes(8, "big") + self.text)
        hashed.update(self.block)
        return hashed.digest()


def pack(value: Any) -> Packed:
    """Return a frozen dataclass as bytes; its class's name says which it is.

    The block of a single array is that array's memory, not a copy.

    Raises: TypeError for a field that cannot travel, such as an array of objects or a number below 0 or from 2**63 on;
        ValueError for a float that is not finite, a lone surrogate, more than 16 MiB of text.
    """
    arrays: list[NDArray[Any]] = []
    text = _text(value, arrays)
    return Packed(text, _block(arrays))


def pack_all(values: Mapping[str, Any]) -> dict[str, Packed]:
    """Return what ``pack`` does of each; those with the same arrays, such as one state for all sites, share one block.

    Raises: as ``pack``.
    """
    packed: dict[str, Packed] = {}
    known: list[tuple[list[NDArray[Any]], bytes]] = []
    for name, value in values.items():
        arrays: list[NDArray[Any]] = []
        text = _text(value, arrays)
        block = next((block for others, block in known if [*map(id, others)] == [*map(id, arrays)]), None)
        if block is None:
            block = bytes(_block(arrays))
            known.append((arrays, block))
        packed[name] = Packed(text, block)
    return packed


def _text(value: Any, arrays: list[NDArray[Any]]) -> bytes:
    plain = {"protocol": PROTOCOL, "kind": type(value).__name__, "value": _plain(value, arrays)}
    text = json.dumps(plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    if len(text) > _LONGEST_TEXT:
        raise ValueError("too long")
    return text


def _plain(value: Any, arrays: list[NDArray[Any]]) -> Any:
    plain: Any
    match value:
        case Enum():
            plain = value.value
        case np.generic():
            plain = _reference(np.asarray(value), arrays)
        case int() if type(value) is not bool:
            plain = _whole(value)
        case None | bool() | str() | float():
            plain = value
        case bytes():
            plain = value.hex()
        case np.ndarray():
            plain = _reference(value, arrays)
        case Mapping() if all(isinstance(key, str) and not isinstance(key, Enum) for key in value):
            plain = {name: _plain(item, arrays) for name, item in value.items()}
        case Mapping():
            plain = [[_plain(key, arrays), _plain(item, arrays)] for key, item in value.items()]
        case tuple():
            plain = [_plain(item, arrays) for item in value]
        case frozenset():
            plain = sorted((_plain(item, arrays) for item in value), key=str)
        case _ if dataclasses.is_dataclass(value):
            plain = {
                name: _plain(_number(hint, getattr(value, name)), arrays)
                for name, hint in _fields(typing.cast("Any", type(value))).items()
            }
        case _:
            raise TypeError(f"a message has texts, numbers, bytes and arrays. Received: {type(value).__name__}")
    return plain


def _number(hint: Any, value: Any) -> Any:
    """Return what stands in a field of this type: NumPy's numbers, and whole ones for floats, become plain ones."""
    if hint is float and isinstance(value, int | float | np.number):
        return float(value)
    return value.item() if hint is int and isinstance(value, np.integer) else value


def _reference(array: NDArray[Any], arrays: list[NDArray[Any]]) -> dict[str, Any]:
    dtype = _DTYPES.get(array.dtype.newbyteorder("<").str)
    if dtype is None:
        raise TypeError(f"an array in a message holds numbers of 8 bytes at most. Received: {array.dtype}")
    little = np.asarray(array, dtype=dtype, order="C")
    arrays.append(little)
    return {"dtype": little.dtype.str, "shape": list(little.shape)}


def _block(arrays: list[NDArray[Any]]) -> bytes | memoryview:
    parts: list[Any] = []
    for array in arrays:
        parts += [array.reshape(-1).view(np.uint8), bytes(-array.nbytes % _ALIGN)]
    if len(arrays) == 1 and not parts[1]:
        # One vector of weights is the usual case, and need not be copied.
        return memoryview(parts[0].data).toreadonly()
    return b"".join(parts)


def unpack(packed: Packed, *kinds: type[Any]) -> Any:
    """Return the value, which is one of these dataclasses; arrays are read-only views of the block.

    Packed again, it is the same bytes.

    Raises: ProtocolError ``protocol-version`` if the other side speaks another version; ``malformed`` for anything that
        ``pack`` does not write.
    """
    try:
        return _unpack(packed, {kind.__name__: kind for kind in kinds})
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError, AttributeError) as error:
        # Nothing of the content is repeated: it is the other side's.
        raise ProtocolError("malformed", f"expected one of {_names(kinds)}: {type(error).__name__}") from None


def _names(kinds: tuple[type[Any], ...]) -> str:
    return ", ".join(kind.__name__ for kind in kinds)


def _unpack(packed: Packed, kinds: Mapping[str, type[Any]]) -> Any:
    if len(packed.text) > _LONGEST_TEXT:
        raise ValueError("too long")
    plain = json.loads(packed.text)
    protocol = _whole(plain["protocol"])
    if protocol != PROTOCOL:
        raise ProtocolError(
            "protocol-version",
            f"one side speaks version {PROTOCOL} of the protocol, the other {protocol}: update the older installation",
        )
    reader = _Block(packed.block)
    value = _value(kinds[plain["kind"]], plain["value"], reader)
    reader.finish()
    # Whatever else stands there, or stands there otherwise: a field more, a list for an object, UTF-16.
    if _text(value, []) != packed.text:
        raise ValueError("another spelling")
    return value


class _Block:
    """The arrays, taken one after the other."""

    def __init__(self, block: bytes | memoryview) -> None:
        self._block = block
        self._at = 0

    def take(self, plain: Any) -> NDArray[Any]:
        """Return the next array, which ``plain`` describes."""
        if len(plain["shape"]) > _MOST_SIDES:
            raise ValueError("not an array")
        dtype = _DTYPES[plain["dtype"]]
        shape = tuple(_whole(side) for side in plain["shape"])
        size = math.prod(shape)
        nbytes = size * dtype.itemsize
        if self._at + nbytes > len(self._block):
            raise ValueError("the block is too short")
        array = np.frombuffer(self._block, dtype, size, self._at).reshape(shape)
        if dtype.kind == "b" and (array.view(np.uint8) > 1).any():
            raise ValueError("not truth values")
        if not array.flags.aligned:
            # NumPy adds up what is not aligned in another order, and the last bits differ.
            array = array.copy()
        array.flags.writeable = False
        self._at += nbytes
        padding = -nbytes % _ALIGN
        if any(self._block[self._at : self._at + padding]):
            raise ValueError("something stands between the arrays")
        self._at += padding
        return array

    def finish(self) -> None:
        """Check that nothing is left."""
        if self._at != len(self._block):
            raise ValueError("bytes are left over")


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise TypeError("expected a whole number")
    return value


@functools.cache
def _fields(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {each.name: hints[each.name] for each in dataclasses.fields(kind) if each.init}


def _value(hint: Any, plain: Any, block: _Block) -> Any:
    """Return what ``plain`` stands for where a value of type ``hint`` is expected."""
    if hint is int:
        return _whole(plain)
    if hint in (str, bool, float):
        if type(plain) is not hint:
            raise TypeError("expected another type")
        return plain
    if hint is bytes:
        return bytes.fromhex(plain)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(plain)
    if dataclasses.is_dataclass(hint):
        fields = _fields(typing.cast("Any", hint))
        return typing.cast("Any", hint)(**{name: _value(inner, plain[name], block) for name, inner in fields.items()})
    return _generic(hint, plain, block)


def _generic(hint: Any, plain: Any, block: _Block) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is np.ndarray:
        return block.take(plain)
    if origin in (typing.Union, types.UnionType):
        if plain is None and type(None) in inner:
            return None
        # ``Words`` is a union of arrays; every other union here is "or None".
        return _value(next(each for each in inner if each is not type(None)), plain, block)
    if issubclass(origin, Mapping):
        return _mapping(inner, plain, block)
    if origin is frozenset:
        return frozenset(_value(inner[0], item, block) for item in plain)
    hints = [inner[0]] * len(plain) if inner[-1] is Ellipsis else inner
    return tuple(_value(each, item, block) for each, item in zip(hints, plain, strict=True))


def _mapping(inner: tuple[Any, ...], plain: Any, block: _Block) -> dict[Any, Any]:
    if inner[0] is str or plain == {}:
        return {name: _value(inner[1], item, block) for name, item in plain.items()}
    return {_value(inner[0], key, block): _value(inner[1], item, block) for key, item in plain}
