"""A drafted study parses, fits the data that it was drafted from, and marks what was guessed."""

from __future__ import annotations

import csv
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.data.conform import conform
from client.data.source import open_source
from shared.errors import DataError, StudyError
from shared.study import Study, load_study
from simulations.draft import draft_study
from simulations.guesses import guess_column, rounded_outwards

NEEDS_KERAS = pytest.mark.skipif(find_spec("keras") is None, reason="studies about images need the extra keras")


def write(path: Path, columns: dict[str, list[Any]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def drafted(path: Path, name: str | None = None) -> tuple[Study, str]:
    """The study that the draft is; it accepts every value of the data."""
    text = draft_study(path, name)
    target = path.parent / "draft.toml"
    target.write_text(text, encoding="utf-8")
    study = load_study(target)
    findings = conform(study.data, open_source(path, study.data).load(), "all").findings
    assert findings.outside == {}
    assert findings.label_outside == 0
    return study, text


def clinic(count: int = 60) -> dict[str, list[Any]]:
    rng = np.random.default_rng(0)
    chol = rng.integers(150, 300, count)
    chol[:5] = 0
    return {
        "Patient ID": [f"p{row // 2}" for row in range(count)],
        "age": rng.integers(30, 80, count).tolist(),
        "chol": chol.tolist(),
        "crp": [*np.round(rng.gamma(2, 3, count - 2), 2).tolist(), -999, "?"],
        "sex": ["f", "m"] * (count // 2),
        "pain": (rng.integers(1, 5, count)).tolist(),
        "admitted": [f"2024-01-{1 + row % 28:02d} {row}" for row in range(count)],
        "hospital": [f"h{row % 3}" for row in range(count)],
        "set": ["train"] * (count - 10) + ["test"] * 10,
        "diagnosis": ["malignant", "benign"] * (count // 2),
    }


def test_a_table_becomes_a_study_that_accepts_it(tmp_path: Path) -> None:
    study, text = drafted(write(tmp_path / "clinic.csv", clinic()))
    data = study.data
    assert (study.name, data.kind, data.label, data.positive) == ("clinic", "table", "diagnosis", ("malignant",))
    assert data.features == ("age", "chol", "crp", "sex", "pain")
    assert (data.patient_id, data.split_column) == ("Patient ID", "set")
    assert study.simulation.partition == "column:hospital"
    assert data.columns["age"].range == (30.0, 80.0)
    assert data.columns["chol"].missing == (0,)
    assert data.columns["crp"].missing == ("?", -999)
    assert data.columns["sex"].levels == ("f", "m")
    assert data.columns["pain"].levels == (1, 2, 3, 4)
    assert 'column "admitted" is left out' in text


def test_every_guess_is_marked(tmp_path: Path) -> None:
    _, text = drafted(write(tmp_path / "clinic.csv", clinic()))
    guessed = ("type =", "range =", "levels =", "missing =", "label =", "positive =", "patient_id =", "partition =")
    lines = [line for line in text.splitlines() if line.startswith(guessed)]
    assert len(lines) > 15
    assert all("# guess: " in line and "confirm" in line for line in lines)


def test_a_draft_is_the_same_from_parquet(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    columns = {name: cells for name, cells in clinic().items() if name != "crp"}
    study, _ = drafted(write(tmp_path / "clinic.csv", columns))
    pandas.DataFrame(columns).to_parquet(tmp_path / "clinic.parquet")
    assert drafted(tmp_path / "clinic.parquet")[0].data == study.data


def test_a_label_of_many_levels_shows_how_to_make_it_a_yes_or_no_question(tmp_path: Path) -> None:
    columns = {"age": list(range(20, 60)), "num": [0, 1, 2, 3] * 10}
    study, text = drafted(write(tmp_path / "heart.csv", columns))
    assert study.data.task == "multiclass"
    assert "# positive = [1, 2, 3] #" in text


@NEEDS_KERAS
def test_a_number_as_label_asks_for_a_network(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {"x": rng.normal(size=50).tolist(), "target": rng.normal(size=50).tolist()}
    study, _ = drafted(write(tmp_path / "score.csv", columns))
    assert (study.data.task, study.method.name) == ("number", "neural")


def test_names_and_levels_of_any_letters_survive(tmp_path: Path) -> None:
    columns = {'size "cm" \\ [x]': list(range(20)), "Größe é": ['a"b', "c\\d"] * 10, "y": ["ja", "nein"] * 10}
    study, _ = drafted(write(tmp_path / "my study (1).csv", columns))
    assert study.name == "my_study_1"
    assert study.data.features == ('size "cm" \\ [x]', "Größe é")
    assert study.data.columns["Größe é"].levels == ('a"b', "c\\d")


def test_the_name_is_the_researchers_if_it_can_be_one(tmp_path: Path) -> None:
    path = write(tmp_path / "clinic.csv", clinic())
    assert drafted(path, "stroke-2")[0].name == "stroke-2"
    with pytest.raises(StudyError, match=r"--name: expected letters, digits, '_' and '-'. Received: 'a b'"):
        draft_study(path, "a b")


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"a": []}, r"expected at least one row. Received: none"),
        ({"note": [f"text {row}" for row in range(40)]}, r"expected a column that can be predicted"),
        ({"y": [0, 1] * 20}, r"expected a column besides 'y' to predict it from"),
        ({"63": [1], "1": [2], "145": [3]}, r"the first line must name the columns. Received: mostly numbers"),
    ],
)
def test_a_table_that_makes_no_study_says_why(tmp_path: Path, columns: dict[str, list[Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        draft_study(write(tmp_path / "table.csv", columns), None)


@pytest.mark.parametrize(
    "cells",
    [
        [1e300, -1e300, 2e307, 5.5] * 10,
        [1e300] * 40,
        [1.0 + 2e-16 * row for row in range(40)],
        [5e-324 * row for row in range(40)],
    ],
)
def test_numbers_that_no_range_can_hold_are_left_out_of_the_study(tmp_path: Path, cells: list[float]) -> None:
    columns = {"age": list(range(20, 60)), "far": cells, "sick": [0, 1] * 20}
    study, text = drafted(write(tmp_path / "far.csv", columns))
    assert study.data.features == ("age",)
    assert 'column "far" is left out' in text
    assert max(map(len, text.splitlines())) < 200


def test_huge_codes_and_ranges_are_written_as_floats(tmp_path: Path) -> None:
    columns = {"x": [1e29, 2e28] * 20, "z": [1e20 * row for row in range(40)], "sick": [0, 1] * 20}
    study, text = drafted(write(tmp_path / "far.csv", columns))
    assert study.data.columns["x"].levels == (2e28, 1e29)
    assert study.data.columns["z"].range == (0.0, 4e21)
    assert max(map(len, text.splitlines())) < 200


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.full((4, 4, 4), np.nan), r"images.npz: expected a number in every pixel. Received: 4 image\(s\) with NaN"),
        (np.array([[[0.0] * 4] * 4, [[np.inf] * 4] * 4] * 2), r"Received: 2 image\(s\) with NaN or infinity"),
        (np.full((4, 4, 4), -1e300), r"pixel values are too large, or too close together"),
        (np.zeros((4, 2, 4)), r"expected images of 4 to 4096 pixels a side.* Received: 2 x 4 pixels, 1 channel"),
        (np.zeros((4, 0, 4)), r"expected images of 4 to 4096 pixels a side"),
        (np.zeros((4, 4, 4, 4)), r"with 1 or 3 channels. Received: 4 x 4 pixels, 4 channel"),
    ],
)
def test_images_that_make_no_study_say_why(tmp_path: Path, pixels: Any, message: str) -> None:
    np.savez(tmp_path / "images.npz", images=pixels, labels=[0, 1, 0, 1])
    with pytest.raises(DataError, match=message):
        draft_study(tmp_path / "images.npz", None)


@NEEDS_KERAS
def test_an_archive_of_images_becomes_a_study_about_images(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 17, (40, 8, 8), dtype=np.uint8)
    images[0, 0, 0] = 16
    path = tmp_path / "digits.npz"
    np.savez(path, images=images, labels=np.arange(40) % 4, patient_ids=np.arange(40) // 2)
    study, _ = drafted(path)
    assert study.data.images is not None
    assert (study.data.images.height, study.data.images.channels, study.data.images.range) == (8, 1, (0.0, 16.0))
    assert study.data.columns["label"].levels == (0, 1, 2, 3)
    assert study.data.patient_id == "patient_id"
    assert (study.method.name, study.method.options.architecture) == ("neural", "image_cnn")


@NEEDS_KERAS
def test_a_folder_of_images_becomes_a_study_about_images(tmp_path: Path) -> None:
    from PIL import Image

    for label in ("normal", "pneumonia"):
        (tmp_path / "xray" / label).mkdir(parents=True)
        for number in range(3):
            Image.new("L", (8, 8), 200).save(tmp_path / "xray" / label / f"{number}.png")
    study, _ = drafted(tmp_path / "xray")
    assert study.data.columns["label"].levels == ("normal", "pneumonia")
    assert study.data.images is not None
    assert study.data.images.range == (0.0, 255.0)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(28, 77, (25, 80)), (0.0526, 0.1634, (0.05, 0.2)), (-2.6, 6.2, (-3, 6.5)), (0, 0, (-1, 1)), (5, 5, (0, 10))],
)
def test_ranges_are_rounded_outwards(low: float, high: float, expected: tuple[float, float]) -> None:
    assert rounded_outwards(low, high) == pytest.approx(expected)


@pytest.mark.parametrize(("low", "high"), [(1.7e308, 1.7e308), (-1e308, 1e308), (0.0, 1e-13), (1e20, 1e20 + 1e5)])
def test_a_range_holds_what_it_was_made_for_or_there_is_none(low: float, high: float) -> None:
    limits = rounded_outwards(low, high)
    assert limits is None if abs(high) > 1e30 or high - low < 1e-12 else limits[0] <= low < high <= limits[1]


@pytest.mark.parametrize(
    ("cells", "kind"),
    [
        ([0, 1] * 10, "category"),
        ([1.5, 2.5] * 10, "category"),
        ([1, 2, 3] * 10, "category"),
        ([1.5, 2.5, 3.5] * 10, "number"),
        (list(range(12)) * 10, "number"),
        ([1, 2, 3], "number"),
        (["a", "b"] * 10, "category"),
        (["a", "b", "c"], "left out"),
        (["a"] * 10, "left out"),
        (["", "?"] * 10, "left out"),
        ([7] * 10, "number"),
    ],
)
def test_types_are_guessed_from_what_comes_again(cells: list[Any], kind: str) -> None:
    assert guess_column(np.array(cells, dtype=object)).kind == kind


@pytest.mark.parametrize(
    ("cells", "missing"),
    [
        ([*range(100, 200), 0, 0], (0,)),
        ([*range(100), 0, 0], ()),
        ([*range(100), 999], (999,)),
        ([*range(100), 99], ()),
        ([*range(100), -9, -99, 9999], (9999, -99)),
        ([*range(100), "NA", "."], ("NA", ".")),
        ([1, 2, 3, 99] * 20, (99,)),
    ],
)
def test_missing_codes_are_usual_words_and_usual_numbers_far_out(cells: list[Any], missing: tuple[Any, ...]) -> None:
    assert set(guess_column(np.array(cells, dtype=object)).missing) == set(missing)
