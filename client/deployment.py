"""A hospital's node made from the hospital's folder: its address, its desk, and what it does between two messages."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client import approval, identity, ledger, retention, settings
from client.approval import Approval
from client.charges import Charge
from client.connection import Address
from client.desk import Desk
from client.hospital import Hospital
from client.identity import Identity
from client.site import Site, SiteState
from shared import audit, chain, files
from shared.errors import ConsiliumError
from shared.provenance import code_digest

log = logging.getLogger("consilium.node")

_LOOK_S, _DAY_S = 1.0, 86_400.0


def address_of(folder: Path, known: Identity) -> Address:
    """Return where and as whom the node connects.

    Raises: EnrolmentError before the hospital has joined; SettingsError.
    """
    network = settings.load(folder).network
    return Address(known.require_welcome().address, known.authority, known.certificate, known.tls_key, network.proxy)


def desk_of(folder: Path, known: Identity) -> Desk:
    """Return the desk at which the hospital's studies are answered.

    Raises: SettingsError.
    """

    def record(event: str, fields: Mapping[str, Any]) -> None:
        audit.append(folder, event, datetime.now(UTC), **fields)

    return Desk(
        Hospital(
            known.name,
            folder,
            known.signing,
            settings.load(folder).policy,
            code_digest(),
            Approvals(folder).read,
            record,
            pay=pay(folder),
            report=reporter(folder),
        )
    )


def pay(folder: Path) -> Callable[[str, Charge], None]:
    """Return what charges a draw of noise to the ledger of its data, under the budget as it stands now."""

    def charge(dataset: str, wanted: Charge) -> None:
        own = settings.load(folder)
        ledger.charge(folder, own.ledger_of(dataset), wanted, own.budget, datetime.now(UTC))

    return charge


def reporter(folder: Path) -> Callable[[Approval, Site, SiteState], None]:
    """Return what writes the hospital's own report of a finished run; its ``[report]`` is as it stands then."""

    def write(approved: Approval, site: Site, state: SiteState) -> None:
        from client.judgement import own_judgement
        from client.pictures import own_pictures
        from client.report import write_own_report

        judged = own_judgement(site.member, site.data, site.method, state.judged) if state.judged else None
        wanted = state.judged and settings.load(folder).report.pictures
        pictures = own_pictures(approved.study, site.data, site.method, state.judged) if wanted else ()
        path = approval.report_of(folder, approved)
        files.make_folder(path.parent, files.FOLDER_MODE)
        record = chain.read(folder / audit.FILE)
        write_own_report(path, approved, site.data, judged, record, site.member.policy, pictures)

    return write


class Approvals:
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


@dataclass(eq=False)
class Upkeep:
    """What a node does between two messages: at its start and once a day what retention asks for, and look whether
    the hospital has a new certificate or other settings, which a node takes up by starting anew.

    clock: seconds, from any zero.
    """

    folder: Path
    desk: Desk
    clock: Callable[[], float]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    _looked: float = field(default=float("-inf"))
    _cleared: float = field(default=float("-inf"))
    _stamps: tuple[object, ...] = ()

    def __post_init__(self) -> None:
        self._stamps = self._stamp()

    def step(self) -> bool:
        """Do what is due; return whether the node has to start anew."""
        at = self.clock()
        if at - self._looked < _LOOK_S:
            return False
        self._looked = at
        if self._has_changed():
            return True
        if at - self._cleared >= _DAY_S:
            self._cleared = at
            self._clear()
        return False

    def _clear(self) -> None:
        try:
            asked = settings.load(self.folder).retention
        except ConsiliumError as error:
            log.warning("%s", error)
            return
        for digest in retention.apply(self.folder, asked, self.now()):
            self.desk.close(digest)

    def _has_changed(self) -> bool:
        stamps = self._stamp()
        if stamps == self._stamps:
            return False
        self._stamps = stamps
        try:
            identity.load(self.folder)
            settings.load(self.folder)
        except ConsiliumError as error:
            # Half a change, or a mistake: the node goes on as before until it is mended.
            log.warning("what was changed is not taken up: %s", error)
            return False
        return True

    def _stamp(self) -> tuple[object, ...]:
        paths = (self.folder / identity.WELCOME, self.folder / settings.FILE)
        stats = [path.stat() if path.exists() else None for path in paths]
        return tuple(stat and (stat.st_mtime_ns, stat.st_ino) for stat in stats)
