"""``consilium-server``: who is let in is asked and shown, and nothing is written where something is."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from server import cli
from shared.enrolment import Roster, Welcome, grouped, read
from shared.errors import ConsiliumError, EnrolmentError, OutputError
from tests.enrolling import DAY, Coordinator, Hospital

NOW = datetime.now(UTC)
"""The commands ask the machine's clock."""


@pytest.fixture
def danube(tmp_path: Path) -> Coordinator:
    return Coordinator(tmp_path / "danube", now=NOW)


@pytest.fixture
def aarhus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hospital:
    monkeypatch.chdir(tmp_path)
    return Hospital(tmp_path / "aarhus", "Aarhus", NOW)


def invoke(*arguments: object, typed: str = "") -> Result:
    return CliRunner().invoke(cli.app, [str(argument) for argument in arguments], input=typed)


def done(*arguments: object, typed: str = "") -> str:
    """What a command that succeeds prints."""
    result = invoke(*arguments, typed=typed)
    assert 0 == result.exit_code, result.output
    return result.output


def refused(kind: type[ConsiliumError], *arguments: object, typed: str = "") -> str:
    """The message of a command that fails."""
    error = invoke(*arguments, typed=typed).exception
    assert isinstance(error, kind)
    assert 2 == error.exit_code
    return str(error)


def test_help_says_who_it_is_for_and_where_to_begin() -> None:
    words = " ".join(re.sub("[│╭╰╮╯─]", " ", done("--help")).split())

    assert "For the coordinator" in words
    assert "Begin with consilium-server init" in words


@pytest.mark.parametrize(
    "command", [command.name or command.callback.__name__ for command in cli.app.registered_commands]
)  # type: ignore[union-attr]
def test_every_commands_help_has_an_example(command: str) -> None:
    assert f"Example: consilium-server {command}" in " ".join(done(command, "--help").split())


def test_version_is_the_installed_one() -> None:
    assert f"consilium-server {version('consilium')}\n" == done("--version")


def test_an_unknown_command_is_an_error_of_the_user() -> None:
    assert 2 == invoke("frobnicate").exit_code


def test_init_says_what_to_back_up_and_shows_the_fingerprint(tmp_path: Path) -> None:
    printed = done(
        "init", tmp_path / "danube", "--address", "fl.example:9443", "--host", "192.0.2.7", "--name", "Danube"
    )
    fingerprint = json.loads((tmp_path / "danube" / "consortium.json").read_text())

    assert "server's certificate for  fl.example, 192.0.2.7" in printed
    assert "secrets          the keys" in printed
    assert ("Danube", "fl.example:9443") == (fingerprint["name"], fingerprint["address"])


def test_init_shows_no_secret(tmp_path: Path) -> None:
    printed = done("init", tmp_path / "danube", "--address", "fl.example:9443")
    secret = (tmp_path / "danube" / "secrets" / "superexec.secret").read_text()

    assert secret not in printed
    assert "PRIVATE KEY" not in printed


def test_a_consortium_without_a_name_is_called_as_its_folder(tmp_path: Path) -> None:
    assert "made for danube," in done("init", tmp_path / "danube", "--address", "fl.example:9443")


def test_init_overwrites_nothing(danube: Coordinator) -> None:
    assert "Nothing was changed" in refused(EnrolmentError, "init", danube.folder, "--address", "fl.example:9443")


def test_a_coordinator_who_agrees_enrols_the_hospital(danube: Coordinator, aarhus: Hospital) -> None:
    printed = done("enrol", danube.folder, aarhus.folder / "request.json", "--output", "W.json", typed="y\n")

    assert f"fingerprint   {grouped(aarhus.request.fingerprint)}" in printed
    assert f"the consortium's fingerprint: {grouped(danube.consortium.fingerprint)}" in printed
    assert ["Aarhus"] == danube.members
    assert "Aarhus" == aarhus.join(read(Path("W.json"), Welcome, ""), NOW).name


