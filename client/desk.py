"""All studies of one hospital at its node: which are approved, where each stands, and the record of what left.

The order in which a question is answered: read it strictly; is the study approved, and is the code still the one that
was approved; was the same asked before; are its patients nearly those of another sum; the site's own steps
(``client/site.py``, the same as in a simulation); write down whose sum it is, the state and the reply; write down in
the record what leaves; sign it. Nothing leaves that is not written down.
"""

from __future__ import annotations

import dataclasses
import logging
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from client import differencing, store
from client.approval import Approval
from client.approval import check as check_approval
from client.budget import Spending
from client.charges import Charge
from client.hospital import Hospital
from client.locking import study_lock
from client.secagg_state import Member
from client.site import Site, answer, cost
from client.store import Kept
from shared import codec, packing
from shared.errors import ApprovalError, ConsiliumError, ProtocolError, Refusal
from shared.messages import (
    Contributed,
    ContributeRequest,
    EndRequest,
    Heading,
    PreflightRequest,
    Refused,
    Reply,
    Request,
    Revealed,
)
from shared.methods.base import PlainMean
from shared.packing import Packed
from shared.plan import plan_of

log = logging.getLogger("consilium.client")


@dataclass(eq=False)
class _Open:
    """One approved study at work.

    behind: keyed hashes of its patients; remembered: whether they are on the disk.
    """

    approval: Approval
    site: Site
    kept: Kept
    behind: tuple[differencing.Cohort, ...]
    remembered: bool = False


