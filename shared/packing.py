"""Frozen dataclasses as bytes, and back, strictly: messages on the wire, and what a site keeps on its disk.

``pack`` writes a frozen dataclass as a JSON text and, beside it, one block of bytes with all its arrays, little-endian,
in the order in which they stand. ``unpack`` reads it by the type hints of the dataclass that is expected: a field more,
a field less, ``true`` for a number, a byte too many are errors, never conversions. There is no pickle, and no type is
taken from what is read.

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

_KINDS = "biuf"
"""NumPy kinds that travel: truth values, numbers with and without sign, floats."""
_ALIGN = 8
_LONGEST_TEXT = 64 * 2**20
_DEEPEST = 12


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

    Raises: TypeError for a field that cannot travel, such as an array of objects.
    """
    arrays: list[NDArray[Any]] = []
    plain = {"protocol": PROTOCOL, "kind": type(value).__name__, "value": _plain(value, arrays)}
    text = json.dumps(plain, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
    return Packed(text, _block(arrays))


def _plain(value: Any, arrays: list[NDArray[Any]]) -> Any:
    plain: Any
    match value:
        case Enum():
            plain = value.value
        case np.generic():
            plain = _reference(np.asarray(value), arrays)
        case None | bool() | str() | int() | float():
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
                each.name: _plain(getattr(value, each.name), arrays) for each in dataclasses.fields(value) if each.init
            }
        case _:
            raise TypeError(f"a message has texts, numbers, bytes and arrays. Received: {type(value).__name__}")
    return plain


def _reference(array: NDArray[Any], arrays: list[NDArray[Any]]) -> dict[str, Any]:
    if array.dtype.kind not in _KINDS:
        raise TypeError(f"an array in a message holds numbers. Received: {array.dtype}")
    little = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    arrays.append(little)
    return {"dtype": little.dtype.str, "shape": list(little.shape)}


def _block(arrays: list[NDArray[Any]]) -> bytes | memoryview:
    if len(arrays) == 1:
        # One vector of weights is the usual case, and need not be copied.
        array = np.ascontiguousarray(arrays[0]).reshape(-1).view(np.uint8)
        return memoryview(array.data if not len(array) % _ALIGN else np.pad(array, (0, -len(array) % _ALIGN)).data)
    parts = []
    for array in arrays:
        parts += [array.tobytes(), bytes(-array.nbytes % _ALIGN)]
    return b"".join(parts)


def unpack(packed: Packed, *kinds: type[Any]) -> Any:
    """Return the value, which is one of these dataclasses; arrays are read-only views of the block.

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
    plain = json.loads(packed.text, object_pairs_hook=_closed, parse_constant=_no_constant)
    protocol = plain.get("protocol")
    if type(protocol) is not int:
        raise ValueError("no version")
    if protocol != PROTOCOL:
        raise ProtocolError(
            "protocol-version",
            f"one side speaks version {PROTOCOL} of the protocol, the other {protocol}: update the older installation",
        )
    if set(plain) != {"protocol", "kind", "value"} or plain["kind"] not in kinds:
        raise ValueError("another kind")
    reader = _Block(packed.block)
    value = _value(kinds[plain["kind"]], plain["value"], reader, 0)
    reader.finish()
    return value


def _closed(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of a message")


class _Block:
    """The arrays, taken one after the other."""

    def __init__(self, block: bytes | memoryview) -> None:
        self._block = block
        self._at = 0

    def take(self, plain: Any) -> NDArray[Any]:
        """Return the next array, which ``plain`` describes."""
        if set(plain) != {"dtype", "shape"} or type(plain["dtype"]) is not str:
            raise ValueError("not an array")
        dtype = np.dtype(plain["dtype"])
        if dtype.kind not in _KINDS or dtype.str != plain["dtype"] or dtype.str.startswith(">"):
            raise ValueError("not a type of number")
        shape = tuple(_whole(side) for side in plain["shape"])
        size = math.prod(shape)
        nbytes = size * dtype.itemsize
        if self._at + nbytes > len(self._block):
            raise ValueError("the block is too short")
        array = np.frombuffer(self._block, dtype, size, self._at).reshape(shape)
        if dtype.kind == "b" and (array.view(np.uint8) > 1).any():
            raise ValueError("not truth values")
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


def _value(hint: Any, plain: Any, block: _Block, depth: int) -> Any:
    """Return what ``plain`` stands for where a value of type ``hint`` is expected."""
    if depth > _DEEPEST:
        raise ValueError("too deep")
    if hint is int:
        return _whole(plain)
    if hint in (str, bool) or hint is float:
        return _scalar(hint, plain)
    if hint is bytes:
        if type(plain) is not str or plain != plain.lower():
            raise TypeError("expected bytes in hex")
        return bytes.fromhex(plain)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return hint(plain)
    if dataclasses.is_dataclass(hint):
        fields = _fields(typing.cast("Any", hint))
        if set(plain) != set(fields):
            raise ValueError("other fields")
        return typing.cast("Any", hint)(
            **{name: _value(inner, plain[name], block, depth + 1) for name, inner in fields.items()}
        )
    return _generic(hint, plain, block, depth)


def _scalar(hint: Any, plain: Any) -> Any:
    if hint is float and type(plain) is int:
        plain = float(plain)
    if type(plain) is not hint:
        raise TypeError("expected another type")
    return plain


def _generic(hint: Any, plain: Any, block: _Block, depth: int) -> Any:
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is np.ndarray:
        return block.take(plain)
    if origin in (typing.Union, types.UnionType):
        if plain is None and type(None) in inner:
            return None
        # ``Words`` is a union of arrays; every other union here is "or None".
        return _value(next(each for each in inner if each is not type(None)), plain, block, depth)
    if origin is tuple:
        if type(plain) is not list or (inner[-1] is not Ellipsis and len(plain) != len(inner)):
            raise TypeError("expected a list")
        hints = [inner[0]] * len(plain) if inner[-1] is Ellipsis else inner
        return tuple(_value(each, item, block, depth + 1) for each, item in zip(hints, plain, strict=True))
    if origin is frozenset:
        if type(plain) is not list:
            raise TypeError("expected a list")
        return frozenset(_value(inner[0], item, block, depth + 1) for item in plain)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(inner, plain, block, depth)
    raise TypeError("expected nothing of this kind")


def _mapping(inner: tuple[Any, ...], plain: Any, block: _Block, depth: int) -> dict[Any, Any]:
    if inner[0] is str or plain == {}:
        if type(plain) is not dict:
            raise TypeError("expected an object")
        return {name: _value(inner[1], item, block, depth + 1) for name, item in plain.items()}
    if type(plain) is not list:
        raise TypeError("expected a list of pairs")
    pairs = [(_value(inner[0], key, block, depth + 1), _value(inner[1], item, block, depth + 1)) for key, item in plain]
    if len(dict(pairs)) != len(pairs):
        raise ValueError("a key stands twice")
    return dict(pairs)
