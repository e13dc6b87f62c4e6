"""Named data sets: found where they should be, fetched whole or not at all, and read as published."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import os
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import pytest

from client.data.base import RawData
from client.data.conform import conform
from client.data.split import site_data
from shared.errors import DataError, DatasetMissing
from shared.examples import Part
from shared.study import Study, load_study
from simulations.datasets import DATASETS
from simulations.datasets.base import DataFile, Dataset, cache_folder, fetch, load, locate, read_checked
from simulations.datasets.parkinsons import forecast, sessions
from simulations.datasets.pneumonia import content_order
from simulations.datasets.splice import joined

STUDIES = Path(__file__).parents[3] / "simulations" / "studies"
CONTENT = b"age,sick\n50,0\n"


def study(name: str) -> Study:
    return load_study(STUDIES / f"{name}.toml")


def small(*names: str) -> Dataset:
    files = tuple(
        DataFile(name, f"https://example.org/{name}", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
        for name in names
    )

    def read(folder: Path) -> RawData:
        return RawData({"bytes": np.array([len(read_checked(folder, file)) for file in files])})

    return Dataset("small", "Small", "CC0", "Nobody", files, read)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platformdirs.user_cache_path", lambda *_, **__: tmp_path / "cache")
    monkeypatch.delenv("CONSILIUM_DATA", raising=False)


def opened(content: bytes) -> Callable[[str], IO[bytes]]:
    return lambda _url: io.BytesIO(content)


def test_files_are_looked_up_in_the_given_folder_then_the_environment_then_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = small("a.csv")
    monkeypatch.setenv("CONSILIUM_DATA", str(tmp_path / "shelf"))
    places = [tmp_path / "here", tmp_path / "here" / "small", tmp_path / "shelf" / "small", cache_folder(dataset)]
    for place in reversed(places):
        place.mkdir(parents=True, exist_ok=True)
        (place / "a.csv").write_bytes(CONTENT)
        assert locate(dataset, tmp_path / "here") == place


def test_all_files_must_lie_in_one_folder(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CONTENT)
    with pytest.raises(DatasetMissing, match=r"the file b.csv is not on this machine"):
        locate(small("a.csv", "b.csv"), tmp_path)


def test_what_is_missing_says_where_it_comes_from_and_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(DatasetMissing) as caught:
        locate(small("a.csv"), tmp_path)
    message = str(caught.value)
    for part in ("a.csv", "https://example.org/a.csv", "consilium-simulate fetch small", "--data-dir", str(tmp_path)):
        assert part in message


def test_a_copy_under_another_name_is_found(tmp_path: Path) -> None:
    dataset = small("a.csv")
    dataset = dataclasses.replace(dataset, files=(dataclasses.replace(dataset.files[0], other_names=("b.csv",)),))
    (tmp_path / "b.csv").write_bytes(CONTENT)
    assert locate(dataset, tmp_path) == tmp_path


def test_an_altered_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CONTENT.replace(b"50", b"51"))
    with pytest.raises(DataError, match=r"a.csv: not the published file: expected SHA-256 .* Received: .* fetch it"):
        load(small("a.csv"), tmp_path)


def test_fetch_puts_every_file_into_the_cache_and_says_how_far_it_is(tmp_path: Path) -> None:
    dataset, seen = small("a.csv", "b.csv"), []
    folder = fetch(dataset, None, opened(CONTENT), lambda *step: seen.append(step))
    assert folder == cache_folder(dataset) == tmp_path / "cache" / "datasets" / "small"
    assert load(dataset, None).columns["bytes"].tolist() == [14, 14]
    assert seen == [("a.csv", 14, 14), ("b.csv", 14, 14)]


def test_fetch_keeps_what_is_right_already(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(CONTENT)

    def unreachable(_url: str) -> IO[bytes]:
        raise AssertionError

    assert fetch(small("a.csv"), tmp_path, unreachable) == tmp_path


def test_fetch_replaces_what_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"damaged")
    fetch(small("a.csv"), tmp_path, opened(CONTENT))
    assert (tmp_path / "a.csv").read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b"more", b"", b"x" * 1_000_000])
def test_a_download_with_another_digest_is_not_kept(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(DataError, match=r"https://example.org/a.csv: expected SHA-256 .* Nothing was kept"):
        fetch(small("a.csv"), tmp_path, opened(content))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (urllib.error.URLError("no route"), r"https://example.org/a.csv: cannot be reached: no route. .*--data-dir"),
        (TimeoutError(), r"a.csv: cannot be fetched: TimeoutError"),
        (OSError(28, "No space left on device"), r"a.csv: cannot be fetched: No space left on device"),
    ],
)
def test_a_failed_download_leaves_nothing_behind(tmp_path: Path, error: Exception, message: str) -> None:
    class Failing(io.BytesIO):
        def read(self, _size: int | None = -1) -> bytes:
            raise error

    with pytest.raises(DataError, match=message):
        fetch(small("a.csv"), tmp_path, lambda _url: Failing())
    assert list(tmp_path.iterdir()) == []


def test_only_https_is_fetched(tmp_path: Path) -> None:
    dataset = small("a.csv")
    plain = dataclasses.replace(dataset.files[0], url="http://example.org/a.csv")
    with pytest.raises(DataError, match=r"expected an https address. Received: http:"):
        fetch(dataclasses.replace(dataset, files=(plain,)), tmp_path, opened(CONTENT))


def test_data_that_come_with_scikit_learn_need_no_fetching() -> None:
    with pytest.raises(DataError, match=r"digits comes with scikit-learn"):
        fetch(DATASETS["digits"])


def test_every_data_set_is_named_as_listed_and_says_whose_it_is() -> None:
    for name, dataset in DATASETS.items():
        assert dataset.name == name
        assert all((dataset.title, dataset.licence, dataset.attribution))
        assert all(file.url.startswith("https://") and len(file.sha256) == 64 for file in dataset.files)


def test_breast_cancer_has_569_patients_within_its_study() -> None:
    result = conform(study("breast_cancer").data, load(DATASETS["breast_cancer"], None), "all")
    assert result.examples.values.shape == (569, 30)
    assert result.examples.labels.sum() == 212  # malignant
    assert (result.findings.outside, result.findings.notes) == ({}, ())
    assert not np.isnan(result.examples.values).any()


def test_digits_are_1797_small_images() -> None:
    raw = load(DATASETS["digits"], None)
    assert raw.images is not None
    assert (raw.images.shape, raw.images.dtype, raw.images.max()) == ((1797, 8, 8, 1), np.uint8, 16)
    assert np.bincount(raw.columns["label"]).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]


def test_diabetes_is_in_the_measures_own_units() -> None:
    columns = load(DATASETS["diabetes"], None).columns
    assert 442 == len(columns["progression"])
    assert (19, 79) == (columns["age"].min(), columns["age"].max())
    assert np.isclose(67243, columns["progression"].sum())


def test_a_forecast_starts_from_the_last_score_until_day_120_and_its_trend() -> None:
    patients, days = np.array(["p", "p", "p", "q", "p"]), np.array([130.0, 92.0, 120.0, 60.0, 50.0])
    found = forecast(patients, days, np.array([99.0, 13.0, 20.0, 7.0, 0.0]))
    # From 13 to 20 in 28 days is 1/4 a day, for 10 more days.
    assert {
        "late_total_UPDRS": 99.0,
        "last_total_UPDRS": 20.0,
        "trend_total_UPDRS": 0.25,
        "days_ahead": 10.0,
        "projected_total_UPDRS": 22.5,
    } == {name: values[0] for name, values in found.items()}
    assert all(np.isnan(values[1:]).all() for values in found.values())


def test_a_session_is_followed_by_the_first_one_28_days_later_or_more() -> None:
    patients, days = np.array(["p", "p", "p", "q", "p", "p"]), np.array([1.5, 1.0, 28.9, 7.0, 30.0, 29.5])
    found = sessions(patients, days, np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))
    nan = np.nan
    assert np.array_equal([nan, 1, 2, 1, 3, nan], found["session"], equal_nan=True)
    assert np.array_equal([nan, 5, nan, nan, nan, nan], found["ahead_total_UPDRS"], equal_nan=True)


def test_genes_that_share_a_stretch_belong_together_also_by_way_of_a_third() -> None:
    genes, stretches = np.array(["c", "b", "b", "a", "d"]), np.array(["AC", "AC", "GT", "GT", "TT"])
    assert ["a", "a", "a", "a", "d"] == joined(genes, stretches).tolist()


REAL = pytest.mark.skipif(
    "CONSILIUM_DATA" not in os.environ, reason="needs the published files: set CONSILIUM_DATA to their folder"
)
SHELF = Path(os.environ.get("CONSILIUM_DATA", "."))


@REAL
def test_heart_disease_has_four_hospitals_within_its_study() -> None:
    rules, raw = study("heart_disease").data, load(DATASETS["heart_disease"], SHELF)
    names, rows = np.unique(raw.columns["hospital"], return_counts=True)
    assert dict(zip(names, rows, strict=True)) == {
        "Budapest": 294,
        "Cleveland": 303,
        "Long-Beach": 200,
        "Zurich-Basel": 123,
    }
    result = conform(rules, raw, "all")
    assert (result.findings.outside, result.findings.notes) == ({}, ())
    assert result.examples.labels.sum() == 509  # num 1 to 4
    missing = dict(zip(rules.features, np.isnan(result.examples.values).sum(axis=0).tolist(), strict=True))
    # 30 "?" and 172 zeros of cholesterol; 59 "?" and one zero of blood pressure.
    assert (missing["chol"], missing["trestbps"], missing["ca"], missing["age"]) == (202, 60, 611, 0)


@REAL
def test_every_swiss_cholesterol_is_missing() -> None:
    rules, raw = study("heart_disease").data, load(DATASETS["heart_disease"], SHELF)
    swiss = conform(rules, raw.take(raw.columns["hospital"] == "Zurich-Basel"), "swiss").examples
    assert np.isnan(swiss.values[:, rules.features.index("chol")]).all()


@REAL
def test_chest_x_rays_are_known_by_content_and_equal_images_are_one_patient() -> None:
    raw = load(DATASETS["pneumoniamnist"], SHELF)
    assert raw.images is not None
    assert raw.images.shape == (5856, 28, 28, 1)
    parts, rows = np.unique(raw.columns["split"], return_counts=True)
    assert dict(zip(parts, rows, strict=True)) == {"train": 4708, "val": 524, "test": 624}
    assert raw.columns["label"].sum() == 4273
    _, copies = np.unique(raw.columns["patient_id"], return_counts=True)
    assert ((copies > 1).sum(), (copies - 1).sum()) == (27, 29)


@REAL
def test_no_x_ray_is_on_both_sides_of_the_published_split() -> None:
    from shared.schema import Column, DataContract, Images

    label = Column(type="category", levels=(0, 1))
    pixels = Images(height=28, width=28)
    rules = DataContract(kind="images", label="label", columns={"label": label}, images=pixels, split_column="split")
    data = site_data(rules, load(DATASETS["pneumoniamnist"], SHELF), "all", seed=1)
    assert {part: len(rows) for part, rows in data.parts.items()} == {Part.TRAINING: 5232, Part.HELD_OUT: 624}


@REAL
def test_parkinsons_has_42_patients_and_carrying_the_last_score_forward_errs_by_2_26() -> None:
    columns = load(DATASETS["parkinsons_telemonitoring"], SHELF).columns
    assert (5875, 42) == (len(columns["patient_id"]), len(np.unique(columns["patient_id"])))
    error = np.abs(columns["last_total_UPDRS"] - columns["late_total_UPDRS"])
    assert (2051, 2.261) == (np.isfinite(error).sum(), round(float(np.nanmean(error)), 3))
    assert 990 == np.isfinite(columns["session"]).sum()


@REAL
def test_splice_has_3190_stretches_and_no_copy_in_two_groups() -> None:
    columns = load(DATASETS["splice"], SHELF).columns
    assert {"EI": 767, "IE": 768, "N": 1655} == dict(zip(*np.unique(columns["class"], return_counts=True), strict=True))
    pairs = np.unique(np.stack([columns["sequence"], columns["patient_id"]]), axis=1)
    assert (3005, 3005) == (len(np.unique(columns["sequence"])), pairs.shape[1])
    assert 1440 == len(np.unique(columns["patient_id"]))


def test_the_order_of_rows_does_not_change_the_digest_of_their_content() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 255, (6, 4, 4), dtype=np.uint8), np.array([0, 1, 0, 1, 0, 1])
    parts = np.array(["train", "train", "val", "val", "test", "test"])
    order, patients, digest = content_order(images, labels, parts)
    shuffled = rng.permutation(6)
    again, patients_again, digest_again = content_order(images[shuffled], labels[shuffled], parts[shuffled])
    assert digest_again == digest
    assert np.array_equal(images[shuffled][again], images[order])
    assert np.array_equal(patients_again[again], patients[order])


def test_another_label_changes_the_digest_of_the_content() -> None:
    images, parts = np.zeros((2, 4, 4), dtype=np.uint8), np.array(["train", "test"])
    digests = {content_order(images, np.array(labels), parts)[2] for labels in ([0, 1], [1, 0], [0, 0])}
    assert len(digests) == 3


def test_x_rays_of_other_content_are_refused(tmp_path: Path) -> None:
    arrays = {
        f"{part}_{what}": np.zeros(shape, dtype=np.uint8)
        for part in ("train", "val", "test")
        for what, shape in (("images", (1, 28, 28)), ("labels", (1, 1)))
    }
    np.savez(tmp_path / "pneumoniamnist.npz", **arrays)
    with pytest.raises(DataError, match=r"pneumoniamnist.npz: not the published file"):
        load(DATASETS["pneumoniamnist"], tmp_path)
    (tmp_path / "pneumoniamnist.npz").write_bytes(b"damaged")
    with pytest.raises(DataError, match=r"not readable as PneumoniaMNIST"):
        load(DATASETS["pneumoniamnist"], tmp_path)
