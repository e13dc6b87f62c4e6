"""A study held against this hospital: its data in the study's terms, what would leave, and what its policy says.

Reads the hospital's own files and sends nothing; ``check`` shows it, ``approve`` builds on it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from client import costs, description, differencing, settings
from client.approval import Approval
from client.approving import Proposal
from client.costs import Bill
from client.data import mapping
from client.data.source import open_source
from client.data.split import SiteData, site_data
from client.leaving import what_leaves
from client.policy import Policy, violations
from shared import enrolment
from shared.enrolment import Roster, Welcome
from shared.enrolment_signatures import verify_roster
from shared.errors import ApprovalError, EnrolmentError, Refusal, StudyError
from shared.methods import METHODS
from shared.secagg import roster
from shared.secagg.keys import SigningKey
from shared.study import Study, load_study


@dataclass(frozen=True, eq=False)
class Review:
    """What was found.

    study, text: the study, and its file as it was read.
    dataset: the part of ``site.toml`` that the data came from.
    opted_out: (patients, rows) left out before anything else.
    near: what the hospital is told where an earlier sum was over nearly the same patients; else empty.
    owed: what it would cost of the privacy budget; None for a study without ``[privacy]``.
    """

    study: Study
    text: str
    policy: Policy
    dataset: str
    data: SiteData
    opted_out: tuple[int, int]
    near: str = ""
    owed: Bill | None = None

    def describe(self, sites: int) -> str:
        """Return what would leave, in the hospital's words.

        sites: number of hospitals.

        Raises: StudyError if so many cannot add up securely, or spread the noise.
        """
        leaving = what_leaves(self.study, self.data, sites)
        return description.text(self.study, self.data, self.opted_out, self.policy, sites, leaving, self.owed)

    def violations(self, sites: int) -> tuple[str, ...]:
        """Return what the hospital's rules do not allow, and its budget does not cover, one sentence each."""
        leaving = what_leaves(self.study, self.data, sites)
        rules = violations(self.policy, self.study, self.data, sites, leaving.parameters, leaving.subsets)
        unpaid = costs.broken(self.owed) if self.owed else ()
        return (*rules, *([self.near] if self.near else []), *unpaid)

    def fewest_sites(self) -> int:
        """Return with how many hospitals the study is described where there is no roster yet."""
        return max(roster.SMALLEST, self.policy.min_sites, self.study.aggregation.min_sites)

    def proposal(self, members: Mapping[str, bytes], code: str) -> Proposal:
        """Return what the steward is asked to approve.

        members: identity of every member by name, from the verified roster.
        code: digest of the installed code.

        Raises: StudyError if so many cannot add up securely.
        """
        description.check_threshold(self.study, len(members))
        broken = self.violations(len(members))
        return Proposal(self.study, self.text, self.data, self.dataset, members, code, self.policy.runs, broken)


def review(folder: Path, study_path: Path, name: str, signing: SigningKey, wanted: str | None) -> Review:
    """Read a hospital's data under a study's contract.

    folder: the hospital's.
    name, signing: the hospital's; with the key it knows whose sums it released.
    wanted: the part of ``site.toml`` with the data, or None where it is clear which.

    Raises: ConsiliumError saying what is wrong with the study, with ``site.toml``, with the data, with the ledger, or
        with what is remembered of patients behind sums.
    """
    study = load_study(study_path)
    try:
        text = study_path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"{study_path}: cannot be read: {type(error).__name__}.") from None
    METHODS[study.method.name].require()
    own = settings.load(folder)
    source = str(folder / settings.FILE)
    dataset, how = settings.choose(own, study.name, wanted, source)
    where = f"{source}: [data.{dataset}]"
    mapping.check(how, study.data, where)
    raw = open_source(how.at(folder), study.data).load()
    found = mapping.mapped(raw, how, study.data, where)
    data = site_data(study.data, found.raw, name, study.study.seed)
    opted_out = (found.opted_out_patients, found.opted_out_rows)
    near = _near(folder, study, data, own.policy, signing)
    owed = costs.bill(folder, own, dataset, study, data)
    return Review(study, text, own.policy, dataset, data, opted_out, near, owed)


def _near(folder: Path, study: Study, data: SiteData, policy: Policy, signing: SigningKey) -> str:
    """Return what the node would say before the first sum, and what to do; empty where it would say nothing."""
    if not differencing.is_compared(study):
        return ""
    try:
        behind = differencing.cohorts_of(data, study.data, differencing.key_of(signing))
        differencing.check(folder, behind, policy.min_difference)
    except Refusal as refusal:
        if refusal.code != differencing.NEAR:
            raise
        sentence = (
            f"min_difference: {refusal.hint}. Approve the study once {policy.min_difference:,} patients or more have"
            " come or gone, or write a smaller min_difference, knowing that whoever has both sums can compute the part"
            " of the patients who differ."
        )
        if study.data.patient_id:
            return sentence
        return (
            f"{sentence} The study names no patient_id, so rows are told apart by their numbers alone: if the earlier"
            " sum was over another table, ask for a patient_id."
        )
    return ""


def changes(before: Approval | None, proposal: Proposal) -> str:
    """Return one sentence on what differs from the approval of before, counts of patients only; empty for nothing.

    before: the earlier approval of the same study, or None.
    """
    if before is None:
        return ""
    found = [f"{name} joins" for name in sorted(set(proposal.members) - set(before.members))]
    found += [f"{name} leaves" for name in sorted(set(before.members) - set(proposal.members))]
    with contextlib.suppress(ApprovalError):  # a withdrawn approval has no snapshot any more
        come_or_go = len(_patients(before.data()) ^ _patients(proposal.data))
        found += [f"{come_or_go:,} of your patients come or go"] if come_or_go else []
    if not found:
        return ""
    return f"Since you approved this study before: {', '.join(found)}. Whoever has the sums of then and of now can" + (
        " subtract them, and what is left is the part of those who changed"
        + (", under the noise of both: both are charged." if proposal.study.privacy else ".")
    )


def _patients(data: SiteData) -> set[str]:
    return {patient for rows in data.parts.values() for patient in rows.whole().patients.tolist()}


def roster_for(welcome: Welcome, identity: bytes, path: Path | None = None) -> Roster:
    """Return the roster whose members a hospital is asked to pin, once its signature is found good.

    welcome: the hospital's own, checked when it joined.
    identity: the hospital's public key.
    path: of a newer roster; else the one of the welcome.

    Raises: EnrolmentError if it is not this consortium's, older than the welcome's, or without this hospital.
    """
    advice = "Ask the coordinator for the roster."
    found = welcome.roster if path is None else enrolment.read(path, Roster, advice)
    source = "the roster of welcome.json" if path is None else str(path)
    verify_roster(found, welcome.signing)
    if found.consortium != welcome.consortium:
        raise EnrolmentError(f"{source}: expected {welcome.consortium}. Received: {found.consortium}. {advice}")
    if found.issued_at < welcome.roster.issued_at:
        raise EnrolmentError(
            f"{source}: issued {found.issued_at:%Y-%m-%d %H:%M}, before the one that this hospital has. {advice}"
        )
    if found.identities.get(welcome.name) != identity:
        raise EnrolmentError(f"{source}: {welcome.name} with this hospital's identity is not on it. {advice}")
    return found
