"""Which cohorts are nearly the same, and what a hospital remembers of the patients behind its sums."""

from __future__ import annotations

import hashlib
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client.data.split import SiteData
from client.differencing import FOLDER, Cohort, _locked, check, cohort_of, key_of, nearly_the_same, remember
from shared.errors import Refusal
from shared.examples import Examples
from shared.schema import DataContract
from shared.secagg.keys import SigningKey
from tests.builders import examples_of, site_of, table_study

KEY = key_of(SigningKey(b"s" * 32))
CONTRACT = table_study().data
OTHER_COLUMNS = table_study(data__columns__x1__range=[-11.0, 11.0]).data
K = 10


def rows(count: int, first: int = 0) -> Examples:
    """One row a patient, who is called by a number and has values of their own."""
    values = [[float(number % 19) / 2, float(number % 7)] for number in range(first, first + count)]
    return examples_of(values, [float(number % 2) for number in range(first, first + count)], first)


def site(training: Examples, held_out: Examples | None = None) -> SiteData:
    nobody = training.take(np.array([], dtype=int))
    return site_of("a", training, nobody if held_out is None else held_out)


def cohort(training: Examples, held_out: Examples | None = None, contract: DataContract = CONTRACT) -> Cohort:
    return cohort_of(site(training, held_out), contract, KEY)


def changed(examples: Examples, *indices: int) -> Examples:
    """The same patients; in some rows another value."""
    values = examples.values.copy()
    values[list(indices), 0] += 0.25
    return replace(examples, values=values)


# Which cohorts are nearly the same


@pytest.mark.parametrize(("left", "near"), [(0, False), (1, True), (9, True), (10, False), (11, False)])
def test_cohorts_are_nearly_the_same_if_fewer_patients_left_than_the_policy_says(left: int, near: bool) -> None:
    before, after = cohort(rows(50)), cohort(rows(50 - left))

    assert [near, near] == [nearly_the_same(before, after, K), nearly_the_same(after, before, K)]


@pytest.mark.parametrize(("moved", "near"), [(4, True), (5, False)])
def test_who_left_and_who_came_count_alike(moved: int, near: bool) -> None:
    assert near == nearly_the_same(cohort(rows(50)), cohort(rows(50, first=moved)), K)


def test_cohorts_without_a_common_patient_are_far_apart_however_small() -> None:
    assert not nearly_the_same(cohort(rows(3)), cohort(rows(4, first=100)), K)


def test_a_policy_that_allows_any_difference_finds_nothing_near() -> None:
    assert not nearly_the_same(cohort(rows(50)), cohort(rows(49)), 1)


def test_the_part_that_is_held_out_counts_by_itself() -> None:
    training = rows(50, first=100)

    assert nearly_the_same(cohort(training, rows(20)), cohort(rows(50, first=300), rows(19)), K)


def test_one_part_is_held_against_the_other() -> None:
    """What trains in one study may be held out in another."""
    assert nearly_the_same(cohort(rows(50), rows(30, 100)), cohort(rows(40, 200), rows(49)), K)


def test_another_split_does_not_hide_who_left() -> None:
    """Each part is far from each part, but all of one is all of the other and one more."""
    everybody = rows(81)
    one = cohort(everybody.take(np.arange(0, 40)), everybody.take(np.arange(40, 80)))
    other = cohort(everybody.take(np.arange(20, 60)), everybody.take(np.r_[0:20, 60:81]))

    assert nearly_the_same(one, other, K)


@pytest.mark.parametrize(("corrected", "near"), [(0, False), (1, True), (9, True), (10, False)])
def test_a_corrected_record_is_as_good_as_a_patient_who_left(corrected: int, near: bool) -> None:
    assert near == nearly_the_same(cohort(rows(50)), cohort(changed(rows(50), *range(corrected))), K)


def test_row_numbers_that_stay_do_not_hide_that_one_row_went_and_another_came() -> None:
    """Without a column of patient ids: rows 1 to 50 instead of 0 to 49, numbered from 0."""
    renumbered = replace(rows(50, first=1), patients=rows(50).patients)

    assert nearly_the_same(cohort(rows(50)), cohort(renumbered), K)


def test_rows_are_not_compared_where_columns_are_declared_otherwise() -> None:
    """The same patients in another study, however few: what that gives away is in docs/protocol.md."""
    assert not nearly_the_same(cohort(rows(50)), cohort(changed(rows(50), 7), contract=OTHER_COLUMNS), K)
    assert not nearly_the_same(cohort(rows(7)), cohort(rows(7), contract=OTHER_COLUMNS), K)


def test_patients_whose_rows_are_alike_count_one_by_one() -> None:
    alike = replace(rows(50), values=np.zeros((50, 2)), labels=np.zeros(50))

    assert nearly_the_same(cohort(alike), cohort(changed(alike, 3)), K)
    assert not nearly_the_same(cohort(alike), cohort(changed(alike, *range(20))), K)


def test_the_order_of_patients_and_of_a_patients_rows_does_not_matter() -> None:
    twice = replace(rows(60), patients=np.array([f"p{number % 30}" for number in range(60)]))
    turned = twice.take(np.arange(59, -1, -1))
    one, other = cohort(twice), cohort(turned)

    assert np.array_equal(one.training.rows, other.training.rows)
    assert np.array_equal(one.training.patients, other.training.patients)


