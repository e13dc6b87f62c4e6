"""Who this hospital is: its three keys, its request to be enrolled, and what the coordinator returned.

    identity.json    its name and Ed25519 public key; never changes
    secrets/         signing.key, tls.key, flower.key; NAME.next.key is one that waits for the coordinator's welcome
    request.json     the last request
    welcome.json, certificates/  what the coordinator returned

The signing key is who the hospital is for the other hospitals, and does not rotate: with another one it is another
hospital, which all have to approve. The other two do. A new key lies beside the old one until the welcome for it comes,
so that the hospital stays connected.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic.dataclasses import dataclass as closed

from client.welcome import OWN, certificate_of, check_consortium, check_ours, checked_certificate, read_welcome
from shared import enrolment, files
from shared.enrolment import CLOSED_JSON, Digest, EnrolmentRequest, Name, PublicKey, Welcome, fingerprint
from shared.enrolment_signatures import sign_request
from shared.errors import EnrolmentError
from shared.keyfiles import Curve, new_key, public_pem, read_curve_key, read_signing_key, write_key
from shared.secagg.keys import SigningKey

FILE, REQUEST, WELCOME = "identity.json", "request.json", "welcome.json"
Rotating = Literal["tls", "flower"]

_CURVES: dict[Rotating, Curve] = {"tls": "P-256", "flower": "P-384"}
_NOT_THIS = "Is this a folder of `consilium-client init`?"
_JOIN = "Join with the coordinator's welcome again."
_FIRST = "Send the coordinator request.json, then join with its answer: `consilium-client join DIR WELCOME.json`."


@closed(frozen=True, config=CLOSED_JSON, kw_only=True)
class Public:
    """What is public of a hospital and never changes. identity: Ed25519 public key, 32 bytes."""

    format: Literal[1] = 1
    name: Name
    identity: PublicKey
    fingerprint: Digest


@dataclass(frozen=True)
class Identity:
    """A hospital, as its own commands and its node see it.

    signing: signs for the hospital in every study.
    folder: the hospital's.
    welcome: what the coordinator returned, checked; None before the hospital has joined.
    """

    name: str
    signing: SigningKey = field(repr=False)
    folder: Path
    welcome: Welcome | None = field(repr=False)

    @property
    def fingerprint(self) -> str:
        """What the hospital reads to others over the phone."""
        return fingerprint(self.name, self.signing.public)

    @property
    def tls_key(self) -> Path:
        """PEM file of the key of its certificate."""
        return _secret(self.folder, "tls")

    @property
    def certificate(self) -> Path:
        """PEM file of its certificate."""
        return self.folder / "certificates" / "site.crt"

    @property
    def authority(self) -> Path:
        """PEM file of the certificate by which it knows the consortium's server."""
        return self.folder / "certificates" / "ca.crt"

    @property
    def expires_at(self) -> datetime:
        """When its certificate does.

        Raises: EnrolmentError as ``require_welcome``.
        """
        return certificate_of(self.require_welcome().certificate, OWN).not_valid_after_utc

    def require_welcome(self) -> Welcome:
        """Return the welcome.

        Raises: EnrolmentError before the hospital has joined.
        """
        if self.welcome is None:
            raise EnrolmentError(f"{self.folder / WELCOME}: not there yet. {_FIRST}")
        return self.welcome

    def flower_key(self) -> ec.EllipticCurvePrivateKey:
        """Return the P-384 key by which Flower knows the node.

        Raises: EnrolmentError.
        """
        return read_curve_key(_secret(self.folder, "flower"), "P-384")


def init(folder: Path, name: str, now: datetime) -> EnrolmentRequest:
    """Draw a hospital's keys, and write them and its request into its folder.

    name: by which all other hospitals will know it; it never changes.

    Raises: EnrolmentError; nothing is ever overwritten.
    """
    enrolment.check_name(name)
    try:
        for part in (FILE, "secrets"):
            if (folder / part).exists():
                raise EnrolmentError(f"{folder / part}: exists already. Nothing was changed. Choose another folder.")
        if not folder.exists():
            files.make_folder(folder, files.FOLDER_MODE)
        files.make_folder(folder / "secrets", files.FOLDER_MODE)
        signing = Ed25519PrivateKey.generate()
        write_key(_secret(folder, "signing"), signing)
        for which, curve in _CURVES.items():
            write_key(_secret(folder, which), new_key(curve))
        identity = signing.public_key().public_bytes_raw()
        public = Public(name=name, identity=identity, fingerprint=fingerprint(name, identity))
        files.replace_text(folder / FILE, enrolment.to_text(public))
    except OSError as error:
        raise EnrolmentError(f"{folder}: the identity cannot be written: {error.strerror}.") from None
    return renew(folder, now)


def renew(folder: Path, now: datetime) -> EnrolmentRequest:
    """Write a new request, for a new certificate; with the keys that wait for a welcome where there are such.

    Raises: EnrolmentError.
    """
    public = read_public(folder)
    signing = _signing_key(folder, public)
    keys = {which: read_curve_key(_newest(folder, which), curve) for which, curve in _CURVES.items()}
    request = sign_request(public.name, signing, keys["flower"], keys["tls"], now)
    try:
        files.replace_text(folder / REQUEST, enrolment.to_text(request))
    except OSError as error:
        raise EnrolmentError(f"{folder / REQUEST}: cannot be written: {error.strerror}.") from None
    return request


