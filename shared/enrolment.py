"""What a hospital and the coordinator hand each other: the enrolment request, the welcome, the signed roster.

Their signatures are in ``shared/enrolment_signatures.py``. That an identity belongs to the hospital, and the
consortium's to the coordinator, no file can prove: for that, people read fingerprints to each other over the phone.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from shared.errors import EnrolmentError
from shared.keyfiles import on_curve, public_pem
from shared.schema import CLOSED
from shared.validation import explain

CLOSED_JSON = ConfigDict(**CLOSED, ser_json_bytes="hex", val_json_bytes="hex")
"""``schema.CLOSED`` for files: bytes are written in hex."""

T = TypeVar("T")
_LARGEST_BYTES = 1024 * 1024
_SPOKEN_DIGITS = 32


def _printable(text: str) -> str:
    if not text.isprintable() or text != text.strip():
        raise ValueError("expected printable text without spaces at its ends")
    return text


def _flower_key(text: str) -> str:
    """Only one spelling of each key: Flower compares bytes."""
    if public_pem(flower_public_key(text)) != text:
        raise ValueError("expected a P-384 public key as PEM SubjectPublicKeyInfo, as Flower writes it")
    return text


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""Of a site: letters, digits, ``.``, ``_`` and ``-``; at most 64, the first a letter or a digit."""
Title = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
"""Of a consortium."""
PublicKey = Annotated[bytes, Field(min_length=32, max_length=32)]
"""Ed25519, 32 bytes."""
FlowerKey = Annotated[str, Field(max_length=1024), AfterValidator(_flower_key)]
Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
Pem = Annotated[str, Field(max_length=16_384)]
Signature = Annotated[bytes, Field(min_length=64, max_length=64)]


