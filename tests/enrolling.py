"""A coordinator and hospitals that hand each other requests and welcomes, at the same noon unless another is given."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from client import identity
from client.identity import Rotating
from server import consortium, enrolment
from server.sites import Enrolment
from shared.enrolment import EnrolmentRequest, Welcome, to_text

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


class Coordinator:
    """A coordinator's folder."""

    def __init__(
        self, folder: Path, name: str = "Danube", address: str = "localhost:9443", now: datetime = NOON
    ) -> None:
        self.folder = folder
        self.consortium = consortium.init(folder, name, address, ["127.0.0.1"], now)

    def enrol(self, request: EnrolmentRequest, now: datetime = NOON) -> Welcome:
        return enrolment.enrol(self.folder, request, now)

    def renew(self, request: EnrolmentRequest, now: datetime, *, at_once: bool = False) -> Welcome:
        return enrolment.renew(self.folder, request, now, at_once=at_once)

    def revoke(self, name: str, now: datetime = NOON + HOUR) -> None:
        enrolment.revoke(self.folder, name, now)

    @property
    def record(self) -> Enrolment:
        return enrolment.read(self.folder)

    @property
    def members(self) -> list[str]:
        return [member.name for member in enrolment.read_roster(self.folder).members]


class Hospital:
    """A hospital's folder."""

    def __init__(self, folder: Path, name: str, now: datetime = NOON) -> None:
        self.folder = folder
        self.request = identity.init(folder, name, now)

    def rotate(self, which: Rotating, now: datetime) -> EnrolmentRequest:
        self.request = identity.rotate(self.folder, which, now)
        return self.request

    def join(self, welcome: Welcome, now: datetime = NOON) -> Welcome:
        path = self.folder / "received.json"
        path.write_text(to_text(welcome))
        return identity.join(self.folder, path, now)

    def load(self) -> identity.Identity:
        return identity.load(self.folder)
