"""The federated methods, by the name that a study file uses."""

from shared.methods.base import TrainingMethod
from shared.methods.cox import Cox
from shared.methods.describe import Describe
from shared.methods.glm import Glm
from shared.methods.gradient_boosting import GradientBoosting
from shared.methods.k_means import KMeans
from shared.methods.linear_regression import LinearRegression
from shared.methods.logistic_regression import LogisticRegressionAveraging
from shared.methods.logistic_regression_private import PrivateLogisticRegression
from shared.methods.neural import Neural
from shared.methods.pca import Pca
from shared.methods.random_forest import RandomForest
from shared.methods.svm import Svm
from shared.methods.treatment_policy import TreatmentPolicy

METHODS: dict[str, type[TrainingMethod]] = {
    "logistic-regression": LogisticRegressionAveraging,
    "private-logistic-regression": PrivateLogisticRegression,
    "neural": Neural,
    "linear-regression": LinearRegression,
    "glm": Glm,
    "cox": Cox,
    "svm": Svm,
    "random-forest": RandomForest,
    "gradient-boosting": GradientBoosting,
    "k-means": KMeans,
    "pca": Pca,
    "describe": Describe,
    "treatment-policy": TreatmentPolicy,
}
