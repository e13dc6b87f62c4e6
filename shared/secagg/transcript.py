"""Statements: one unambiguous byte string for everything that is signed, derived from or digested.

A statement opens with the protocol's version, a label that says which step it is for, and the heading (run, study,
round, attempt), so that nothing made for one step, round or run serves another. The encoding is injective: every field
carries its type and its length, so two different sequences of fields never give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays
from shared.messages import Heading

VERSION = "consilium secure aggregation 1"

Field: TypeAlias = "bytes | str | int | tuple[Field, ...]"


def encode(field: Field) -> bytes:
    """Return a field with its type and length: ``b``, ``s``, ``i`` or ``t``, then 8 bytes of length or value.

    Raises: TypeError for anything else; OverflowError for a number below 0 or from 2**64 on.
    """
    if isinstance(field, bytes):
        return b"b%b%b" % (len(field).to_bytes(8, "big"), field)
    if isinstance(field, str):
        text = field.encode()
        return b"s%b%b" % (len(text).to_bytes(8, "big"), text)
    if isinstance(field, int):
        return b"i" + field.to_bytes(8, "big")
    if not isinstance(field, tuple):
        raise TypeError(f"a statement has bytes, texts, numbers and tuples of them. Received: {type(field).__name__}")
    return b"t%b%b" % (len(field).to_bytes(8, "big"), b"".join(map(encode, field)))


def statement(label: str, heading: Heading, *fields: Field) -> bytes:
    """Return the bytes that stand for these fields in this step of this round."""
    where = (heading.run, heading.study, heading.round, heading.attempt)
    return encode((VERSION, label, where, tuple(fields)))


def digest(label: str, heading: Heading, *fields: Field) -> bytes:
    """Return the SHA-256 of a statement, 32 bytes."""
    return hashlib.sha256(statement(label, heading, *fields)).digest()


class Broadcast(Mapping[str, NDArray[Any]]):
    """A state as it is sent: named arrays that nobody changes any more, whose digest is computed once.

    arrays: by name.
    """

    def __init__(self, arrays: Arrays) -> None:
        self._arrays = dict(arrays)

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    @cached_property
    def digest(self) -> bytes:
        """See ``state_digest``."""
        return _digest(self._arrays)


def state_digest(state: Arrays) -> bytes:
    """Return the SHA-256, 32 bytes, of a broadcast state: names, types, shapes and values, by name."""
    return state.digest if isinstance(state, Broadcast) else _digest(state)


def _digest(state: Arrays) -> bytes:
    hashed = hashlib.sha256()
    for name in sorted(state):
        array = np.ascontiguousarray(state[name])
        if array.dtype.hasobject:
            raise TypeError(f"a state holds numbers. Received: {name} of type {array.dtype}")
        little = array.astype(array.dtype.newbyteorder("<"), copy=False)
        # ascontiguousarray makes a number a vector of one element: the shape is that of the original.
        hashed.update(encode((name, little.dtype.str, np.shape(state[name]), little.nbytes)))
        hashed.update(little.data)
    return hashed.digest()
