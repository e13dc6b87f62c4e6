"""PneumoniaMNIST: 5856 paediatric chest X-rays of 28 x 28 pixels, normal or pneumonia (MedMNIST v2).

Yang et al., "MedMNIST v2: a large-scale lightweight benchmark for 2D and 3D biomedical image classification",
Scientific Data 10:41 (2023), doi 10.1038/s41597-022-01721-8; images of Kermany et al., Cell 172:1122 (2018).

The data have no patient ids. Images that are equal pixel by pixel (27 groups, 29 copies; none across training and test)
are taken as one patient, so that no copy can stand on both sides of a split; which different images show one child
cannot be told.

The published file is known by its SHA-256. Re-packed copies are accepted for their content: a SHA-256 over the sorted
SHA-256 of each image with its part and label, which no packing and no order of rows changes; it was computed from a
copy rebuilt from two others, with the published class counts. Rows are returned in that sorted order, so that every
copy gives the same run. A download must be the published file.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data.base import LABEL, PATIENT_ID, SPLIT, RawData
from shared.errors import DataError
from simulations.datasets.base import DataFile, Dataset, altered, find

_FILE = DataFile(
    name="pneumoniamnist.npz",
    url="https://zenodo.org/records/10519652/files/pneumoniamnist.npz?download=1",
    # As recorded by TensorFlow Datasets, datasets/pneumonia_mnist/checksums.tsv; MedMNIST itself publishes only an MD5.
    sha256="e1792d3f03751cb101e99f19a63b3c1941436c988665f47853417b05be250cd8",
    bytes=4170669,
    other_names=("pneumoniamnist_rebuilt.npz",),
)

CONTENT_SHA256 = "5fa3301fa7e92921f146c74f2c6fc53cf0e1b20ddb706e25ba2a010dbf279e6d"
"""Of all images, parts and labels; see ``content_order``."""

_PARTS = ("train", "val", "test")


def read(folder: Path) -> RawData:
    """Return images of shape (5856, 28, 28, 1), 0 to 255, with ``label`` 0 or 1, ``split`` and ``patient_id``.

    Raises: DataError if neither the file nor its content is the published one.
    """
    path = find(folder, _FILE) or folder / _FILE.name
    try:
        with np.load(path, allow_pickle=False) as archive:
            images = np.concatenate([archive[f"{part}_images"] for part in _PARTS])
            labels = np.concatenate([archive[f"{part}_labels"].reshape(-1) for part in _PARTS])
            parts = np.repeat(_PARTS, [len(archive[f"{part}_labels"]) for part in _PARTS])
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
        raise DataError(f"{path}: not readable as PneumoniaMNIST. Remove it and fetch it anew.") from None
    order, patients, received = content_order(images, labels, parts)
    if received != CONTENT_SHA256 and hashlib.sha256(path.read_bytes()).hexdigest() != _FILE.sha256:
        raise altered(path, f"{CONTENT_SHA256} (of the content)", received)
    columns = {LABEL: labels[order], SPLIT: parts[order], PATIENT_ID: patients[order]}
    return RawData(columns, images[order][..., np.newaxis])


def content_order(
    images: NDArray[Any], labels: NDArray[Any], parts: NDArray[np.str_]
) -> tuple[NDArray[np.int64], NDArray[np.str_], str]:
    """Return an order of the rows that their content alone decides, a digest of each image, and one of everything.

    images: array of shape (n, height, width); labels, parts: arrays of shape (n,).
    """
    own = [hashlib.sha256(np.ascontiguousarray(image).tobytes()).hexdigest() for image in images]
    lines = [f"{part} {digest} {label}" for part, digest, label in zip(parts, own, labels.tolist(), strict=True)]
    order = np.argsort(lines, kind="stable")
    everything = hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()
    return order, np.array([digest[:16] for digest in own]), everything


PNEUMONIA = Dataset(
    name="pneumoniamnist",
    title="PneumoniaMNIST: 5856 paediatric chest X-rays of 28 x 28 pixels, normal or pneumonia",
    licence="CC BY 4.0",
    attribution=(
        "J. Yang, R. Shi, D. Wei, Z. Liu, L. Zhao, B. Ke, H. Pfister, B. Ni (2023). MedMNIST v2. Scientific Data 10:41,"
        " doi 10.1038/s41597-022-01721-8. Images: D. Kermany et al. (2018), Cell 172:1122-1131. Not intended for"
        " clinical use."
    ),
    files=(_FILE,),
    read=read,
)
