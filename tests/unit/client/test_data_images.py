"""Images come from folders named by label, or from one archive; what does not fit is named."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from client.data.images import ImageArchive, ImageFolder
from shared.errors import DataError
from shared.schema import Column, DataContract, Images


def contract(channels: int = 1, size: int = 4) -> DataContract:
    label = Column(type="category", levels=("normal", "ill"))
    images = Images(height=size, width=size, channels=channels)  # type: ignore[arg-type]
    return DataContract(kind="images", label="finding", columns={"finding": label}, images=images)


def save(path: Path, value: int, mode: str = "L", size: tuple[int, int] = (4, 4)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value if mode in ("L", "P", "I;16") else (value,) * len(mode)).save(path)


def test_the_folder_is_the_label_and_the_file_names_the_row(tmp_path: Path) -> None:
    for name, value in (("normal/2.png", 7), ("ill/1.png", 9), ("normal/1.PNG", 5)):
        save(tmp_path / name, value)
    (tmp_path / "README.txt").touch()
    (tmp_path / "normal" / ".DS_Store").touch()
    raw = ImageFolder(tmp_path, contract()).load()
    assert raw.names.tolist() == ["ill/1.png", "normal/1.PNG", "normal/2.png"]
    assert raw.columns["label"].tolist() == ["ill", "normal", "normal"]
    assert raw.images is not None
    assert raw.images.shape == (3, 4, 4, 1)
    assert raw.images[:, 0, 0, 0].tolist() == [9, 5, 7]


def test_sixteen_bits_and_colour_are_read(tmp_path: Path) -> None:
    save(tmp_path / "grey" / "ill" / "a.png", 40000, "I;16")
    save(tmp_path / "colour" / "ill" / "a.png", 3, "RGB")
    grey, colour = ImageFolder(tmp_path / "grey").load().images, ImageFolder(tmp_path / "colour").load().images
    assert grey is not None
    assert colour is not None
    assert (grey.max(), colour.shape) == (40000, (1, 4, 4, 3))


@pytest.mark.parametrize(
    ("mode", "size", "message"),
    [
        (
            "L",
            (5, 4),
            r"file 2 .*: the study expects 4 x 4 pixels, 1 channel\(s\). Received: 4 x 5 pixels",
        ),
        (
            "RGB",
            (4, 4),
            r"file 2 .*: the study expects .* 1 channel\(s\). Received: 4 x 4 pixels, 3 channel\(s\)",
        ),
        ("P", (4, 4), r"file 2 of label folder 1, by name: expected grey or RGB pixels. Received: PNG mode 'P'"),
        ("RGBA", (4, 4), r"file 2 of label folder 1, by name: expected grey or RGB pixels. Received: PNG mode 'RGBA'"),
    ],
)
def test_an_image_that_does_not_fit_the_study_is_named(
    tmp_path: Path, mode: str, size: tuple[int, int], message: str
) -> None:
    save(tmp_path / "ill" / "a.png", 1)
    save(tmp_path / "ill" / "bad.png", 1, mode, size)
    with pytest.raises(DataError, match=message) as caught:
        ImageFolder(tmp_path, contract()).load()
    assert "bad" not in str(caught.value)  # a file's name may be a patient's


def test_without_a_study_all_images_must_have_the_first_ones_size(tmp_path: Path) -> None:
    save(tmp_path / "ill" / "a.png", 1)
    save(tmp_path / "ill" / "b.png", 1, size=(8, 8))
    with pytest.raises(
        DataError, match=r"file 2 of label folder 1, by name: expected 4 x 4 .* as the first. Received: 8 x 8"
    ):
        ImageFolder(tmp_path).load()


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "ill").mkdir()
    (tmp_path / "ill" / "a.png").write_text("not a picture")
    with pytest.raises(DataError, match=r"file 1 of label folder 1, by name: not readable as PNG: \w+\.$"):
        ImageFolder(tmp_path, contract()).load()


def test_other_files_among_the_images_are_refused_rather_than_left_out(tmp_path: Path) -> None:
    save(tmp_path / "ill" / "a.png", 1)
    (tmp_path / "ill" / "b.jpg").touch()
    with pytest.raises(
        DataError, match=r"file 2 of label folder 1, by name: expected PNG files only. Convert or remove 1 other file"
    ):
        ImageFolder(tmp_path, contract()).load()


def test_a_folder_without_labels_says_what_is_expected(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 1)
    with pytest.raises(DataError, match=r"expected a folder for each label with PNG files in it. Received: none"):
        ImageFolder(tmp_path, contract()).load()


def archive(tmp_path: Path, **arrays: Any) -> ImageArchive:
    path = tmp_path / "images.npz"
    np.savez(path, **arrays)
    return ImageArchive(path)


def test_an_archive_holds_images_labels_patients_and_split(tmp_path: Path) -> None:
    images = np.arange(32, dtype=np.uint8).reshape(2, 4, 4)
    raw = archive(
        tmp_path, images=images, labels=[[0], [1]], patient_ids=["a", "b"], split=np.array(["train", "test"])
    ).load()
    assert raw.images is not None
    assert raw.images.shape == (2, 4, 4, 1)
    assert {name: cells.tolist() for name, cells in raw.columns.items()} == {
        "label": [0, 1],
        "patient_id": ["a", "b"],
        "split": ["train", "test"],
    }


IMAGES, LABELS = np.zeros((2, 4, 4)), np.zeros(2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": IMAGES}, r"expected the arrays images and labels. Received: images"),
        ({"train_images": IMAGES, "labels": LABELS}, r"expected the arrays .* Received: train_images, labels"),
        ({"images": IMAGES, "labels": LABELS, "patient_id": LABELS}, r"'patient_id'. Did you mean 'patient_ids'\?"),
        ({"images": IMAGES[0], "labels": LABELS}, r"images: expected numbers of shape .* shape \(4, 4\)"),
        ({"images": IMAGES.astype(str), "labels": LABELS}, r"images: expected numbers"),
        ({"images": IMAGES, "labels": np.zeros(3)}, r"labels: expected shape \(2,\). Received: \(3,\)"),
        ({"images": IMAGES, "labels": np.zeros((2, 2))}, r"labels: expected shape \(2,\). Received: \(2, 2\)"),
        ({"images": IMAGES, "labels": LABELS, "split": np.zeros(1)}, r"split: expected shape \(2,\)"),
        ({"images": IMAGES, "labels": np.array(["a", None])}, r"without pickle. Texts must be a NumPy text array"),
    ],
)
def test_an_archive_of_another_form_says_what_is_wrong(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        archive(tmp_path, **arrays).load()


@pytest.mark.parametrize("content", [b"no archive", b""])
def test_a_file_that_is_no_archive_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.npz"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"images.npz: not readable as a NumPy archive"):
        ImageArchive(path).load()


def test_a_lone_array_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match=r"not readable as a NumPy archive"):
        ImageArchive(path).load()


def test_a_member_that_is_no_array_is_not_taken_for_one(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("images", "text")
        file.writestr("labels", "text")
    with pytest.raises(DataError, match=r"images: expected numbers of shape"):
        ImageArchive(path).load()


def test_any_changed_bytes_of_an_archive_are_read_or_refused_by_the_files_name(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "images.npz", images=IMAGES, labels=LABELS, patient_ids=np.array(["Alice", "Bob"]))
    whole = bytearray((tmp_path / "images.npz").read_bytes())
    for place in range(0, len(whole), 5):
        (tmp_path / "images.npz").write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            ImageArchive(tmp_path / "images.npz").load()
        except DataError as error:
            assert str(error).startswith(str(tmp_path / "images.npz"))
            assert "Alice" not in str(error)


def test_any_changed_bytes_of_an_image_are_read_or_refused_by_its_place(tmp_path: Path) -> None:
    save(tmp_path / "ill" / "alice.png", 7)
    path = tmp_path / "ill" / "alice.png"
    whole = path.read_bytes()
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            ImageFolder(tmp_path, contract()).load()
        except DataError as error:
            assert "file 1 of label folder 1" in str(error)
            assert "alice" not in str(error)
