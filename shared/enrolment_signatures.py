"""Who signs an enrolment request, a roster and a welcome, and how that is checked.

A request is signed by each of the keys that it names: the identity (Ed25519) and the Flower key (ECDSA P-384) sign the
whole of it, and the TLS key signs the certificate request (PKCS 10, RFC 2986), which names hospital and fingerprint. So
nobody enrols a key that is not theirs. The consortium's key signs the rest.

Signatures are over a label and the canonical JSON of everything else: keys sorted, no spaces, ASCII.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from shared.enrolment import (
    EnrolmentRequest,
    Member,
    Roster,
    Welcome,
    canonical,
    check_name,
    fingerprint,
    flower_public_key,
    plain,
)
from shared.errors import EnrolmentError, ProtocolError
from shared.keyfiles import on_curve, public_pem
from shared.secagg.keys import SigningKey, verify

_RETRY = "It was changed on its way, or is not this hospital's: ask the hospital for it again."
_UNSIGNED = frozenset({"signature", "flower_signature"})


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


def _statement(value: Any) -> bytes:
    rest = {key: part for key, part in plain(value).items() if key not in _UNSIGNED}
    return f"consilium {type(value).__name__}\n".encode() + canonical(rest)


def _verify(public: bytes, signature: bytes, said: bytes, what: str) -> None:
    try:
        verify(public, signature, said, "its signer")
    except ProtocolError:
        raise EnrolmentError(f"{what}: its signature is not good. {_RETRY}") from None


def _subject(name: str, digits: str) -> x509.Name:
    parts = ((NameOID.COMMON_NAME, name), (NameOID.SERIAL_NUMBER, digits))
    return x509.Name([x509.NameAttribute(kind, text) for kind, text in parts])
