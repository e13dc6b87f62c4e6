"""``consilium-client`` as a steward uses it: every command, its help, and what it says when it says no."""

from __future__ import annotations

import json
import re
from importlib.metadata import version
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client import approval, cli, ledger, locking, record, settings
from client.locking import study_lock
from shared import chain
from shared.errors import ConsiliumError
from shared.study import load_study
from tests.unit.client import desks
from tests.unit.client.hospitals import ADDRESS, SETTINGS, TABLE, consortium_of, joined

COMMANDS = ("init", "join", "renew", "check", "approve", "withdraw", "studies", "start", "status", "audit")


def ran(*arguments: object) -> str:
    """The output of a command that must succeed."""
    result = CliRunner().invoke(cli.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert 0 == result.exit_code, result.output
    return result.output


def refused(*arguments: object) -> str:
    """The error of a command that must fail with one of ours, and exit code 2."""
    with pytest.raises(ConsiliumError) as raised:
        CliRunner().invoke(cli.app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert 2 == raised.value.exit_code
    return str(raised.value)


def files_in(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def events(folder: Path) -> list[str]:
    return [json.loads(line)["event"] for line in (folder / "audit.jsonl").read_text().splitlines()]


def words(text: str) -> str:
    return " ".join(re.sub("[│╭╰╮╯─]", " ", text).split())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three hospitals that have joined; tests that change something make their own."""
    folder = tmp_path_factory.mktemp("made")
    joined(folder, "north", "south", "west")
    return folder


@pytest.fixture
def north(tmp_path: Path) -> Path:
    """One of three hospitals that have joined, to be changed."""
    return joined(tmp_path, "north", "south", "west")["north"]


def test_help_says_who_it_is_for_and_where_to_begin() -> None:
    said = words(ran("--help"))

    assert "For the hospital" in said
    assert "consilium-client init DIR --name NAME" in said


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself_with_an_example(command: str) -> None:
    assert f"Example: consilium-client {command}" in words(ran(command, "--help"))


def test_version_is_the_installed_one() -> None:
    assert f"consilium-client {version('consilium')}\n" == ran("--version")


def test_an_unknown_command_is_an_error_of_the_user() -> None:
    assert 2 == CliRunner().invoke(cli.app, ["begin"]).exit_code


def test_init_makes_keys_a_request_and_the_commented_settings_and_shows_no_key(tmp_path: Path) -> None:
    said = ran("init", tmp_path / "h", "--name", "Charite")

    assert {"identity.json", "request.json", "secrets", "site.toml"} <= files_in(tmp_path / "h")
    assert settings.template() == (tmp_path / "h" / "site.toml").read_text()
    assert re.search(r"fingerprint  ([0-9a-f]{4} ){7}[0-9a-f]{4}\n", said)
    assert "PRIVATE" not in said


def test_init_does_not_overwrite_settings_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "site.toml").write_text(SETTINGS)
    ran("init", tmp_path, "--name", "Charite")

    assert SETTINGS == (tmp_path / "site.toml").read_text()


def test_init_twice_is_refused(tmp_path: Path) -> None:
    ran("init", tmp_path / "h", "--name", "Charite")

    assert "exists already" in refused("init", tmp_path / "h", "--name", "Charite")


def test_join_shows_the_consortiums_fingerprint_and_asks(tmp_path: Path) -> None:
    north = consortium_of(tmp_path, "north")["north"]
    before = files_in(north)

    assert "give --yes" in refused("join", north, north / "WELCOME.json")
    assert before == files_in(north)
    assert "joined" in ran("join", north, north / "WELCOME.json", "--yes")
    assert ["joined"] == events(north)


def test_renew_writes_a_new_request_and_keeps_the_fingerprint(north: Path) -> None:
    before = json.loads((north / "request.json").read_text())
    said = ran("renew", north, "--rotate", "tls")
    after = json.loads((north / "request.json").read_text())

    assert before["csr"] != after["csr"]
    assert before["fingerprint"] == after["fingerprint"]
    assert before["fingerprint"][:4] in said


def test_check_says_what_would_leave_and_writes_nothing(made: Path) -> None:
    before = files_in(made / "north")
    said = ran("check", made / "north", made / "small.toml")

    assert "100 patients" in said
    assert "1. Preparation, once" in said
    assert "2. Training, 2 times" in said
    assert "3. Evaluation, once" in said
    assert before == files_in(made / "north")


def test_check_works_before_a_hospital_has_joined(tmp_path: Path) -> None:
    north = consortium_of(tmp_path, "north")["north"]

    assert "What would leave" in ran("check", north, tmp_path / "small.toml")


def test_check_does_not_count_the_members_of_a_roster_as_old_as_the_enrolment(made: Path) -> None:
    """North was the first to be enrolled: its welcome names nobody else."""
    assert "min_sites" not in ran("check", made / "north", made / "small.toml")


def test_check_says_what_the_policy_does_not_allow(north: Path) -> None:
    (north / "site.toml").write_text(SETTINGS + "[policy]\nmin_patients = 200\n")

    assert "Your own site.toml does not allow it. min_patients" in ran("check", north, north.parent / "small.toml")


def approve(folder: Path, *more: object) -> tuple[object, ...]:
    return ("approve", folder, folder.parent / "small.toml", "--roster", folder.parent / "ROSTER.json", *more)


def test_approve_shows_what_leaves_and_every_member_and_pins_them(north: Path) -> None:
    said = ran(*approve(north, "--yes"))
    found = approval.read_all(north).popitem()[1]

    assert said.index("What would leave") < said.index("Members of Heart") < said.index("approved small")
    for name in ("north  (this hospital)", "south", "west"):
        assert re.search(rf"([0-9a-f]{{4}} ){{7}}[0-9a-f]{{4}}  {re.escape(name)}\n", said)
    assert {"north", "south", "west"} == set(found.members)
    assert 100 == sum(map(len, found.data().parts.values()))


def test_the_record_has_the_approval_with_the_snapshots_digest(north: Path) -> None:
    ran(*approve(north, "--yes"))
    found = approval.read_all(north).popitem()[1]
    line = json.loads((north / "audit.jsonl").read_text().splitlines()[-1])

    assert ("approved", found.cohort, found.digest, found.code) == tuple(
        line[key] for key in ("event", "cohort", "study", "code")
    )
    chain.verify(north / "audit.jsonl")


def test_nobody_at_a_terminal_approves_nothing(north: Path) -> None:
    before = files_in(north)

    assert "not approved, nothing was written" in refused(*approve(north))
    assert before == files_in(north)


def test_a_refused_approval_says_why_and_leaves_no_folder(north: Path) -> None:
    (north / "site.toml").write_text(SETTINGS + '[policy]\nmin_sites = 9\nmethods = ["neural"]\n')
    before = files_in(north)
    said = refused(*approve(north, "--yes"))

    assert "min_sites" in said
    assert "methods" in said
    assert before == files_in(north)


PRIVATE = "[budget]\nepsilon = 5.0\ndelta = 1e-4\n"


def private(north: Path, more: str) -> None:
    """Let the study be one with noise, and the hospital have these settings."""
    (north.parent / "small.toml").write_text(
        (north.parent / "small.toml").read_text().replace('name = "logistic', 'name = "private-logistic')
        + "[privacy]\nepsilon = 5.0\ndelta = 1e-4\n"
    )
    (north / "site.toml").write_text(SETTINGS + more)


def test_check_says_what_a_study_with_noise_costs_and_writes_nothing(north: Path) -> None:
    private(north, PRIVATE)
    before = files_in(north)
    said = ran("check", north, north.parent / "small.toml")

    assert said.index("How it is protected") < said.index("What it costs of your privacy budget")
    assert "Your own site.toml does not allow it. budget: expected at most the 100.0 %" in said
    assert before == files_in(north)


def test_a_study_that_the_budget_does_not_cover_is_not_approved(north: Path) -> None:
    private(north, PRIVATE)
    before = files_in(north)

    assert "  budget: expected at most" in refused(*approve(north, "--yes"))
    assert before == files_in(north)


def test_a_study_with_noise_is_not_approved_without_a_budget(north: Path) -> None:
    private(north, "")

    assert "  budget: no [budget]" in refused(*approve(north, "--yes"))


def test_an_approved_study_with_noise_begins_the_ledger_and_is_charged_nothing_yet(north: Path) -> None:
    private(north, PRIVATE + "[policy]\nruns = 1\n")
    ran(*approve(north, "--yes"))
    found = ledger.read(north, "small")

    assert (1, ()) == (found.lines, found.entries)
    assert "approved" == events(north)[-1]


def test_the_roster_of_the_welcome_may_be_too_old_and_says_so(made: Path) -> None:
    assert "give it with --roster" in refused("approve", made / "north", made / "small.toml", "--yes")


def test_approving_before_joining_says_what_to_do(tmp_path: Path) -> None:
    north = consortium_of(tmp_path, "north")["north"]

    assert "join" in refused("approve", north, tmp_path / "small.toml", "--yes")


def test_approving_again_with_other_patients_says_how_many_changed(north: Path) -> None:
    ran(*approve(north, "--yes"))
    (north / "table.csv").write_text(TABLE.replace("p7,37,1,no\n", ""))

    assert "1 of your patients come or go" in ran(*approve(north, "--yes"))


def test_withdraw_takes_a_name_and_studies_shows_where_each_stands(north: Path) -> None:
    ran(*approve(north, "--yes"))
    assert "approved for 3 run(s)" in ran("studies", north)

    ran("withdraw", north, "small")
    assert "withdrawn" in ran("studies", north)
    assert ["approved", "withdrawn"] == events(north)[-2:]


def test_a_hospital_without_studies_is_told_how_to_approve_one(made: Path) -> None:
    assert "no study is approved here" in ran("studies", made / "south")


def test_what_was_approved_meanwhile_by_another_command_is_looked_at_again(
    north: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def agreed(_question: str) -> bool:
        monkeypatch.setattr(cli, "_agreed", lambda _question: True)
        ran(*approve(north, "--yes"))
        return True

    monkeypatch.setattr(cli, "_agreed", agreed)

    assert "was approved or withdrawn meanwhile" in refused(*approve(north))
    assert ["approved"] == events(north)


def test_of_two_who_approve_at_once_one_waits_or_is_refused(north: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "_WAIT_S", 0.1)
    digest = load_study(north.parent / "small.toml").digest
    with study_lock(north, digest):
        said = refused(*approve(north, "--yes"))

    assert "right now" in said
    assert [] == list((north / "approvals").glob("[0-9a-f]*"))


def test_a_damaged_approval_is_mended_by_approving_again(north: Path) -> None:
    ran(*approve(north, "--yes"))
    [record] = (north / "approvals").glob("*/approval.json")
    record.write_text("{}")

    assert "approved small" in ran(*approve(north, "--yes"))


def test_start_says_everything_that_is_wrong_and_starts_nothing(tmp_path: Path) -> None:
    north = consortium_of(tmp_path, "north")["north"]
    (north / "site.toml").write_text("[retension]\n")
    before = files_in(north)
    said = refused("start", north)

    assert said.index("joined:") < said.index("settings:")
    assert before == files_in(north)


def test_start_without_waiting_ends_when_the_consortium_is_away(north: Path) -> None:
    assert f"connection: {ADDRESS}" in refused("start", north, "--no-wait")


def test_status_says_where_everything_stands(north: Path) -> None:
    ran(*approve(north, "--yes"))
    said = ran("status", north)

    assert "node         not running: `consilium-client start DIR`" in said
    assert "connection   not connected" in said
    assert re.search(r"certificate  valid until 20\d\d-", said)
    # Preparation, two rounds and the evaluation, in each of three runs.
    assert re.search(r"small  [0-9a-f]{16}  0 of 12 sums released  approved", said)
    assert "approved small for 3 run(s) with north, south, west" in said


def test_status_for_programs_has_the_same(north: Path) -> None:
    ran(*approve(north, "--yes"))
    found = json.loads(ran("status", north, "--json"))

    assert ("north", "Heart", ADDRESS) == tuple(found[key] for key in ("name", "consortium", "address"))
    assert (False, False, False) == (found["supervised"], found["node"]["running"], found["connected"])
    assert [("small", "approved", 0, 12)] == [
        tuple(each[key] for key in ("name", "state", "released", "allowed")) for each in found["studies"]
    ]


def test_status_counts_the_sums_that_were_released(tmp_path: Path) -> None:
    north = desks.hospital(tmp_path)
    desks.asked(desks.opened(north), desks.contribute(north))
    [study] = json.loads(ran("status", north, "--json"))["studies"]

    assert (1, 4) == (study["released"], study["allowed"])


def test_status_before_joining_and_of_a_withdrawn_study(tmp_path: Path, north: Path) -> None:
    ran(*approve(north, "--yes"))
    ran("withdraw", north, "small")
    assert "withdrawn: this hospital has withdrawn its approval" in ran("status", north)

    new = tmp_path / "new"
    ran("init", new, "--name", "New")
    assert "not joined yet" in ran("status", new)


def test_the_record_is_intact_and_a_changed_line_is_named(north: Path) -> None:
    ran(*approve(north, "--yes"))
    ran("withdraw", north, "small")
    assert "intact: 2 lines" in ran("audit", north, "verify")

    path = north / "audit.jsonl"
    path.write_text(path.read_text().replace('"runs": 3', '"runs": 9', 1))
    assert "Line 1 was changed" in refused("audit", north, "verify")


def test_the_record_in_words(tmp_path: Path) -> None:
    north = desks.hospital(tmp_path)
    desk = desks.opened(north)
    desks.asked(desk, desks.contribute(north))
    desks.asked(desk, desks.contribute(north, run="another"))
    approved, sum_, refusal = ran("audit", north, "show").splitlines()

    assert "approved small for 1 run(s) with north, south, west" in approved
    assert re.search(r"small, run run, exchange 1: was asked for its sum, sent its own sum \(\d+ bytes, digest", sum_)
    assert "small, run another, exchange 1: was asked for its sum, refused: " in refusal
    assert "(runs-used-up; " in refusal
    assert [refusal] == ran("audit", north, "show", "--last", "1").splitlines()


def test_a_charge_is_in_the_record_in_words() -> None:
    known = {"n": 1, "time": "2026-11-21T12:00:00Z", "event": "approved", "study": "ab" * 32, "name": "small"}
    charge = {
        "event": "charged",
        "ledger": "heart",
        "study": "ab" * 32,
        "run": "cd" * 32,
        "line": 4,
        "digest": "ef" * 32,
    }
    said = list(record.in_words([known, {"n": 2, "time": "2026-11-21T12:00:01Z", **charge}]))[-1]

    assert said.endswith(f"small, run {'cd' * 8}: charged a sum to the ledger heart, line 4 (digest {'ef' * 8})")


@pytest.mark.parametrize("command", ["check", "approve"])
@pytest.mark.parametrize("table", ["CASE,age,sick,out\nJane Doe,41,7,no\n", "Jane Doe,41,1,no\nJohn Roe,52,0,no\n"])
def test_no_patient_is_in_an_error(north: Path, command: str, table: str) -> None:
    (north / "table.csv").write_text(table)
    arguments = approve(north, "--yes") if command == "approve" else ("check", north, north.parent / "small.toml")
    # The folder's own name has digits too.
    said = refused(*arguments).replace(str(north.parent), "")

    assert not {word for word in ("Jane", "John", "41", "52") if word in said}
    assert "approvals" not in files_in(north)