def flower_public_key(text: str) -> ec.EllipticCurvePublicKey:
    """Return the P-384 public key in a PEM text.

    Raises: ValueError.
    """
    try:
        key = load_pem_public_key(text.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("expected a P-384 public key as PEM SubjectPublicKeyInfo") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not on_curve(key, "P-384"):
        raise ValueError("expected a P-384 public key")
    return key


def fingerprint(name: str, identity: bytes) -> str:
    """Return SHA-256, in hex, of the canonical JSON of a name and its Ed25519 public key.

    It stays the same when certificates are renewed and other keys rotate: the identity signs for those.
    """
    return hashlib.sha256(canonical({"name": name, "identity": identity.hex()})).hexdigest()


def grouped(digits: str) -> str:
    """Return the part of a fingerprint that people read to each other: 32 hex digits in eight groups of four."""
    return " ".join(digits[start : start + 4] for start in range(0, _SPOKEN_DIGITS, 4))


def matches(typed: str, digits: str) -> bool:
    """Whether typed text is this fingerprint: the spoken part of it at least, in any grouping and case."""
    found = re.sub(r"[\s:.-]", "", typed).lower()
    return len(found) >= _SPOKEN_DIGITS and digits.startswith(found)


@dataclass(frozen=True, config=CLOSED_JSON, kw_only=True)
class Member:
    """A hospital on the roster. identity: its Ed25519 public key, 32 bytes."""

    name: Name
    identity: PublicKey

    @property
    def fingerprint(self) -> str:
        """See ``fingerprint``."""
        return fingerprint(self.name, self.identity)


@dataclass(frozen=True, config=CLOSED_JSON, kw_only=True)
class Roster:
    """Who is enrolled, signed by the consortium. members: by name, each name and identity once."""

    format: Literal[1] = 1
    consortium: Title
    issued_at: AwareDatetime
    members: tuple[Member, ...]
    signature: Signature = bytes(64)

    def __post_init__(self) -> None:
        for what in ("name", "identity"):
            if len({getattr(member, what) for member in self.members}) != len(self.members):
                raise ValueError(f"expected every {what} once among the members")

    @property
    def identities(self) -> dict[str, bytes]:
        """Identity of every member by name."""
        return {member.name: member.identity for member in self.members}


@dataclass(frozen=True, config=CLOSED_JSON, kw_only=True)
class EnrolmentRequest:
    """What a hospital sends to be enrolled, or to have its certificate renewed: public parts only.

    flower_key: P-384 public key of its Flower node, PEM.
    csr: certificate request of its TLS key, PEM.
    requested_at: an older request than the last one that was taken is refused.
    fingerprint: of name and identity.
    flower_signature, signature: of Flower key and identity, over all the rest.
    """

    format: Literal[1] = 1
    name: Name
    identity: PublicKey
    flower_key: FlowerKey
    csr: Pem
    requested_at: AwareDatetime
    fingerprint: Digest
    flower_signature: Annotated[bytes, Field(max_length=256)] = b""
    signature: Signature = bytes(64)

    def __post_init__(self) -> None:
        if self.fingerprint != fingerprint(self.name, self.identity):
            raise ValueError("the fingerprint is not that of this name and identity")


@dataclass(frozen=True, config=CLOSED_JSON, kw_only=True)
class Welcome:
    """What the coordinator returns to a hospital.

    consortium, signing, fingerprint: its name, its Ed25519 public key, and the fingerprint of both.
    address: where hospitals connect, ``HOST:PORT``.
    authority: the certificate by which a hospital knows the consortium's server, PEM.
    name, flower_key, certificate: the hospital's own; the certificate is for its TLS key, PEM.
    signature: of ``signing``, over all the rest.
    """

    format: Literal[1] = 1
    consortium: Title
    signing: PublicKey
    fingerprint: Digest
    address: Annotated[str, Field(max_length=300)]
    authority: Pem
    name: Name
    flower_key: FlowerKey
    certificate: Pem
    issued_at: AwareDatetime
    roster: Roster
    signature: Signature = bytes(64)

    def __post_init__(self) -> None:
        split_address(self.address)
        if self.fingerprint != fingerprint(self.consortium, self.signing):
            raise ValueError("the fingerprint is not that of this consortium and its key")


def check_name(name: str) -> str:
    """Return a site's name.

    Raises: EnrolmentError if it is not one.
    """
    try:
        return TypeAdapter(Name).validate_python(name)
    except ValidationError:
        raise EnrolmentError(
            f"a hospital's name has 1 to 64 letters, digits, '.', '_' and '-', the first a letter or a digit. Received:"
            f" {name!r}"
        ) from None


def split_address(address: str) -> tuple[str, int]:
    """Return host and port of ``HOST:PORT``; an IPv6 host stands in brackets there, and without them here.

    Raises: ValueError.
    """
    host, _, port = address.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    bare = host[1:-1] if bracketed else host
    good_port = port.isascii() and port.isdecimal() and len(port) <= 5 and 1 <= int(port) <= 65_535
    if not (bare and good_port) or (":" in bare) != bracketed or not re.fullmatch(r"[A-Za-z0-9.:_-]+", bare):
        raise ValueError(f"expected an address HOST:PORT. Received: {address!r}")
    return bare, int(port)


def canonical(value: Any) -> bytes:
    """Return canonical JSON: keys sorted, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def to_text(value: Any) -> str:
    """Return one of this module's values as its JSON file."""
    return json.dumps(plain(value), indent=2) + "\n"


def read(path: Path, kind: type[T], advice: str) -> T:
    """Return the value in a JSON file; unknown keys are refused. Signatures are checked apart.

    kind: such as ``EnrolmentRequest``; advice: what to do, the end of an error's message.

    Raises: EnrolmentError.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_BYTES + 1)
    except FileNotFoundError:
        raise EnrolmentError(f"{path}: no such file. {advice}") from None
    except OSError as error:
        raise EnrolmentError(f"{path}: cannot be read: {error.strerror}. {advice}") from None
    if len(data) > _LARGEST_BYTES:
        raise EnrolmentError(f"{path}: expected at most {_LARGEST_BYTES} bytes. {advice}")
    try:
        return TypeAdapter(kind).validate_json(data)
    except ValidationError as error:
        raise EnrolmentError(f"{explain(error, kind, str(path))}\n{advice}") from None


def plain(value: Any) -> dict[str, Any]:
    """Return one of this module's values as JSON values."""
    dumped: dict[str, Any] = TypeAdapter(type(value)).dump_python(value, mode="json")
    return dumped
