"""What is wrong before the node is started, in plain words, in an order in which the first finding explains the rest.

First the hospital's own: folder and keys, the welcome, ``site.toml``, the certificate, the disk; only if these are as
they must be, the way to the consortium (``client/reach.py``). Nothing is sent but one request without content.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

from client import identity, settings
from client.findings import Finding
from client.identity import Identity
from client.reach import reach
from client.welcome import checked_certificate
from shared import files
from shared.enrolment import Welcome
from shared.errors import ConsiliumError
from shared.keyfiles import public_pem

SOON = timedelta(days=30)
"""A certificate that expires within it is worth a warning."""
_LITTLE_ROOM, _ROOM = 100 * 10**6, 10**9


def preflight(folder: Path, clock: Callable[[], datetime]) -> list[Finding]:
    """Return everything that is wrong; nothing where the node can start.

    folder: the hospital's.
    clock: the time, in UTC.
    """
    found = check_folder(folder)
    if _any_fatal(found):
        return found
    known, unknown = _known(folder)
    found += unknown + check_settings(folder)
    if known is not None:
        found += check_certificate(known.require_welcome(), clock())
    found += check_disk(folder)
    if known is None or _any_fatal(found):
        return found
    # Imported here: deployment needs the desk, which is a lot for a check that may end above.
    from client.deployment import address_of

    return found + reach(address_of(folder, known), public_pem(known.flower_key().public_key()), clock)


def check_folder(folder: Path) -> list[Finding]:
    """Return what is wrong with the folder, and with who can read its secrets."""
    secrets = folder / "secrets"
    if not (folder / identity.FILE).is_file() or not secrets.is_dir():
        text = f"{folder} is no hospital's folder: `consilium-client init {folder} --name NAME` makes one."
        return [Finding("folder", "fatal", text)]
    found = []
    if stat.S_IMODE(folder.stat().st_mode) & 0o022:
        text = f"others can write in {folder}, and so change what this hospital approves: chmod go-w {folder}"
        found.append(Finding("folder", "fatal", text))
    for path in (secrets, *sorted(secrets.iterdir())):
        mode = stat.S_IMODE(path.stat().st_mode)
        if mode & 0o077:
            text = f"others can read or change {path} (mode {mode:04o}): chmod go= {path}"
            found.append(Finding("secrets", "fatal", text))
    if folder.stat().st_uid != os.geteuid():
        text = f"{folder} belongs to another user than the one who starts the node: start the node as that user."
        found.append(Finding("folder", "warning", text))
    return found


def check_settings(folder: Path) -> list[Finding]:
    """Return what is wrong with ``site.toml``."""
    try:
        settings.load(folder)
    except ConsiliumError as error:
        return [Finding("settings", "fatal", str(error))]
    return []


def check_certificate(welcome: Welcome, now: datetime) -> list[Finding]:
    """Return what is wrong with the hospital's certificate, or that it expires soon."""
    from cryptography import x509

    own = x509.load_pem_x509_certificate(welcome.certificate.encode())
    begins, ends = own.not_valid_before_utc, own.not_valid_after_utc
    clock = f"this machine's clock says {now:%d %B %Y %H:%M} UTC"
    renew = "`consilium-client renew DIR` writes a request for a new one; send it to the coordinator"
    if now < begins:
        text = f"this hospital's certificate is valid from {begins:%d %B %Y %H:%M} UTC on, and {clock}: set the clock."
        return [Finding("certificate", "fatal", text)]
    if now > ends:
        text = f"this hospital's certificate expired on {ends:%d %B %Y}, and {clock}: {renew}."
        return [Finding("certificate", "fatal", text)]
    if ends - now <= SOON:
        text = f"this hospital's certificate expires on {ends:%d %B %Y}, in {(ends - now).days} days: {renew}."
        return [Finding("certificate", "warning", text)]
    try:
        checked_certificate(welcome, now)
    except ConsiliumError as error:
        return [Finding("certificate", "fatal", str(error))]
    return []


def check_disk(folder: Path) -> list[Finding]:
    """Return why the node could not write what it has to keep."""
    try:
        # What the node writes is written like this; what cannot be kept is not said.
        files.replace_bytes(folder / ".preflight", b"", files.SECRET_MODE)
        (folder / ".preflight").unlink()
    except OSError as error:
        text = f"the node cannot write in {folder}: {error.strerror}."
        return [Finding("disk", "fatal", text)]
    return room(shutil.disk_usage(folder).free, folder)


def room(free: int, folder: Path) -> list[Finding]:
    """Return whether there is too little room for a study's snapshot and states.

    free: bytes.
    """
    if free >= _ROOM:
        return []
    text = f"{free / 10**6:.0f} MB are free on the disk of {folder}: make room."
    return [Finding("disk", "fatal" if free < _LITTLE_ROOM else "warning", text)]


def _any_fatal(found: list[Finding]) -> bool:
    return any(each.level == "fatal" for each in found)


def _known(folder: Path) -> tuple[Identity | None, list[Finding]]:
    """Return the hospital once it has joined, or what keeps it from that."""
    try:
        known = identity.load(folder)
        known.require_welcome()
    except ConsiliumError as error:
        return None, [Finding("joined", "fatal", str(error))]
    return known, []