def rotate(folder: Path, which: Rotating, now: datetime) -> EnrolmentRequest:
    """Draw a new key, and write a request for it; the old one stays in use until the welcome is joined.

    A key that waits already is kept: the same request is written again, with the time of now.

    Raises: EnrolmentError.
    """
    if which not in _CURVES:
        raise EnrolmentError(
            f"expected tls or flower. Received: {which!r}. The signing key does not rotate: with another one this is"
            " another hospital, to be enrolled and approved anew."
        )
    read_public(folder)
    waiting = _next(folder, which)
    try:
        if not waiting.exists():
            write_key(waiting, new_key(_CURVES[which]))
    except OSError as error:
        raise EnrolmentError(f"{waiting}: the new key cannot be written: {error.strerror}.") from None
    return renew(folder, now)


def join(folder: Path, path: Path, now: datetime) -> Welcome:
    """Take the coordinator's welcome, and put waiting keys in use.

    path: its file. Whether it is from the right consortium is known by its fingerprint, over the phone.

    Raises: EnrolmentError if anything in it is not this hospital's, not signed, or of another consortium than before.
    """
    public, welcome = read_public(folder), read_welcome(path)
    check_ours(welcome, public.name, public.identity)
    if (folder / WELCOME).exists():
        check_consortium(welcome, enrolment.read(folder / WELCOME, Welcome, _JOIN))
    certificate = checked_certificate(welcome, now)
    keys: dict[Rotating, object] = {
        "tls": certificate.public_key(),
        "flower": enrolment.flower_public_key(welcome.flower_key),
    }
    promoted = [which for which, key in keys.items() if _is_waiting(folder, which, key)]
    try:
        for which in promoted:
            _next(folder, which).replace(_secret(folder, which))
        files.make_folder(folder / "certificates")
        for name, text in (("ca.crt", welcome.authority), ("site.crt", welcome.certificate)):
            files.replace_text(folder / "certificates" / name, text)
        # Last: until then the hospital is not joined, or joined as before, and may join again.
        files.replace_text(folder / WELCOME, enrolment.to_text(welcome))
    except OSError as error:
        raise EnrolmentError(f"{folder}: the welcome cannot be written: {error.strerror}. {_JOIN}") from None
    return welcome


def load(folder: Path) -> Identity:
    """Return a hospital, after checking that its keys, certificate and welcome belong together.

    Whether the certificate has expired, is asked elsewhere: ``Identity.expires_at``.

    Raises: EnrolmentError.
    """
    public = read_public(folder)
    signing = _signing_key(folder, public)
    if not (folder / WELCOME).exists():
        return Identity(public.name, signing, folder, None)
    welcome = read_welcome(folder / WELCOME, _JOIN)
    check_ours(welcome, public.name, public.identity)
    identity = Identity(public.name, signing, folder, welcome)
    certificate = certificate_of(welcome.certificate, OWN)
    tls = read_curve_key(identity.tls_key, "P-256").public_key()
    if tls != certificate.public_key() or public_pem(identity.flower_key().public_key()) != welcome.flower_key:
        raise EnrolmentError(f"{folder / WELCOME}: not for the keys that are in use here. {_JOIN}")
    for path, text in ((identity.certificate, welcome.certificate), (identity.authority, welcome.authority)):
        if _text(path) != text:
            raise EnrolmentError(f"{path}: not the certificate of {WELCOME}. {_JOIN}")
    return identity


def read_public(folder: Path) -> Public:
    """Return what is public of the hospital, enrolled or not.

    Raises: EnrolmentError.
    """
    return enrolment.read(folder / FILE, Public, _NOT_THIS)


def _is_waiting(folder: Path, which: Rotating, expected: object) -> bool:
    """Whether a welcome is for the key that waits, not for the one in use; it has to be for one of them."""
    for path in (_secret(folder, which), _next(folder, which)):
        if path.exists() and read_curve_key(path, _CURVES[which]).public_key() == expected:
            return path == _next(folder, which)
    raise EnrolmentError(
        f"the welcome is not for a {which} key of this hospital: send the coordinator {REQUEST} again."
    )


def _signing_key(folder: Path, public: Public) -> SigningKey:
    path = _secret(folder, "signing")
    key = read_signing_key(path)
    if key.public != public.identity:
        raise EnrolmentError(f"{path}: not the key that {FILE} names. Bring both back from the backup.")
    return key


def _secret(folder: Path, which: str) -> Path:
    return folder / "secrets" / f"{which}.key"


def _next(folder: Path, which: str) -> Path:
    return folder / "secrets" / f"{which}.next.key"


def _newest(folder: Path, which: str) -> Path:
    waiting = _next(folder, which)
    return waiting if waiting.exists() else _secret(folder, which)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise EnrolmentError(f"{path}: cannot be read: {error.strerror}. {_JOIN}") from None
