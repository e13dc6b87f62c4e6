"""Hospitals' folders as a steward finds them: made, joined, with a small table and a study about it."""

from __future__ import annotations

import atexit
import shutil
import socket
import tempfile
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from client import identity
from server import consortium, enrolment
from shared.enrolment import to_text

NOON = datetime.now(UTC)
"""Certificates are checked against the clock that the commands read."""

_TAKEN = socket.socket()
_TAKEN.bind(("127.0.0.1", 0))
atexit.register(_TAKEN.close)
ADDRESS = f"127.0.0.1:{_TAKEN.getsockname()[1]}"
"""Where the aggregator would be: nobody listens there, and as long as the port is bound, nobody else can."""

STUDY = """
[study]
name = "small"
question = "Who is sick?"
[data]
kind = "table"
label = "sick"
patient_id = "patient"
[data.columns.age]
type = "number"
unit = "years"
range = [0, 120]
[data.columns.sick]
type = "category"
levels = [0, 1]
[method]
name = "logistic-regression"
rounds = 2
"""

TABLE = "CASE,age,sick,out\n" + "".join(f"p{row},{30 + row % 50},{row % 2},no\n" for row in range(100))

SETTINGS = """
[data.small]
path = "table.csv"
columns = { patient = "CASE" }
"""


def consortium_of(folder: Path, *names: str) -> dict[str, Path]:
    """Make a consortium and its hospitals below ``folder``; each has its ``WELCOME.json``, all but joined.

    ``folder/ROSTER.json`` is the newest roster, ``folder/small.toml`` the study.
    """
    return _copied(_consortium(names), folder, names)


def joined(folder: Path, *names: str) -> dict[str, Path]:
    """The same, joined."""
    return _copied(_joined(names), folder, names)


def _copied(made: Path, folder: Path, names: tuple[str, ...]) -> dict[str, Path]:
    shutil.copytree(made, folder, dirs_exist_ok=True)
    return {name: folder / name for name in names}


def _new() -> Path:
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    return Path(folder)


@cache
def _consortium(names: tuple[str, ...]) -> Path:
    """Made once for all tests: their hospitals have the same keys."""
    folder = _new()
    server = folder / "coordinator"
    consortium.init(server, "Heart", ADDRESS, ["127.0.0.1"], NOON - timedelta(minutes=1))
    for place in (folder / name for name in names):
        identity.init(place, place.name, NOON)
        welcome = enrolment.enrol(server, enrolment.read_request(place / identity.REQUEST), NOON)
        (place / "WELCOME.json").write_text(to_text(welcome))
        (place / "table.csv").write_text(TABLE)
        (place / "site.toml").write_text(SETTINGS)
    (folder / "ROSTER.json").write_text((server / "roster.json").read_text())
    (folder / "small.toml").write_text(STUDY)
    return folder


@cache
def _joined(names: tuple[str, ...]) -> Path:
    folder = _new()
    for place in consortium_of(folder, *names).values():
        identity.join(place, place / "WELCOME.json", NOON)
    return folder
