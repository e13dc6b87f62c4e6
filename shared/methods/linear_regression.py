"""Linear regression: ordinary least squares, and ridge.

X'X, X'y and y'y in one sum at coefficients of zero, whose minimum is solved for at once; then sums of the residuals at
that solution, and a step for what rounding left in it: iterative refinement (Higham 2002, "Accuracy and Stability of
Numerical Algorithms", chapter 20). Standard errors, t and F tests are those of ordinary least squares (Seber and Lee
2003, "Linear Regression Analysis", chapters 3 to 5).

The label is prepared as the columns are: coefficients are of (y - label_mean) / label_deviation. ``alpha`` penalises
half the squared norm of the coefficients of the prepared columns, as scikit-learn's ``Ridge``; the intercept is free.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.errors import NoEstimate
from shared.examples import Arrays, Examples
from shared.interpretation import Interpretation, Table
from shared.methods import coefficients
from shared.methods.base import within
from shared.methods.coefficients import Fitted, Wording
from shared.methods.design import design_of
from shared.methods.losses import Squared
from shared.methods.patient_errors import (
    BY_PATIENTS,
    PatientErrorsMethod,
    StandardErrors,
    check_standard_errors,
)
from shared.methods.row_sums import Floats, Targets
from shared.methods.summed_loss import check_study
from shared.preparation import Preparation, Prepared
from shared.schema import CLOSED

if TYPE_CHECKING:
    from shared.study import Study


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class LinearRegressionOptions:
    """``[method.options]`` of ``linear-regression``.

    alpha: strength of the L2 penalty, as in scikit-learn's ``Ridge``; 0 for ordinary least squares.
    standard_errors: whether rows count as independent, or patients, whose rows may depend on each other.
    """

    alpha: Annotated[float, Field(ge=0, le=1e12)] = 0.0
    standard_errors: StandardErrors = "rows"


class LinearRegression(PatientErrorsMethod):
    """One prepared study; weights are ``coef`` (1, columns) and ``intercept`` (1,), of the prepared label."""

    Options: ClassVar[type[Any]] = LinearRegressionOptions
    name = "linear-regression"
    # Sums of squares are the same wherever they are made: no point isolates anybody.
    state_norm_bound = 1e9

    def __init__(self, study: Study, preparation: Preparation) -> None:
        options: LinearRegressionOptions = study.method.options
        contract = preparation.contract
        declared = contract.columns[contract.label].range
        assert declared is not None
        largest = max(abs(end - preparation.label_mean) for end in declared) / preparation.label_deviation
        design = design_of(preparation, every_level=options.alpha > 0)
        super().__init__(study, preparation, design, Squared(largest), options.alpha)
        self.by_patients = options.standard_errors == "patients"

    @classmethod
    def check(cls, study: Study) -> None:
        """Raise ValueError unless the study is about a table with a label that is a number."""
        check_study(study, cls.name)
        check_standard_errors(study, "alpha")
        if study.data.task != "number":
            raise ValueError(
                'linear-regression predicts a number. Received: a label of type category; use name = "glm"'
            )
        if study.method.rounds < 2:
            raise ValueError("linear-regression needs rounds = 2 at least: a sum, and one of what rounding left")
        if study.method.options.standard_errors == "patients" and study.method.rounds < 3:
            raise ValueError('linear-regression needs rounds = 3 at least with standard_errors = "patients"')

    def targets(self, examples: Examples) -> Targets:
        """Return prepared labels."""
        return Targets((examples.labels - self.preparation.label_mean) / self.preparation.label_deviation)

    def check_minimum(self, about: Arrays, curvature: float) -> None:
        """Raise NoEstimate where nothing is left to estimate an error from."""
        if self.ridge == 0 and about["rows"] <= about["free"].sum():
            raise NoEstimate(
                f"linear-regression has no estimate: expected more training rows than coefficients."
                f" Received: {int(about['rows'])} rows and {int(about['free'].sum())} coefficients. Set an L2 penalty,"
                " [method.options] alpha = 1.0, or drop columns."
            )

    def scores(self, weights: Arrays, prepared: Prepared) -> Floats:
        """Return predicted numbers, shape (n, 1)."""
        label = self.preparation
        return label.label_mean + label.label_deviation * self.predictors(weights, prepared)

    def description(self) -> str:
        """Return one sentence for the model card."""
        kind = f"Ridge regression (alpha = {self.ridge:g})" if self.ridge else "Linear regression by least squares"
        return f"{kind}, solved from sums over all hospitals: the solution of their pooled rows, to rounding."

    def interpretation(self, weights: Arrays) -> Interpretation:
        """Return coefficients with t tests in the columns' and the label's units, and how well the model fits."""
        if "fit/loss" not in weights:
            return Interpretation()
        fit, preparation = within("fit", weights), self.preparation
        freedom = float(fit["rows"] - fit["free"].sum())
        deviation = preparation.label_deviation
        # Of the prepared label, without the penalty's part of the loss.
        penalty = self.ridge * float(np.square(weights["coef"]).sum())
        residual = max(2.0 * float(fit["loss"]) - penalty, 0.0)
        parameters = deviation * self.design.parameters(weights["coef"], weights["intercept"])[0]
        parameters[0] += preparation.label_mean
        fitted = Fitted(self.design, parameters, fit["free"] > 0, self._covariance(fit, residual, freedom))
        wording = _student(freedom) if freedom > 0 and not self.by_patients else Wording()
        unit = preparation.contract.columns[preparation.contract.label].unit
        note = f"In {unit or 'units'} of {preparation.contract.label} by one unit of the column." + (
            " Under an L2 penalty there are no standard errors." if self.ridge else ""
        )
        note += BY_PATIENTS if self.by_patients else ""
        plot = coefficients.forest(fitted, wording)
        return Interpretation(
            tuple(coefficients.sentences(self.design, fitted.free)),
            (coefficients.table([fitted], wording, note), self._fit_table(fit, residual, freedom)),
            (plot,) if plot else (),
        )

    def _covariance(self, fit: Arrays, residual: float, freedom: float) -> Floats | None:
        """Return the covariance of the coefficients of prepared columns, in the label's unit."""
        scale = self.preparation.label_deviation**2
        if self.ridge:
            return None
        if self.by_patients:
            return np.asarray(scale * fit["covariance"])
        return np.asarray((scale * residual / freedom if freedom > 0 else 0.0) * fit["inverse"])

    def _fit_table(self, fit: Arrays, residual: float, freedom: float) -> Table:
        rows = float(fit["rows"])
        scale = self.preparation.label_deviation**2
        # At coefficients of zero: y'y, less what the mean explains.
        whole = 2.0 * float(fit["first_loss"]) - float(fit["first_gradient"][0]) ** 2 / rows
        explained = 1.0 - residual / whole if whole > 0 else None
        said: list[tuple[str, float | None]] = [("training rows", rows), ("R squared", explained)]
        if self.by_patients:
            said.insert(1, ("training patients", float(fit["patients"])))
        if self.ridge:
            return Table("Fit", ("", "value"), tuple(said))
        count = float(fit["free"].sum())
        if explained is not None and residual > 0:
            from scipy.special import fdtrc

            variance = residual / freedom
            said.append(("adjusted R squared", 1.0 - variance / (whole / (rows - 1.0))))
            # Of independent rows.
            if count > 1 and not self.by_patients:
                f = (whole - residual) / (count - 1.0) / variance
                said += [("F", f), ("p of F", float(fdtrc(count - 1.0, freedom, f)))]
            said.append(("residual standard error", math.sqrt(variance * scale)))
            said.append(("AIC", rows * (math.log(2.0 * math.pi * residual * scale / rows) + 1.0) + 2.0 * count))
        said += [("estimated coefficients", count), ("degrees of freedom", freedom)]
        return Table("Fit", ("", "value"), tuple(said))


def _student(freedom: float) -> Wording:
    from scipy.special import stdtr, stdtrit

    return Wording("t", float(stdtrit(freedom, 0.975)), lambda t: float(2.0 * stdtr(freedom, -abs(t))))