@dataclass(eq=False)
class Desk:
    """Answers questions, one at a time."""

    hospital: Hospital
    _open: dict[str, _Open] = field(default_factory=dict)

    def answer(self, asked: Packed, message: str) -> tuple[Packed, bytes]:
        """Return the packed reply to a packed request, and the hospital's signature of it.

        message: id of the Flower message that brought the request.
        """
        request: Request | None = None
        try:
            request = packing.unpack(asked, *get_args(Request))
            packed = self._answer(request, asked)
        except (ProtocolError, Refusal) as error:
            packed = self._refused(request, error.code, error.hint)
        except Exception as error:
            packed = self._failed(request, error)
        return packed, self.sign(packed, request, message)

    def sign(self, packed: Packed, request: Request | None, message: str) -> bytes:
        """Return the hospital's signature of a reply."""
        heading = request.heading if request else Heading("", "", 0)
        return codec.sign(packed, heading, self.hospital.name, message, self.hospital.signing)

    def _failed(self, request: Request | None, error: Exception) -> Packed:
        self._log(error)
        return self._refused(request, "internal-error", "see the site's own log")

    def _log(self, error: Exception) -> None:
        # An error's text may quote a patient: only its kind and the places in the code are written, even here.
        places = "".join(traceback.format_tb(error.__traceback__))
        log.error("site=%s failed=%s\n%s", self.hospital.name, type(error).__name__, places)

    def _refused(self, request: Request | None, code: str, hint: str) -> Packed:
        heading = request.heading if request else Heading("", "", 0)
        refused = Refused(self.hospital.name, heading, code, hint)
        packed = packing.pack(refused)
        self._record(request, refused, packed)
        return packed

    def _answer(self, request: Request, asked: Packed, once_more: bool = True) -> Packed:
        study = self._study(request.heading.study)
        if study.kept.asked == asked.digest:
            return self._again(request, study)
        self._check_runs(request, study)
        self._check_patients(request, study)
        reply, state = answer(request, study.kept.state, study.site)
        if isinstance(reply, Contributed):
            self._remember_patients(study)
        packed = packing.pack(reply)
        if isinstance(request, ContributeRequest) and isinstance(reply, Contributed):
            self._pay(request, study, packed.digest)
        if isinstance(request, PreflightRequest):
            # It changes nothing, and must not take the place of an answer that may be asked for again.
            self._record(request, reply, packed)
            return packed
        kept = dataclasses.replace(
            study.kept,
            state=state,
            asked=asked.digest,
            said=packed.text.decode(),
            block=np.frombuffer(packed.block, np.uint8),
            released=_released(study, reply),
        )
        if not self._keep(study, kept):
            # Withdrawn or approved anew while it was answered: nothing of this answer leaves, or stays.
            if not once_more:
                raise Refusal("being-approved", "this hospital is approving or withdrawing the study right now")
            return self._answer(request, asked, once_more=False)
        self._record(request, reply, packed)
        self._report(request, study)
        return packed

    def _again(self, request: Request, study: _Open) -> Packed:
        """Return the last answer once more: it is written down whenever it leaves, or may have been lost before."""
        reply = packing.unpack(study.kept.reply, *get_args(Reply))
        self._record(request, reply, study.kept.reply, again=True)
        self._report(request, study)
        log.info("site=%s round=%d said again", self.hospital.name, request.heading.round)
        return study.kept.reply

    def _keep(self, study: _Open, kept: Kept) -> bool:
        """Write a study's state, unless its approval is not the one any more under which it was opened.

        Raises: Refusal ``being-approved`` while the hospital is approving it.
        """
        digest = study.approval.digest
        try:
            with study_lock(self.hospital.folder, digest):
                if self.hospital.approvals(digest) is not study.approval:
                    return False
                store.write(self._folder(study.approval), kept)
        except ApprovalError:
            raise Refusal("being-approved", "this hospital is approving or withdrawing the study right now") from None
        study.kept = kept
        return True

    def _report(self, request: Request, study: _Open) -> None:
        """Make the hospital's own report of a finished run; a report that fails is no reason not to answer."""
        if not (isinstance(request, EndRequest) and request.finished):
            return
        digest = study.approval.digest
        try:
            with study_lock(self.hospital.folder, digest):
                # A study that was withdrawn meanwhile gets no page: withdrawing took images of patients out of it.
                if self.hospital.approvals(digest) is study.approval:
                    self.hospital.report(study.approval, study.site, study.kept.state)
        except Exception as error:
            self._log(error)

    def close(self, digest: str) -> None:
        """Hold nothing of a study in memory: its state on the disk was changed."""
        self._open.pop(digest, None)

    def _study(self, digest: str) -> _Open:
        """Return an approved study, ready to answer; its data and state are read once.

        Raises: Refusal as ``client.approval.check``.
        """
        approval = self.hospital.approvals(digest)
        try:
            check_approval(approval, self.hospital.code)
        except Refusal:
            # The patients of a study that was withdrawn are not kept in memory.
            self._open.pop(digest, None)
            raise
        assert approval is not None
        study = self._open.get(digest)
        if study is None or study.approval is not approval:
            study = self._open[digest] = self._opened(approval)
        return study

    def _opened(self, approval: Approval) -> _Open:
        study = approval.study
        hospital = self.hospital
        member = Member(hospital.name, hospital.signing, approval.members, hospital.policy, study, hospital.entropy)
        try:
            data = approval.data()
        except ConsiliumError:
            raise Refusal("cohort-changed", "the frozen cohort is not what was approved here") from None
        site = Site(member, data, plan_of(study, PlainMean()), hospital.code)
        behind = differencing.cohorts_of(data, study.data, differencing.key_of(hospital.signing))
        return _Open(approval, site, store.read(self._folder(approval)), behind)

    def _folder(self, approval: Approval) -> Path:
        return self.hospital.folder / "states" / approval.digest

    def _check_runs(self, request: Request, study: _Open) -> None:
        """Raise Refusal ``runs-used-up`` if this sum was released as often as the hospital allowed.

        Before a run it is its first sum: who would have to refuse it is better left out, and is named then.
        """
        match request:
            case ContributeRequest():
                number = request.heading.round
            case PreflightRequest():
                number = 1
            case _:
                return
        allowed = study.approval.runs
        if study.kept.released.get(str(number), 0) >= allowed:
            raise Refusal("runs-used-up", f"this hospital approved {allowed} run(s) of the study: it must approve anew")

    def _check_patients(self, request: Request, study: _Open) -> None:
        """Raise Refusal ``nearly-the-same-patients`` before a run, and before its first sum is computed."""
        if isinstance(request, ContributeRequest | PreflightRequest) and self._is_compared(study):
            differencing.check(self.hospital.folder, study.behind, self.hospital.policy.min_difference)

    def _pay(self, request: ContributeRequest, study: _Open, draw: bytes) -> None:
        """Charge what noised words cost.

        draw: digest of the words, masked as they are, which no other draw of noise has. The same words leave again
            without a charge; noise that was drawn and not kept is charged, and drawn anew under another digest.
        """
        spent = cost(request, study.site)
        if spent is None:
            return
        part, event = spent
        heading, approved = request.heading, study.approval
        self.hospital.pay(
            approved.dataset,
            Charge(
                study=approved.study.name,
                digest=approved.digest,
                run=heading.run,
                round=heading.round,
                attempt=heading.attempt,
                stage=study.site.method.stage(request.state),
                draw=draw.hex(),
                # Training and held-out patients are those of one frozen cohort.
                spending=Spending(split=approved.cohort, parts=(part,), events=(event,)),
            ),
        )

    def _remember_patients(self, study: _Open) -> None:
        """Write down whose sums this study's are, before the first of them leaves."""
        if self._is_compared(study):
            differencing.remember(self.hospital.folder, study.behind, self.hospital.policy.min_difference)
            study.remembered = True

    @staticmethod
    def _is_compared(study: _Open) -> bool:
        """Whether a study's patients are still to be held against others'."""
        return not study.remembered and differencing.is_compared(study.approval.study)

    def _record(self, request: Request | None, reply: Reply, packed: Packed, again: bool = False) -> None:
        heading = reply.heading
        fields: dict[str, Any] = {
            "asked": type(request).__name__ if request else "unreadable",
            "said": type(reply).__name__,
            "study": heading.study,
            "run": heading.run,
            "round": heading.round,
            "attempt": heading.attempt,
            "bytes": len(packed.text) + len(packed.block),
            "digest": packed.digest.hex(),
        }
        if isinstance(reply, Refused):
            fields["code"] = reply.code
        if again:
            fields["again"] = True
        self.hospital.record("reply", fields)


def _released(study: _Open, reply: Reply) -> Mapping[str, int]:
    """Return how often each exchange's sum was released, this reply included."""
    secure = study.approval.study.aggregation.secure
    if not isinstance(reply, Revealed if secure else Contributed):
        return study.kept.released
    number = str(reply.heading.round)
    return {**study.kept.released, number: study.kept.released.get(number, 0) + 1}
