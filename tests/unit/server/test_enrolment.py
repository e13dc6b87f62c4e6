"""Enrolling, renewing and revoking: changes of two files, of which each is good at every moment."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509

from client import identity
from client.identity import Rotating
from server import authority, enrolment
from server.sites import Site
from shared import chain
from shared.enrolment import EnrolmentRequest, Welcome, to_text
from shared.enrolment_signatures import sign_request, verify_welcome
from shared.errors import ConsiliumError, EnrolmentError
from shared.keyfiles import new_key, public_pem, read_curve_key, read_signing_key
from tests.architecture import ROOT
from tests.enrolling import DAY, HOUR, NOON, Coordinator, Hospital

MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


@pytest.fixture
def danube(tmp_path: Path) -> Coordinator:
    return Coordinator(tmp_path / "danube")


@pytest.fixture
def aarhus(tmp_path: Path) -> Hospital:
    return Hospital(tmp_path / "aarhus", "Aarhus")


def site(danube: Coordinator, name: str = "Aarhus") -> Site:
    found = danube.record.site(name)
    assert found is not None
    return found


def certificate(welcome: Welcome) -> x509.Certificate:
    return x509.load_pem_x509_certificate(welcome.certificate.encode())


def digest(welcome: Welcome) -> str:
    return authority.digest(certificate(welcome))


def owner(danube: Coordinator, welcome: Welcome) -> str | None:
    found = danube.record.site_of_certificate(digest(welcome))
    return None if found is None else found.name


def request_with(hospital: Hospital, **keys: str) -> EnrolmentRequest:
    """A later request of a hospital's identity, under another name or with another hospital's keys."""
    secrets = hospital.folder / "secrets"
    paths = {which: Path(keys.get(which, secrets / f"{which}.key")) for which in ("flower", "tls")}
    return sign_request(
        keys.get("name", hospital.request.name),
        read_signing_key(secrets / "signing.key"),
        read_curve_key(paths["flower"], "P-384"),
        read_curve_key(paths["tls"], "P-256"),
        NOON + MINUTE,
    )


def test_an_enrolled_hospital_is_known_by_its_certificate_and_its_keys(danube: Coordinator, aarhus: Hospital) -> None:
    welcome = danube.enrol(aarhus.request)

    assert "Aarhus" == owner(danube, welcome)
    assert {aarhus.request.flower_key: "Aarhus"} == danube.record.nodes
    assert (aarhus.request.identity, NOON, None) == (
        site(danube).identity,
        site(danube).enrolled_at,
        site(danube).revoked_at,
    )


def test_a_welcome_has_what_the_hospital_needs_and_nothing_that_it_did_not_ask(
    danube: Coordinator, aarhus: Hospital
) -> None:
    welcome = danube.enrol(aarhus.request)
    verify_welcome(welcome)

    assert ("Danube", "localhost:9443", "Aarhus") == (welcome.consortium, welcome.address, welcome.name)
    assert danube.consortium.fingerprint == welcome.fingerprint
    assert certificate(welcome).public_key() == read_curve_key(aarhus.folder / "secrets/tls.key", "P-256").public_key()
    assert "CN=Aarhus" == certificate(welcome).subject.rfc4514_string()


def test_the_roster_is_of_those_who_are_enrolled_now(danube: Coordinator, aarhus: Hospital, tmp_path: Path) -> None:
    danube.enrol(Hospital(tmp_path / "basel", "Basel").request)
    danube.enrol(aarhus.request)
    before = danube.members
    danube.revoke("Basel")

    assert ["Aarhus", "Basel"] == before
    assert ["Aarhus"] == danube.members


def test_a_request_that_was_changed_enrols_nobody(danube: Coordinator, aarhus: Hospital) -> None:
    changed = dataclasses.replace(aarhus.request, flower_key=public_pem(new_key("P-384").public_key()))

    with pytest.raises(EnrolmentError, match="signature is not good"):
        danube.enrol(changed)
    assert () == danube.record.sites


@pytest.mark.parametrize("name", ["Aarhus", "AARHUS"])
def test_a_name_is_taken_once_whatever_its_capitals(
    danube: Coordinator, aarhus: Hospital, tmp_path: Path, name: str
) -> None:
    danube.enrol(aarhus.request)

    with pytest.raises(EnrolmentError, match="Aarhus is enrolled already, with another identity"):
        danube.enrol(Hospital(tmp_path / "other", name).request)


def test_the_same_hospital_again_is_told_to_renew(danube: Coordinator, aarhus: Hospital) -> None:
    danube.enrol(aarhus.request)

    with pytest.raises(EnrolmentError, match=r"enrolled already.*consilium-server renew"):
        danube.enrol(aarhus.request)


def test_an_identity_has_one_name(danube: Coordinator, aarhus: Hospital) -> None:
    danube.enrol(aarhus.request)
    danube.revoke("Aarhus")

    with pytest.raises(EnrolmentError, match="known under the name Aarhus"):
        danube.enrol(request_with(aarhus, name="Aarhus2"))


@pytest.mark.parametrize(("kind", "which"), [("Flower", "flower"), ("TLS", "tls")])
def test_no_key_serves_two_hospitals(
    danube: Coordinator, aarhus: Hospital, tmp_path: Path, kind: str, which: str
) -> None:
    danube.enrol(aarhus.request)
    basel = Hospital(tmp_path / "basel", "Basel")
    shared = request_with(basel, **{which: str(aarhus.folder / "secrets" / f"{which}.key")})

    with pytest.raises(EnrolmentError, match=f"the {kind} key of this request is known as one of Aarhus"):
        danube.enrol(shared)


def test_a_request_from_the_future_would_outdate_all_others(danube: Coordinator, aarhus: Hospital) -> None:
    with pytest.raises(EnrolmentError, match="compare the clocks"):
        danube.enrol(identity.renew(aarhus.folder, NOON + DAY + SECOND))


def test_a_revoked_hospital_is_known_as_revoked_and_has_no_node(danube: Coordinator, aarhus: Hospital) -> None:
    welcome = danube.enrol(aarhus.request)
    danube.revoke("Aarhus", NOON + HOUR)
    found = danube.record.site_of_certificate(digest(welcome))

    assert found is not None
    assert NOON + HOUR == found.revoked_at
    assert ((), {}, []) == (danube.record.active, danube.record.nodes, danube.members)


def test_a_certificate_that_was_retiring_stays_known_as_a_revoked_hospitals(
    danube: Coordinator, aarhus: Hospital
) -> None:
    first = danube.enrol(aarhus.request)
    danube.renew(aarhus.request, NOON + HOUR)
    danube.revoke("Aarhus", NOON + DAY)

    assert not enrolment.prune(danube.folder, NOON + 30 * DAY)
    assert "Aarhus" == owner(danube, first)


@pytest.mark.parametrize(
    ("reason", "name"), [("Did you mean 'Aarhus'", "aarhus"), ("Known: Aarhus", "zzz"), ("revoked on 21 Nov", "Basel")]
)
def test_who_is_not_enrolled_cannot_be_revoked(
    danube: Coordinator, aarhus: Hospital, tmp_path: Path, reason: str, name: str
) -> None:
    danube.enrol(aarhus.request)
    danube.enrol(Hospital(tmp_path / "basel", "Basel").request)
    danube.revoke("Basel")

    with pytest.raises(EnrolmentError, match=reason):
        danube.revoke(name)


def test_a_revoked_hospitals_keys_never_come_back(danube: Coordinator, aarhus: Hospital) -> None:
    danube.enrol(aarhus.request)
    danube.revoke("Aarhus")
    refused = []
    for which in ("flower", "tls"):
        with pytest.raises(EnrolmentError, match="never comes back") as error:
            danube.enrol(aarhus.request)
        refused.append(str(error.value).partition(" key")[0])
        aarhus.rotate(which, NOON + 2 * HOUR)

    assert ["the Flower", "the TLS"] == refused
    assert "Aarhus" == owner(danube, danube.enrol(aarhus.request, NOON + 2 * HOUR))
    assert [NOON + HOUR, None] == [each.revoked_at for each in danube.record.sites]


def test_a_renewed_certificate_is_for_the_same_key_and_a_year_from_then(danube: Coordinator, aarhus: Hospital) -> None:
    first = danube.enrol(aarhus.request)
    second = danube.renew(identity.renew(aarhus.folder, NOON + 300 * DAY), NOON + 300 * DAY)

    assert certificate(first).public_key() == certificate(second).public_key()
    assert NOON + 665 * DAY == certificate(second).not_valid_after_utc == site(danube).expires_at


def test_both_certificates_and_keys_are_let_in_for_a_week(danube: Coordinator, aarhus: Hospital) -> None:
    old_key, first = aarhus.request.flower_key, danube.enrol(aarhus.request)
    second = danube.renew(aarhus.rotate("flower", NOON + DAY), NOON + DAY)

    assert ["Aarhus", "Aarhus"] == [owner(danube, each) for each in (first, second)]
    assert {aarhus.request.flower_key: "Aarhus", old_key: "Aarhus"} == danube.record.nodes
    assert aarhus.request.flower_key == second.flower_key


@pytest.mark.parametrize(("gone", "after"), [(False, 7 * DAY - SECOND), (True, 7 * DAY)])
def test_after_a_week_the_old_ones_are_let_in_no_more(
    danube: Coordinator, aarhus: Hospital, gone: bool, after: timedelta
) -> None:
    old_key, first = aarhus.request.flower_key, danube.enrol(aarhus.request)
    second = danube.renew(aarhus.rotate("flower", NOON + DAY), NOON + DAY)

    assert gone == enrolment.prune(danube.folder, NOON + DAY + after)
    assert (gone, "Aarhus") == (owner(danube, first) is None, owner(danube, second))
    assert gone == (old_key not in danube.record.nodes)


def test_any_other_change_lets_go_of_the_old_ones_too(danube: Coordinator, aarhus: Hospital, tmp_path: Path) -> None:
    first = danube.enrol(aarhus.request)
    danube.renew(identity.renew(aarhus.folder, NOON + DAY), NOON + DAY)
    danube.enrol(Hospital(tmp_path / "basel", "Basel").request, NOON + 9 * DAY)

    assert owner(danube, first) is None


def test_a_key_that_somebody_else_may_have_is_refused_at_once(danube: Coordinator, aarhus: Hospital) -> None:
    first = danube.enrol(aarhus.request)
    aarhus.rotate("tls", NOON + DAY)
    second = danube.renew(aarhus.rotate("flower", NOON + DAY), NOON + DAY, at_once=True)

    assert (None, "Aarhus") == (owner(danube, first), owner(danube, second))
    assert [aarhus.request.flower_key] == list(danube.record.nodes)


@pytest.mark.parametrize("which", ["tls", "flower"])
def test_a_key_that_was_replaced_never_comes_back(danube: Coordinator, aarhus: Hospital, which: Rotating) -> None:
    danube.enrol(aarhus.request)
    danube.renew(aarhus.rotate(which, NOON + DAY), NOON + DAY)
    (aarhus.folder / "secrets" / f"{which}.next.key").unlink()
    back = identity.renew(aarhus.folder, NOON + 2 * DAY)

    with pytest.raises(EnrolmentError, match="never comes back"):
        danube.renew(back, NOON + 2 * DAY)


def test_an_older_request_is_not_taken_after_a_newer_one(danube: Coordinator, aarhus: Hospital) -> None:
    danube.enrol(aarhus.request)
    danube.renew(identity.renew(aarhus.folder, NOON + DAY), NOON + DAY)

    with pytest.raises(EnrolmentError, match="not newer than the last one"):
        danube.renew(identity.renew(aarhus.folder, NOON + DAY - SECOND), NOON + DAY)


def test_of_two_requests_of_the_same_time_the_second_is_not_newer(danube: Coordinator, aarhus: Hospital) -> None:
    danube.enrol(aarhus.request)

    with pytest.raises(EnrolmentError, match="not newer than the last one"):
        danube.renew(aarhus.rotate("tls", NOON), NOON)


def test_a_request_may_come_again_because_its_welcome_was_lost(danube: Coordinator, aarhus: Hospital) -> None:
    lost, again = danube.enrol(aarhus.request), danube.renew(aarhus.request, NOON + HOUR)

    assert digest(lost) != digest(again)
    assert again == aarhus.join(again, NOON + HOUR)


def test_another_identity_renews_nothing(danube: Coordinator, aarhus: Hospital, tmp_path: Path) -> None:
    danube.enrol(aarhus.request)

    with pytest.raises(EnrolmentError, match="another identity than that of Aarhus"):
        danube.renew(Hospital(tmp_path / "other", "Aarhus").request, NOON)


def test_who_was_never_enrolled_renews_nothing(danube: Coordinator, aarhus: Hospital) -> None:
    with pytest.raises(EnrolmentError, match="'Aarhus' is not enrolled"):
        danube.renew(aarhus.request, NOON)


def test_who_was_revoked_renews_nothing(danube: Coordinator, aarhus: Hospital) -> None:
    danube.enrol(aarhus.request)
    danube.revoke("Aarhus")

    with pytest.raises(EnrolmentError, match="revoked on 21 November 2026"):
        danube.renew(aarhus.request, NOON + 2 * HOUR)


def test_every_change_goes_on_record(danube: Coordinator, aarhus: Hospital) -> None:
    danube.enrol(aarhus.request)
    danube.renew(aarhus.request, NOON + HOUR)
    danube.revoke("Aarhus", NOON + 2 * HOUR)
    path = danube.folder / "audit.jsonl"

    assert ["initialised", "enrolled", "renewed", "revoked"] == [line["event"] for line in chain.read(path)]
    assert "" == chain.verify(path).fault


def test_a_damaged_audit_file_keeps_nobody_in(danube: Coordinator, aarhus: Hospital) -> None:
    danube.enrol(aarhus.request)
    (danube.folder / "audit.jsonl").write_text("")

    with pytest.raises(ConsiliumError, match="audit"):
        danube.revoke("Aarhus")
    assert ((), []) == (danube.record.active, danube.members)


def test_a_damaged_audit_file_lets_nobody_in(danube: Coordinator, aarhus: Hospital) -> None:
    (danube.folder / "audit.jsonl").write_text("")

    with pytest.raises(ConsiliumError, match="audit"):
        danube.enrol(aarhus.request)
    assert () == danube.record.sites


def test_a_roster_that_was_changed_is_not_handed_on(danube: Coordinator, aarhus: Hospital) -> None:
    danube.enrol(aarhus.request)
    path = danube.folder / "roster.json"
    path.write_text(path.read_text().replace("Aarhus", "Basel"))

    with pytest.raises(EnrolmentError, match="signature is not good"):
        enrolment.read_roster(danube.folder)


def test_a_record_with_an_unknown_key_is_refused(danube: Coordinator) -> None:
    (danube.folder / "enrolment.json").write_text('{"format": 1, "sites": [], "trusted": true}')

    with pytest.raises(EnrolmentError, match="unknown key"):
        enrolment.read(danube.folder)


def test_processes_that_enrol_at_the_same_time_lose_nobody(danube: Coordinator, tmp_path: Path) -> None:
    names = ["Aarhus", "Basel", "Charite", "Debrecen"]
    program = (
        "import sys; from pathlib import Path; from server import enrolment; from tests.enrolling import NOON;"
        "enrolment.enrol(Path(sys.argv[1]), enrolment.read_request(Path(sys.argv[2])), NOON)"
    )
    processes = []
    for name in names:
        path = tmp_path / f"{name}.json"
        path.write_text(to_text(Hospital(tmp_path / name, name).request))
        command = [sys.executable, "-c", program, str(danube.folder), str(path)]
        processes.append(subprocess.Popen(command, cwd=ROOT))

    assert [0, 0, 0, 0] == [process.wait(timeout=60) for process in processes]
    assert names == danube.members
    assert set(names) == {each.name for each in danube.record.active}