def test_a_row_more_of_a_patient_is_a_changed_record() -> None:
    twice = replace(rows(60), patients=np.array([f"p{number % 30}" for number in range(60)]))

    assert nearly_the_same(cohort(twice), cohort(twice.take(np.arange(59))), K)


def test_a_value_that_is_missing_is_the_same_in_whatever_bits_and_zero_has_no_sign() -> None:
    odd = np.frombuffer(np.uint64(0xFFF8_0000_0000_0001).tobytes(), np.float64)[0]
    values = [replace(rows(1), values=np.array([[missing, zero]])) for missing, zero in ((np.nan, 0.0), (odd, -0.0))]

    assert np.array_equal(*(cohort(each).training.rows for each in values))


def test_pixels_are_part_of_what_rows_say() -> None:
    images = np.zeros((50, 4, 4, 1), dtype=np.uint8)
    dark = replace(rows(50), images=images)
    images = images.copy()
    images[9, 1, 1] = 1

    assert nearly_the_same(cohort(dark), cohort(replace(dark, images=images)), K)


# What is remembered


def code_of(folder: Path, mine: Cohort) -> str:
    with pytest.raises(Refusal) as caught:
        check(folder, [mine], K)
    return caught.value.code


def test_sums_over_the_same_patients_are_one_file_that_only_its_owner_can_read(tmp_path: Path) -> None:
    for _ in range(2):
        remember(tmp_path, [cohort(rows(50))], K)
    [path] = (tmp_path / FOLDER).glob("*.bin")

    assert (0o700, 0o600) == (path.parent.stat().st_mode & 0o777, path.stat().st_mode & 0o777)


def test_a_cohort_near_a_remembered_one_is_refused_and_not_remembered(tmp_path: Path) -> None:
    remember(tmp_path, [cohort(rows(50))], K)

    assert "nearly-the-same-patients" == code_of(tmp_path, cohort(rows(49)))
    with pytest.raises(Refusal, match="nearly-the-same-patients"):
        remember(tmp_path, [cohort(rows(49))], K)
    assert 1 == len(list((tmp_path / FOLDER).glob("*.bin")))


def test_the_refusal_says_no_number_and_no_patient(tmp_path: Path) -> None:
    remember(tmp_path, [cohort(rows(50))], K)
    with pytest.raises(Refusal) as caught:
        check(tmp_path, [cohort(rows(49))], K)

    assert not any(letter.isdigit() for letter in caught.value.hint)


def test_checking_writes_nothing(tmp_path: Path) -> None:
    check(tmp_path, [cohort(rows(50))], K)

    assert [] == list(tmp_path.iterdir())


def test_who_has_the_file_and_not_the_key_cannot_tell_whether_somebody_is_in_it(tmp_path: Path) -> None:
    remember(tmp_path, [cohort(rows(50))], K)
    [path] = (tmp_path / FOLDER).glob("*.bin")
    content = path.read_bytes()
    known = [cohort(rows(50)).training.patients.tobytes(), b"p7", hashlib.sha256(b"p7").digest()[:8]]

    assert [True, False, False] == [each in content for each in known]


def test_hospitals_have_different_keys_that_do_not_give_away_their_identities() -> None:
    keys = {key_of(SigningKey(letter * 32)) for letter in (b"a", b"b")}

    assert {32} == {len(key) for key in keys}
    assert 2 == len(keys - {b"a" * 32, b"b" * 32})


def test_with_another_key_no_hash_is_the_same() -> None:
    one, other = (cohort_of(site(rows(50)), CONTRACT, key).training for key in (KEY, b"k" * 32))

    assert 0 == len(np.intersect1d(one.patients, other.patients)) + len(np.intersect1d(one.rows, other.rows))


@pytest.mark.parametrize(
    "change", [lambda content: content[:-1], lambda content: content + b"\0", lambda _content: b""]
)
def test_a_file_that_is_not_what_was_written_ends_all_sums(tmp_path: Path, change: object) -> None:
    remember(tmp_path, [cohort(rows(50))], K)
    [path] = (tmp_path / FOLDER).glob("*.bin")
    path.write_bytes(change(path.read_bytes()))  # type: ignore[operator]

    assert "patients-damaged" == code_of(tmp_path, cohort(rows(50, first=100)))


def test_a_file_under_another_name_is_damaged(tmp_path: Path) -> None:
    remember(tmp_path, [cohort(rows(50))], K)
    [path] = (tmp_path / FOLDER).glob("*.bin")
    path.rename(path.with_stem("0" * 64))

    assert "patients-damaged" == code_of(tmp_path, cohort(rows(50)))


def test_of_two_near_cohorts_at_the_same_time_one_is_remembered(tmp_path: Path) -> None:
    refused: list[str] = []

    def second() -> None:
        try:
            remember(tmp_path, [cohort(rows(49))], K)
        except Refusal as error:
            refused.append(error.code)

    thread = threading.Thread(target=second)
    with _locked(tmp_path / FOLDER):
        thread.start()
        _write(tmp_path, cohort(rows(50)))
    thread.join(30.0)

    assert ["nearly-the-same-patients"] == refused


def _write(folder: Path, mine: Cohort) -> None:
    """Write what another process would have written."""
    elsewhere = folder / "elsewhere"
    remember(elsewhere, [mine], K)
    [path] = (elsewhere / FOLDER).glob("*.bin")
    path.rename(folder / FOLDER / path.name)