def test_a_coordinator_who_does_not_agree_enrols_nobody(danube: Coordinator, aarhus: Hospital) -> None:
    for typed in ("n\n", "\n", ""):
        assert "Nothing was changed" in refused(
            EnrolmentError, "enrol", danube.folder, aarhus.folder / "request.json", typed=typed
        )

    assert ([], False) == (danube.members, Path("welcome-Aarhus.json").exists())


def test_a_fingerprint_that_was_read_out_is_compared(danube: Coordinator, aarhus: Hospital) -> None:
    request, right = aarhus.folder / "request.json", grouped(aarhus.request.fingerprint)
    wrong = right[:-1] + ("0" if right[-1] != "0" else "1")

    assert "not the one of --fingerprint" in refused(
        EnrolmentError, "enrol", danube.folder, request, "--fingerprint", wrong
    )
    assert [] == danube.members
    done("enrol", danube.folder, request, "--fingerprint", right)
    assert ["Aarhus"] == danube.members


def test_yes_asks_nothing_but_a_wrong_fingerprint_still_counts(danube: Coordinator, aarhus: Hospital) -> None:
    request = aarhus.folder / "request.json"

    refused(EnrolmentError, "enrol", danube.folder, request, "--yes", "--fingerprint", "0" * 32)
    assert "welcome-Aarhus.json" in done("enrol", danube.folder, request, "--yes")


def test_nobody_is_enrolled_whose_welcome_could_not_be_written(danube: Coordinator, aarhus: Hospital) -> None:
    Path("there.json").write_text("mine")
    for output in ("there.json", "no/such/folder.json"):
        refused(OutputError, "enrol", danube.folder, aarhus.folder / "request.json", "--yes", "--output", output)

    assert ([], "mine") == (danube.members, Path("there.json").read_text())


def test_a_file_that_is_no_request_is_refused_before_anything_is_asked(danube: Coordinator, tmp_path: Path) -> None:
    (tmp_path / "request.json").write_text('{"format": 1}')

    assert "[name] missing" in refused(EnrolmentError, "enrol", danube.folder, tmp_path / "request.json")


def test_a_hospital_that_rotated_a_key_gets_a_welcome_for_it(danube: Coordinator, aarhus: Hospital) -> None:
    done("enrol", danube.folder, aarhus.folder / "request.json", "--yes", "--output", "first.json")
    aarhus.rotate("flower", NOW + timedelta(seconds=1))
    done("renew", danube.folder, aarhus.folder / "request.json", "--output", "second.json", "--at-once")

    assert aarhus.request.flower_key == read(Path("second.json"), Welcome, "").flower_key
    assert {aarhus.request.flower_key: "Aarhus"} == danube.record.nodes


def test_renew_without_a_request_renews_the_servers(danube: Coordinator) -> None:
    path = danube.folder / "certificates" / "server.crt"
    before = path.read_text()

    assert "server's certificates renewed" in done("renew", danube.folder)
    assert before != path.read_text()


def test_a_roster_shows_members_and_fingerprints_and_who_was_revoked(
    danube: Coordinator, aarhus: Hospital, tmp_path: Path
) -> None:
    danube.enrol(aarhus.request, NOW)
    danube.enrol(Hospital(tmp_path / "basel", "Basel", NOW).request, NOW)
    done("revoke", danube.folder, "Basel")
    printed = done("roster", danube.folder)

    assert f"{grouped(aarhus.request.fingerprint)}  Aarhus, certificate until {NOW + 365 * DAY:%d %B %Y}" in printed
    assert re.search(r"revoked on \d\d \w+ \d{4}  Basel", printed)
    assert f"roster of 1 hospital, signed: {danube.folder / 'roster.json'}" in printed
    assert ["Aarhus"] == list(read(danube.folder / "roster.json", Roster, "").identities)
