"""Approvals: which studies this hospital takes part in, with whom, with which patients, and under which code.

An approval is a folder ``approvals/DIGEST`` with the study as it was read, the frozen cohort, and ``approval.json``
(``client/approving.py``). What is not approved, withdrawn, or approved under other code is refused by name: a study's
digest and the code's digest together say everything that will be computed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client import cohort
from client.data.split import SiteData
from shared import files
from shared.errors import ApprovalError, ConsiliumError, Refusal, nearest
from shared.study import Study, load_study

APPROVALS, STATES, REPORTS = "approvals", "states", "reports"
RECORD, STUDY = "approval.json", "study.toml"
DIGEST = re.compile(r"[0-9a-f]{64}")
TIME = "%Y-%m-%dT%H:%M:%SZ"
_FORMAT = 1
_IDENTITY_BYTES = 32
_SHORTEST = 8
_AGAIN = "Approve the study again."


@dataclass(frozen=True)
class Approval:
    """One study that a hospital approved.

    code: digest of the code that was installed then.
    members: identity of every member by name, 32 bytes each, pinned from the signed roster; this hospital's included.
    cohort: digest of the snapshot.
    dataset: which part of ``site.toml`` the data came from.
    runs: how many runs were approved.
    withdrawn_at: None while it stands.
    folder: where it lies.
    """

    study: Study
    code: str
    members: Mapping[str, bytes]
    cohort: str
    dataset: str
    approved_at: datetime
    runs: int
    folder: Path
    withdrawn_at: datetime | None = None

    @property
    def digest(self) -> str:
        """Of the study."""
        return self.study.digest

    def data(self) -> SiteData:
        """Return the frozen cohort.

        Raises: ApprovalError if it is not the one that was approved.
        """
        return cohort.load(self.folder / cohort.FILE, self.cohort)


def report_of(folder: Path, approval: Approval) -> Path:
    """Return where the hospital's own report of a study lies, ``reports/STUDY-DIGEST.html``."""
    return folder / REPORTS / f"{approval.study.name}-{approval.digest[:8]}.html"


def read_all(folder: Path) -> dict[str, Approval]:
    """Return the approvals in a hospital's folder, withdrawn ones too, by the study's digest.

    Raises: ApprovalError if one is damaged.
    """
    found = {name: read(folder, name) for name in _digests(folder)}
    return {name: approval for name, approval in found.items() if approval is not None}


def standing(folder: Path) -> list[Approval]:
    """Return the approvals that are not withdrawn; what is damaged is not answered, and left out.

    Raises: ApprovalError if the folder cannot be read.
    """
    found = (readable(folder, name) for name in _digests(folder))
    return [approval for approval in found if approval is not None and approval.withdrawn_at is None]


def readable(folder: Path, digest: str) -> Approval | None:
    """Return one approval; None where there is none, or it is damaged: approving anew is what mends it."""
    try:
        return read(folder, digest)
    except ApprovalError:
        return None


def _digests(folder: Path) -> list[str]:
    try:
        names = sorted(path.name for path in (folder / APPROVALS).iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ApprovalError(f"{folder / APPROVALS}: cannot be read: {error.strerror}.") from None
    return [name for name in names if DIGEST.fullmatch(name)]


def read(folder: Path, digest: str) -> Approval | None:
    """Return one approval; None where there is none.

    Raises: ApprovalError if it is damaged.
    """
    place = folder / APPROVALS / digest
    if not DIGEST.fullmatch(digest) or not place.is_dir():
        return None
    record = files.read_json(place / RECORD, ApprovalError, _AGAIN)
    try:
        approval = _approval(record, load_study(place / STUDY), place)
    except (ConsiliumError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ApprovalError(f"{place}: not a whole approval ({type(error).__name__}). {_AGAIN}") from None
    if approval.digest != digest or record["digest"] != digest:
        raise ApprovalError(f"{place}: the study in it is another one than was approved. {_AGAIN}")
    return approval


def find(folder: Path, wanted: str) -> str:
    """Return the digest of the approval that is meant.

    wanted: a study file, a study's name, or the beginning of its digest, at least 8 digits.

    Raises: ApprovalError if none fits, or several do; StudyError if it is a file and no study.
    """
    known = read_all(folder)
    path = Path(wanted)
    if path.is_file():
        return load_study(path).digest
    fitting = [
        digest
        for digest, approval in known.items()
        if approval.study.name == wanted or (len(wanted) >= _SHORTEST and digest.startswith(wanted))
    ]
    if len(fitting) > 1:  # of several versions of a study, those that stand
        fitting = [digest for digest in fitting if known[digest].withdrawn_at is None]
    if not fitting:
        names = {approval.study.name for approval in known.values()}
        raise ApprovalError(f"no study {wanted!r} is approved here. {nearest(wanted, names)}")
    if len(fitting) > 1:
        listed = ", ".join(digest[:16] for digest in fitting)
        raise ApprovalError(f"several approved studies are called {wanted!r}. Give a digest: {listed}.")
    return fitting[0]


def check(approval: Approval | None, code_digest_now: str) -> None:
    """Check that a study may be answered.

    code_digest_now: of the code that runs: ``shared.provenance.code_digest()``.

    Raises: Refusal ``not-approved``, ``withdrawn`` or ``code-changed``.
    """
    if approval is None:
        raise Refusal("not-approved", "this hospital has not approved a study with this digest")
    if approval.withdrawn_at is not None:
        raise Refusal("withdrawn", "this hospital has withdrawn its approval of the study")
    if approval.code != code_digest_now:
        raise Refusal("code-changed", "the code at this hospital is not the one under which it approved the study")


def write(approval: Approval, folder: Path) -> None:
    """Write an approval's record into its folder, or the folder that will be it.

    Raises: OSError.
    """
    record = {
        "format": _FORMAT,
        "study": approval.study.name,
        "digest": approval.digest,
        "code": approval.code,
        "members": [{"name": name, "identity": key.hex()} for name, key in sorted(approval.members.items())],
        "cohort": approval.cohort,
        "dataset": approval.dataset,
        "approved_at": approval.approved_at.strftime(TIME),
        "runs": approval.runs,
        "withdrawn_at": approval.withdrawn_at.strftime(TIME) if approval.withdrawn_at else None,
    }
    files.replace_json(folder / RECORD, record, files.SECRET_MODE)


def _approval(record: Mapping[str, Any], study: Study, place: Path) -> Approval:
    if record["format"] != _FORMAT:
        raise ValueError("another format")
    members = {str(member["name"]): bytes.fromhex(member["identity"]) for member in record["members"]}
    if any(len(identity) != _IDENTITY_BYTES for identity in members.values()):
        raise ValueError("not an identity")
    runs = record["runs"]
    if not isinstance(runs, int) or runs < 1:
        raise ValueError("not a number of runs")
    return Approval(
        study=study,
        code=str(record["code"]),
        members=members,
        cohort=str(record["cohort"]),
        dataset=str(record["dataset"]),
        approved_at=_time(record["approved_at"]),
        runs=runs,
        folder=place,
        withdrawn_at=None if record["withdrawn_at"] is None else _time(record["withdrawn_at"]),
    )


def _time(text: str) -> datetime:
    return datetime.strptime(text, TIME).replace(tzinfo=UTC)
