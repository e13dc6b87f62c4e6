"""The frozen cohort: what is read is what was frozen, and anything else is refused."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from client import cohort
from client.data.conform import Findings
from client.data.split import SiteData
from shared.errors import ApprovalError
from shared.examples import Examples, Part
from tests.builders import examples_of


def rows(images: bool = False) -> Examples:
    made = replace(examples_of([[1.0, np.nan], [2.0, 0.5]], [0, 1]), events=np.array([True, False]))
    return replace(made, images=np.arange(32, dtype=np.uint8).reshape(2, 4, 4, 1)) if images else made


def site(images: bool = False) -> SiteData:
    held_out = rows(images).take(np.array([], dtype=int))
    findings = Findings(outside={"x1": 1}, wholly_outside=("x1",), no_label=2)
    return SiteData("north", {Part.TRAINING: rows(images), Part.HELD_OUT: held_out}, findings)


@pytest.mark.parametrize("images", [False, True])
def test_what_is_loaded_is_what_was_frozen(tmp_path: Path, images: bool) -> None:
    path = tmp_path / "cohort.npz"
    loaded = cohort.load(path, cohort.freeze(path, site(images)))

    assert ("north", site().findings, [Part.TRAINING, Part.HELD_OUT]) == (loaded.name, loaded.findings, [*loaded.parts])
    for part, expected in site(images).parts.items():
        found = loaded.parts[part]
        for name in ("values", "outside", "labels", "patients", "images", "events"):
            np.testing.assert_array_equal(getattr(expected, name), getattr(found, name))
            assert np.asarray(getattr(expected, name)).dtype.kind == np.asarray(getattr(found, name)).dtype.kind


def test_rows_without_a_label_are_frozen_and_part_of_the_digest(tmp_path: Path) -> None:
    unlabelled = replace(rows(images=True), labels=np.array([np.nan, np.nan]))
    parts = {**site(images=True).parts, Part.TRAINING: replace(rows(images=True), unlabelled=unlabelled)}
    frozen = cohort.freeze(tmp_path / "cohort.npz", replace(site(), parts=parts))

    loaded = cohort.load(tmp_path / "cohort.npz", frozen).parts[Part.TRAINING].unlabelled
    assert loaded is not None
    np.testing.assert_array_equal(unlabelled.labels, loaded.labels)
    np.testing.assert_array_equal(unlabelled.images, loaded.images)
    assert cohort.digest(replace(site(), parts=site(images=True).parts)) != frozen


def test_only_the_owner_can_read_the_snapshot(tmp_path: Path) -> None:
    cohort.freeze(tmp_path / "cohort.npz", site())

    assert 0o600 == stat.S_IMODE((tmp_path / "cohort.npz").stat().st_mode)
    assert ["cohort.npz"] == [path.name for path in tmp_path.iterdir()]


def test_the_digest_is_of_the_patients_and_not_of_how_wide_their_array_was() -> None:
    wide = site()
    part = wide.parts[Part.TRAINING]
    wider = replace(part, patients=part.patients.astype("<U50"))

    assert cohort.digest(wide) == cohort.digest(replace(wide, parts={**wide.parts, Part.TRAINING: wider}))


@pytest.mark.parametrize("name", ["values", "outside", "labels", "patients", "events"])
def test_another_row_is_another_digest(name: str) -> None:
    part = rows()
    changed = getattr(part, name).copy()
    changed.flat[0] = "q0" if name == "patients" else not changed.flat[0]
    other = replace(site(), parts={**site().parts, Part.TRAINING: replace(part, **{name: changed})})

    assert cohort.digest(site()) != cohort.digest(other)


def test_a_row_that_moves_into_the_other_part_is_another_digest() -> None:
    parts = site().parts

    assert cohort.digest(site()) != cohort.digest(
        replace(site(), parts={Part.TRAINING: parts[Part.HELD_OUT], Part.HELD_OUT: parts[Part.TRAINING]})
    )


def test_a_snapshot_of_other_patients_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cohort.npz"
    approved = cohort.freeze(path, site())
    cohort.freeze(path, replace(site(), name="south"))

    with pytest.raises(ApprovalError, match="not the one that was approved"):
        cohort.load(path, approved)


@pytest.mark.parametrize("at", range(0, 3000, 97))
def test_a_flipped_bit_is_refused_or_changes_nothing(tmp_path: Path, at: int) -> None:
    path = tmp_path / "cohort.npz"
    approved = cohort.freeze(path, site())
    content = bytearray(path.read_bytes())
    at %= len(content)
    content[at] ^= 4
    path.write_bytes(content)

    try:
        loaded = cohort.load(path, approved)
    except ApprovalError:
        return
    assert approved == cohort.digest(loaded)


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04", b"\x93NUMPY"])
def test_a_file_that_is_no_snapshot_is_an_error_of_its_own(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "cohort.npz"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(ApprovalError, match="cannot be read"):
        cohort.load(path, "0" * 64)
