"""Standard errors that let the rows of one patient depend on each other.

The covariance of Liang and Zeger 1986, "Longitudinal data analysis using generalized linear models", Biometrika 73(1),
with independence as the working correlation: A^-1 B A^-1, where A is the Hessian at the minimum, and B the sum over
patients of s s', s being the gradient of the loss of one patient's rows. A patient's rows are at one hospital, so B is
one more sum over all hospitals, at the minimum. As in statsmodels it is multiplied by G / (G - 1) (n - 1) / (n - k) for
G patients, n rows and k coefficients, and tests are normal. It is right for many patients; with few it is too small,
and with no more than coefficients there is none.

The loss need not be that of the right model: with one row a patient, standard errors hold under unequal variances.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from shared.errors import NoEstimate
from shared.examples import Arrays, Examples
from shared.layout import size_of
from shared.methods import averaging, two_words
from shared.methods.base import Contribution, Forecast, Measurements, Total, under, within
from shared.methods.losses import Loss
from shared.methods.row_sums import Targets
from shared.methods.summed_loss import SummedLossMethod
from shared.randomness import Randomness

if TYPE_CHECKING:
    from shared.study import Study

Floats = NDArray[np.float64]

StandardErrors = Literal["rows", "patients"]
"""What counts as independent."""

BY_PATIENTS = " Standard errors are by patients, whose rows may depend on each other (Liang and Zeger 1986)."
"""What a table's note says of them."""


def check_standard_errors(study: Study, penalty: str) -> None:
    """Raise ValueError where standard errors by patients cannot be. penalty: name of the option."""
    options: Any = study.method.options
    by_patients = options.standard_errors == "patients"
    if study.tuning and (by_patients or "standard_errors" in study.tuning.grid):
        raise ValueError('standard_errors = "patients" is for a model that is not tuned. Received: a [tuning] part')
    if by_patients and getattr(options, penalty) > 0:
        raise ValueError(
            f"{study.method.name} has no standard errors under a penalty. Received: standard_errors = "
            f'"patients" and {penalty} = {getattr(options, penalty):g}; leave one of them out'
        )


class PatientErrorsMethod(SummedLossMethod):
    """A summed loss; ``by_patients`` adds one exchange, after the minimum was found.

    The state of that exchange holds ``scores``; and what was found before, under ``server/fit``, with the weight of the
    sums that it was found by, ``server/rows``.
    """

    by_patients = False

    def _parts(self, state: Arrays) -> list[two_words.Part]:
        if not self._scoring(state):
            return super()._parts(state)
        width = self.loss.outputs * len(self.design.bounds)
        # All rows may be one patient's.
        most = self.max_rows * self.weight_bound * self._row_bounds(state).slope
        return [
            two_words.Part("products", (width * (width + 1) // 2,), most**2, self.words + 1),
            two_words.Part("patients", (), float(self.max_rows)),
            two_words.Part("counted", (), float(self.max_rows)),
        ]

    def _scoring(self, state: Arrays) -> bool:
        return self.by_patients and "scores" in state

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return this site's sums at the broadcast point."""
        if not self._scoring(state):
            return super().contribute(state, examples, memory, randomness)
        parameters = self._parameters(state)
        targets, smallest, kept = self.targets_at(parameters, examples, memory)
        counted = np.ones(len(examples), bool) if targets.weight is None else targets.weight > 0
        scores = patient_scores(self.loss, self.matrix(examples), targets, parameters, examples.patient_index)
        scores /= np.tile(self.design.bounds, self.loss.outputs)
        arrays = {
            "products": (scores.T @ scores)[np.triu_indices(scores.shape[1])],
            "patients": np.array(np.count_nonzero(np.bincount(examples.patient_index[counted]))),
            "counted": np.array(np.count_nonzero(counted)),
        }
        return Contribution(two_words.split(self._parts(state), arrays), float(len(examples)), smallest), kept

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the state moved by one Newton step; at the end, with the covariance.

        Raises: NoEstimate as for standard errors by rows; with no more patients than coefficients, no round left, or
            other rows in the last exchange than in the one before.
        """
        if self._scoring(state):
            return self._with_covariance(state, total)
        moved, measured = super().advance(state, total)
        if not (self.by_patients and self.finished(moved)):
            return moved, measured
        if int(moved["round"]) >= self.rounds:
            raise NoEstimate(
                f"{self.name} was at its minimum after {self.rounds} rounds, and standard errors by patients take one"
                " more. Raise [method] rounds."
            )
        held = {f"server/{name}" if name.startswith("fit/") else name: array for name, array in moved.items()}
        return {**held, "server/rows": np.array(total.weight), "done": np.array(0), "scores": np.array(1)}, measured

    def _with_covariance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        if total.weight != float(state["server/rows"]):
            raise NoEstimate(
                f"{self.name} has no standard errors by patients: a hospital was lost between the sums that they are"
                " made of. Run the study again."
            )
        sums = two_words.join(self._parts(state), total.arrays)
        fit = within("server/fit", state)
        inverse = fit.pop("inverse")
        patients, rows = float(sums["patients"]), float(sums["counted"])
        count = float(fit["free"].sum()) * self.loss.outputs
        if patients <= count:
            raise NoEstimate(
                f"{self.name} has no standard errors by patients: expected more patients than coefficients. Received:"
                f" {patients:.0f} patients and {count:.0f} coefficients. Drop columns, or leave standard_errors out."
            )
        products = np.zeros(inverse.shape)
        products[np.triu_indices(len(products))] = sums["products"]
        bounds = np.tile(self.design.bounds, self.loss.outputs)
        products = (products + np.triu(products, 1).T) * np.outer(bounds, bounds)
        correction = patients / (patients - 1.0) * (rows - 1.0) / (rows - count)
        found = {**fit, "covariance": correction * inverse @ products @ inverse, "patients": np.array(patients)}
        ended = {
            "round": np.array(int(state["round"]) + 1),
            "done": np.array(1),
            **under("weights", averaging.weights_of(state)),
        }
        return {**ended, **under("fit", found)}, {"loss": float(fit["loss"]) / float(fit["rows"])}

    def forecast(self) -> Forecast:
        """Return what each sum holds."""
        forecast = super().forecast()
        if not self.by_patients:
            return forecast
        last = self.asks({**self.start(), "scores": np.array(1)})
        largest = max(forecast.ask, last, key=lambda ask: size_of(ask.entries))
        contents = (*forecast.contents, "products of two slopes, each summed over one patient's rows")
        return Forecast(largest, forecast.parameters, contents)


def patient_scores(loss: Loss, x: Floats, targets: Targets, parameters: Floats, patients: NDArray[np.int64]) -> Floats:
    """Return the gradient of the loss of each patient's rows, shape (patients, outputs * d).

    x: shape (n, d - 1), without the intercept's column.
    parameters: shape (outputs, d), the intercept first.
    patients: shape (n,), whose row it is, from 0.
    """
    eta = x @ parameters[:, 1:].T + parameters[:, 0]
    if targets.offset is not None:
        eta += targets.offset[:, None]
    slopes = loss.at(eta, targets.y).slopes
    if targets.weight is not None:
        slopes = slopes * targets.weight[:, None]
    columns = (slope * column for slope in slopes.T for column in (np.ones(len(x)), *x.T))
    return np.column_stack([np.bincount(patients, weights=column) for column in columns])
