"""The coordinator's record of enrolled hospitals as a value, and what may be changed in it.

A site that is revoked stays in the record, and so does every key that it ever had: a Flower key that was taken back is
never registered again, and no key serves two hospitals.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import AwareDatetime
from pydantic.dataclasses import dataclass

from shared.enrolment import (
    CLOSED_JSON,
    Digest,
    EnrolmentRequest,
    FlowerKey,
    Member,
    Name,
    PublicKey,
    flower_public_key,
)
from shared.errors import EnrolmentError, nearest
from shared.keyfiles import key_digest

_AHEAD = timedelta(days=1)


@dataclass(frozen=True, config=CLOSED_JSON, kw_only=True)
class Retiring:
    """A certificate that was replaced, and the Flower key of its time; both are let in until a time."""

    certificate: Digest
    flower_key: FlowerKey
    until: AwareDatetime


@dataclass(frozen=True, config=CLOSED_JSON, kw_only=True)
class Site:
    """A hospital in the record.

    identity: its Ed25519 public key, 32 bytes. flower_key: its P-384 public key, PEM.
    certificates: SHA-256 of those that are its own, retiring ones too, the newest last. expires_at: of the newest.
    requested_at: of the last request that was taken.
    tls_key: digest of its TLS key (``keyfiles.key_digest``); former: of every TLS and Flower key it had before.
    """

    name: Name
    identity: PublicKey
    flower_key: FlowerKey
    certificates: tuple[Digest, ...]
    enrolled_at: AwareDatetime
    revoked_at: AwareDatetime | None = None
    expires_at: AwareDatetime
    requested_at: AwareDatetime
    tls_key: Digest
    retiring: tuple[Retiring, ...] = ()
    former: tuple[Digest, ...] = ()

    @property
    def member(self) -> Member:
        """What the roster says of it."""
        return Member(name=self.name, identity=self.identity)

    @property
    def flower_keys(self) -> tuple[str, ...]:
        """The Flower keys that are let in, the newest first; none once it is revoked."""
        if self.revoked_at is not None:
            return ()
        return tuple(dict.fromkeys([self.flower_key, *(old.flower_key for old in reversed(self.retiring))]))

    @property
    def keys(self) -> tuple[str, ...]:
        """Digests of every TLS and Flower key that it ever had."""
        return (*self.former, self.tls_key, flower_digest(self.flower_key))


@dataclass(frozen=True, config=CLOSED_JSON, kw_only=True)
class Enrolment:
    """The whole record. sites: in the order of enrolment; a name that was revoked may stand there again."""

    format: Literal[1] = 1
    sites: tuple[Site, ...] = ()

    @property
    def active(self) -> tuple[Site, ...]:
        """The sites that are not revoked."""
        return tuple(site for site in self.sites if site.revoked_at is None)

    @property
    def nodes(self) -> dict[str, str]:
        """Name of the site by each Flower key, PEM, that is to be registered with SuperLink."""
        return {key: site.name for site in self.active for key in site.flower_keys}

    def site(self, name: str) -> Site | None:
        """Return the active site with a name."""
        return next((site for site in self.active if site.name == name), None)

    def site_of_certificate(self, sha256: str) -> Site | None:
        """Return whose certificate this is, active or revoked. sha256: of its DER, in hex."""
        return next((site for site in self.sites if sha256 in site.certificates), None)


def pruned(record: Enrolment, now: datetime) -> Enrolment:
    """Return the record without what was let in until now."""
    return replace(record, sites=tuple(_site_pruned(site, now) for site in record.sites))


def _site_pruned(site: Site, now: datetime) -> Site:
    gone = {old.certificate for old in site.retiring if old.until <= now}
    return replace(
        site,
        certificates=tuple(each for each in site.certificates if each not in gone),
        retiring=tuple(old for old in site.retiring if old.certificate not in gone),
    )


def replaced(record: Enrolment, before: Site, after: Site) -> Enrolment:
    """Return the record with a site in another's place."""
    return replace(record, sites=tuple(after if site == before else site for site in record.sites))


def enrolled(record: Enrolment, name: str) -> Site:
    """Return the active site with a name.

    Raises: EnrolmentError if there is none.
    """
    site = record.site(name)
    if site is None:
        revoked = [other for other in record.sites if other.name == name]
        if revoked:
            raise EnrolmentError(f"{name} was revoked on {revoked[-1].revoked_at:%d %B %Y}, and not enrolled again.")
        raise EnrolmentError(f"{name!r} is not enrolled. {nearest(name, [other.name for other in record.active])}")
    return site


def check_time(request: EnrolmentRequest, now: datetime) -> None:
    """Raise EnrolmentError for a request from the future: it would outdate every one that comes before."""
    if request.requested_at > now + _AHEAD:
        raise EnrolmentError(
            f"the request of {request.name} is from the future, {request.requested_at.isoformat()}: compare the clocks"
            " of the hospital and of this machine, then ask for a new request."
        )


def check_new(record: Enrolment, request: EnrolmentRequest) -> None:
    """Raise EnrolmentError if the name is an enrolled site's, or the identity known under another name.

    Names that differ by capitals alone are the same: people read them to each other.
    """
    for site in record.active:
        if site.name.casefold() == request.name.casefold():
            same = site.identity == request.identity
            raise EnrolmentError(
                f"{site.name} is enrolled already"
                + (
                    ". For a new certificate or new keys, or if its welcome was lost: `consilium-server renew`."
                    if same
                    else ", with another identity. Revoke it first, or ask the hospital for another name."
                )
            )
    for site in record.sites:
        if site.identity == request.identity and site.name != request.name:
            raise EnrolmentError(
                f"this identity is known under the name {site.name}: a hospital has one name. Received: {request.name}"
            )


def check_renewal(site: Site, request: EnrolmentRequest, public: ec.EllipticCurvePublicKey) -> None:
    """Raise EnrolmentError for another identity, and for a request that is not newer than the last one.

    public: the TLS key of the request. The last request itself may come again: its welcome may have been lost.
    """
    if request.identity != site.identity:
        raise EnrolmentError(
            f"the request is signed by another identity than that of {site.name}. A hospital whose identity is lost is"
            " revoked and enrolled anew, and every hospital approves its studies again."
        )
    same = (request.flower_key, key_digest(public)) == (site.flower_key, site.tls_key)
    if request.requested_at < site.requested_at or (request.requested_at == site.requested_at and not same):
        raise EnrolmentError(
            f"the request is not newer than the last one of {site.name}, {site.requested_at.isoformat()}. Ask the"
            " hospital for a new one."
        )


def check_keys_unused(record: Enrolment, request: EnrolmentRequest, public: ec.EllipticCurvePublicKey) -> None:
    """Raise EnrolmentError if a key was ever used: by another site, or by this one before its present keys.

    public: the TLS key of the request.
    """
    own = record.site(request.name)
    present = () if own is None else (own.tls_key, flower_digest(own.flower_key))
    for kind, digest in (("Flower", flower_digest(request.flower_key)), ("TLS", key_digest(public))):
        owner = next((site for site in record.sites if digest in site.keys), None)
        if owner is None or digest in present:
            continue
        if owner.name != request.name:
            raise EnrolmentError(f"the {kind} key of this request is known as one of {owner.name}.")
        raise EnrolmentError(
            f"the {kind} key of this request was taken back from {owner.name}, and such a key never comes back. Ask the"
            f" hospital for a new one: `consilium-client renew DIR --rotate {kind.lower()}`."
        )


def flower_digest(pem: str) -> str:
    """Return the digest of a Flower key, see ``keyfiles.key_digest``."""
    return key_digest(flower_public_key(pem))
