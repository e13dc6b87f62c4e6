"""The named data sets: one file each, and ``DATASETS`` that lists them."""

from simulations.datasets.base import Dataset
from simulations.datasets.breast_cancer import BREAST_CANCER
from simulations.datasets.diabetes import DIABETES
from simulations.datasets.digits import DIGITS
from simulations.datasets.heart_disease import HEART_DISEASE
from simulations.datasets.parkinsons import PARKINSONS
from simulations.datasets.pneumonia import PNEUMONIA
from simulations.datasets.splice import SPLICE

DATASETS: dict[str, Dataset] = {
    "breast_cancer": BREAST_CANCER,
    "diabetes": DIABETES,
    "digits": DIGITS,
    "heart_disease": HEART_DISEASE,
    "parkinsons_telemonitoring": PARKINSONS,
    "pneumoniamnist": PNEUMONIA,
    "splice": SPLICE,
}
