"""A second writing of the protocol's encoding and derivations, with ``hmac`` and ``hashlib`` alone, and known answers.

Nothing is imported from the code under test. Expected values of the standards were published with them; those of
Consilium's own derivations were computed with this module.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path
from typing import Any

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[3] / "vectors" / "primitives.json").read_text(encoding="utf-8")
)
VERSION = "consilium secure aggregation 1"
HEADING = ("1f" * 32, "ab" * 32, 7, 2)
"""Run, study, round and attempt of the pinned derivations."""


def cases(name: str) -> list[dict[str, bytes]]:
    """Return the published cases of one primitive."""
    return [{part: bytes.fromhex(text) for part, text in case.items()} for case in VECTORS[name]["cases"]]


def ours(name: str) -> bytes:
    """Return the pinned result of one of Consilium's own derivations."""
    return bytes.fromhex(VECTORS["consilium"]["results"][name])


def encoded(field: Any) -> bytes:
    """Return a field with its type, its length in 8 bytes, and its content."""
    kinds = {bytes: b"b", str: b"s", int: b"i", tuple: b"t"}
    kind = kinds[type(field)]
    if kind == b"i":
        return kind + b"".join(bytes([field >> shift & 255]) for shift in range(56, -1, -8))
    content = b"".join(encoded(each) for each in field) if kind == b"t" else field
    content = content.encode("utf-8") if kind == b"s" else content
    count = len(field) if kind == b"t" else len(content)
    return kind + encoded(count)[1:] + content


def statement(label: str, *fields: Any, heading: tuple[str, str, int, int] = HEADING) -> bytes:
    """Return what is signed, derived from or digested."""
    return encoded((VERSION, label, heading, fields))


def digest(label: str, *fields: Any, heading: tuple[str, str, int, int] = HEADING) -> bytes:
    """Return the SHA-256 of a statement."""
    return hashlib.sha256(statement(label, *fields, heading=heading)).digest()


def hkdf(secret: bytes, info: bytes, salt: bytes = b"", size: int = 32) -> bytes:
    """Return HKDF-SHA256: extract, then expand (RFC 5869, section 2)."""
    extracted = hmac.digest(salt or bytes(32), secret, "sha256")
    block, found = b"", b""
    for number in range(1, -(-size // 32) + 1):
        block = hmac.digest(extracted, block + info + bytes([number]), "sha256")
        found += block
    return found[:size]
