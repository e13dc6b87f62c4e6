"""The named data sets: one file each, and ``DATASETS`` that lists them."""

from simulations.datasets.base import Dataset
from simulations.datasets.breast_cancer import BREAST_CANCER
from simulations.datasets.digits import DIGITS
from simulations.datasets.heart_disease import HEART_DISEASE
from simulations.datasets.pneumonia import PNEUMONIA

DATASETS: dict[str, Dataset] = {
    "breast_cancer": BREAST_CANCER,
    "digits": DIGITS,
    "heart_disease": HEART_DISEASE,
    "pneumoniamnist": PNEUMONIA,
}
