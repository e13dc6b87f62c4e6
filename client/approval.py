"""Approvals: which studies this hospital takes part in, with whom, with which patients, and under which code.

An approval is a folder ``approvals/DIGEST`` with the study as it was read, the frozen cohort, and ``approval.json``.
It is made beside and renamed into place, so that a folder with a digest for its name is always whole. What is not
approved, withdrawn, or approved under other code is refused by name: a study's digest and the code's digest together
say everything that will be computed.

A study that is approved again gets a new approval in the old one's place, and what the node kept of it is deleted.
Only with the same members it still knows which hospitals its sums were made with (docs/protocol.md, "Lost sites
subtract"); with others the hospital accepts that sums with and without a member can be subtracted.
"""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client import cohort, store
from client.data.split import SiteData
from client.site import SiteState
from shared import files
from shared.errors import ApprovalError, ConsiliumError, Refusal, nearest
from shared.study import Study, load_study

APPROVALS, STATES = "approvals", "states"
RECORD = "approval.json"
_STUDY = "study.toml"
_FORMAT = 1
_DIGEST = re.compile(r"[0-9a-f]{64}")
_IDENTITY_BYTES = 32
_SHORTEST = 8
_TIME = "%Y-%m-%dT%H:%M:%SZ"
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


@dataclass(frozen=True, eq=False)
class Proposal:
    """What a steward says yes to.

    study, text: the study, and its file as it was read.
    data: the hospital's checked and split data; dataset: which part of ``site.toml`` they came from.
    members: identity of every member by name, from the verified roster.
    code: digest of the code that is installed.
    violations: of the hospital's policy and its budget (``client.review.Review.violations``).
    """

    study: Study
    text: str
    data: SiteData
    dataset: str
    members: Mapping[str, bytes]
    code: str
    runs: int
    violations: tuple[str, ...] = ()


def check_policy(proposal: Proposal) -> None:
    """Raise ApprovalError naming every rule of the hospital's ``site.toml`` that a proposal breaks."""
    if proposal.violations:
        lines = "\n".join(f"  {sentence}" for sentence in proposal.violations)
        name = proposal.study.name
        raise ApprovalError(f"{name}: this hospital's own site.toml does not allow it:\n{lines}")


def approve(
    folder: Path, proposal: Proposal, now: datetime, record: Callable[[Approval], None] = lambda _approval: None
) -> Approval:
    """Freeze the cohort, pin the members and write the approval in one step; replace an earlier one of the study.

    folder: the hospital's.
    record: writes the approval into the hospital's record, before it stands; what it raises stops the approval.

    Raises: ApprovalError as ``check_policy``, or if it cannot be written; nothing is left behind then.
    """
    check_policy(proposal)
    study = proposal.study
    place = folder / APPROVALS / study.digest
    made, old = place.with_name(f".{place.name}.part"), place.with_name(f".{place.name}.old")
    replaced = readable(folder, study.digest)
    try:
        files.make_folder(place.parent, files.FOLDER_MODE)
        for leftover in (made, old):
            shutil.rmtree(leftover, ignore_errors=True)
        files.make_folder(made, files.FOLDER_MODE)
        try:
            frozen = cohort.freeze(made / cohort.FILE, proposal.data)
            at = now.astimezone(UTC).replace(microsecond=0)
            approval = Approval(
                study, proposal.code, dict(proposal.members), frozen, proposal.dataset, at, proposal.runs, place
            )
            files.replace_text(made / _STUDY, proposal.text, files.SECRET_MODE)
            files.replace_json(made / RECORD, _plain(approval), files.SECRET_MODE)
            if load_study(made / _STUDY).digest != study.digest:
                raise ApprovalError(f"{study.name}: the study file was changed meanwhile. Look at it again.")
            record(approval)
            # In this order: whenever this is interrupted, no approval stands without what it must remember.
            if place.exists():
                place.rename(old)
            _renew(folder, study.digest, same_members=bool(replaced and replaced.members == approval.members))
            made.rename(place)
        finally:
            for leftover in (made, old):
                shutil.rmtree(leftover, ignore_errors=True)
    except OSError as error:
        raise ApprovalError(f"{place}: the approval cannot be written: {error.strerror}.") from None
    return approval


def withdraw(folder: Path, digest: str, now: datetime) -> Approval:
    """Take an approval back; the snapshot of the patients is deleted, what was released is remembered.

    digest: of the study.

    Raises: ApprovalError if there is none, or it was withdrawn before.
    """
    approval = read(folder, digest)
    if approval is None:
        raise ApprovalError(f"no study with digest {digest} is approved here. `consilium-client studies` lists them.")
    if approval.withdrawn_at is not None:
        raise ApprovalError(f"{approval.study.name}: was withdrawn already, at {approval.withdrawn_at:{_TIME}}.")
    withdrawn = replace(approval, withdrawn_at=now.astimezone(UTC).replace(microsecond=0))
    try:
        files.replace_json(approval.folder / RECORD, _plain(withdrawn), files.SECRET_MODE)
        (approval.folder / cohort.FILE).unlink(missing_ok=True)
    except OSError as error:
        raise ApprovalError(f"{approval.folder}: cannot be written: {error.strerror}.") from None
    return withdrawn


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
    return [name for name in names if _DIGEST.fullmatch(name)]


def read(folder: Path, digest: str) -> Approval | None:
    """Return one approval; None where there is none.

    Raises: ApprovalError if it is damaged.
    """
    place = folder / APPROVALS / digest
    if not _DIGEST.fullmatch(digest) or not place.is_dir():
        return None
    record = files.read_json(place / RECORD, ApprovalError, _AGAIN)
    try:
        approval = _approval(record, load_study(place / _STUDY), place)
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


def forget(folder: Path, digest: str) -> None:
    """Delete what the node remembers of a study: its sums, their contributors, stored replies.

    Raises: OSError if it cannot be deleted.
    """
    if not _DIGEST.fullmatch(digest):
        raise ValueError("a digest is 64 hex digits")
    place = folder / STATES / digest
    if place.exists():
        shutil.rmtree(place)


def _renew(folder: Path, digest: str, same_members: bool) -> None:
    """Delete what the node kept of a study, but with the same members not which hospitals its sums were made with."""
    place = folder / STATES / digest
    if not place.exists():
        return
    sums = None
    if same_members:
        with contextlib.suppress(Refusal):  # damaged: approving anew is what mends it
            sums = store.read(place).state.sums.next_run()
    forget(folder, digest)
    if sums is not None:
        store.write(place, store.Kept(SiteState(sums=sums)))


def _plain(approval: Approval) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "study": approval.study.name,
        "digest": approval.digest,
        "code": approval.code,
        "members": [{"name": name, "identity": key.hex()} for name, key in sorted(approval.members.items())],
        "cohort": approval.cohort,
        "dataset": approval.dataset,
        "approved_at": approval.approved_at.strftime(_TIME),
        "runs": approval.runs,
        "withdrawn_at": approval.withdrawn_at.strftime(_TIME) if approval.withdrawn_at else None,
    }


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
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)
