"""Optical Recognition of Handwritten Digits, as it comes with scikit-learn: 1797 images of 8 x 8 pixels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from client.data.base import LABEL, RawData
from simulations.datasets.base import Dataset


def read(_folder: Path) -> RawData:
    """Return images of shape (1797, 8, 8, 1), whole numbers from 0 to 16, and ``label``: 0 to 9."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return RawData({LABEL: bunch.target}, bunch.images.astype(np.uint8)[..., np.newaxis])


DIGITS = Dataset(
    name="digits",
    title="Handwritten digits: 1797 images of 8 x 8 pixels, ten classes",
    licence="CC BY 4.0",
    attribution=(
        "E. Alpaydin, C. Kaynak (1998). Optical Recognition of Handwritten Digits. UCI Machine Learning Repository, doi"
        " 10.24432/C50P49. As distributed with scikit-learn (the original test part)."
    ),
    files=(),
    read=read,
)
