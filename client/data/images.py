"""Images: a folder with one subfolder of PNG files for each label, or one NumPy archive.

The folder's names are the labels, and every file is taken as one patient; patients with several images need the
archive, which has room for patient ids. The archive (``numpy.savez``, never pickle) holds

    images        (n, height, width) or (n, height, width, channels), numbers
    labels        (n,) or (n, 1)
    patient_ids   (n,), optional
    split         (n,), optional: train or test

Both sources call their columns ``label``, ``patient_id`` and ``split``, whatever the study calls them.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from client.data.base import DAMAGED, LABEL, PATIENT_ID, SPLIT, RawData
from shared.errors import DataError, nearest
from shared.schema import DataContract, Images

_CHANNELS = {"L": 1, "I;16": 1, "I": 1, "RGB": 3}
"""Pillow's names of the pixel formats that are read, and how many channels each has."""

_COLUMNS = {"labels": LABEL, "patient_ids": PATIENT_ID, "split": SPLIT}


@dataclass(frozen=True)
class ImageFolder:
    """A folder ``label/*.png``: 8- or 16-bit grey, or RGB, all of one size."""

    path: Path
    contract: DataContract | None = None
    kind: ClassVar[str] = "images"
    suffixes: ClassVar[tuple[str, ...]] = ()

    def load(self) -> RawData:
        """Read all images; the row's name is ``label/file.png``.

        Raises: DataError saying where the first file that does not fit stands; never a name below the folder, which may
            be a patient's.
        """
        wanted = self.contract.images if self.contract else None
        images, labels, names, first = [], [], [], None
        for file, where in self._files():
            image = _read_png(file, where, wanted)
            first = first or image.shape
            if image.shape != first:
                raise DataError(f"{where}: expected {_size(first)}, as the first. Received: {_size(image.shape)}.")
            images.append(image)
            labels.append(file.parent.name)
            names.append(f"{file.parent.name}/{file.name}")
        if not images:
            raise DataError(f"{self.path}: expected a folder for each label with PNG files in it. Received: none.")
        return RawData({LABEL: np.array(labels, dtype=object)}, np.stack(images), np.array(names))

    def _files(self) -> list[tuple[Path, str]]:
        """Return (PNG file, where it stands) of all labels, in the order of their names."""
        try:
            entries = list(self._entries())
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}.") from None
        others = [where for file, where in entries if not (file.suffix.lower() == ".png" and file.is_file())]
        if others:
            # Left out silently, they would be patients lost from the study.
            raise DataError(f"{others[0]}: expected PNG files only. Convert or remove {len(others)} other file(s).")
        return entries

    def _entries(self) -> Iterator[tuple[Path, str]]:
        folders = sorted(folder for folder in self.path.iterdir() if folder.is_dir() and folder.name[0] != ".")
        for number, folder in enumerate(folders, start=1):
            files = sorted(file for file in folder.iterdir() if not file.name.startswith("."))
            for place, file in enumerate(files, start=1):
                yield file, f"{self.path}: file {place} of label folder {number}, by name"


def _read_png(file: Path, where: str, wanted: Images | None) -> NDArray[Any]:
    """Return one image, shape (height, width, channels); ``where`` is what errors call it."""
    from PIL import Image

    try:
        with Image.open(file, formats=["PNG"]) as image:
            mode = image.mode
            pixels = np.asarray(image)
    except (*DAMAGED, Image.DecompressionBombError) as error:
        raise DataError(f"{where}: not readable as PNG: {type(error).__name__}.") from None
    if mode not in _CHANNELS:
        raise DataError(f"{where}: expected grey or RGB pixels. Received: PNG mode {mode!r}; convert the file.")
    pixels = pixels.reshape(*pixels.shape[:2], _CHANNELS[mode])
    if wanted and pixels.shape != (wanted.height, wanted.width, wanted.channels):
        expected = _size((wanted.height, wanted.width, wanted.channels))
        raise DataError(f"{where}: the study expects {expected}. Received: {_size(pixels.shape)}.")
    return pixels


def _size(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} x {shape[1]} pixels, {shape[2]} channel(s)"


@dataclass(frozen=True)
class ImageArchive:
    """A NumPy ``.npz`` archive with ``images``, ``labels`` and optionally ``patient_ids`` and ``split``."""

    path: Path
    contract: DataContract | None = None
    kind: ClassVar[str] = "images"
    suffixes: ClassVar[tuple[str, ...]] = (".npz",)

    def load(self) -> RawData:
        """Read the archive.

        Raises: DataError naming the array that is missing, unknown, or of a wrong shape or type.
        """
        arrays = self._arrays()
        images = arrays.pop("images")
        if images.ndim == 3:
            images = images[..., np.newaxis]
        if images.ndim != 4 or images.dtype.kind not in "uif":
            raise DataError(
                f"{self.path}: images: expected numbers of shape (n, height, width) or (n, height, width, channels)."
                f" Received: {images.dtype} of shape {images.shape}."
            )
        columns = {}
        for name, array in arrays.items():
            if array.shape not in ((len(images),), (len(images), 1)):
                raise DataError(f"{self.path}: {name}: expected shape ({len(images)},). Received: {array.shape}.")
            columns[_COLUMNS[name]] = array.reshape(-1)
        return RawData(columns, images)

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name, after checking the names."""
        try:
            with zipfile.ZipFile(self.path):  # NumPy would also read a lone array, and a pickle
                archive = np.load(self.path, allow_pickle=False)
            with archive:
                self._check(archive.files)
                # A member that is no array is bytes, which have no shape; as an array they are one of another form.
                return {name: np.asarray(archive[name]) for name in archive.files}
        except DAMAGED as error:
            objects = "Object arrays" in str(error)
            hint = "Texts must be a NumPy text array, not objects." if objects else f"Cause: {type(error).__name__}."
            raise DataError(f"{self.path}: not readable as a NumPy archive without pickle. {hint}") from None

    def _check(self, names: list[str]) -> None:
        known = ["images", *_COLUMNS]
        for name in ("images", "labels"):
            if name not in names:
                raise DataError(f"{self.path}: expected the arrays images and labels. Received: {', '.join(names)}.")
        # An unknown name is refused: a misspelt patient_ids would let one patient into both parts of the split.
        unknown = [name for name in names if name not in known]
        if unknown:
            raise DataError(f"{self.path}: unknown array {unknown[0]!r}. {nearest(unknown[0], known)}")
