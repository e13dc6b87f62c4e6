"""UCI Heart Disease: 920 patients who had coronary angiography at four hospitals, 13 features.

The four ``processed.*.data`` files have no header line. ``?`` stands for a missing value; a cholesterol or a blood
pressure of 0 does too (every cholesterol of the Swiss file is 0), which is for a study's contract to say. Copies exist
in which every ``?`` was replaced by 0: the digests refuse them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from client.data.base import RawData
from simulations.datasets.base import DataFile, Dataset, read_checked

COLUMNS = (
    *("age", "sex", "cp", "trestbps", "chol", "fbs", "restecg"),
    *("thalach", "exang", "oldpeak", "slope", "ca", "thal", "num"),
)
"""Names of the columns in the files' order; ``num`` is the diagnosis, 0 to 4."""

_HOME = "https://archive.ics.uci.edu/ml/machine-learning-databases/heart-disease/"


def _file(name: str, size_bytes: int, sha256: str) -> DataFile:
    return DataFile(f"processed.{name}.data", f"{_HOME}processed.{name}.data", sha256, size_bytes)


_FILES = {
    "Cleveland": _file("cleveland", 18461, "a74b7efa387bc9d108d7d0115d831fe9b414b29ae7124f331b622b4efa0427c8"),
    "Budapest": _file("hungarian", 10263, "d1ad108f785768cd3d7e82dc522e6f5a61eea93cccfb3a46ee8076f73fc3d796"),
    "Zurich-Basel": _file("switzerland", 4109, "834a405ccf5b66ab4056bb77794adc8df0b7125186454c0a1d002d33c6c3b314"),
    "Long-Beach": _file("va", 6737, "e7c93d8d0d2acdadfa4c5e8de768e2191e7f618b952e29623f1f0d5949ff6b8f"),
}


def read(folder: Path) -> RawData:
    """Return 920 rows of text cells: the 14 columns, and ``hospital``; a row is named by hospital and line.

    Raises: DataError if a file is not the published one.
    """
    cells: list[list[str]] = []
    names: list[str] = []
    for hospital, file in _FILES.items():
        lines = read_checked(folder, file).decode("ascii").split()
        cells += [[*line.split(","), hospital] for line in lines]
        names += [f"{hospital} {number}" for number in range(1, len(lines) + 1)]
    columns = zip((*COLUMNS, "hospital"), zip(*cells, strict=True), strict=True)
    return RawData({name: np.array(column, dtype=object) for name, column in columns}, row_names=np.array(names))


HEART_DISEASE = Dataset(
    name="heart_disease",
    title="UCI Heart Disease: 920 patients of four hospitals, 13 features",
    licence="CC BY 4.0",
    attribution=(
        "A. Janosi, W. Steinbrunn, M. Pfisterer, R. Detrano (1988). Heart Disease. UCI Machine Learning Repository, doi"
        " 10.24432/C52P4X. Principal investigators: Andras Janosi, M.D., Hungarian Institute of Cardiology, Budapest;"
        " William Steinbrunn, M.D., University Hospital, Zurich; Matthias Pfisterer, M.D., University Hospital, Basel;"
        " Robert Detrano, M.D., Ph.D., V.A. Medical Center, Long Beach, and Cleveland Clinic Foundation."
    ),
    files=tuple(_FILES.values()),
    read=read,
)
