"""Logistic regression by differentially private gradient descent, binary and multinomial.

A round is one sum over all training patients: of each patient's gradient of the log loss, the mean over its rows,
clipped to L2 norm ``privacy.clipping_norm``. Adding or removing one patient changes the sum by no more than that, and
the noise that the sites spread over their shares (``shared/privacy/mechanisms.py``) makes it private: gradient descent
with noise (Bassily, Smith and Thakurta 2014, "Private Empirical Risk Minimization", FOCS, arXiv:1405.7085) on clipped
gradients (Abadi et al. 2016, "Deep Learning with Differential Privacy", CCS, arXiv:1607.00133), without sampling. A
linear model's gradient in a row is its residual times the row, so norms cost nothing.

The rest is post-processing at the aggregator: division by the noised number of patients, the L2 penalty
1 / (2 C n) as in ``logistic-regression``, heavy-ball momentum (Polyak 1964, USSR Comp. Math. 4(5)), and the mean of the
weights of the last half of the rounds (Polyak and Juditsky 1992, SIAM J. Control Optim. 30(4)), in which the noise of
single rounds averages out.

The state holds ``round``, ``weights/...``, ``average/...`` and, at the aggregator only, ``server/velocity/...``.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.examples import Arrays, Examples, Part
from shared.interpretation import Interpretation
from shared.layout import Entry
from shared.methods import averaging
from shared.methods.base import (
    NOTHING,
    ROOM,
    Ask,
    Contribution,
    Forecast,
    Influence,
    Measurements,
    ServerOptimizer,
    Total,
    Traits,
    forecast_of,
    under,
    within,
)
from shared.methods.logistic_regression import LogisticRegressionOptions, scores_of, zeros
from shared.preparation import Preparation, Prepared
from shared.randomness import Randomness
from shared.schema import CLOSED
from shared.scores import probabilities

if TYPE_CHECKING:
    from shared.study import Study

_PRECISION = 1e-6


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class PrivateLogisticRegressionOptions:
    """``[method.options]`` of ``private-logistic-regression``.

    learning_rate: length of a step, times the mean of the patients' clipped gradients.
    momentum: share of the last step that is made again.
    C: inverse strength of the L2 penalty over all patients, as in scikit-learn; the intercept is not penalised.
    """

    learning_rate: Annotated[float, Field(gt=0, le=1e3)] = 1.0
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.8
    C: Annotated[float, Field(gt=0)] = 1.0


class PrivateLogisticRegression(Traits):
    """One prepared study; weights are ``coef`` (1 or classes, features) and ``intercept`` (1 or classes,).

    noise_multiplier: standard deviation of the honest sites' noise over the clipping norm, in each round. None for a
        released model, which is used and not trained.
    """

    Options: ClassVar[type[Any]] = PrivateLogisticRegressionOptions
    state_norm_bound: ClassVar[float] = 1e3

    def __init__(self, study: Study, preparation: Preparation, noise_multiplier: float | None) -> None:
        assert study.privacy is not None
        self.options: PrivateLogisticRegressionOptions = study.method.options
        self.rounds = study.method.rounds
        self.clipping_norm = study.privacy.clipping_norm
        self.preparation = preparation
        self.max_rows = study.data.max_rows_per_site
        self.noise_multiplier = noise_multiplier

    @classmethod
    def check(cls, study: Study) -> None:
        """Raise ValueError unless the study keeps patients private, and is about a table with a categorical label."""
        if study.privacy is None:
            raise ValueError(
                "private-logistic-regression needs a [privacy] part. Received: none; without noise use name ="
                ' "logistic-regression"'
            )
        if study.privacy.unit == "site":
            raise ValueError(
                'private-logistic-regression hides one patient. Received: [privacy] unit = "site"; use name ='
                ' "logistic-regression", which then clips and noises whole hospitals\' changes'
            )
        if study.data.kind != "table":
            raise ValueError(f"private-logistic-regression reads tables. Received: kind = {study.data.kind!r}")
        if study.data.task == "number":
            raise ValueError("private-logistic-regression predicts classes. Received: a label of type number")
        if study.aggregation.strategy != "FedAvg":
            raise ValueError(
                'private-logistic-regression moves its weights itself: expected [aggregation] strategy = "FedAvg".'
                f" Received: {study.aggregation.strategy!r}; set momentum under [method.options]"
            )

    @classmethod
    def require(cls) -> None:
        """Raise DependencyMissing unless what the method needs is installed: no more than Consilium itself does."""
        return

    @classmethod
    def create(
        cls,
        study: Study,
        preparation: Preparation,
        optimizer: ServerOptimizer,  # noqa: ARG003 - the protocol's
        noise_multiplier: float | None = None,
    ) -> Self:
        """Return the method for one study whose data have been prepared; the optimiser has no part in it."""
        return cls(study, preparation, noise_multiplier)

    @classmethod
    def centralised(cls, study: Study) -> Study:
        """Return the study without privacy, in which one place fits ``logistic-regression`` to convergence."""
        options = LogisticRegressionOptions(max_iter=10_000, C=study.method.options.C)
        method = dataclasses.replace(study.method, name="logistic-regression", rounds=1, options=options)
        return dataclasses.replace(study, method=method, privacy=None)

    def start(self) -> Arrays:
        """Return zeros."""
        weights = zeros(self.preparation)
        return {
            "round": np.array(0),
            **under("weights", weights),
            **under("average", weights),
            **under("server/velocity", weights),
        }

    def asks(self, state: Arrays) -> Ask:
        """Return the layout, one sum of gradients; one patient's influence on it is the clipping norm."""
        if self.noise_multiplier is None:
            raise ValueError("expected a noise multiplier: a sum of gradients is not asked for without noise")
        weights = averaging.weights_of(state)
        outputs, features = weights["coef"].shape
        shape = (outputs, features + 1)
        return Ask(
            part=Part.TRAINING,
            # A patient has at least one row.
            entries=(Entry("gradient", shape, self.max_rows * self.clipping_norm * ROOM, _PRECISION),),
            weight_bound=1.0,
            word_bits=64,
            stochastic_rounding=False,
            state_norm=averaging.norm(weights),
            state_norm_bound=self.state_norm_bound,
            exact=False,
            influence=Influence(math.sqrt(math.prod(shape)) * self.clipping_norm, self.clipping_norm),
            noise_multiplier=self.noise_multiplier,
        )

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return the sum of this site's patients' clipped gradients, without noise."""
        prepared = self.preparation.transform(examples)
        said = probabilities(self.scores(averaging.weights_of(state), prepared))
        residuals = said - (prepared.y[:, None] == np.arange(said.shape[1]))
        if said.shape[1] == 2:
            residuals = residuals[:, 1:]
        rows = np.column_stack([prepared.x, np.ones(len(prepared))])
        gradient = clipped_sum(residuals, rows, examples.patient_index, self.clipping_norm)
        return Contribution({"gradient": gradient}, 1.0), NOTHING

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the state one step down the noised gradient; nothing is measured, because it would have to be paid."""
        options, weights = self.options, averaging.weights_of(state)
        patients = max(self.preparation.rows, 1)
        gradient = total.arrays["gradient"] / patients
        slopes = {"coef": gradient[:, :-1] + weights["coef"] / (options.C * patients), "intercept": gradient[:, -1]}
        velocity = {
            name: options.momentum * array + slopes[name] for name, array in within("server/velocity", state).items()
        }
        moved = {name: array - options.learning_rate * velocity[name] for name, array in weights.items()}
        # Under noise that drowns the gradients weights may run away; the sites would refuse them.
        shorter = min(1.0, 0.999 * self.state_norm_bound / max(averaging.norm(moved), 1e-300))
        moved = {name: shorter * array for name, array in moved.items()}
        done = int(state["round"]) + 1
        share = 1.0 / max(done - self.rounds // 2, 1)
        average = {name: array + share * (moved[name] - array) for name, array in within("average", state).items()}
        return {
            "round": np.array(done),
            **under("weights", moved),
            **under("average", average),
            **under("server/velocity", velocity),
        }, {}

    def finished(self, state: Arrays) -> bool:
        """Whether all rounds have been made."""
        return bool(state["round"] >= self.rounds)

    def result(self, state: Arrays) -> Arrays:
        """Return the mean of the weights after each of the last half of the rounds."""
        return within("average", state)

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> None:
        """Nothing stays at the hospital."""
        return

    def interpretation(self, weights: Arrays) -> Interpretation:
        """Return nothing: weights under noise and a penalty have no standard errors."""
        return Interpretation()

    def scores(self, weights: Arrays, prepared: Prepared) -> NDArray[np.float64]:
        """Return the log-odds of each class against the rest, shape (n, classes)."""
        return scores_of(weights, prepared)

    def forecast(self) -> Forecast:
        """Return what a training sum holds."""
        return forecast_of(self, "the patients' clipped gradients, with noise")

    def description(self) -> str:
        """Return one sentence for the model card."""
        kind = "Binary" if len(self.preparation.contract.classes) == 2 else "Multinomial"
        return (
            f"{kind} logistic regression with L2 penalty (C = {self.options.C:g}), fitted by differentially private"
            f" gradient descent: one sum a round of the patients' gradients, each clipped to L2 norm"
            f" {self.clipping_norm:g}, with noise; learning rate {self.options.learning_rate:g}, momentum"
            f" {self.options.momentum:g}, mean of the last half of the rounds."
        )


def clipped_sum(
    residuals: NDArray[np.float64], rows: NDArray[np.float64], patients: NDArray[np.intp], clipping_norm: float
) -> NDArray[np.float64]:
    """Return the sum over patients of their gradients, each the mean over the patient's rows, clipped.

    residuals: array of shape (n, outputs); a row's gradient is its residuals times its values.
    rows: array of shape (n, d).
    patients: array of shape (n,): whose row it is.
    clipping_norm: largest L2 norm of one patient's gradient, > 0.

    Returns: array of shape (outputs, d).
    """
    _, patient, counts = np.unique(patients, return_inverse=True, return_counts=True)
    if len(counts) == len(rows):
        norms = np.linalg.norm(residuals, axis=1) * np.linalg.norm(rows, axis=1)
        clipped = residuals * (clipping_norm / np.maximum(norms, clipping_norm))[:, None]
        return np.asarray(clipped.T @ rows)
    sums = np.zeros((len(counts), residuals.shape[1], rows.shape[1]))
    np.add.at(sums, patient, residuals[:, :, None] * rows[:, None, :])
    gradients = (sums / counts[:, None, None]).reshape(len(counts), -1)
    norms = np.linalg.norm(gradients, axis=1)
    total = (clipping_norm / np.maximum(norms, clipping_norm)) @ gradients
    return np.asarray(total.reshape(residuals.shape[1], rows.shape[1]))
