"""Logistic regression by federated averaging, binary and multinomial.

The local step is that of scikit-learn's ``LogisticRegression(C, max_iter, warm_start=True)``: mean log loss plus the L2
penalty 1 / (2 C n) on the coefficients, and SciPy's L-BFGS-B with scikit-learn's settings, started from the broadcast
weights and run for ``max_iter`` iterations. It is called without scikit-learn's estimator around it, whose checks of
its input take six times as long as a step; tests hold it to scikit-learn's weights. The sites' weights are averaged by
rows (``shared/methods/averaging.py``; McMahan et al. 2017, arXiv:1602.05629, Algorithm 1).

One local iteration a round stays near the pooled optimum; many drift towards each site's own (Karimireddy et al. 2020,
arXiv:1910.06378). Averaging never reaches the pooled optimum exactly.

A site that lacks a class trains on: a class without rows is what scikit-learn computes with a row of weight zero of it.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.examples import Arrays, Examples, Part
from shared.methods import averaging
from shared.methods.base import NOTHING, Ask, Contribution, ServerOptimizer
from shared.methods.clipped_averaging import ClippedAveraging
from shared.preparation import Preparation, Prepared
from shared.randomness import Randomness
from shared.schema import CLOSED
from shared.scores import log_odds, probabilities

if TYPE_CHECKING:
    from shared.study import Study

UPDATE_BOUND = 1e4
"""Largest change of one coefficient in one round; beyond it a site refuses."""

_STOPPING = {"maxls": 50, "pgtol": 1e-4, "factr": 64.0}
"""How L-BFGS-B searches, and where it stops before ``max_iter``: scikit-learn's settings; factr is in epsilons."""


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class LogisticRegressionOptions:
    """``[method.options]`` of ``logistic-regression``.

    max_iter: local L-BFGS iterations a round.
    C: inverse strength of the L2 penalty at each site, as in scikit-learn; the intercept is not penalised.
    """

    max_iter: Annotated[int, Field(ge=1, le=100_000)] = 1
    C: Annotated[float, Field(gt=0)] = 1.0


class LogisticRegressionAveraging(averaging.AveragingMethod):
    """One prepared study; weights are ``coef`` (1 or classes, features) and ``intercept`` (1 or classes,)."""

    Options: ClassVar[type[Any]] = LogisticRegressionOptions
    state_norm_bound: ClassVar[float] = 1e3

    def __init__(self, study: Study, preparation: Preparation, optimizer: ServerOptimizer) -> None:
        super().__init__(optimizer, study.method.rounds)
        self.options: LogisticRegressionOptions = study.method.options
        self.preparation = preparation
        self.max_rows = study.data.max_rows_per_site
        self.classes = len(preparation.contract.classes)

    @classmethod
    def check(cls, study: Study) -> None:
        """Raise ValueError unless the study is about a table with a categorical label, and keeps no patient private."""
        if study.privacy and study.privacy.unit == "patient":
            raise ValueError(
                'logistic-regression adds no noise for one patient. Received: a [privacy] part of unit "patient"; use'
                ' name = "private-logistic-regression"'
            )
        if study.data.kind != "table":
            raise ValueError(
                f'logistic-regression reads tables. Received: kind = {study.data.kind!r}; use name = "neural"'
            )
        if study.data.task == "number":
            raise ValueError("logistic-regression predicts classes. Received: a label of type number")

    @classmethod
    def create(
        cls,
        study: Study,
        preparation: Preparation,
        optimizer: ServerOptimizer,
        noise_multiplier: float | None = None,
    ) -> LogisticRegressionAveraging | ClippedAveraging:
        """Return the method for one study whose data have been prepared; with noise, it keeps whole sites private."""
        method = cls(study, preparation, optimizer)
        if noise_multiplier is None or study.privacy is None:
            return method
        return ClippedAveraging(method, study.privacy.clipping_norm, noise_multiplier)

    @classmethod
    def centralised(cls, study: Study) -> Study:
        """Return the study in which one place fits to convergence in a single round, without privacy."""
        options = dataclasses.replace(study.method.options, max_iter=10_000)
        method = dataclasses.replace(study.method, rounds=1, options=options)
        return dataclasses.replace(study, method=method, privacy=None)

    def start(self) -> Arrays:
        """Return zeros."""
        return averaging.start(zeros(self.preparation), self.optimizer)

    def asks(self, state: Arrays) -> Ask:
        """Return the layout: weighted changes of the coefficients, and the loss."""
        weights = averaging.weights_of(state)
        return Ask(
            part=Part.TRAINING,
            entries=averaging.entries(weights, self.max_rows, UPDATE_BOUND, precision=1e-3),
            weight_bound=float(self.max_rows),
            word_bits=64,
            stochastic_rounding=False,
            state_norm=averaging.norm(weights),
            state_norm_bound=self.state_norm_bound,
        )

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return this site's weighted change after ``max_iter`` local iterations."""
        prepared = self.preparation.transform(examples)
        before = averaging.weights_of(state)
        # A weight's loss is that of the state as broadcast, so that all sites judge the same model.
        loss = np.minimum(self._losses(before, prepared), averaging.LOSS_BOUND).sum()
        after = self._fit(before, prepared)
        return averaging.contribution(before, after, len(prepared), float(loss)), NOTHING

    def _fit(self, before: Arrays, prepared: Prepared) -> Arrays:
        """Return the weights after ``max_iter`` iterations of L-BFGS-B from ``before``."""
        from scipy.optimize import fmin_l_bfgs_b

        target = prepared.y if self.classes == 2 else np.eye(self.classes)[prepared.y.astype(np.int64)]
        shape = before["coef"].shape
        start = np.concatenate([before["coef"], before["intercept"][:, None]], axis=1).ravel()
        found, _, _ = fmin_l_bfgs_b(
            penalised_loss,
            start,
            args=(prepared.x, target, 1.0 / (self.options.C * len(prepared))),
            maxiter=self.options.max_iter,
            **_STOPPING,
        )
        weights = found.reshape(shape[0], shape[1] + 1)
        return {"coef": weights[:, :-1].copy(), "intercept": weights[:, -1].copy()}

    def _losses(self, weights: Arrays, prepared: Prepared) -> NDArray[np.float64]:
        """Return the log loss of each row, shape (n,)."""
        odds = self.scores(weights, prepared)
        own = odds[np.arange(len(odds)), prepared.y.astype(np.int64)]
        return np.asarray(np.logaddexp(0.0, -own))

    def scores(self, weights: Arrays, prepared: Prepared) -> NDArray[np.float64]:
        """Return the log-odds of each class against the rest, shape (n, classes)."""
        return scores_of(weights, prepared)

    def description(self) -> str:
        """Return one sentence for the model card."""
        kind = "Binary" if self.classes == 2 else "Multinomial"
        return (
            f"{kind} logistic regression with L2 penalty (C = {self.options.C:g}), fitted by federated averaging with"
            f" {self.options.max_iter} local L-BFGS iteration(s) a round."
        )


