"""Approving and withdrawing: what the hospital freezes, writes down and deletes.

An approval is made beside its place and renamed into it, so that a folder with a digest for its name is always whole. A
study that is approved again gets a new approval in the old one's place, and what the node kept of it is deleted. Only
with the same members it still knows which hospitals its sums were made with (docs/protocol.md, "Lost sites subtract");
with others the hospital accepts that sums with and without a member can be subtracted.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from client import cohort, pictures, store
from client.approval import APPROVALS, DIGEST, STATES, STUDY, TIME, Approval, read, readable, report_of, write
from client.data.split import SiteData
from client.site import SiteState
from shared import files
from shared.errors import ApprovalError, Refusal
from shared.study import Study, load_study


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
            files.replace_text(made / STUDY, proposal.text, files.SECRET_MODE)
            write(approval, made)
            if load_study(made / STUDY).digest != study.digest:
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
    """Take an approval back; the snapshot of the patients is deleted, as are images of them in the hospital's report.

    What was released is remembered.

    digest: of the study.

    Raises: ApprovalError if there is none, or it was withdrawn before.
    """
    approval = read(folder, digest)
    if approval is None:
        raise ApprovalError(f"no study with digest {digest} is approved here. `consilium-client studies` lists them.")
    if approval.withdrawn_at is not None:
        raise ApprovalError(f"{approval.study.name}: was withdrawn already, at {approval.withdrawn_at:{TIME}}.")
    withdrawn = replace(approval, withdrawn_at=now.astimezone(UTC).replace(microsecond=0))
    try:
        # Before the record: if this fails, nothing is withdrawn, and the command can be given again.
        pictures.remove(report_of(folder, approval))
        write(withdrawn, approval.folder)
        (approval.folder / cohort.FILE).unlink(missing_ok=True)
    except OSError as error:
        raise ApprovalError(f"{approval.folder}: cannot be written: {error.strerror}.") from None
    return withdrawn


def forget(folder: Path, digest: str) -> None:
    """Delete what the node remembers of a study: its sums, their contributors, stored replies.

    Raises: OSError if it cannot be deleted.
    """
    if not DIGEST.fullmatch(digest):
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
