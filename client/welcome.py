"""The coordinator's welcome: read and checked, before anything of it is put in use."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.x509.oid import ExtendedKeyUsageOID

from shared import enrolment
from shared.enrolment import Welcome
from shared.enrolment_signatures import verify_welcome
from shared.errors import EnrolmentError

OWN = "the hospital's certificate"


def read_welcome(path: Path, advice: str = "Ask the coordinator for it.") -> Welcome:
    """Return a welcome, its signatures checked.

    Raises: EnrolmentError.
    """
    welcome = enrolment.read(path, Welcome, advice)
    verify_welcome(welcome)
    return welcome


def check_ours(welcome: Welcome, name: str, identity: bytes) -> None:
    """Raise EnrolmentError unless a welcome is for this hospital. identity: its Ed25519 public key."""
    if welcome.name != name:
        raise EnrolmentError(f"the welcome is for {welcome.name}. This hospital is {name}.")
    if welcome.roster.identities.get(name) != identity:
        raise EnrolmentError(f"the welcome's roster does not have {name} with this hospital's identity.")


def check_consortium(welcome: Welcome, before: Welcome) -> None:
    """Raise EnrolmentError if the hospital belongs to another consortium, or has a newer welcome.

    before: the one that it joined with.
    """
    if before.signing != welcome.signing:
        raise EnrolmentError(
            f"this hospital belongs to {before.consortium}, and the welcome is of {welcome.consortium}, with another"
            " key. For another consortium make another folder: `consilium-client init`."
        )
    if welcome.issued_at < before.issued_at:
        raise EnrolmentError(f"the welcome is from {welcome.issued_at.isoformat()}, older than the one that is here.")


def checked_certificate(welcome: Welcome, now: datetime) -> x509.Certificate:
    """Return the certificate in a welcome, after checking that it is the consortium's, for this client, and valid now.

    Raises: EnrolmentError.
    """
    authority = certificate_of(welcome.authority, "the consortium's authority")
    certificate = certificate_of(welcome.certificate, OWN)
    try:
        authority.verify_directly_issued_by(authority)
        certificate.verify_directly_issued_by(authority)
        is_authority = authority.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        purposes = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound, x509.DuplicateExtension):
        raise EnrolmentError("the welcome's certificate is not one of the consortium's authority.") from None
    if not is_authority or ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
        raise EnrolmentError("the welcome's certificate is not one for a hospital, signed by an authority.")
    if names.get_values_for_type(x509.UniformResourceIdentifier) != [f"consilium:site:{welcome.name}"]:
        raise EnrolmentError(f"the welcome's certificate is not in the name of {welcome.name}.")
    for which, each in (("authority", authority), ("certificate", certificate)):
        if not each.not_valid_before_utc <= now <= each.not_valid_after_utc:
            raise EnrolmentError(
                f"the welcome's {which} is valid from {each.not_valid_before_utc:%d %B %Y %H:%M} to"
                f" {each.not_valid_after_utc:%d %B %Y %H:%M} UTC, and this machine's clock says {now:%d %B %Y %H:%M}."
                " Compare the clock, or ask the coordinator for a new one."
            )
    return certificate


def certificate_of(pem: str, what: str) -> x509.Certificate:
    """Return the certificate in a PEM text; ``what`` is its name in the error.

    Raises: EnrolmentError.
    """
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except (ValueError, UnsupportedAlgorithm):
        raise EnrolmentError(f"{what}: expected a certificate, PEM.") from None
