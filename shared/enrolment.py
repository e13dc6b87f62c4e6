"""What a hospital and the coordinator hand each other: the enrolment request, the welcome, the signed roster.

A request is signed by each of the keys that it names: the identity (Ed25519) and the Flower key (ECDSA P-384) sign the
whole of it, and the TLS key signs the certificate request (PKCS 10, RFC 2986), which names hospital and fingerprint. So
nobody enrols a key that is not theirs. That the identity belongs to the hospital, and the consortium's to the
coordinator, no file can prove: for that, people read fingerprints to each other over the phone.

Signatures are over a label and the canonical JSON of everything else: keys sorted, no spaces, ASCII.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key
from cryptography.x509.oid import NameOID
from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from shared.errors import EnrolmentError, ProtocolError
from shared.keyfiles import on_curve, public_pem
from shared.schema import CLOSED
from shared.secagg.keys import SigningKey, verify
from shared.validation import explain

CLOSED_JSON = ConfigDict(**CLOSED, ser_json_bytes="hex", val_json_bytes="hex")
"""``schema.CLOSED`` for files: bytes are written in hex."""

T = TypeVar("T")
_LARGEST_BYTES = 1024 * 1024
_SPOKEN_DIGITS = 32
_UNSIGNED = frozenset({"signature", "flower_signature"})


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


def sign_request(
    name: str,
    signing: SigningKey,
    flower_key: ec.EllipticCurvePrivateKey,
    tls_key: ec.EllipticCurvePrivateKey,
    now: datetime,
) -> EnrolmentRequest:
    """Return the request that a hospital makes, signed by its three keys."""
    digits = fingerprint(check_name(name), signing.public)
    csr = x509.CertificateSigningRequestBuilder().subject_name(_subject(name, digits)).sign(tls_key, SHA256())
    request = EnrolmentRequest(
        name=name,
        identity=signing.public,
        flower_key=public_pem(flower_key.public_key()),
        csr=csr.public_bytes(Encoding.PEM).decode("ascii"),
        requested_at=now,
        fingerprint=digits,
    )
    said = _statement(request)
    return dataclasses.replace(
        request, flower_signature=flower_key.sign(said, ec.ECDSA(SHA384())), signature=signing.sign(said)
    )


def verify_request(request: EnrolmentRequest) -> ec.EllipticCurvePublicKey:
    """Check that whoever made a request holds the three keys that it names; return its TLS key.

    Raises: EnrolmentError.
    """
    said = _statement(request)
    _verify(request.identity, request.signature, said, f"the request of {request.name}")
    try:
        flower_public_key(request.flower_key).verify(request.flower_signature, said, ec.ECDSA(SHA384()))
    except InvalidSignature:
        raise EnrolmentError(f"the request of {request.name}: its Flower key has not signed it. {_RETRY}") from None
    try:
        csr = x509.load_pem_x509_csr(request.csr.encode())
        key, signed, subject = csr.public_key(), csr.is_signature_valid, csr.subject
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise EnrolmentError(f"the request of {request.name}: its csr is not a certificate request.") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not on_curve(key, "P-256"):
        raise EnrolmentError(f"the request of {request.name}: expected a P-256 key in its csr.")
    if not signed or subject != _subject(request.name, request.fingerprint):
        raise EnrolmentError(f"the request of {request.name}: its TLS key has not signed it. {_RETRY}")
    return key


_RETRY = "It was changed on its way, or is not this hospital's: ask the hospital for it again."


def sign_roster(consortium: str, members: Iterable[Member], signing: SigningKey, now: datetime) -> Roster:
    """Return the roster. signing: the consortium's key."""
    ordered = tuple(sorted(members, key=lambda member: member.name))
    roster = Roster(consortium=consortium, issued_at=now.replace(microsecond=0), members=ordered)
    return dataclasses.replace(roster, signature=signing.sign(_statement(roster)))


def verify_roster(roster: Roster, signing: bytes) -> None:
    """Check a roster's signature. signing: the consortium's public key.

    Raises: EnrolmentError.
    """
    _verify(signing, roster.signature, _statement(roster), "the roster")


def sign_welcome(welcome: Welcome, signing: SigningKey) -> Welcome:
    """Return a welcome with its signature. signing: the consortium's key."""
    return dataclasses.replace(welcome, signature=signing.sign(_statement(welcome)))


def verify_welcome(welcome: Welcome) -> None:
    """Check that a welcome and its roster are signed by the consortium that the welcome names.

    Whether that is the right consortium is known by its fingerprint, over the phone.

    Raises: EnrolmentError.
    """
    _verify(welcome.signing, welcome.signature, _statement(welcome), "the welcome")
    verify_roster(welcome.roster, welcome.signing)
    if welcome.roster.consortium != welcome.consortium:
        raise EnrolmentError(f"the welcome is of {welcome.consortium}, its roster of {welcome.roster.consortium}.")


def canonical(value: Any) -> bytes:
    """Return canonical JSON: keys sorted, no spaces, ASCII."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def to_text(value: Any) -> str:
    """Return one of this module's values as its JSON file."""
    return json.dumps(_jsonable(value), indent=2) + "\n"


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


def _jsonable(value: Any) -> dict[str, Any]:
    dumped: dict[str, Any] = TypeAdapter(type(value)).dump_python(value, mode="json")
    return dumped


def _statement(value: Any) -> bytes:
    rest = {key: part for key, part in _jsonable(value).items() if key not in _UNSIGNED}
    return f"consilium {type(value).__name__}\n".encode() + canonical(rest)


def _verify(public: bytes, signature: bytes, said: bytes, what: str) -> None:
    try:
        verify(public, signature, said, "its signer")
    except ProtocolError:
        raise EnrolmentError(f"{what}: its signature is not good. {_RETRY}") from None


def _subject(name: str, digits: str) -> x509.Name:
    parts = ((NameOID.COMMON_NAME, name), (NameOID.SERIAL_NUMBER, digits))
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in parts])
