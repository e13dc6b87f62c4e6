"""Who a client certificate belongs to, as the enrolment file says at this moment, and when each site was last seen.

The file is looked at on every request, so that enrolling and revoking take effect without a restart. A list of revoked
certificates would do less: a stale one refuses everybody, and a TLS 1.3 ticket from before outlives it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

from server import enrolment
from server.gateway_http import NODE_KEY, Refused, Request
from server.sites import Site
from shared import files
from shared.errors import DeploymentError, EnrolmentError

logger = logging.getLogger("consilium.gateway")
T = TypeVar("T")

UNREADABLE = "enrolment-unreadable"
"""Code of the refusal of everybody, which says nothing about anybody."""


class Watched(Generic[T]):
    """A value made of files, made again when one of them was replaced."""

    def __init__(self, paths: Sequence[Path], load: Callable[[], T]) -> None:
        self._paths = paths
        self._load = load
        self._made: tuple[object, T] | None = None
        self._lock = threading.Lock()

    def get(self) -> T:
        """Return the value of the files as they are now.

        Raises: whatever ``load`` raises; OSError when a file is missing.
        """
        with self._lock:
            # Looked at before they are read: what is replaced in between is read again the next time.
            stamp = tuple(_stamp(path) for path in self._paths)
            if self._made is None or self._made[0] != stamp:
                self._made = None
                self._made = stamp, self._load()
            return self._made[1]


def _stamp(path: Path) -> tuple[int, int, int]:
    stat = os.stat(path)  # noqa: PTH116 - this runs on every request, and Path.stat takes twice as long
    return stat.st_ino, stat.st_mtime_ns, stat.st_size


def certificate_digest(der: bytes) -> str:
    """Return SHA-256 of a certificate's DER bytes, in hex."""
    return hashlib.sha256(der).hexdigest()


class Sites:
    """The enrolment file of a coordinator's folder."""

    def __init__(self, folder: Path) -> None:
        self._file = Watched([folder / enrolment.FILE], lambda: _by_certificate(folder))
        self._seen_path = folder / "seen.json"
        self._seen = _earlier(self._seen_path)
        self._written = dict(self._seen)
        self._lock = threading.Lock()

    def find(self, certificate: str, now: datetime) -> Site | Refused:
        """Return whose certificate this is, or why nobody's.

        certificate: SHA-256 in hex.
        """
        try:
            site = self._file.get().get(certificate)
        except (EnrolmentError, OSError) as error:
            return Refused(
                503,
                UNREADABLE,
                "The coordinator's enrolment record cannot be read at the moment.",
                f"the enrolment record cannot be read, so nobody is let in: {error}",
            )
        if site is None or any(old.certificate == certificate and old.until <= now for old in site.retiring):
            return Refused(
                503,
                "unknown-certificate",
                "The coordinator does not know this certificate: it belongs to no enrolled hospital, or was replaced by"
                " a newer one. Ask the coordinator.",
                f"its certificate {certificate[:16]} is valid but belongs to no enrolled hospital, or was replaced",
            )
        if site.revoked_at is not None:
            return Refused(
                503,
                "revoked",
                f"The coordinator has revoked {site.name}. Ask the coordinator.",
                f"{site.name} was revoked",
            )
        return site

    def check(self, certificate: str, request: Request, now: datetime) -> Refused | None:
        """Return why this request is not taken: its certificate, or a node key that is not the same hospital's."""
        site = self.find(certificate, now)
        if isinstance(site, Refused):
            return site
        keys = {site.flower_key, *(old.flower_key for old in site.retiring if old.until > now)}
        if _decoded(request.headers.get(NODE_KEY, "")) not in keys:
            return Refused(
                503,
                "wrong-node-key",
                f"The Flower key of this request is not the one that {site.name} was enrolled with.",
                f"the certificate is {site.name}'s, the Flower key of the request is not",
            )
        return None

    def saw(self, name: str, now: datetime) -> None:
        """Take down that a site's request was answered."""
        with self._lock:
            self._seen[name] = now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")

    def write_seen(self) -> None:
        """Replace ``seen.json``, {name: time}, if something is new."""
        with self._lock:
            seen = dict(self._seen)
        if seen == self._written:
            return
        try:
            files.replace_json(self._seen_path, dict(sorted(seen.items())))
            self._written = seen
        except OSError as error:
            logger.warning("%s cannot be written: %s", self._seen_path, error.strerror)


def _decoded(value: str) -> str | None:
    try:
        return base64.b64decode(value, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return None


def _by_certificate(folder: Path) -> Mapping[str, Site]:
    return {certificate: site for site in enrolment.read(folder).sites for certificate in site.certificates}


def _earlier(path: Path) -> dict[str, str]:
    try:
        seen = files.read_json(path, DeploymentError, "")
    except DeploymentError:
        return {}
    return {name: time for name, time in seen.items() if isinstance(time, str)}
