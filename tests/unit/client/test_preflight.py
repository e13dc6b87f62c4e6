"""What is wrong at the hospital itself is found before anything is sent, and the first finding explains the rest."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client import identity
from client.findings import Finding
from client.preflight import check_certificate, check_disk, check_folder, preflight, room
from shared.enrolment import Welcome
from tests.unit.client.hospitals import consortium_of, joined


def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def north(tmp_path: Path) -> Path:
    return joined(tmp_path, "north")["north"]


@pytest.fixture(scope="module")
def welcome(tmp_path_factory: pytest.TempPathFactory) -> Welcome:
    return identity.load(joined(tmp_path_factory.mktemp("made"), "north")["north"]).require_welcome()


def names(found: list[Finding]) -> list[str]:
    return [each.name for each in found]


def test_a_hospital_that_is_ready_only_finds_the_consortium_away(north: Path) -> None:
    [finding] = preflight(north, now)

    assert ("connection", "away") == (finding.name, finding.level)


def test_a_folder_of_something_else_is_said_and_nothing_more(tmp_path: Path) -> None:
    [finding] = preflight(tmp_path, now)

    assert ("folder", "fatal") == (finding.name, finding.level)
    assert "consilium-client init" in finding.text


def test_a_folder_that_others_can_write_in(north: Path) -> None:
    north.chmod(0o777)

    assert f"chmod go-w {north}" in str(preflight(north, now)[0])


@pytest.mark.parametrize("name", [".", "signing.key", "tls.key", "flower.key"])
def test_secrets_that_others_can_read(north: Path, name: str) -> None:
    (north / "secrets" / name).chmod(0o740)
    [finding] = check_folder(north)

    assert ("secrets", "fatal") == (finding.name, finding.level)
    assert str(north / "secrets" / name) in finding.text
    assert [finding] == preflight(north, now)


def test_a_hospital_that_has_not_joined_is_told_what_to_do(tmp_path: Path) -> None:
    north = consortium_of(tmp_path, "north")["north"]
    [finding] = preflight(north, now)

    assert ("joined", "fatal") == (finding.name, finding.level)
    assert "consilium-client join" in finding.text


def test_settings_with_a_mistake(north: Path) -> None:
    (north / "site.toml").write_text("[retension]\n")
    [finding] = preflight(north, now)

    assert ("settings", "fatal") == (finding.name, finding.level)
    assert "retention" in finding.text


@pytest.mark.parametrize(
    ("later", "level", "words"),
    [
        (timedelta(hours=-2), "fatal", "set the clock"),
        (timedelta(days=366), "fatal", "expired on"),
        (timedelta(days=340), "warning", "consilium-client renew"),
    ],
)
def test_a_certificate_out_of_its_time_says_what_to_do(
    welcome: Welcome, later: timedelta, level: str, words: str
) -> None:
    [finding] = check_certificate(welcome, now() + later)

    assert ("certificate", level) == (finding.name, finding.level)
    assert words in finding.text


def test_a_certificate_in_its_time_is_no_finding(welcome: Welcome) -> None:
    assert [] == check_certificate(welcome, now() + timedelta(days=300))


def test_a_certificate_out_of_its_time_is_not_tried_on_the_consortium(north: Path) -> None:
    assert ["certificate"] == names(preflight(north, lambda: now() + timedelta(days=366)))


def test_a_folder_that_cannot_be_written_in() -> None:
    # Not even root can write there.
    [finding] = check_disk(Path("/proc/self"))

    assert ("disk", "fatal") == (finding.name, finding.level)


def test_the_check_of_the_disk_leaves_nothing(north: Path) -> None:
    before = sorted(north.iterdir())
    check_disk(north)

    assert before == sorted(north.iterdir())


@pytest.mark.parametrize(("free", "expected"), [(2 * 10**9, []), (5 * 10**8, ["warning"]), (10**7, ["fatal"])])
def test_a_full_disk(free: int, expected: list[str]) -> None:
    assert expected == [each.level for each in room(free, Path("hospital"))]
