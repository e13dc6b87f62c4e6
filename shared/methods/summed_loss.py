"""Methods that minimise a summed convex loss of a linear predictor, exactly: one sum of loss, gradient and Hessian a
round, and Newton's step at the aggregator (``shared/methods/newton.py``).

The state holds ``round``, ``weights/coef`` (outputs, columns) and ``weights/intercept`` (outputs,), what the aggregator
alone needs under ``server/...``, and at the end ``fit/...``: what standard errors and tables are made of. Both are in
the released model; scores need the weights alone. Sums are over rows and columns divided by the columns' bounds, so
that they are bounded by rows times a constant of the loss, and travel as two words each (``two_words``), or three.

What an aggregator learns: these sums, at each point. The Hessian of columns of zeros and ones holds counts of patients
by pairs of levels, summed over all hospitals.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shared.errors import NoEstimate
from shared.examples import Arrays, Examples, Part
from shared.methods import averaging, newton, two_words
from shared.methods.base import NOTHING, Ask, Contribution, Forecast, Measurements, Total, under, within
from shared.methods.design import Design
from shared.methods.losses import Bounds, Loss
from shared.methods.plain import PlainMethod
from shared.methods.row_sums import Floats, Targets, summed
from shared.preparation import Preparation, Prepared
from shared.randomness import Randomness

if TYPE_CHECKING:
    from shared.study import Study

_FARTHEST = 1e30
_CAREFUL = 20.0
"""Norm of a step that is made in the place of one that ends beyond the bound."""


class SummedLossMethod(PlainMethod):
    """One prepared study.

    design: its columns.
    loss: of a row.
    ridge: strength of the L2 penalty, half of it times the squared norm of the coefficients.
    penalised_intercept: whether the intercept is penalised like the coefficients.
    """

    state_norm_bound: float = 1e3
    name: ClassVar[str]
    words = 2
    """Of each number of a sum (``two_words``)."""
    without_minimum: ClassVar[str] = "Some columns are nearly collinear: leave one out."

    def __init__(self, study: Study, preparation: Preparation, design: Design, loss: Loss, ridge: float) -> None:
        self.preparation = preparation
        self.design = design
        self.loss = loss
        self.ridge = ridge
        self.penalised_intercept = False
        self.weight_bound = 1.0
        self.offset_bound = 0.0
        self.rounds = study.method.rounds
        self.max_rows = study.data.max_rows_per_site

    # What a kind of model says of itself.

    def first_intercept(self) -> Floats:
        """Return the intercepts at which the search begins, shape (outputs,)."""
        return np.zeros(self.loss.outputs)

    def matrix(self, examples: Examples) -> Floats:
        """Return the design's columns of each row, shape (n, terms); computed once for each table."""
        key = (self.preparation, self.design)
        return examples.derived("design", key, lambda: self.design.rows(self.preparation.transform(examples).x))

    def targets(self, examples: Examples) -> Targets:
        """Return labels, offsets and weights."""
        return Targets(examples.labels)

    def constants(self, targets: Targets) -> Floats:
        """Return sums that do not depend on the point, of the shape of ``constant_bounds``; asked for once."""
        return np.zeros(0)

    constant_bounds: tuple[float, ...] = ()
    """Largest absolute value of one row in each of ``constants``."""

    subset_patients: int | None = None
    """As in ``Ask``, where a sum is over rows that the point chooses."""

    def targets_at(self, parameters: Floats, examples: Examples, memory: Arrays) -> tuple[Targets, int | None, Arrays]:
        """Return what rows bring at a point, the fewest patients of a subset that it chooses, and the memory."""
        return examples.derived("targets", self.preparation, lambda: self.targets(examples)), None, NOTHING

    def step(self, memory: Arrays, point: Floats, sums: newton.Sums, free: NDArray[np.bool_]) -> newton.Moved:
        """Return where to look next, as ``newton.advance`` does."""
        return newton.advance(memory, point, sums, free)

    def diverged(self, memory: Arrays, weight: float) -> bool:
        """Whether Newton's steps show that there is no minimum. memory: theirs. weight: mean of the case weights."""
        return False

    def check_minimum(self, about: Arrays, curvature: float) -> None:
        """Raise NoEstimate if what was found cannot stand. curvature: summed over rows."""

    # The site's half, and what both agree on.

    def start(self) -> Arrays:
        """Return intercepts alone."""
        parameters = np.zeros((self.loss.outputs, len(self.design.terms) + 1))
        parameters[:, 0] = self.first_intercept()
        weights = self.design.coefficients(parameters)
        return {"round": np.array(0), "done": np.array(0), **under("weights", weights)}

    def _parameters(self, state: Arrays) -> Floats:
        weights = averaging.weights_of(state)
        return self.design.parameters(weights["coef"], weights["intercept"])

    def asks(self, state: Arrays) -> Ask:
        """Return the layout: loss, gradient and Hessian, bounded by the point and the contract."""
        most = float(self.max_rows)
        return Ask(
            part=Part.TRAINING,
            entries=two_words.entries(self._parts(state)),
            weight_bound=most,
            word_bits=64,
            stochastic_rounding=False,
            state_norm=averaging.norm(averaging.weights_of(state)),
            state_norm_bound=self.state_norm_bound,
            subset_patients=self.subset_patients,
        )

    def _row_bounds(self, state: Arrays) -> Bounds:
        """Return what no row exceeds at the state's point."""
        reach = float((np.abs(self._parameters(state)) @ self.design.bounds).max()) + self.offset_bound
        # No number at all: the norm is then refused.
        return self.loss.bounds(reach if reach <= _FARTHEST else _FARTHEST)

    def _parts(self, state: Arrays) -> list[two_words.Part]:
        row = self._row_bounds(state)
        d = len(self.design.bounds)
        most = self.max_rows * self.weight_bound
        parts = [
            two_words.Part("loss", (), most * row.loss, self.words),
            two_words.Part("gradient", (self.loss.outputs, d), most * row.slope, self.words),
            two_words.Part("hessian", (len(self.loss.pairs), d * (d + 1) // 2), most * row.curvature, self.words),
        ]
        if int(state["round"]) == 0:
            parts.append(two_words.Part("weight_sum", (), most))
            parts += [
                two_words.Part(f"constant_{place}", (), most * bound)
                for place, bound in enumerate(self.constant_bounds)
            ]
        return parts

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return this site's sums at the broadcast point."""
        parameters = self._parameters(state)
        targets, smallest, kept = self.targets_at(parameters, examples, memory)
        sums = summed(self.loss, self.matrix(examples), targets, parameters)
        bounds = self.design.bounds
        upper = np.triu_indices(len(bounds))
        arrays: dict[str, NDArray[Any]] = {
            "loss": np.array(sums.loss),
            "gradient": sums.gradient / bounds,
            "hessian": (sums.hessian / np.outer(bounds, bounds))[:, upper[0], upper[1]],
        }
        if int(state["round"]) == 0:
            arrays["weight_sum"] = np.array(len(examples) if targets.weight is None else targets.weight.sum())
            for place, value in enumerate(self.constants(targets)):
                arrays[f"constant_{place}"] = np.array(value)
        return Contribution(two_words.split(self._parts(state), arrays), float(len(examples)), smallest), kept

    # The aggregator's half.

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the state moved by one Newton step.

        Raises: NoEstimate if there is no minimum, or none was found within the study's rounds.
        """
        arrays = two_words.join(self._parts(state), total.arrays)
        sums = self._sums(arrays, self._parameters(state))
        done = int(state["round"]) + 1
        about = within("server/about", state) if done > 1 else self.about(arrays, sums, total)
        free = np.tile(about["free"] > 0, self.loss.outputs)
        memory = within("server/newton", state)
        try:
            moved = self.step(memory, self._parameters(state).ravel(), sums, free)
        except np.linalg.LinAlgError:
            raise self._no_estimate(about, memory.get("step")) from None
        moved = self._careful(moved, sums.curvature)
        return self._moved(done, about, moved, sums.curvature), {"loss": sums.loss / float(about["rows"])}

    def _careful(self, moved: newton.Moved, curvature: float) -> newton.Moved:
        """Return a shorter step where one ends at a point that no hospital answers, and is not to be trusted.

        Predictors would change by more than one in the mean: by the curvature of a start at which all rows are alike, a
        level that tells a rare class seems a thousand log-odds away.
        """
        if moved.inverse is not None or self._norm(moved.point) <= self.state_norm_bound:
            return moved
        if not moved.memory["decrements"][-1] > np.sqrt(max(curvature, 0.0)):
            return moved
        return newton.nearer(moved.memory, _CAREFUL / self._norm(moved.memory["step"]))

    def _norm(self, point: Floats) -> float:
        return averaging.norm(self.design.coefficients(point.reshape(self.loss.outputs, -1)))

    def _moved(self, done: int, about: Arrays, moved: newton.Moved, curvature: float) -> Arrays:
        """Return the next state, after so many rounds."""
        weights = self.design.coefficients(moved.point.reshape(self.loss.outputs, -1))
        state = {"round": np.array(done), "done": np.array(int(moved.inverse is not None)), **under("weights", weights)}
        step = moved.memory.get("step")
        endless = moved.inverse is None and self.diverged(moved.memory, float(about["mean_weight"]))
        if endless or not averaging.norm(weights) <= self.state_norm_bound:
            raise self._no_estimate(about, step)
        if moved.inverse is not None:
            self.check_minimum(about, curvature)
            # Under a penalty there are no standard errors to be made of the inverse.
            inverse = {} if self.ridge else {"inverse": moved.inverse}
            return {**state, **under("fit", {**about, **inverse, "loss": np.array(moved.loss)})}
        if done >= self.rounds:
            raise NoEstimate(
                f"{self.name} was not at its minimum after {self.rounds} rounds. Raise [method] rounds, to 25 say; if"
                f" that does not help, look at {', '.join(self._largest(moved.memory['step'], about['spread']))}."
            )
        return {**state, **under("server/about", about), **under("server/newton", moved.memory)}

    def _sums(self, arrays: Arrays, parameters: Floats) -> newton.Sums:
        """Return loss, gradient and Hessian with the penalty, over all parameters in one row."""
        bounds, outputs = self.design.bounds, self.loss.outputs
        d = len(bounds)
        upper = np.triu_indices(d)
        hessian = np.zeros((outputs, d, outputs, d))
        for packed, (one, other) in zip(arrays["hessian"], self.loss.pairs, strict=True):
            block = np.zeros((d, d))
            block[upper] = packed
            block = (block + np.triu(block, 1).T) * np.outer(bounds, bounds)
            hessian[one, :, other] = block
            hessian[other, :, one] = block
        curvature = float(sum(hessian[k, 0, k, 0] for k in range(outputs)))
        penalty = np.full(d, self.ridge)
        if not self.penalised_intercept:
            penalty[0] = 0.0
        for k in range(outputs):
            hessian[k, range(d), k, range(d)] += penalty
        self._fix_gauge(hessian, curvature)
        loss = float(arrays["loss"]) + 0.5 * float((penalty * np.square(parameters)).sum())
        gradient = arrays["gradient"] * bounds + penalty * parameters
        return newton.Sums(loss, gradient.ravel(), hessian.reshape(outputs * d, -1), curvature)

    def _fix_gauge(self, hessian: Floats, curvature: float) -> None:
        """Make a Hessian definite, in place, in a direction in which the loss is flat and nothing should move."""

    def about(self, arrays: Arrays, sums: newton.Sums, total: Total) -> dict[str, NDArray[Any]]:
        """Return what the first sums say of the columns, for all rounds and for the tables."""
        bounds = self.design.bounds
        d = len(bounds)
        gram = sums.hessian[:d, :d]
        if not gram[0, 0] > 0:
            raise NoEstimate(f"{self.name} has no estimate: no training row has a weight above zero.")
        free = newton.independent(gram, bounds) if self.ridge == 0 else np.ones(d, dtype=bool)
        spread = np.sqrt(np.maximum(np.diag(gram), 0.0) / max(gram[0, 0], 1e-300))
        return {
            "free": free.astype(np.float64),
            "spread": spread,
            "first_loss": np.array(sums.loss),
            "first_gradient": sums.gradient,
            "first_curvature": np.array(sums.curvature),
            "rows": np.array(float(total.weight)),
            "weight": np.array(float(arrays["weight_sum"])),
            "mean_weight": np.array(float(arrays["weight_sum"]) / total.weight),
            "constants": np.array([float(arrays[f"constant_{k}"]) for k in range(len(self.constant_bounds))]),
        }

    def _no_estimate(self, about: Arrays, step: Floats | None) -> NoEstimate:
        """Return the error that names the columns whose coefficients still grow."""
        growing = self.names if step is None else self._largest(step, about["spread"])
        return NoEstimate(
            f"{self.name} has no estimate: its loss goes on falling while the coefficients of"
            f" {', '.join(growing)} grow. {self.without_minimum}"
        )

    def _largest(self, step: Floats, spread: Floats) -> Sequence[str]:
        size = np.abs(step.reshape(self.loss.outputs, -1) * spread).max(axis=0)
        # The intercept moves with every reference level.
        order = sorted(range(1, len(size)), key=lambda column: -size[column])
        named = [self.names[column] for column in order[:5] if size[column] > 0.1 * size.max()]
        return named or [self.names[0]]

    @property
    def names(self) -> Sequence[str]:
        """Names of the parameters of one output, the intercept first."""
        return self.design.names

    def finished(self, state: Arrays) -> bool:
        """Whether the minimum was found."""
        return bool(state["done"] > 0)

    def result(self, state: Arrays) -> Arrays:
        """Return the weights, and at the end what tables are made of, under ``fit/``."""
        fit = {name: array for name, array in state.items() if name.startswith("fit/")}
        return {**averaging.weights_of(state), **fit}

    def forecast(self) -> Forecast:
        """Return what each sum holds."""
        state = self.start()
        contents = (
            "the model's error, summed over the rows",
            "the slopes of that error",
            "weighted sums of products of two columns: of levels, weighted counts of rows",
        )
        return Forecast(self.asks(state), sum(array.size for array in self.result(state).values()), contents)

    def predictors(self, weights: Arrays, prepared: Prepared) -> Floats:
        """Return the linear predictors of each row, shape (n, outputs)."""
        return np.asarray(prepared.x @ weights["coef"].T + weights["intercept"])


def check_study(study: Study, name: str) -> None:
    """Raise ValueError unless a method of exact sums over tables can serve the study."""
    if study.privacy:
        raise ValueError(
            f'{name} adds no noise. Received: a [privacy] part; use name = "private-logistic-regression" or'
            ' "neural", or leave [privacy] out'
        )
    if study.data.kind != "table":
        raise ValueError(f'{name} reads tables. Received: kind = {study.data.kind!r}; use name = "neural"')
    if study.aggregation.strategy != "FedAvg":
        raise ValueError(
            f'{name} moves its weights itself: expected [aggregation] strategy = "FedAvg". Received:'
            f" {study.aggregation.strategy!r}"
        )
