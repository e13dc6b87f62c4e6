"""The consortium: what ``consilium-server init`` makes in the coordinator's folder, and who the consortium is.

consortium.json  name, address, host names, the public key by which hospitals know the consortium
secrets/         mode 0700; keys and the secret that Flower's two processes share, each file 0600
certificates/    what hospitals and the two servers show each other
enrolment.json, roster.json  see ``server/enrolment.py``;  audit.jsonl  see ``shared/audit.py``
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass

from server import authority
from shared import audit, enrolment, files
from shared.enrolment import CLOSED_JSON, PublicKey, Title, fingerprint, split_address
from shared.enrolment_signatures import sign_roster
from shared.errors import EnrolmentError
from shared.keyfiles import read_signing_key, write_key
from shared.secagg.keys import SigningKey
from shared.validation import explain

FILE = "consortium.json"
_SIGNING = Path("secrets") / "signing.key"

BACKUP = (
    (
        "secrets",
        "the keys: without them every hospital has to be enrolled anew. Keep this copy as safe as the original",
    ),
    ("certificates", "what hospitals and servers show each other"),
    (FILE, "who the consortium is, and where"),
    ("enrolment.json", "who is enrolled; after each enrolment and revocation"),
    ("roster.json", "the same, signed, for hospitals"),
    ("runs", "results, and where each run stands; after each run"),
    ("state.db", "Flower's state; while nothing runs"),
    (audit.FILE, "who took part in what, with the .head file beside it; after each run"),
)
"""What of a coordinator's folder has to be backed up, and why or when."""


@dataclass(frozen=True, config=CLOSED_JSON, kw_only=True)
class Consortium:
    """Who a consortium is.

    address: where hospitals connect, ``HOST:PORT``.
    hosts: every DNS name and IP address in the server's certificate.
    signing: Ed25519 public key, 32 bytes; it signs rosters and welcomes.
    """

    format: Literal[1] = 1
    name: Title
    address: Annotated[str, Field(max_length=300)]
    hosts: Annotated[tuple[str, ...], Field(min_length=1)]
    signing: PublicKey

    def __post_init__(self) -> None:
        split_address(self.address)

    @property
    def fingerprint(self) -> str:
        """What the coordinator reads to a hospital over the phone, see ``enrolment.fingerprint``."""
        return fingerprint(self.name, self.signing)


def init(folder: Path, name: str, address: str, hosts: Sequence[str], now: datetime) -> Consortium:
    """Make a consortium in a new or empty folder; ``BACKUP`` says what of it has to be backed up.

    name: printable, at most 64 characters.
    address: where hospitals connect, ``HOST:PORT``.
    hosts: further DNS names and IP addresses of the server.

    Raises: EnrolmentError; nothing is ever overwritten.
    """
    key = Ed25519PrivateKey.generate()
    public = key.public_key().public_bytes_raw()
    made = _consortium(name, address, hosts, public)
    signing = SigningKey(key.private_bytes_raw())
    try:
        if folder.exists() and any(folder.iterdir()):
            raise EnrolmentError(f"{folder}: expected a new or an empty folder. Nothing was changed.")
        if not folder.exists():
            files.make_folder(folder, files.FOLDER_MODE)
        files.make_folder(folder / "secrets", files.FOLDER_MODE)
        for part in ("certificates", "runs"):
            files.make_folder(folder / part)
        write_key(folder / _SIGNING, key)
        files.write_secret(folder / "secrets" / "superexec.secret", secrets.token_hex(32).encode())
        authority.create(folder, name, made.hosts, now)
        files.replace_json(folder / "enrolment.json", {"format": 1, "sites": []})
        roster = sign_roster(name, (), signing, now)
        files.replace_text(folder / "roster.json", enrolment.to_text(roster))
        audit.append(folder, "initialised", now, consortium=name, fingerprint=made.fingerprint)
        # Last: with it the folder is a consortium's.
        files.replace_text(folder / FILE, enrolment.to_text(made))
    except OSError as error:
        raise EnrolmentError(f"{folder}: the consortium cannot be written: {error.strerror}.") from None
    return made


def read(folder: Path) -> Consortium:
    """Return whose folder this is.

    Raises: EnrolmentError.
    """
    return enrolment.read(folder / FILE, Consortium, "Is this a folder of `consilium-server init`?")


def signing_key(folder: Path, consortium: Consortium) -> SigningKey:
    """Return the key that signs rosters and welcomes.

    Raises: EnrolmentError if it is not the consortium's.
    """
    key = read_signing_key(folder / _SIGNING)
    if key.public != consortium.signing:
        raise EnrolmentError(f"{folder / _SIGNING}: not the key that {FILE} names. Bring both back from the backup.")
    return key


def renew_servers(folder: Path, now: datetime) -> datetime:
    """Replace the servers' certificates, with the same keys and host names; return when the new ones expire.

    The gateway takes its new one for the next connection, SuperLink when it starts again.

    Raises: EnrolmentError.
    """
    try:
        expires = authority.renew(folder, read(folder).hosts, now)
    except OSError as error:
        raise EnrolmentError(f"{folder}: the new certificates cannot be written: {error.strerror}.") from None
    audit.append(folder, "servers-renewed", now, expires=expires.isoformat())
    return expires


def _consortium(name: str, address: str, hosts: Sequence[str], signing: bytes) -> Consortium:
    try:
        host, _ = split_address(address)
    except ValueError as error:
        raise EnrolmentError(f"{error}. Such as aggregator.example.org:9443") from None
    names = tuple(dict.fromkeys([host, *hosts]))
    for each in names:
        authority.host_name(each)
    try:
        return Consortium(name=name, address=address, hosts=names, signing=signing)
    except ValidationError as error:
        raise EnrolmentError(explain(error, Consortium, "consortium")) from None
