"""Whose certificate it is, as the enrolment file says at this moment."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from server.gateway_http import Refused, Request
from server.gateway_sites import Sites, Watched, certificate_digest
from server.sites import Enrolment, Retiring, Site
from shared import files
from shared.enrolment import to_text
from shared.keyfiles import new_key, public_pem

NOW = datetime(2026, 11, 21, 11, tzinfo=UTC)
AARHUS, BASEL, OLD = (public_pem(new_key("P-384").public_key()) for _ in range(3))
A1, A2, B1 = "a1" * 32, "a2" * 32, "b1" * 32


def write(folder: Path, *sites: Site) -> None:
    files.replace_text(folder / "enrolment.json", to_text(Enrolment(sites=sites)))


def site(name: str, flower_key: str, *certificates: str, **more: Any) -> Site:
    return Site(
        name=name,
        identity=bytes(32),
        flower_key=flower_key,
        certificates=certificates,
        enrolled_at=NOW,
        expires_at=NOW + timedelta(days=365),
        requested_at=NOW,
        tls_key="00" * 32,
        **more,
    )


def code(found: Site | Refused | None) -> str:
    return found.code if isinstance(found, Refused) else "taken"


def request(key: str) -> Request:
    return Request("/v1/fleet/get-run", {"flwr-public-key": key}, 0)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_certificate_leads_to_its_hospital(tmp_path: Path) -> None:
    aarhus = site("Aarhus", AARHUS, A1, A2)
    write(tmp_path, aarhus, site("Basel", BASEL, B1))

    assert aarhus == Sites(tmp_path).find(A2, NOW)


def test_enrolling_and_revoking_hold_from_the_next_look(tmp_path: Path) -> None:
    write(tmp_path, site("Aarhus", AARHUS, A1))
    sites = Sites(tmp_path)
    before = code(sites.find(A1, NOW)), code(sites.find(B1, NOW))
    write(tmp_path, site("Aarhus", AARHUS, A1, revoked_at=NOW), site("Basel", BASEL, B1))

    assert ("taken", "unknown-certificate") == before
    assert ("revoked", "taken") == (code(sites.find(A1, NOW)), code(sites.find(B1, NOW)))


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 2, "sites": []}', '{"format": 1, "sites": [3]}'])
def test_a_damaged_record_lets_nobody_in(tmp_path: Path, text: str) -> None:
    write(tmp_path, site("Aarhus", AARHUS, A1))
    sites = Sites(tmp_path)
    assert "taken" == code(sites.find(A1, NOW))
    (tmp_path / "enrolment.json").write_text(text)

    assert "enrolment-unreadable" == code(sites.find(A1, NOW))


def test_a_missing_record_lets_nobody_in(tmp_path: Path) -> None:
    assert "enrolment-unreadable" == code(Sites(tmp_path).find(A1, NOW))


def test_a_request_with_the_key_of_the_certificates_hospital_is_taken(tmp_path: Path) -> None:
    write(tmp_path, site("Aarhus", AARHUS, A1))

    assert None is Sites(tmp_path).check(A1, request(encoded(AARHUS)), NOW)


@pytest.mark.parametrize(
    "key",
    ["", encoded(BASEL), encoded(AARHUS) + "=", encoded(AARHUS + "\n"), encoded(AARHUS.strip()), "\xe9", AARHUS],
    ids=["none", "another's", "padded", "one line more", "one line less", "not ASCII", "not encoded"],
)
def test_any_other_key_is_refused(tmp_path: Path, key: str) -> None:
    write(tmp_path, site("Aarhus", AARHUS, A1), site("Basel", BASEL, B1))

    assert "wrong-node-key" == code(Sites(tmp_path).check(A1, request(key), NOW))


@pytest.mark.parametrize(
    ("seconds", "old_certificate", "old_key"), [(-1, "taken", "taken"), (0, "unknown-certificate", "wrong-node-key")]
)
def test_what_was_replaced_is_let_in_until_its_time(
    tmp_path: Path, seconds: int, old_certificate: str, old_key: str
) -> None:
    until = NOW + timedelta(days=7)
    retiring = (Retiring(certificate=A1, flower_key=OLD, until=until),)
    write(tmp_path, site("Aarhus", AARHUS, A1, A2, retiring=retiring))
    sites, now = Sites(tmp_path), until + timedelta(seconds=seconds)

    assert old_certificate == code(sites.find(A1, now))
    assert old_key == code(sites.check(A2, request(encoded(OLD)), now))
    assert "taken" == code(sites.check(A2, request(encoded(AARHUS)), now))


def test_last_seen_is_kept_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "seen.json"
    for hour, name in ((11, "Basel"), (12, "Aarhus")):
        sites = Sites(tmp_path)
        sites.saw(name, datetime(2026, 11, 21, hour, tzinfo=UTC))
        sites.write_seen()

    assert {"Aarhus": "2026-11-21T12:00:00Z", "Basel": "2026-11-21T11:00:00Z"} == json.loads(path.read_text())


def test_nothing_is_written_while_nobody_is_new(tmp_path: Path) -> None:
    Sites(tmp_path).write_seen()

    assert [] == list(tmp_path.iterdir())


def test_a_watched_value_is_made_once_while_its_files_stay(tmp_path: Path) -> None:
    made = []
    (tmp_path / "file").write_text("1")
    watched = Watched([tmp_path / "file"], lambda: made.append((tmp_path / "file").read_text()) or len(made))

    assert [1, 1] == [watched.get(), watched.get()]


def test_the_digest_is_sha256_of_the_certificate() -> None:
    assert "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" == certificate_digest(b"abc")
