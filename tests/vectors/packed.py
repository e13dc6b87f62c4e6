"""Every message as bytes, for another implementation: ``packed.json``, written by ``python -m tests.vectors.messages``.

``good`` are texts and blocks that must be read, and written again as the same bytes; ``bad`` ones must be refused with
the code that stands beside them. Blocks are in hex. The fields of a sample are made up: nothing in it is signed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import numpy as np

from shared import packing
from shared.messages import (
    Contributed,
    ContributeRequest,
    Counts,
    Ended,
    EndRequest,
    Heading,
    Joined,
    JoinRequest,
    Keys,
    KeysRequest,
    Masking,
    PreflightRequest,
    Ready,
    Receipt,
    Refused,
    Reply,
    Request,
    Revealed,
    RevealRequest,
    Shares,
    SharesRequest,
    Shown,
)
from shared.packing import Packed

FILE = Path(__file__).parent / "packed.json"

WHERE = Heading("1f" * 32, "ab" * 32, 3, 2)
_JOINED = Joined("Cleveland", WHERE, bytes(range(32)), 3, True, b"\x01" * 64)
_KEYS = Keys("Cleveland", WHERE, b"\x02" * 32, b"\x03" * 32, b"\x04" * 32, b"\x05" * 64)
_RECEIPT = Receipt("Cleveland", WHERE, b"\x06" * 32, b"\x07" * 32, b"\x08" * 64)

STATE: Mapping[str, np.ndarray[Any, Any]] = {
    "round": np.array(7),
    "weights": np.array([[0.1, -0.0, 1e-45], [np.inf, -np.inf, 3.5]], dtype=np.float32),
    "bias": np.array([0.1, -2.5]),
    "missing": np.array([True, False, True]),
    "counts": np.array([0, 2**32 - 1], dtype=np.uint32),
    "ends": np.array([-(2**63), 2**63 - 1]),
    "words": np.array([2**64 - 1], dtype=np.uint64),
    "nobody": np.zeros((0, 3)),
    "levels": np.array([-128, 127], dtype=np.int8),
}
"""Every type of number that methods use, one number, no number, and ends of ranges."""

SAMPLES: Mapping[str, Any] = {
    "preflight": PreflightRequest(WHERE),
    "ready": Ready("Cleveland", WHERE, {"Cleveland": bytes(32), "Zürich": b"\xff" * 32}, "cd" * 32),
    "ready_with_counts": Ready(
        "Cleveland", WHERE, {}, "", Counts(303, 310, 248, 62, (120, 128), {"age": 2, "chol": 0})
    ),
    "join": JoinRequest(Heading("", "ab" * 32, 0)),
    "joined": _JOINED,
    "keys_request": KeysRequest(WHERE, (_JOINED, dataclasses.replace(_JOINED, site="Zürich", shrinking=False))),
    "keys": _KEYS,
    "shares_request": SharesRequest(WHERE, (_KEYS, dataclasses.replace(_KEYS, site="b"))),
    "shares": Shares("Cleveland", WHERE, {"b": b"\x09" * 94, "a": b""}),
    "contribute": ContributeRequest(WHERE, 5, 2, STATE, Masking({"b": b"\x0a" * 94})),
    "contribute_bare": ContributeRequest(WHERE, 5, 0, {}),
    "contributed": Contributed("Cleveland", WHERE, np.arange(5, dtype=np.uint32), _RECEIPT, _KEYS),
    "contributed_bare": Contributed("Cleveland", WHERE, np.array([2**64 - 1, 0], dtype=np.uint64)),
    "reveal": RevealRequest(WHERE, (_RECEIPT,), ("b", "c"), (_KEYS,)),
    "revealed": Revealed("Cleveland", WHERE, {"Cleveland": b"\x0b" * 33}, {"b": b"\x0c" * 33}, {"d": b"\x0d" * 94}),
    "end": EndRequest(WHERE, True),
    "ended": Ended("Cleveland", WHERE),
    "ended_with_metrics": Ended(
        "Cleveland", WHERE, 62, {"auroc": Shown(0.9, 0.1 + 0.2, 1.0), "": Shown(-0.0, 5e-324, 1e300)}
    ),
    "refused": Refused("Cleveland", WHERE, "not-shared", 'Umlaute ü, "quotes", \\, a tab\t, \x00, \x7f, \u2028 and 🫀'),
}
"""Each message at least once, by a name."""

KINDS: tuple[type[Any], ...] = (*get_args(Request), *get_args(Reply))


def alike(one: Any, other: Any) -> bool:
    """Return whether two values have the same types, fields, order of names, and bits of every number."""
    if type(one) is not type(other) and not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return False
    match one:
        case np.ndarray():
            return bool((one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes()))
        case Mapping():
            return alike(tuple(one.items()), tuple(other.items()))
        case tuple():
            return len(one) == len(other) and all(map(alike, one, other))
        case _ if dataclasses.is_dataclass(one):
            return all(alike(getattr(one, each.name), getattr(other, each.name)) for each in dataclasses.fields(one))
        case float():
            return bool(one.hex() == other.hex())
    return bool(one == other)


ENDED = packing.pack(Ended("a", Heading("r", "s", 1), 1, {"m": Shown(0.5, 0.25, 1.0)})).text.decode()
SHARES = packing.pack(Shares("a", Heading("r", "s", 1), {"b": b"\xab\xcd"})).text.decode()
WORDS = packing.pack(Contributed("a", Heading("r", "s", 1), np.arange(3, dtype=np.uint32)))
"""Three words and 4 bytes of padding: a block of 16 bytes."""
STATES = packing.pack(ContributeRequest(Heading("r", "s", 1), 3, 0, {"x": np.array([True]), "y": np.array([1.0])}))
"""A truth value, 7 bytes of padding, and a number."""


def changed(text: str, old: str, new: str) -> bytes:
    """Return a text with one part exchanged.

    Raises: ValueError unless the part stands there once.
    """
    if text.count(old) != 1:
        raise ValueError(f"expected once: {old}")
    return text.replace(old, new).encode("utf-8", "surrogatepass")


def _ended(old: str, new: str) -> Packed:
    return Packed(changed(ENDED, old, new))


def _sealed(new: str) -> Packed:
    return Packed(changed(SHARES, '"abcd"', new))


def _words(old: str, new: str, block: bytes = bytes(WORDS.block)) -> Packed:
    return Packed(changed(WORDS.text.decode(), old, new), block)


def _block(packed: Packed, change: Any) -> Packed:
    return Packed(packed.text, bytes(change(bytes(packed.block))))


MALFORMED: Mapping[str, Packed] = {
    # Numbers, texts and names
    "true for a whole number": _ended('"rows":1', '"rows":true'),
    "1.0 for a whole number": _ended('"rows":1', '"rows":1.0'),
    "a text for a whole number": _ended('"rows":1', '"rows":"1"'),
    "null for a whole number": _ended('"rows":1', '"rows":null'),
    "a number below 0": _ended('"rows":1', '"rows":-1'),
    "minus zero for a whole number": _ended('"rows":1', '"rows":-0'),
    "a number of 64 bits": _ended('"rows":1', f'"rows":{2**63}'),
    "a number of 4000 digits": _ended('"rows":1', f'"rows":{"9" * 4000}'),
    "a number of 5000 digits": _ended('"rows":1', f'"rows":{"9" * 5000}'),
    "a whole number for a float": _ended('"value":0.5', '"value":1'),
    "another spelling of a float": _ended('"value":0.5', '"value":5e-1'),
    "a longer spelling of a float": _ended('"value":0.5', '"value":0.50'),
    "a float between two floats": _ended('"value":0.5', '"value":0.50000000000000000001'),
    "a float beyond all floats": _ended('"value":0.5', '"value":1e999'),
    "not a number": _ended('"value":0.5', '"value":NaN'),
    "infinity": _ended('"value":0.5', '"value":Infinity'),
    "minus infinity": _ended('"value":0.5', '"value":-Infinity'),
    "true for a float": _ended('"value":0.5', '"value":true'),
    "null for a text": _ended('"site":"a"', '"site":null'),
    "a number for a text": _ended('"site":"a"', '"site":1'),
    "an escape for a plain letter": _ended('"site":"a"', '"site":"\\u0061"'),
    "a lone surrogate, escaped": _ended('"site":"a"', '"site":"\\ud800"'),
    "a lone surrogate, in bytes": _ended('"site":"a"', '"site":"\ud800"'),
    "a field is missing": _ended(',"rows":1', ""),
    "a field too many": _ended('"rows":1', '"rows":1,"more":1'),
    "a field twice": _ended('"rows":1', '"rows":1,"rows":1'),
    "a name in a mapping twice": _ended('"metrics":{', '"metrics":{"m":{"value":0.5,"low":0.25,"high":1.0},'),
    "fields in another order": _ended('"round":1,"attempt":1', '"attempt":1,"round":1'),
    "a list for an object": _ended('{"value":0.5,"low":0.25,"high":1.0}', '["value","low","high"]'),
    "a list for a mapping": _ended('{"m":{"value":0.5,"low":0.25,"high":1.0}}', "[]"),
    "null for a mapping": _ended('{"m":{"value":0.5,"low":0.25,"high":1.0}}', "null"),
    # Bytes
    "uppercase hex": _sealed('"ABCD"'),
    "an odd number of hex digits": _sealed('"abc"'),
    "a space between hex digits": _sealed('"ab cd"'),
    "what is no hex": _sealed('"zz"'),
    "a number for bytes": _sealed("1"),
    "a list for bytes": _sealed("[171,205]"),
    # The text as a whole
    "no text": Packed(b""),
    "null": Packed(b"null"),
    "a list": Packed(b"[]"),
    "an empty object": Packed(b"{}"),
    "a space": Packed(b" " + ENDED.encode()),
    "a line's end": Packed(ENDED.encode() + b"\n"),
    "a mark of the byte order": Packed(b"\xef\xbb\xbf" + ENDED.encode()),
    "UTF-16": Packed(ENDED.encode("utf-16")),
    "UTF-32": Packed(ENDED.encode("utf-32")),
    "a byte that is not UTF-8": Packed(ENDED.encode().replace(b'"a"', b'"\xff"')),
    "half a character": Packed(ENDED.encode().replace(b'"a"', b'"\xc3"')),
    "a longer code for a letter": Packed(ENDED.encode().replace(b'"a"', b'"\xc1\xa1"')),
    "two texts": Packed(ENDED.encode() * 2),
    "half a text": Packed(ENDED.encode()[: len(ENDED) // 2]),
    "another kind": _ended('"kind":"Ended"', '"kind":"Heading"'),
    "a kind that is no text": _ended('"kind":"Ended"', '"kind":["Ended"]'),
    "no kind": _ended('"kind":"Ended",', ""),
    "no version": _ended('"protocol":1,', ""),
    "a version that is true": _ended('"protocol":1', '"protocol":true'),
    "a version of 4000 digits": _ended('"protocol":1', f'"protocol":{"9" * 4000}'),
    "something beside the message": _ended('"protocol":1', '"protocol":1,"more":1'),
    # Arrays
    "a block where there are no arrays": Packed(ENDED.encode(), bytes(8)),
    "a block that is too short": _block(WORDS, lambda block: block[:-8]),
    "a block without its last byte": _block(WORDS, lambda block: block[:-1]),
    "a block with one byte more": _block(WORDS, lambda block: block + b"\0"),
    "a block with eight bytes more": _block(WORDS, lambda block: block + bytes(8)),
    "no block": _block(WORDS, lambda _block: b""),
    "something in the padding": _block(WORDS, lambda block: block[:-1] + b"\1"),
    "something between two arrays": _block(STATES, lambda block: block[:1] + b"\1" + block[2:]),
    "a truth value of 2": _block(STATES, lambda block: b"\2" + block[1:]),
    "more than the block has": _words("[3]", "[5]"),
    "less than the block has": _words("[3]", "[1]"),
    "a side below 0": _words("[3]", "[-3]"),
    "a side of 3.0": _words("[3]", "[3.0]"),
    "a side that is true": _words("[3]", "[true]"),
    "a side of 2**64": _words("[3]", f"[{2**64}]"),
    "sides whose product is 3 modulo 2**64": _words("[3]", f"[{2**62},4,3]"),
    "sides whose product is 0 modulo 2**64": _words("[3]", f"[{2**32},{2**32}]", b""),
    "a huge product beside nothing": _words("[3]", f"[{2**62},{2**62},0]", b""),
    "65 sides": _words("[3]", f"[3{',1' * 64}]"),
    "100000 sides": _words("[3]", f"[{','.join([str(2**62)] * 100_000)}]"),
    "a text for sides": _words('"shape":[3]', '"shape":""', bytes(8)),
    "an object for sides": _words('"shape":[3]', '"shape":{}', bytes(8)),
    "null for sides": _words('"shape":[3]', '"shape":null'),
    "an array without its type": _words('"dtype":"<u4",', ""),
    "an array with more": _words('"dtype":"<u4"', '"dtype":"<u4","order":"F"'),
    "a list for an array": _words('{"dtype":"<u4","shape":[3]}', '["dtype","shape"]'),
    "null for an array": _words('{"dtype":"<u4","shape":[3]}', "null"),
    **{
        f"an array of {name!r}": _words('"<u4"', json.dumps(name))
        for name in (
            *(">u4", "=u4", "u4", "uint32", "|u4", "<u4 ", "<u4\0", "<u3", "I", "", "?", "<b1", "|b4", "<U1", "<S1"),
            *("|S4", "|V4", "|O", "O", "<M8[s]", "<m8[s]", "<c8", "<f16", "<g", "<u4,<u4", "i4,i4", "3u4", "(3,)<u4"),
            *("(1,2)i4,(", "[('a','<u4')]", "object", "pickle", "{'names':['a'],'formats':['O']}", "<M8["),
        )
    },
    "a type that is no text": _words('"<u4"', '["<u4"]'),
    "a type that is null": _words('"<u4"', "null"),
}
"""What is refused as ``malformed``, by what is wrong with it."""


def nested(deep: int) -> bytes:
    """Return a text of lists within lists, where a site's name is expected."""
    return changed(ENDED, '"a"', "[" * deep + "]" * deep)


def content() -> dict[str, Any]:
    """Return what the file holds."""
    return {
        "about": "messages as bytes: a JSON text, and in hex the block of their arrays",
        "good": {name: _written(packing.pack(message)) for name, message in SAMPLES.items()},
        "bad": {
            **{
                name: {"code": "malformed", "text_hex": packed.text.hex(), "block": bytes(packed.block).hex()}
                for name, packed in MALFORMED.items()
                if len(packed.text) < _LONGEST
            },
            "another version": {
                "code": "protocol-version",
                "text_hex": changed(ENDED, '"protocol":1', '"protocol":2').hex(),
                "block": "",
            },
        },
    }


_LONGEST = 2000
"""A longer text would only fill the file."""


def _written(packed: Packed) -> dict[str, str]:
    return {
        "text": packed.text.decode(),
        "block": bytes(packed.block).hex(),
        "digest": packed.digest.hex(),
    }


def write() -> None:
    """Write the file anew."""
    FILE.write_text(json.dumps(content(), indent=1) + "\n", encoding="utf-8")
