"""Whose certificate it is, as the enrolment file says at this moment."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from server.gateway_http import Refused, Request
from server.gateway_sites import Known, Sites, Watched, certificate_digest


def write(folder: Path, *sites: dict[str, Any], version: int = 1) -> None:
    (folder / "part").write_text(json.dumps({"format": version, "sites": sites}))
    (folder / "part").replace(folder / "enrolment.json")


def site(name: str, *certificates: str, revoked_at: str | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "identity": "00" * 32,
        "flower_key": f"key of {name}",
        "certificates": list(certificates),
        "enrolled_at": "2026-11-21T11:00:00Z",
        "revoked_at": revoked_at,
    }


def code(found: Known | Refused | None) -> str:
    return found.code if isinstance(found, Refused) else "taken"


def request(key: str) -> Request:
    return Request("/v1/fleet/get-run", {"flwr-public-key": key}, 0)


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_a_certificate_leads_to_its_hospital(tmp_path: Path) -> None:
    write(tmp_path, site("Aarhus", "aa", "ab"), site("Basel", "ba"))

    assert Known("Aarhus", b"key of Aarhus", False) == Sites(tmp_path).find("ab")


def test_enrolling_and_revoking_hold_from_the_next_look(tmp_path: Path) -> None:
    write(tmp_path, site("Aarhus", "aa"))
    sites = Sites(tmp_path)
    before = code(sites.find("aa")), code(sites.find("ba"))
    write(tmp_path, site("Aarhus", "aa", revoked_at="2026-11-21T12:00:00Z"), site("Basel", "ba"))

    assert ("taken", "unknown-certificate") == before
    assert ("revoked", "taken") == (code(sites.find("aa")), code(sites.find("ba")))


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"format": 2, "sites": []}', '{"format": 1}', '{"format":1,"sites":[3]}']
)
def test_a_damaged_file_lets_nobody_in(tmp_path: Path, text: str) -> None:
    write(tmp_path, site("Aarhus", "aa"))
    sites = Sites(tmp_path)
    assert "taken" == code(sites.find("aa"))
    (tmp_path / "enrolment.json").write_text(text)

    assert "enrolment-unreadable" == code(sites.find("aa"))


def test_a_missing_file_lets_nobody_in(tmp_path: Path) -> None:
    assert "enrolment-unreadable" == code(Sites(tmp_path).find("aa"))


def test_a_request_with_the_key_of_the_certificates_hospital_is_taken(tmp_path: Path) -> None:
    write(tmp_path, site("Aarhus", "aa"))

    assert None is Sites(tmp_path).check("aa", request(encoded("key of Aarhus")))


@pytest.mark.parametrize(
    "key",
    ["", encoded("key of Basel"), encoded("key of Aarhus") + "=", encoded("key of Aarhus\n"), "\xe9", "key of Aarhus"],
)
def test_any_other_key_is_refused(tmp_path: Path, key: str) -> None:
    write(tmp_path, site("Aarhus", "aa"), site("Basel", "ba"))

    assert "wrong-node-key" == code(Sites(tmp_path).check("aa", request(key)))


def test_last_seen_is_kept_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "processes" / "seen.json"
    for hour, name in ((11, "Basel"), (12, "Aarhus")):
        sites = Sites(tmp_path)
        sites.saw(name, datetime(2026, 11, 21, hour, tzinfo=UTC))
        sites.write_seen()

    assert {"Aarhus": "2026-11-21T12:00:00Z", "Basel": "2026-11-21T11:00:00Z"} == json.loads(path.read_text())


def test_nothing_is_written_while_nobody_is_new(tmp_path: Path) -> None:
    Sites(tmp_path).write_seen()

    assert not (tmp_path / "processes").exists()


def test_a_watched_value_is_made_once_while_its_files_stay(tmp_path: Path) -> None:
    made = []
    (tmp_path / "file").write_text("1")
    watched = Watched([tmp_path / "file"], lambda: made.append((tmp_path / "file").read_text()) or len(made))

    assert [1, 1] == [watched.get(), watched.get()]


def test_the_digest_is_sha256_of_the_certificate() -> None:
    assert "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" == certificate_digest(b"abc")
