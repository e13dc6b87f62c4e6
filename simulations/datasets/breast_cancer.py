"""Breast Cancer Wisconsin (Diagnostic), as it comes with scikit-learn: 569 aspirates, 30 measures of cell nuclei."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from client.data.base import RawData
from simulations.datasets.base import Dataset


def read(_folder: Path) -> RawData:
    """Return 569 rows: the 30 measures by scikit-learn's names, and ``diagnosis``: ``benign`` or ``malignant``."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    columns = {str(name): values for name, values in zip(bunch.feature_names, bunch.data.T, strict=True)}
    return RawData({**columns, "diagnosis": np.asarray(bunch.target_names)[bunch.target]})


BREAST_CANCER = Dataset(
    name="breast_cancer",
    title="Breast Cancer Wisconsin (Diagnostic): 569 fine needle aspirates, 30 measures of cell nuclei",
    licence="CC BY 4.0",
    attribution=(
        "W. Wolberg, O. Mangasarian, N. Street, W. Street (1993). Breast Cancer Wisconsin (Diagnostic). UCI Machine"
        " Learning Repository, doi 10.24432/C5DW2B. As distributed with scikit-learn."
    ),
    files=(),
    read=read,
)
