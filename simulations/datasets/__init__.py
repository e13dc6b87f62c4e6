"""The named data sets: one file each, and ``DATASETS`` that lists them."""

from simulations.datasets.base import Dataset
from simulations.datasets.breast_cancer import BREAST_CANCER
from simulations.datasets.cancer_trial import CANCER_TRIAL
from simulations.datasets.diabetes import DIABETES
from simulations.datasets.digits import DIGITS
from simulations.datasets.gbsg2 import GBSG2
from simulations.datasets.heart_disease import HEART_DISEASE
from simulations.datasets.parkinsons import PARKINSONS
from simulations.datasets.pneumonia import PNEUMONIA
from simulations.datasets.splice import SPLICE

DATASETS: dict[str, Dataset] = {
    "breast_cancer": BREAST_CANCER,
    "cancer_trial": CANCER_TRIAL,
    "diabetes": DIABETES,
    "digits": DIGITS,
    "gbsg2": GBSG2,
    "heart_disease": HEART_DISEASE,
    "parkinsons_telemonitoring": PARKINSONS,
    "pneumoniamnist": PNEUMONIA,
    "splice": SPLICE,
}
