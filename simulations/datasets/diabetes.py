"""Diabetes progression, as it comes with scikit-learn: 442 patients, ten baseline measures, progression after a year.

Efron, Hastie, Johnstone, Tibshirani, "Least Angle Regression", Annals of Statistics 32:407 (2004), doi
10.1214/009053604000000067. Read in the measures' own units: scikit-learn's scaled form was centred with all patients.
"""

from __future__ import annotations

from pathlib import Path

from client.data.base import RawData
from simulations.datasets.base import Dataset


def read(_folder: Path) -> RawData:
    """Return 442 rows: age, sex (1 or 2), bmi, bp, the serum measures s1 to s6, and ``progression``, 25 to 346."""
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(scaled=False)
    columns = {str(name): values for name, values in zip(bunch.feature_names, bunch.data.T, strict=True)}
    return RawData({**columns, "progression": bunch.target})


DIABETES = Dataset(
    name="diabetes",
    title="Diabetes progression: 442 patients, ten baseline measures, disease progression after one year",
    licence="BSD-3-Clause (scikit-learn, with which the data are distributed)",
    attribution=(
        "B. Efron, T. Hastie, I. Johnstone, R. Tibshirani (2004). Least Angle Regression. Annals of Statistics"
        " 32:407-499. As distributed with scikit-learn."
    ),
    files=(),
    read=read,
)
