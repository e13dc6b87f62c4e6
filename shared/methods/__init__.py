"""The federated methods, by the name that a study file uses."""

from shared.methods.base import TrainingMethod
from shared.methods.logistic_regression import LogisticRegressionAveraging
from shared.methods.logistic_regression_private import PrivateLogisticRegression
from shared.methods.neural import Neural

METHODS: dict[str, type[TrainingMethod]] = {
    "logistic-regression": LogisticRegressionAveraging,
    "private-logistic-regression": PrivateLogisticRegression,
    "neural": Neural,
}
