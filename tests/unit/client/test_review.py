"""A study held against a hospital's data and settings, and the roster that it is asked to pin."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from client import approving, differencing, identity
from client.review import Review, changes, review, roster_for
from shared.enrolment import Roster, Welcome, fingerprint, to_text
from shared.enrolment_signatures import sign_roster
from shared.errors import DataError, EnrolmentError, SettingsError, StudyError
from shared.examples import Part
from shared.secagg.keys import SigningKey
from tests.unit.client.hospitals import NOON, SETTINGS, STUDY, TABLE, joined

CODE = "c" * 64
KEY = SigningKey(b"k" * 32)
THREE = {"north": b"n" * 32, "south": b"s" * 32, "west": b"w" * 32}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with settings, data and a study."""
    (tmp_path / "site.toml").write_text(SETTINGS)
    (tmp_path / "table.csv").write_text(TABLE)
    (tmp_path / "small.toml").write_text(STUDY)
    return tmp_path


def reviewed(folder: Path) -> Review:
    return review(folder, folder / "small.toml", "north", KEY, None)


def settings(folder: Path, more: str) -> None:
    (folder / "site.toml").write_text(SETTINGS + more)


def patients(folder: Path) -> set[str]:
    parts = reviewed(folder).data.parts
    return {patient for rows in parts.values() for patient in rows.patients.tolist()}


def test_the_hospitals_table_is_read_in_the_studys_terms(folder: Path) -> None:
    found = reviewed(folder)

    assert ("small", "small", "north", STUDY) == (found.study.name, found.dataset, found.data.name, found.text)
    assert 100 == sum(map(len, found.data.parts.values()))


def test_who_opted_out_is_not_in_the_data_and_is_counted(folder: Path) -> None:
    (folder / "table.csv").write_text(TABLE.replace("p7,37,1,no", "p7,37,1,yes"))
    settings(folder, '[data.small.opt_out]\ncolumn = "out"\nvalues = ["yes"]\n')

    assert {f"p{row}" for row in range(100)} - {"p7"} == patients(folder)
    assert (1, 1) == reviewed(folder).opted_out


def test_one_patient_who_opts_out_moves_nobody_else_into_the_other_part(folder: Path) -> None:
    before = reviewed(folder).data.parts[Part.HELD_OUT].patients.tolist()
    (folder / "table.csv").write_text(TABLE.replace("p7,37,1,no\n", ""))
    after = reviewed(folder).data.parts[Part.HELD_OUT].patients.tolist()

    assert [patient for patient in before if patient != "p7"] == after


def test_the_policy_of_the_hospital_is_held_against_the_study(folder: Path) -> None:
    settings(folder, "[policy]\nmin_patients = 101\n")
    found = reviewed(folder)

    assert ("min_patients: expected at least 101 patients. Received: 100.",) == found.violations(3)
    assert found.violations(3) == found.proposal(THREE, CODE).violations


def summed(folder: Path, first: int) -> None:
    """Release a sum over all patients but the first ones, and let the hospital's table have all of them again."""
    (folder / "table.csv").write_text("\n".join(line for n, line in enumerate(TABLE.split("\n")) if not 0 < n <= first))
    found = reviewed(folder)
    behind = differencing.cohorts_of(found.data, found.study.data, differencing.key_of(KEY))
    differencing.remember(folder, behind, 10)
    (folder / "table.csv").write_text(TABLE)


def test_a_study_over_nearly_the_patients_of_an_earlier_sum_is_said_with_what_to_do(folder: Path) -> None:
    summed(folder, first=1)
    [sentence] = reviewed(folder).violations(3)

    assert "min_difference: an earlier sum was over nearly the same patients of this hospital, and could be" in sentence
    assert "Approve the study once 10 patients or more have come or gone" in sentence
    settings(folder, "[policy]\nmin_difference = 1\n")
    assert () == reviewed(folder).violations(3)


def test_of_a_study_without_patient_ids_it_is_said_that_another_table_looks_the_same(folder: Path) -> None:
    (folder / "small.toml").write_text(STUDY.replace('patient_id = "patient"\n', ""))
    (folder / "site.toml").write_text('[data.small]\npath = "table.csv"\n')
    summed(folder, first=1)

    assert "rows are told apart by their numbers alone: if the earlier sum was over another" in reviewed(folder).near


def test_a_study_over_the_same_patients_or_quite_others_is_not_near(folder: Path) -> None:
    summed(folder, first=0)
    assert () == reviewed(folder).violations(3)

    (folder / "table.csv").write_text(TABLE.replace("\np", "\nq"))
    assert () == reviewed(folder).violations(3)


def test_noise_hides_who_differs_from_an_earlier_sum(folder: Path) -> None:
    summed(folder, first=1)
    private = STUDY.replace("logistic-regression", "private-logistic-regression")
    (folder / "small.toml").write_text(private + "[privacy]\nepsilon = 5.0\ndelta = 1e-4\n")

    assert "" == reviewed(folder).near


def test_the_budget_of_the_hospital_is_held_against_a_study_with_noise(folder: Path) -> None:
    private = STUDY.replace("logistic-regression", "private-logistic-regression")
    (folder / "small.toml").write_text(private + "[privacy]\nepsilon = 5.0\ndelta = 1e-4\n")
    found = reviewed(folder)

    assert ["budget"] == [sentence.split(":")[0] for sentence in found.violations(3)]
    assert "What it costs of your privacy budget" in found.describe(3)


