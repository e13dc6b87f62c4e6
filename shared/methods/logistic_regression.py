"""Logistic regression by federated averaging, binary and multinomial.

The local step is scikit-learn's ``LogisticRegression`` (L2 penalty, L-BFGS), started from the broadcast weights and
run for ``max_iter`` iterations; the sites' weights are averaged by rows (``shared/methods/averaging.py``). One local
iteration a round stays near the pooled optimum; many drift towards each site's own (Karimireddy et al. 2020,
arXiv:1910.06378). Averaging never reaches the pooled optimum exactly.

A site that lacks a class is given one all-zero row of it with weight zero, because scikit-learn does not fit fewer
classes than it was started with; such a row adds nothing to loss or gradient.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.examples import Arrays, Examples, Part
from shared.methods import averaging
from shared.methods.base import NOTHING, Ask, Contribution, ServerOptimizer
from shared.metrics import log_odds
from shared.preparation import Preparation, Prepared
from shared.randomness import Randomness
from shared.schema import CLOSED

if TYPE_CHECKING:
    from shared.study import Study

UPDATE_BOUND = 1e4
"""Largest change of one coefficient in one round; beyond it a site refuses."""


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
    state_norm_bound: ClassVar[float] = 1e6

    def __init__(self, study: Study, preparation: Preparation, optimizer: ServerOptimizer) -> None:
        super().__init__(optimizer, study.method.rounds)
        self.options: LogisticRegressionOptions = study.method.options
        self.preparation = preparation
        self.max_rows = study.data.max_rows_per_site
        self.classes = len(preparation.contract.classes)

    @classmethod
    def check(cls, study: Study) -> None:
        """Raise ValueError unless the study is about a table with a categorical label."""
        if study.data.kind != "table":
            raise ValueError("logistic-regression reads tables. Received: kind = 'images'; use name = \"neural\"")
        if study.data.task == "number":
            raise ValueError("logistic-regression predicts classes. Received: a label of type number")

    @classmethod
    def create(cls, study: Study, preparation: Preparation, optimizer: ServerOptimizer) -> Self:
        """Return the method for one study whose data have been prepared."""
        return cls(study, preparation, optimizer)

    @classmethod
    def centralised(cls, study: Study) -> Study:
        """Return the study in which one place fits to convergence in a single round."""
        options = dataclasses.replace(study.method.options, max_iter=10_000)
        return dataclasses.replace(study, method=dataclasses.replace(study.method, rounds=1, options=options))

    def start(self) -> Arrays:
        """Return zeros."""
        outputs = 1 if self.classes == 2 else self.classes
        weights = {"coef": np.zeros((outputs, *self.preparation.input_shape)), "intercept": np.zeros(outputs)}
        return averaging.start(weights, self.optimizer)

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
        import sklearn
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        x, y, weight = prepared.x, prepared.y, None
        absent = np.setdiff1d(np.arange(self.classes, dtype=float), y)
        if len(absent):
            x = np.concatenate([x, np.zeros((len(absent), x.shape[1]))])
            y = np.concatenate([y, absent])
            weight = np.concatenate([np.ones(len(prepared)), np.zeros(len(absent))])
        model = LogisticRegression(C=self.options.C, max_iter=self.options.max_iter, warm_start=True)
        model.classes_ = np.arange(self.classes, dtype=float)
        model.coef_, model.intercept_ = before["coef"].copy(), before["intercept"].copy()
        with warnings.catch_warnings(), sklearn.config_context(assume_finite=True, skip_parameter_validation=True):
            # Stopping after max_iter is the method, not a failure.
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y, sample_weight=weight)
        return {"coef": model.coef_, "intercept": model.intercept_}

    def _losses(self, weights: Arrays, prepared: Prepared) -> NDArray[np.float64]:
        """Return the log loss of each row, shape (n,)."""
        odds = self.scores(weights, prepared)
        own = odds[np.arange(len(odds)), prepared.y.astype(np.int64)]
        return np.asarray(np.logaddexp(0.0, -own))

    def scores(self, weights: Arrays, prepared: Prepared) -> NDArray[np.float64]:
        """Return the log-odds of each class against the rest, shape (n, classes)."""
        decision = prepared.x @ weights["coef"].T + weights["intercept"]
        return np.column_stack([-decision[:, 0], decision[:, 0]]) if self.classes == 2 else log_odds(decision)

    def description(self) -> str:
        """Return one sentence for the model card."""
        kind = "Binary" if self.classes == 2 else "Multinomial"
        return (
            f"{kind} logistic regression with L2 penalty (C = {self.options.C:g}), fitted by federated averaging with"
            f" {self.options.max_iter} local L-BFGS iteration(s) a round."
        )
