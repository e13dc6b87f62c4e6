"""A treatment policy by fitted Q-iteration with linear value functions: offline (batch) reinforcement learning.

Ernst, Geurts and Wehenkel 2005, "Tree-Based Batch Mode Reinforcement Learning", JMLR 6, with ridge regression in place
of trees; its fixed point is that of LSTD-Q (Lagoudakis and Parr 2003, "Least-Squares Policy Iteration", JMLR 4). With s
a row's state, a the recorded action, r the reward (the label) and s' the patient's next row, round k solves for each
action the ridge regression, over the rows with that action, of r + discount max_b Q_{k-1}(s', b) on s; a patient's last
row has no next one, and Q_0 = 0. Rewards lie in their declared range, so k steps are worth no more than a geometric sum
of it: the value of a next row is cut to that, which also bounds every sum.

Round 1 sums the products X'X and X'y of each action, later rounds X'y alone, to the last digit of a float64
(``shared/methods/two_words.py``); the policy is that of the pooled rows. Next rows are found at the hospital. One last
sum counts which action was taken and which one would be recommended.

Which rows have an action is chosen by the data, so a hospital leaves out actions with fewer than
``min_subset_patients`` of its patients, and the next smallest ones until those that it leaves out are so many, together
with rows whose action is missing: what lacks in the sums follows from those of the preparation. Such a row is still a
next row. With 1, only missing actions are left out.

The state holds ``round``, ``weights/...`` and, at the aggregator only, ``server/gram`` and ``server/counted``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.errors import NoEstimate, Refusal
from shared.examples import Arrays, Examples, Part
from shared.interpretation import Interpretation
from shared.layout import Entry
from shared.methods import newton, subsets, treatment_policy_tables, two_words
from shared.methods.averaging import norm, weights_of
from shared.methods.base import (
    NOTHING,
    Ask,
    Contribution,
    Forecast,
    Measurements,
    Total,
    forecast_of,
    under,
    used,
)
from shared.methods.design import design_of
from shared.methods.plain import PlainMethod
from shared.methods.treatment_policy_measure import PolicyMeasure
from shared.methods.treatment_policy_paths import Paths, Rewards, paths_of, summed_groups
from shared.methods.unsupervised import Floats, check_study
from shared.preparation import Preparation, Prepared
from shared.randomness import Randomness
from shared.schema import CLOSED

if TYPE_CHECKING:
    from shared.study import Study

_STEEPEST = 1e3
"""Largest norm of the weights, in units of the largest value: steep values choose an action patient by patient."""


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class TreatmentPolicyOptions:
    """``[method.options]`` of ``treatment-policy``.

    action: the category column whose levels are the actions; it is no part of the state.
    discount: what a reward is worth one row later.
    iterations: how many rows ahead rewards count, and how many regressions are made.
    l2: strength of the L2 penalty on the prepared columns, as scikit-learn's ``Ridge``; the intercept is free.
    min_subset_patients: fewest patients of one hospital with an action, or the hospital leaves the action out.
    """

    action: str
    discount: Annotated[float, Field(ge=0, le=1)] = 0.9
    iterations: Annotated[int, Field(ge=1, le=1000)] = 20
    l2: Annotated[float, Field(ge=1e-6, le=1e12)] = 1.0
    min_subset_patients: Annotated[int, Field(ge=1)] = 5


class TreatmentPolicy(PlainMethod):
    """One prepared study; weights are ``coef`` (actions, columns) and ``intercept`` (actions,), in the reward's unit.

    ``fit/table`` (actions, actions + 1) has training rows by the action taken and the one recommended; the last column
    is not told apart.
    """

    Options: ClassVar[type[Any]] = TreatmentPolicyOptions
    outputs: ClassVar[str] = "an estimated value of each action"
    noun: ClassVar[str] = "policy"

    def __init__(self, study: Study, preparation: Preparation) -> None:
        options: TreatmentPolicyOptions = study.method.options
        contract = preparation.contract
        declared = contract.columns[contract.label].range
        assert declared is not None
        self.options, self.preparation, self.contract = options, preparation, contract
        self.actions = tuple(str(level) for level in contract.columns[options.action].levels)
        self.design = design_of(preparation, every_level=True, without=(options.action,))
        self.rewards = Rewards(*declared, options.discount)
        self.max_rows = float(contract.max_rows_per_site)
        self.state_norm_bound = _STEEPEST * self.rewards.largest(options.iterations)

    @classmethod
    def check(cls, study: Study) -> None:
        """Raise ValueError unless the study is about a table of ordered rows with an action and a reward in each."""
        data, options = study.data, study.method.options
        check_study(study, "treatment-policy", ("table",))
        if data.steps is None:
            raise ValueError(
                "treatment-policy needs [data.steps] order, the column by which a patient's rows follow each other."
                " Received: none"
            )
        if data.task != "number":
            raise ValueError("treatment-policy: expected a label that is a number, the row's reward. Received: classes")
        if options.action not in data.features or data.columns[options.action].type != "category":
            raise ValueError(
                "treatment-policy: [method.options] action must name a categorical feature column. Received:"
                f" {options.action!r}"
            )
        if study.evaluation.subgroups or study.evaluation.importance or study.tuning:
            raise ValueError(
                "treatment-policy reads a patient's rows in their order, and no measure tells which policy is better:"
                " expected no [tuning], and no subgroups or importance in [evaluation]"
            )
        if study.method.rounds <= options.iterations:
            raise ValueError(
                f"treatment-policy: expected rounds of at least iterations + 1 = {options.iterations + 1}, the last to"
                f" count what is recommended. Received: {study.method.rounds}"
            )

    # What both halves agree on.

    def start(self) -> Arrays:
        """Return values of nothing."""
        count = len(self.actions)
        weights = self.design.coefficients(np.zeros((count, len(self.design.names))))
        return {"round": np.array(0), **under("weights", {**weights, "fit/table": np.zeros((count, count + 1))})}

    def _parts(self, done: int) -> list[two_words.Part]:
        """Return what the regression after ``done`` others sums, each column as a share of its bound."""
        count, d = len(self.actions), len(self.design.names)
        parts = [two_words.Part("moments", (count, d), self.max_rows * self.rewards.largest(done + 1))]
        if done == 0:
            parts.append(two_words.Part("products", (count, d * (d + 1) // 2), self.max_rows))
        return parts

    def asks(self, state: Arrays) -> Ask:
        """Return the layout: by action, X'y and at first X'X; at last, rows by action taken and recommended.

        Raises: Refusal ``state-out-of-bounds`` for weights that the study has not.
        """
        done, weights, start = int(state["round"]), used(weights_of(state)), used(weights_of(self.start()))
        if {name: array.shape for name, array in weights.items()} != {name: each.shape for name, each in start.items()}:
            raise Refusal("state-out-of-bounds", "expected weights of the study's actions and columns")
        entries = two_words.entries(self._parts(done))
        if self._telling(state):
            count = len(self.actions)
            entries = (Entry("table", (count, count + 1), self.max_rows, 0.5),)
        return Ask(
            part=Part.TRAINING,
            entries=entries,
            weight_bound=self.max_rows,
            word_bits=64,
            stochastic_rounding=False,
            state_norm=norm(weights),
            state_norm_bound=self.state_norm_bound,
            subset_patients=self.options.min_subset_patients,
        )

    def _telling(self, state: Arrays) -> bool:
        return int(state["round"]) >= self.options.iterations

    def values(self, weights: Arrays, rows: Floats) -> Floats:
        """Return Q of each action in each state, shape (n, actions). rows: of the design, shape (n, columns)."""
        parameters = self.design.parameters(weights["coef"], weights["intercept"])
        return np.asarray(rows @ parameters[:, 1:].T + parameters[:, 0])

    def paths(self, examples: Examples) -> Paths:
        """Return how the rows follow each other, and which action each has; computed once for each table."""
        return examples.derived("paths", self.contract, lambda: paths_of(examples, self.contract, self.options.action))

    def rows(self, examples: Examples) -> Floats:
        """Return the states, shape (n, columns)."""
        return self.design.rows(self.preparation.transform(examples).x)

    # The site's half.

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return this site's sums."""
        rows, paths, count = self.rows(examples), self.paths(examples), len(self.actions)
        key = (self.contract, self.options)
        groups = examples.derived("actions", key, lambda: summed_groups(paths, count, self.options.min_subset_patients))
        values = self.values(weights_of(state), rows)
        fewest = subsets.fewest(groups, paths.patients)
        if self._telling(state):
            there = groups < count
            least, best = self.options.min_subset_patients, values.argmax(axis=1)
            shape = (count, count)
            table, few = subsets.told(groups[there], best[there], paths.patients[there], shape, least)
            fewest = min(fewest, few) if there.any() else fewest
            return Contribution({"table": table}, float(len(examples)), fewest), NOTHING
        done = int(state["round"])
        targets = self.rewards.targets(examples.labels, values.max(axis=1), paths.following, done)
        parts, d = self._parts(done), len(self.design.names)
        shares = np.column_stack([np.ones(len(rows)), rows]) / self.design.bounds
        sums = {"moments": np.zeros((count, d)), "products": np.zeros((count, d * (d + 1) // 2))}
        upper = np.triu_indices(d)
        for action in range(count):
            own = shares[groups == action]
            sums["moments"][action] = own.T @ targets[groups == action]
            if done == 0:
                sums["products"][action] = (own.T @ own)[upper]
        return Contribution(two_words.split(parts, sums), float(len(examples)), fewest), NOTHING

    # The aggregator's half.

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the values of one row more, or what is recommended.

        Raises: NoEstimate for an action that nobody took, and where a hospital was lost on the way.
        """
        done = int(state["round"])
        counted = np.array([total.weight, float(total.contributors)])
        if done and not np.array_equal(counted, state["server/counted"]):
            raise NoEstimate(
                "treatment-policy has no estimate: its sums must all be over the same rows, and a hospital was lost on"
                " the way. Run the study again."
            )
        following = {**state, "round": np.array(done + 1), "server/counted": counted}
        if self._telling(state):
            return {**following, "weights/fit/table": total.arrays["table"]}, {}
        sums = two_words.join(self._parts(done), total.arrays)
        gram = self._gram(sums["products"]) if done == 0 else state["server/gram"]
        weights = self.design.coefficients(self._solved(gram, sums["moments"] * self.design.bounds))
        if not norm(weights) <= self.state_norm_bound:
            raise NoEstimate(
                "treatment-policy has no estimate: coefficients are larger than a hospital accepts. Raise"
                f" [method.options] l2, {self.options.l2:g} now."
            )
        return {**following, "server/gram": gram, **under("weights", weights)}, {}

    def _gram(self, products: Floats) -> Floats:
        """Return X'X of each action, shape (actions, d, d)."""
        bounds = self.design.bounds
        upper = np.triu_indices(len(bounds))
        gram = np.zeros((len(self.actions), len(bounds), len(bounds)))
        gram[:, upper[0], upper[1]] = gram[:, upper[1], upper[0]] = products
        untried = [name for name, made in zip(self.actions, gram, strict=True) if made[0, 0] < 1.0]
        if untried:
            raise NoEstimate(
                f"treatment-policy has no estimate: nobody was treated by {self.options.action} ="
                f" {', '.join(untried)}, or at each hospital too few training patients (min_subset_patients ="
                f" {self.options.min_subset_patients}). Leave such levels out of [data.columns.{self.options.action}]."
            )
        return gram * np.outer(bounds, bounds)

    def _solved(self, gram: Floats, moments: Floats) -> Floats:
        """Return the ridge solution of each action, shape (actions, d), the intercept first."""
        penalty = self.options.l2 * np.diag([0.0, *(1.0 for _ in self.design.terms)])
        solved = np.zeros_like(moments)
        for place, moment in enumerate(moments):
            matrix = gram[place] + penalty
            inverse = newton.inverted(matrix, np.ones(len(matrix), dtype=bool))
            solution = inverse @ moment
            # Once more on what is left, for what rounding left in the inverse.
            solved[place] = solution + inverse @ (moment - matrix @ solution)
        return solved

    def finished(self, state: Arrays) -> bool:
        """Whether what is recommended has been counted."""
        return int(state["round"]) > self.options.iterations

    def result(self, state: Arrays) -> Arrays:
        """Return the weights, and rows by the action taken and the one recommended."""
        return weights_of(state)

    def scores(self, weights: Arrays, prepared: Prepared) -> Floats:
        """Return the estimated value of each action, shape (n, actions)."""
        return self.values(weights, self.design.rows(prepared.x))

    def measure(self) -> PolicyMeasure:
        """Return how the policy is judged: retrospectively, on the paths of held-out patients."""
        return PolicyMeasure(self, self.rewards, self.options.iterations)

    def forecast(self) -> Forecast:
        """Return what a training sum holds."""
        return forecast_of(
            self,
            "by action, the products of every two prepared columns over the rows with that action",
            "by action, each prepared column times the reward and the discounted best value of the patient's next row",
            "at last, how many rows had each action, and how many of them would get each",
        )

    def description(self) -> str:
        """Return what it is, and what it must not be used for, for the model card."""
        options = self.options
        return (
            f"A treatment policy learned from records: fitted Q-iteration with {options.iterations} ridge regressions"
            f" (l2 = {options.l2:g}) for each of {len(self.actions)} actions, discount {options.discount:g}, from sums"
            f" over all hospitals. {treatment_policy_tables.WARNING}"
        )

    def interpretation(self, weights: Arrays) -> Interpretation:
        """Return the coefficients of each action, and how often each is recommended against how often taken."""
        return treatment_policy_tables.interpretation(
            weights, self.design, self.actions, self.options, self.preparation.rows
        )