def test_too_few_hospitals_for_masks_are_refused_with_what_to_do(folder: Path) -> None:
    found = reviewed(folder)

    with pytest.raises(StudyError, match="Received: 2 in the roster"):
        found.proposal({"north": b"n" * 32, "south": b"s" * 32}, CODE)


@pytest.mark.parametrize(
    ("more", "kind", "expected"),
    [
        ('[data.small.units]\nag = "months"\n', SettingsError, "[data.small] units: the study has no column 'ag'"),
        ('[data.small.units]\nage = "months"\n', SettingsError, "no way from 'months' to 'years'"),
        ('[data.small.opt_out]\ncolumn = "opt"\nvalues = [1]\n', SettingsError, "no column 'opt'. Did you mean 'out'"),
    ],
)
def test_a_mapping_that_cannot_be_is_named(folder: Path, more: str, kind: type[Exception], expected: str) -> None:
    settings(folder, more)

    with pytest.raises(kind) as raised:
        reviewed(folder)
    assert expected in str(raised.value)


@pytest.mark.parametrize("table", ["CASE,age,sick,out\nJane Doe,41,7,no\n", "Jane Doe,41,1,no\nJohn Roe,52,0,no\n", ""])
def test_no_patient_is_in_what_is_said_about_bad_data(folder: Path, table: str) -> None:
    (folder / "table.csv").write_text(table)

    with pytest.raises((DataError, SettingsError)) as raised:
        reviewed(folder)
    # The folder's own name has digits too.
    said = str(raised.value).replace(str(folder), "")
    assert not {word for word in ("Jane", "John", "41", "52") if word in said}


def test_changes_since_the_last_approval_are_counts_and_members(folder: Path) -> None:
    first = reviewed(folder).proposal(THREE, CODE)
    before = approving.approve(folder, first, NOON)
    (folder / "table.csv").write_text(TABLE.replace("p7,37,1,no\n", "").replace("p8,", "q8,"))
    again = reviewed(folder)
    members = {**{name: key for name, key in THREE.items() if name != "west"}, "east": b"e" * 32}
    said = changes(before, again.proposal(members, CODE))

    assert "Since you approved this study before: east joins, west leaves, 3 of your patients come or go." in said
    assert "p7" not in said


def test_nothing_changed_is_nothing_said(folder: Path) -> None:
    first = reviewed(folder).proposal(THREE, CODE)

    assert "" == changes(None, first)
    assert "" == changes(approving.approve(folder, first, NOON), first)


def test_a_withdrawn_snapshot_is_not_looked_for(folder: Path) -> None:
    first = reviewed(folder).proposal(THREE, CODE)
    approving.approve(folder, first, NOON)

    assert "" == changes(approving.withdraw(folder, first.study.digest, NOON), first)


@pytest.fixture
def welcome(tmp_path: Path) -> Welcome:
    """Of ``west``, the last of three hospitals that was enrolled."""
    return identity.load(joined(tmp_path, "north", "south", "west")["west"]).require_welcome()


def own(welcome: Welcome) -> bytes:
    return welcome.roster.identities["west"]


def test_the_roster_is_the_welcomes_unless_a_newer_one_is_given(welcome: Welcome, tmp_path: Path) -> None:
    assert welcome.roster == roster_for(welcome, own(welcome))
    assert {"north", "south", "west"} == set(roster_for(welcome, own(welcome), tmp_path / "ROSTER.json").identities)


def resigned(welcome: Welcome, roster: Roster) -> Welcome:
    """The same welcome of a consortium whose key we hold."""
    digits = fingerprint(welcome.consortium, KEY.public)
    return replace(welcome, signing=KEY.public, roster=roster, fingerprint=digits)


@pytest.mark.parametrize(
    ("consortium", "minutes", "names", "expected"),
    [
        ("Heart", -1, ("north", "south", "west"), "before the one that this hospital has"),
        ("Lung", 1, ("north", "south", "west"), "expected Heart. Received: Lung"),
        ("Heart", 1, ("north", "south"), "west with this hospital's identity is not on it"),
    ],
)
def test_a_roster_of_before_of_others_or_without_this_hospital_is_refused(
    welcome: Welcome, tmp_path: Path, consortium: str, minutes: int, names: tuple[str, ...], expected: str
) -> None:
    members = [member for member in welcome.roster.members if member.name in names]
    present = sign_roster("Heart", welcome.roster.members, KEY, NOON)
    other = sign_roster(consortium, members, KEY, NOON + timedelta(minutes=minutes))
    path = tmp_path / "other.json"
    path.write_text(to_text(other))

    with pytest.raises(EnrolmentError, match=expected):
        roster_for(resigned(welcome, present), own(welcome), path)


def test_a_roster_with_one_changed_letter_is_refused(welcome: Welcome, tmp_path: Path) -> None:
    path = tmp_path / "ROSTER.json"
    path.write_text(path.read_text().replace("south", "sauth"))

    with pytest.raises(EnrolmentError, match="its signature is not good"):
        roster_for(welcome, own(welcome), path)
