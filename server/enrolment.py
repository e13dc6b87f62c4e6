"""Who is enrolled: the coordinator's record, and the four ways to change it.

``enrolment.json`` says which certificates and Flower keys are whose; it is replaced in one step, and those who let
hospitals in look at it on every request, so that a change needs no restart. ``roster.json`` is what hospitals see of
it, signed. A lock on the folder keeps two changes apart. What may be changed is said in ``server/sites.py``.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from server import authority, consortium
from server.sites import (
    Enrolment,
    Retiring,
    Site,
    check_keys_unused,
    check_new,
    check_renewal,
    check_time,
    enrolled,
    flower_digest,
    pruned,
    replaced,
)
from shared import audit, files
from shared import enrolment as papers
from shared import enrolment_signatures as signatures
from shared.enrolment import EnrolmentRequest, Roster, Welcome
from shared.errors import EnrolmentError
from shared.keyfiles import key_digest

FILE, ROSTER = "enrolment.json", "roster.json"
OVERLAP = timedelta(days=7)
"""How long what was replaced is still let in: the welcome has to reach the hospital first."""
_KEPT = "Bring it back from the coordinator's backup."


def read(folder: Path) -> Enrolment:
    """Return the record.

    Raises: EnrolmentError.
    """
    return papers.read(folder / FILE, Enrolment, _KEPT)


def read_roster(folder: Path) -> Roster:
    """Return the roster, its signature checked.

    Raises: EnrolmentError.
    """
    roster = papers.read(folder / ROSTER, Roster, _KEPT)
    signatures.verify_roster(roster, consortium.read(folder).signing)
    return roster


def read_request(path: Path) -> EnrolmentRequest:
    """Return a hospital's request, its signatures checked.

    Raises: EnrolmentError.
    """
    request = papers.read(path, EnrolmentRequest, "Ask the hospital for the request.json of `consilium-client init`.")
    signatures.verify_request(request)
    return request


def write(folder: Path, record: Enrolment, now: datetime) -> Roster:
    """Replace the record, and the roster with it.

    The caller holds the lock: others do it with ``enrol``, ``renew``, ``revoke`` and ``prune``.

    Raises: EnrolmentError.
    """
    owner = consortium.read(folder)
    members = [site.member for site in record.active]
    roster = signatures.sign_roster(owner.name, members, consortium.signing_key(folder, owner), now)
    try:
        files.replace_text(folder / FILE, papers.to_text(record))
        files.replace_text(folder / ROSTER, papers.to_text(roster))
    except OSError as error:
        raise EnrolmentError(f"{folder}: the record cannot be written: {error.strerror}.") from None
    return roster


def enrol(folder: Path, request: EnrolmentRequest, now: datetime) -> Welcome:
    """Enrol a hospital, whose fingerprint somebody compared.

    Raises: EnrolmentError if a signature is not good, if its name is taken, or if one of its keys is known.
    """
    public = signatures.verify_request(request)
    with _locked(folder):
        record = pruned(read(folder), now)
        check_time(request, now)
        check_new(record, request)
        check_keys_unused(record, request, public)
        certificate = authority.load(folder).client(public, request.name, now)
        site = Site(
            name=request.name,
            identity=request.identity,
            flower_key=request.flower_key,
            certificates=(authority.digest(certificate),),
            enrolled_at=now.replace(microsecond=0),
            expires_at=certificate.not_valid_after_utc,
            requested_at=request.requested_at,
            tls_key=key_digest(public),
        )
        _note(folder, "enrolled", now, site)
        roster = write(folder, replace(record, sites=(*record.sites, site)), now)
        return _welcome(folder, site, authority.pem(certificate), roster, now)


def renew(folder: Path, request: EnrolmentRequest, now: datetime, *, at_once: bool = False) -> Welcome:
    """Give an enrolled hospital a new certificate, for the same keys or for new ones; its identity signs for them.

    at_once: whether the old certificate and Flower key are refused from now on, because somebody else may have them;
        else they are let in for ``OVERLAP``.

    Raises: EnrolmentError if a signature is not good, if the hospital is not enrolled with this identity, if the
        request is older than the last one, or if a new key was used before.
    """
    public = signatures.verify_request(request)
    with _locked(folder):
        record = pruned(read(folder), now)
        check_time(request, now)
        before = enrolled(record, request.name)
        check_renewal(before, request, public)
        check_keys_unused(record, request, public)
        certificate = authority.load(folder).client(public, request.name, now)
        new, until = authority.digest(certificate), now.replace(microsecond=0) + OVERLAP
        retired = Retiring(certificate=before.certificates[-1], flower_key=before.flower_key, until=until)
        keys = {key_digest(public), flower_digest(request.flower_key)}
        site = replace(
            before,
            flower_key=request.flower_key,
            certificates=(new,) if at_once else (*before.certificates, new),
            expires_at=certificate.not_valid_after_utc,
            requested_at=request.requested_at,
            tls_key=key_digest(public),
            retiring=() if at_once else (*before.retiring, retired),
            former=tuple(key for key in before.keys if key not in keys),
        )
        _note(folder, "renewed", now, site, at_once=at_once)
        roster = write(folder, replaced(record, before, site), now)
        return _welcome(folder, site, authority.pem(certificate), roster, now)


def revoke(folder: Path, name: str, now: datetime) -> Site:
    """Take everything back from a hospital: it is cut off, and the next roster is without it.

    Raises: EnrolmentError if no such hospital is enrolled.
    """
    with _locked(folder):
        record = pruned(read(folder), now)
        before = enrolled(record, name)
        site = replace(before, revoked_at=now.replace(microsecond=0), retiring=())
        write(folder, replaced(record, before, site), now)
        # After the fact: a damaged audit file must not keep a hospital in.
        _note(folder, "revoked", now, site)
        return site


def prune(folder: Path, now: datetime) -> bool:
    """Stop letting in what was replaced more than ``OVERLAP`` ago; whether there was any.

    Raises: EnrolmentError.
    """
    if pruned(record := read(folder), now) == record:
        return False
    with _locked(folder):
        write(folder, pruned(read(folder), now), now)
    return True


def _welcome(folder: Path, site: Site, certificate: str, roster: Roster, now: datetime) -> Welcome:
    owner = consortium.read(folder)
    welcome = Welcome(
        consortium=owner.name,
        signing=owner.signing,
        fingerprint=owner.fingerprint,
        address=owner.address,
        authority=authority.pem(authority.load(folder).certificate),
        name=site.name,
        flower_key=site.flower_key,
        certificate=certificate,
        issued_at=now.replace(microsecond=0),
        roster=roster,
    )
    return signatures.sign_welcome(welcome, consortium.signing_key(folder, owner))


def _note(folder: Path, event: str, now: datetime, site: Site, **more: bool) -> None:
    fields = {"site": site.name, "fingerprint": site.member.fingerprint, "certificate": site.certificates[-1], **more}
    audit.append(folder, event, now, **fields)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes and threads from changing the record meanwhile."""
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise EnrolmentError(f"{folder}: cannot be opened: {error.strerror}.") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
