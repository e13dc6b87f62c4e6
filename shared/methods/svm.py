"""Support vector machine with squared hinge loss, linear or with random Fourier features for a Gaussian kernel.

The minimum of |w|**2 / 2 + C sum max(0, 1 - t f(x))**2, the intercept penalised like the other weights: that of
scikit-learn's ``LinearSVC``. Chapelle, "Training a Support Vector Machine in the Primal", Neural Computation 19(5),
2007: Newton's method, whose Hessian counts the rows inside the margin; by sums over all hospitals
(``shared/methods/summed_loss.py``). Several classes are each told apart from the rest.

A row is in these sums or not, so where two rounds differ by one row inside the margin, the difference of their sums is
that row. So rows move in groups of at least ``min_subset_patients`` patients of a hospital
(``shared/methods/margin_groups.py``), and its sums are those of C (1 - t f(x))**2 over whole groups, chosen as near as
may be to the rows inside the margin. Newton's step is to the minimum of these sums, and the search ends where the next
sums are over the same rows. That minimum is near to ``LinearSVC``'s, and the same where the option is 1. Rows may also
go in and out for ever: then the search ends where the loss was smallest, after some rounds without a smaller one.

A Gaussian kernel exp(-gamma |x - x'|**2) is approximated by products of ``rbf_features`` random cosines (Rahimi and
Recht, "Random Features for Large-Scale Kernel Machines", NIPS 2007). They are drawn from the study's seed, so every
hospital has the same, and are released with the model.

A margin is no probability. As log-odds stands twice the margin m: the squared hinge is smallest in expectation where
m = 2 p - 1 (Zhang 2004, "Statistical behavior and consistency of classification methods based on convex risk
minimization", Annals of Statistics 32(1)), whose log-odds are log((1 + m) / (1 - m)), 2 m near the boundary. The sign
and the order are the margin's; calibration and log loss are not to be trusted.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.examples import Arrays, Examples
from shared.interpretation import Interpretation, Table
from shared.methods import margin_groups, newton
from shared.methods.base import NOTHING
from shared.methods.design import Design, Term, design_of
from shared.methods.losses import MarginSquares
from shared.methods.row_sums import Floats, Targets
from shared.methods.summed_loss import SummedLossMethod, check_study
from shared.preparation import Preparation, Prepared
from shared.randomness import generator
from shared.schema import CLOSED

if TYPE_CHECKING:
    from shared.study import Study

_PATIENCE = 5
"""Rounds without a smaller loss after which the search goes back to where it was smallest, and ends."""


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class SvmOptions:
    """``[method.options]`` of ``svm``.

    C: weight of the rows' losses against the penalty.
    rbf_features: random cosines that stand for a Gaussian kernel; 0 for a linear machine.
    gamma: of the Gaussian kernel, on prepared columns; none for one over their number.
    min_subset_patients: fewest patients of one hospital who move together across the margin; 1 for ``LinearSVC``.
    """

    C: Annotated[float, Field(gt=0, le=1e9)] = 1.0
    rbf_features: Annotated[int, Field(ge=0, le=2000)] = 0
    gamma: Annotated[float, Field(gt=0, le=1e6)] | None = None
    min_subset_patients: Annotated[int, Field(ge=1)] = 5

    def __post_init__(self) -> None:
        if self.gamma is not None and not self.rbf_features:
            raise ValueError("gamma is of the Gaussian kernel: expected rbf_features with it, 300 say")


class Svm(SummedLossMethod):
    """One prepared study; weights are ``coef`` (outputs, columns or cosines) and ``intercept`` (outputs,).

    Two classes have one output, several one each. With a kernel, ``cosines`` (columns + 1, rbf_features) are the
    cosines' directions and, last, their phases.
    """

    Options: ClassVar[type[Any]] = SvmOptions
    name = "svm"

    def __init__(self, study: Study, preparation: Preparation) -> None:
        options: SvmOptions = study.method.options
        classes = range(len(preparation.contract.classes))
        self.told = np.array([1] if len(classes) == 2 else classes)
        loss = MarginSquares(options.C, len(self.told))
        count, width = options.rbf_features, len(preparation.feature_names)
        self.cosines: Floats | None = None
        if count:
            self.cosines = _cosines(study.study.seed, width, count, options.gamma or 1.0 / width)
            bound = 2.0 ** math.ceil(0.5 * math.log2(2.0 / count))
            design = Design(tuple(Term(f"cosine {k + 1}", k, bound) for k in range(count)), count)
        else:
            design = design_of(preparation, every_level=True)
        super().__init__(study, preparation, design, loss, ridge=1.0)
        self.penalised_intercept = True
        self.options = options
        self.subset_patients = options.min_subset_patients
        if self.cosines is not None:
            # They are not trained, and released with the weights that are.
            self.state_norm_bound += float(np.linalg.norm(self.cosines))

    @classmethod
    def check(cls, study: Study) -> None:
        """Raise ValueError unless the study is about a table with a categorical label."""
        check_study(study, cls.name)
        if study.data.task == "number":
            raise ValueError("svm predicts classes. Received: a label of type number")
        if study.tuning and study.method.options.min_subset_patients > 1:
            raise ValueError(
                "svm can be tuned only where one patient may move across the margin alone: sums of different candidates"
                " could be subtracted, and leave few patients. Received: a [tuning] part; leave it out, or set"
                " min_subset_patients = 1, which few hospitals allow"
            )

    def matrix(self, examples: Examples) -> Floats:
        """Return the columns, or the cosines, of each row; computed once for each table."""
        if self.cosines is None:
            return super().matrix(examples)
        return examples.derived("design", (self.preparation, self.design), lambda: self._cosines_of(examples))

    def _cosines_of(self, examples: Examples) -> Floats:
        return _features(self.preparation.transform(examples).x, self.cosines)

    def targets_at(self, parameters: Floats, examples: Examples, memory: Arrays) -> tuple[Targets, int | None, Arrays]:
        """Return 1 for the rows of a class and -1 for the others, 0 outside the margin; shape (n, outputs)."""
        signs = np.where(examples.labels[:, None] == self.told, 1.0, -1.0)
        short = 1.0 - signs * (self.matrix(examples) @ parameters[:, 1:].T + parameters[:, 0])
        least = self.options.min_subset_patients
        if least == 1:
            return Targets(signs * (short > 0)), 1, NOTHING
        rows, fewest, kept = margin_groups.chosen(short, examples, memory, least)
        return Targets(signs * rows), fewest, kept

    def step(self, memory: Arrays, point: Floats, sums: newton.Sums, free: NDArray[np.bool_]) -> newton.Moved:
        """Return the minimum of the sums; at the end, where it stays, or where the loss was smallest."""
        if self.options.min_subset_patients == 1:
            return newton.advance(memory, point, sums, free)
        moved = newton.advance({}, point, sums, free)
        if moved.inverse is not None:
            return moved
        best, waited = {"best": point, "lowest": np.array(sums.loss)}, 0
        if memory and sums.loss >= memory["lowest"]:
            best, waited = {name: memory[name] for name in best}, int(memory["waited"]) + 1
        if waited >= _PATIENCE:
            return newton.Moved({}, best["best"], newton.inverted(sums.hessian, free), float(best["lowest"]))
        return replace(moved, memory={**moved.memory, **best, "waited": np.array(waited)})

    def result(self, state: Arrays) -> Arrays:
        """Return the weights, and the cosines that they are of."""
        weights = super().result(state)
        return weights if self.cosines is None or not self.finished(state) else {**weights, "cosines": self.cosines}

    def predictors(self, weights: Arrays, prepared: Prepared) -> Floats:
        """Return the margins, shape (n, outputs)."""
        if self.cosines is None:
            return super().predictors(weights, prepared)
        features = _features(prepared.x, weights["cosines"])
        return np.asarray(features @ weights["coef"].T + weights["intercept"])

    def scores(self, weights: Arrays, prepared: Prepared) -> Floats:
        """Return twice the margins in the place of log-odds, shape (n, classes)."""
        doubled = 2.0 * self.predictors(weights, prepared)
        return np.column_stack([-doubled, doubled]) if doubled.shape[1] == 1 else doubled

    def description(self) -> str:
        """Return sentences for the model card."""
        kind = "Linear support vector machine"
        if self.cosines is not None:
            kind = f"Support vector machine with a Gaussian kernel, by {self.options.rbf_features} random cosines,"
        least = self.options.min_subset_patients
        moved = f" Rows cross the margin with those of at least {least} patients of a hospital." if least > 1 else ""
        return (
            f"{kind} with squared hinge loss (C = {self.options.C:g}), fitted by Newton's method on sums over all"
            f" hospitals.{moved} Its margins are no probabilities: calibration and log loss are not to be trusted."
        )

    def interpretation(self, weights: Arrays) -> Interpretation:
        """Return the weights of a linear machine, by prepared column."""
        if self.cosines is not None:
            return Interpretation()
        names = self.preparation.contract.classes
        told = names[1:] if len(names) == 2 else names
        rows = tuple(
            (told[output], name, float(value))
            for output, parameters in enumerate(self.design.parameters(weights["coef"], weights["intercept"]))
            for name, value in zip(self.design.names, parameters, strict=True)
        )
        note = "Margin of the class by one standard deviation of a number, or by a level being there."
        return Interpretation(tables=(Table("Weights", ("class", "column", "weight"), rows, note),))


def _cosines(seed: int, width: int, count: int, gamma: float) -> Floats:
    """Return directions and phases, shape (width + 1, count)."""
    drawn = generator(seed, "random Fourier features")
    directions = math.sqrt(2.0 * gamma) * drawn.standard_normal((width, count))
    return np.vstack([directions, drawn.uniform(0.0, 2.0 * math.pi, count)])


def _features(x: Floats, cosines: Floats | None) -> Floats:
    assert cosines is not None
    return np.asarray(math.sqrt(2.0 / cosines.shape[1]) * np.cos(x @ cosines[:-1] + cosines[-1]))
