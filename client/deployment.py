"""A hospital's node made from the hospital's folder: its address, and its desk."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client import approval, settings
from client.approval import Approval
from client.connection import Address
from client.desk import Desk, Hospital
from client.identity import Identity
from shared import audit
from shared.provenance import code_digest


def address_of(folder: Path, identity: Identity) -> Address:
    """Return where and as whom the node connects.

    Raises: SettingsError.
    """
    network = settings.load(folder).network
    return Address(identity.welcome.address, identity.authority, identity.certificate, identity.tls_key, network.proxy)


def desk_of(folder: Path, identity: Identity) -> Desk:
    """Return the desk at which the hospital's studies are answered.

    Raises: SettingsError.
    """

    def record(event: str, fields: Mapping[str, Any]) -> None:
        audit.append(folder, event, datetime.now(UTC), **fields)

    return Desk(
        Hospital(
            identity.name,
            folder,
            identity.signing,
            settings.load(folder).policy,
            code_digest(),
            _Approvals(folder).read,
            record,
        )
    )


class _Approvals:
    """Reads approvals, each again only when its file has changed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[tuple[int, int], Approval | None]] = {}

    def read(self, digest: str) -> Approval | None:
        """Return the approval of a study, None where there is none."""
        place = self._folder / approval.APPROVALS / digest / approval.RECORD
        try:
            stat = place.stat()
        except (OSError, ValueError):
            return None
        stamp = (stat.st_mtime_ns, stat.st_ino)
        known = self._known.get(digest)
        if known is None or known[0] != stamp:
            known = self._known[digest] = (stamp, approval.read(self._folder, digest))
        return known[1]