def zeros(preparation: Preparation) -> dict[str, NDArray[np.float64]]:
    """Return weights of zero: ``coef`` and ``intercept`` of one output for two classes, else of one for each class."""
    classes = len(preparation.contract.classes)
    outputs = 1 if classes == 2 else classes
    return {"coef": np.zeros((outputs, *preparation.input_shape)), "intercept": np.zeros(outputs)}


def scores_of(weights: Arrays, prepared: Prepared) -> NDArray[np.float64]:
    """Return the log-odds of each class against the rest, shape (n, classes)."""
    decision = prepared.x @ weights["coef"].T + weights["intercept"]
    return np.column_stack([-decision[:, 0], decision[:, 0]]) if decision.shape[1] == 1 else log_odds(decision)


def penalised_loss(
    weights: NDArray[np.float64], x: NDArray[np.float64], target: NDArray[np.float64], penalty: float
) -> tuple[float, NDArray[np.float64]]:
    """Return the mean log loss with its L2 penalty, and the gradient.

    weights: array of shape (outputs * (features + 1),): coefficients, then the intercept, of each output.
    x: array of shape (n, features).
    target: array of shape (n,) of 0 and 1 for one output, or (n, outputs), one-hot.
    penalty: the penalty is half of it times the squared norm of the coefficients; intercepts are free.

    Returns: (loss, array of the shape of ``weights``).
    """
    n = len(x)
    by_output = weights.reshape(-1, x.shape[1] + 1)
    coef = by_output[:, :-1]
    decision = x @ coef.T + by_output[:, -1]
    if target.ndim == 1:
        z = decision[:, 0]
        loss = (np.logaddexp(0.0, z) - target * z).sum()
        residual = (probabilities(z) - target)[:, None]
    else:
        decision -= decision.max(axis=1, keepdims=True)
        exponential = np.exp(decision)
        normaliser = exponential.sum(axis=1, keepdims=True)
        loss = (np.log(normaliser[:, 0]) - (decision * target).sum(axis=1)).sum()
        residual = exponential / normaliser - target
    gradient = np.empty_like(by_output)
    gradient[:, :-1] = residual.T @ x / n + penalty * coef
    gradient[:, -1] = residual.sum(axis=0) / n
    return float(loss / n + 0.5 * penalty * (coef * coef).sum()), gradient.ravel()
