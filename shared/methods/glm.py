"""Generalised linear models: logistic, multinomial and Poisson regression, with L2 penalty, offset and case weights.

McCullagh and Nelder, "Generalized Linear Models" (1989), by Newton's method on sums over all hospitals
(``shared/methods/summed_loss.py``): the optimum is that of the pooled rows, to rounding, as scikit-learn's
``newton-cholesky`` and R's ``glm`` find it, and so are standard errors, tests and deviance.

A penalty of strength l2 adds l2 / 2 times the squared norm of the coefficients of the prepared columns (scikit-learn's
C = 1 / l2); the intercept is free. Under it every level and every class has coefficients, and there are no standard
errors.

Where some classes are separated by the columns there is no optimum: the loss goes on falling while coefficients grow
(Albert and Anderson 1984, "On the existence of maximum likelihood estimates in logistic regression models",
Biometrika 71(1)). Newton's decrement then falls by exp(-1/2) a round, for ever, where it is otherwise squared. That is
found and named; so is an optimum so far away that a log-odds would have a standard error beyond 10, because sums tell
the two apart only after many rounds.

A row without its offset or its weight takes no part in training; when it is judged, the median offset stands in.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.errors import NoEstimate
from shared.examples import Arrays, Examples
from shared.interpretation import Interpretation, Table, Value
from shared.methods import coefficients, newton
from shared.methods.base import Total, within
from shared.methods.coefficients import Fitted, Wording
from shared.methods.design import design_of
from shared.methods.losses import COUNTS_BEYOND, Logistic, Loss, Multinomial, Poisson
from shared.methods.patient_errors import BY_PATIENTS, PatientErrorsMethod, StandardErrors, check_standard_errors
from shared.methods.row_sums import Floats, Targets
from shared.methods.summed_loss import check_study
from shared.preparation import Preparation, Prepared
from shared.schema import CLOSED, Column
from shared.scores import log_odds

if TYPE_CHECKING:
    from shared.study import Study


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class GlmOptions:
    """``[method.options]`` of ``glm``.

    family: of the label: two classes, several, or a count.
    l2: strength of the L2 penalty on the summed loss; 0 for none.
    offset: a number column that is added to the linear predictor as it is, such as the logarithm of the time at risk.
    weights: a number column of case weights: a row of weight 2 counts as two.
    standard_errors: whether rows count as independent, or patients, whose rows may depend on each other.
    """

    family: Literal["logistic", "multinomial", "poisson"]
    l2: Annotated[float, Field(ge=0, le=1e12)] = 0.0
    offset: str | None = None
    weights: str | None = None
    standard_errors: StandardErrors = "rows"


class Glm(PatientErrorsMethod):
    """One prepared study; weights are ``coef`` (outputs, columns) and ``intercept`` (outputs,).

    Outputs are one; or, of a multinomial model, one for each class but the first, and under a penalty one for each.
    """

    Options: ClassVar[type[Any]] = GlmOptions
    name = "glm"
    without_minimum = (
        "For some rows these columns tell the label without an error, or nearly (separation), or they are nearly"
        " collinear. Set an L2 penalty, [method.options] l2 = 1.0, or leave a column out."
    )

    def __init__(self, study: Study, preparation: Preparation) -> None:
        options: GlmOptions = study.method.options
        without = tuple(name for name in (options.offset, options.weights) if name)
        design = design_of(preparation, every_level=options.l2 > 0, without=without)
        super().__init__(study, preparation, design, _loss_of(options, preparation), options.l2)
        self.options = options
        self.by_patients = options.standard_errors == "patients"
        columns = preparation.contract.columns
        if options.weights:
            self.weight_bound = _range(columns[options.weights])[1]
        if options.offset:
            self.offset_bound = max(map(abs, _range(columns[options.offset])))
        if isinstance(self.loss, Poisson):
            # Its bounds are of means far beyond any label, times the largest case weight.
            self.words = 3
            most = self.loss.largest
            self.constant_bounds = (most * abs(math.log(most)) + most + 1.0, (most + 1.0) * math.log(most + 3.0), most)

    @classmethod
    def check(cls, study: Study) -> None:
        """Raise ValueError unless the label is of the family, and offset and weights are number columns."""
        check_study(study, "glm")
        check_standard_errors(study, "l2")
        options: GlmOptions = study.method.options
        wanted = {"logistic": "binary", "multinomial": "multiclass", "poisson": "number"}[options.family]
        if study.data.task != wanted:
            needs = {"binary": "two classes", "multiclass": "three classes or more", "number": "type number"}
            raise ValueError(
                f"glm of family {options.family!r} needs a label of {needs[wanted]}. Received: {needs[study.data.task]}"
            )
        if options.family == "poisson" and _range(study.data.columns[study.data.label])[0] < 0:
            raise ValueError("glm of family 'poisson' counts: expected a label whose range begins at 0 or above")
        for role, name in (("offset", options.offset), ("weights", options.weights)):
            if name is not None and (name not in study.data.features or study.data.columns[name].type != "number"):
                raise ValueError(f"glm {role} must name a number column of [data.columns]. Received: {name!r}")
        if options.offset and options.offset == options.weights:
            raise ValueError(f"glm offset and weights must be different columns. Received twice: {options.offset!r}")
        if options.weights and _range(study.data.columns[options.weights])[0] < 0:
            raise ValueError(f"glm weights: expected a column whose range begins at 0 or above: {options.weights!r}")

    def first_intercept(self) -> Floats:
        """Return the intercepts of a model without columns: the label's shares, or its mean."""
        if isinstance(self.loss, Poisson):
            mean = max(self.preparation.label_mean, 1e-6 * self.loss.largest)
            offset = self.options.offset
            center = self.preparation.columns[self._column(offset)].center if offset else 0.0
            return np.array([math.log(mean) - center])
        counts = np.array(self.preparation.class_rows, dtype=np.float64)
        shares = (
            np.log(counts) if len(counts) and counts.min() > 0 else np.zeros(len(self.preparation.contract.classes))
        )
        if self.loss.outputs == len(shares):
            return np.asarray(shares - shares.mean())
        return np.asarray(shares[1:] - shares[0])

    def targets(self, examples: Examples) -> Targets:
        """Return labels, offsets and weights; what lacks an offset or a weight has weight 0."""
        offset = weight = None
        if self.options.weights:
            weight = examples.values[:, self._column(self.options.weights)]
            weight = np.where(np.isnan(weight), 0.0, weight)
        if self.options.offset:
            offset = examples.values[:, self._column(self.options.offset)]
            absent = np.isnan(offset)
            if absent.any():
                weight = np.where(absent, 0.0, 1.0 if weight is None else weight)
                offset = np.where(absent, 0.0, offset)
        return Targets(examples.labels, offset, weight)

    def _column(self, name: str) -> int:
        return self.preparation.contract.features.index(name)

    def constants(self, targets: Targets) -> Floats:
        """Return, for counts, the sums of y log y - y, of log y! and of y."""
        if not isinstance(self.loss, Poisson):
            return np.zeros(0)
        from scipy.special import gammaln, xlogy

        y = targets.y
        terms = np.stack([xlogy(y, y) - y, gammaln(y + 1.0), y])
        return np.asarray(terms.sum(axis=1) if targets.weight is None else terms @ targets.weight)

    def diverged(self, memory: Arrays, weight: float) -> bool:
        """Whether the decrement falls as slowly as it does when classes are separated."""
        return self.ridge == 0 and newton.endless(memory, weight)

    def about(self, arrays: Arrays, sums: newton.Sums, total: Total) -> dict[str, NDArray[Any]]:
        """Return what the first sums say of the columns.

        Raises: NoEstimate if no hospital has a training row of some class.
        """
        counts = zip(self.preparation.contract.classes, self.preparation.class_rows, strict=False)
        absent = [name for name, rows in counts if rows == 0]
        if absent:
            raise NoEstimate(f"glm has no estimate: no training row is of class {', '.join(absent)}. Drop the level.")
        return super().about(arrays, sums, total)

    def check_minimum(self, about: Arrays, curvature: float) -> None:
        """Raise NoEstimate if a fitted mean lies where the loss is not Poisson's any more.

        At the minimum the means add up to the labels; so do the curvatures, unless one was cut.
        """
        if isinstance(self.loss, Poisson) and not math.isclose(curvature, about["constants"][2], rel_tol=1e-6):
            raise NoEstimate(
                f"glm has no estimate: the fitted mean of a row is beyond {COUNTS_BEYOND:g} times the largest value of"
                " the label's range. Declare ranges that the columns' values keep to, or drop a column."
            )

    def _fix_gauge(self, hessian: Floats, curvature: float) -> None:
        """Hold the sum of the classes' intercepts where it is: adding one number to all changes nothing."""
        if isinstance(self.loss, Multinomial) and not self.loss.referenced:
            hessian[:, 0, :, 0] += curvature / self.loss.outputs

    def predictors(self, weights: Arrays, prepared: Prepared) -> Floats:
        """Return the linear predictors with the offset, shape (n, outputs)."""
        eta = super().predictors(weights, prepared)
        if self.options.offset:
            place = self.preparation.feature_names.index(self.options.offset)
            column = self.preparation.columns[self._column(self.options.offset)]
            eta = eta + (column.center + column.scale * prepared.x[:, place])[:, None]
        return eta

    def scores(self, weights: Arrays, prepared: Prepared) -> Floats:
        """Return the log-odds of each class against the rest, shape (n, classes), or expected counts, shape (n, 1)."""
        eta = self.predictors(weights, prepared)
        if isinstance(self.loss, Poisson):
            return np.asarray(np.exp(np.minimum(eta, 700.0)))
        if isinstance(self.loss, Logistic):
            return np.column_stack([-eta, eta])
        return log_odds(eta if self.ridge else np.column_stack([np.zeros(len(eta)), eta]))

    def description(self) -> str:
        """Return one sentence for the model card."""
        kind = {"logistic": "Logistic", "multinomial": "Multinomial", "poisson": "Poisson"}[self.options.family]
        penalty = f" with L2 penalty (l2 = {self.ridge:g})" if self.ridge else ""
        return (
            f"{kind} regression{penalty}, fitted by Newton's method on sums over all hospitals: the optimum of their"
            " pooled rows, to rounding."
        )

    def interpretation(self, weights: Arrays) -> Interpretation:
        """Return coefficients with odds or rate ratios, and how well the model fits."""
        if "fit/loss" not in weights:
            return Interpretation()
        fit = within("fit", weights)
        ratio = "rate ratio" if isinstance(self.loss, Poisson) else "odds ratio"
        wording = Wording(ratio=ratio)
        fits = self._fits(weights, fit)
        note = f"Odds of class {self.preparation.contract.classes[1]}. " if isinstance(self.loss, Logistic) else ""
        note += "Coefficients are by one unit of the column." + (
            " Under an L2 penalty there are no standard errors." if self.ridge else ""
        )
        note += BY_PATIENTS if self.by_patients else ""
        said = coefficients.sentences(self.design, fits[0].free)
        if self.options.weights:
            said.append(f"A row counts {self.options.weights} times; a row without one does not count.")
        plots = (coefficients.forest(each, wording) for each in fits)
        return Interpretation(
            tuple(said),
            (coefficients.table(fits, wording, note), self._fit_table(fit)),
            tuple(plot for plot in plots if plot),
        )

    def _fits(self, weights: Arrays, fit: Arrays) -> list[Fitted]:
        parameters = self.design.parameters(weights["coef"], weights["intercept"])
        d, free = parameters.shape[1], fit["free"] > 0
        classes = self.preparation.contract.classes
        names = [""] if self.loss.outputs == 1 else list(classes[-self.loss.outputs :])
        if isinstance(self.loss, Multinomial) and self.loss.referenced:
            names = [f"{name} against {classes[0]}" for name in classes[1:]]
        covariances: list[Floats | None] = [None] * self.loss.outputs
        if not self.ridge:
            blocks = fit["covariance" if self.by_patients else "inverse"].reshape(
                self.loss.outputs, d, self.loss.outputs, d
            )
            covariances = [blocks[k, :, k] for k in range(self.loss.outputs)]
        return [Fitted(self.design, parameters[k], free, covariances[k], name) for k, name in enumerate(names)]

    def _fit_table(self, fit: Arrays) -> Table:
        rows: list[tuple[str, Value]] = [("training rows", round(float(fit["rows"])))]
        if self.by_patients:
            rows.append(("training patients", round(float(fit["patients"]))))
        if self.options.weights:
            rows.append(("sum of weights", float(fit["weight"])))
        count = int((fit["free"] > 0).sum()) * self.loss.outputs
        if self.ridge:
            return Table("Fit", ("", "value"), (*rows, ("penalised loss", float(fit["loss"]))))
        saturated, factorials = (*fit["constants"], 0.0, 0.0)[:2]
        likelihood = -float(fit["loss"]) - float(factorials)
        rows += [
            ("estimated coefficients", count),
            ("log-likelihood", likelihood),
            ("deviance", 2.0 * (float(fit["loss"]) + float(saturated))),
        ]
        # The search begins at the model without columns, to rounding.
        if not (self.options.offset or self.options.weights):
            rows.append(("deviance without columns", 2.0 * (float(fit["first_loss"]) + float(saturated))))
        rows.append(("AIC", 2.0 * (count - likelihood)))
        return Table("Fit", ("", "value"), tuple(rows))


def _range(column: Column) -> tuple[float, float]:
    assert column.range is not None
    return column.range


def _loss_of(options: GlmOptions, preparation: Preparation) -> Loss:
    contract = preparation.contract
    if options.family == "logistic":
        return Logistic()
    if options.family == "multinomial":
        return Multinomial(len(contract.classes), referenced=options.l2 == 0)
    return Poisson(_range(contract.columns[contract.label])[1])
