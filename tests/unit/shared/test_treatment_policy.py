"""A treatment policy over hospitals is fitted Q-iteration on the pooled rows, written here once more over rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from client.data.base import RawData
from client.data.conform import conform
from shared.errors import NoEstimate, Refusal, StudyError
from shared.examples import Arrays, Examples, Part, concatenate
from shared.fixedpoint import encode
from shared.layout import to_vector
from shared.methods.base import NOTHING, Total
from shared.methods.treatment_policy import TreatmentPolicy
from shared.methods.treatment_policy_measure import PolicyMeasure
from shared.methods.treatment_policy_paths import Paths, Rewards, paths_of, summed_groups
from shared.methods.words import word_plan
from shared.plan import EVALUATE, EVERYONE, PREPARE, TRAIN
from shared.randomness import for_site
from shared.study import Study
from simulations.local import Consortium
from tests.builders import site_of, table_study, ticking
from tests.unit.shared.linear_models import prepared_by

DAY, DOSE, STATE = 0, 1, 2
"""Where the columns stand that every study here has; further ones may follow."""


def study_of(features: int = 3, actions: int = 2, rounds: int | None = None, **changes: Any) -> Study:
    """Of ``x0``, the day; ``x1``, the action; and further numbers. Options are ``option__name=value``."""
    options = {"action": "x1", "min_subset_patients": 1}
    options |= {key.removeprefix("option__"): changes.pop(key) for key in [*changes] if key.startswith("option__")}
    basis = {
        "data__steps": {"order": "x0"},
        "data__patient_id": "who",
        "data__columns__x1": {"type": "category", "levels": [f"drug {index}" for index in range(actions)]},
        "data__columns__y": {"type": "number", "range": [-1.0, 2.0]},
        "method": {"name": "treatment-policy", "rounds": rounds or options.get("iterations", 20) + 1},
        "method__options": options,
        "aggregation": {"secure": True, "min_sites": 3},
    }
    return table_study(features, **{**basis, **changes})


def path(patient: str, rows: Any, rewards: Any) -> Examples:
    """The rows of one patient: day, action, state."""
    values = np.asarray(rows, dtype=np.float64)
    patients = np.array([patient] * len(values))
    return Examples(values, np.zeros(values.shape, dtype=bool), np.asarray(rewards, dtype=np.float64), patients)


def patients_of(rng: np.random.Generator, count: int, first: int = 0, actions: int = 3) -> Examples:
    """Patients of one to five days in no order of days, whose state drifts, with some actions and states missing."""
    made = []
    for index in range(count):
        days = rng.permutation(10)[: rng.integers(1, 6)] - 4.0
        state = np.clip(rng.normal(size=(len(days), 2)).cumsum(axis=0), -9, 9)
        drug = rng.integers(0, actions, len(days)).astype(float)
        reward = np.clip(0.2 * state[:, 0] * (drug - 1) + 0.3 * rng.normal(size=len(days)), -1, 2)
        drug[rng.random(len(days)) < 0.1] = np.nan
        state[rng.random(state.shape) < 0.1] = np.nan
        made.append(path(f"p{first + index:03}", np.column_stack([days, drug, state]), reward))
    return concatenate(made)


def oracle(x: NDArray[Any], rows: Examples, discount: float, iterations: int, l2: float) -> NDArray[np.float64]:
    """Fitted Q-iteration row by row: return (actions, 1 + columns). x: states. Rewards are from -1 to 2."""
    following: list[int | None] = []
    for patient, day in zip(rows.patients, rows.values[:, DAY], strict=True):
        later = [k for k in range(len(rows)) if rows.patients[k] == patient and rows.values[k, DAY] > day]
        following.append(min(later, key=lambda k: rows.values[k, DAY], default=None))
    z = np.column_stack([np.ones(len(x)), x])
    taken = rows.values[:, DOSE]
    weights = np.zeros((int(np.nanmax(taken)) + 1, z.shape[1]))
    horizon = 0.0
    for _ in range(iterations):
        wanted = [
            reward + (0.0 if k is None else discount * min(max((weights @ z[k]).max(), -horizon), 2 * horizon))
            for reward, k in zip(rows.labels, following, strict=True)
        ]
        weights = np.array(
            [
                np.linalg.lstsq(
                    np.vstack([z[taken == a], np.sqrt(l2) * np.eye(z.shape[1])[1:]]),
                    np.append(np.array(wanted)[taken == a], np.zeros(z.shape[1] - 1)),
                    rcond=None,
                )[0]
                for a in range(len(weights))
            ]
        )
        horizon = 1 + discount * horizon
    return weights


class Ran:
    """A run of a study over hospitals, who judge on their training rows."""

    def __init__(self, study: Study, sites: dict[str, Examples]) -> None:
        data = {name: site_of(name, rows) for name, rows in sites.items()}
        plan, progress = Consortium(study, data).run(ticking())
        results = plan.result(progress.state)
        self.rows = concatenate([site.parts[Part.TRAINING] for site in data.values()])
        self.weights, self.preparation = results[TRAIN], results[PREPARE]
        self.method: TreatmentPolicy = plan.method(progress.state, TRAIN)
        self.metrics = results[EVALUATE][EVERYONE].judge(0, np.random.default_rng(0)).metrics
        self.x = self.method.rows(self.rows)
        self.parameters = self.method.design.parameters(self.weights["coef"], self.weights["intercept"])


def pooled(seed: int = 5, **changes: Any) -> Ran:
    rng = np.random.default_rng(seed)
    sites = {name: patients_of(rng, 12, 100 * index) for index, name in enumerate("abc")}
    return Ran(study_of(4, 3, **changes), sites)


def test_the_policy_is_that_of_the_pooled_rows_under_secure_aggregation() -> None:
    ran = pooled(option__iterations=12, option__discount=0.9, option__l2=0.1)
    assert ("(intercept)", "x0", "x2", "x2 missing", "x3", "x3 missing") == ran.method.design.names
    assert oracle(ran.x, ran.rows, 0.9, 12, 0.1) == pytest.approx(ran.parameters, abs=1e-8)


def test_without_a_discounted_future_it_is_a_ridge_regression_of_each_action() -> None:
    ran = pooled(option__discount=0.0, option__iterations=3)
    z = np.column_stack([np.ones(len(ran.x)), ran.x])
    for action, found in enumerate(ran.parameters):
        own = ran.rows.values[:, DOSE] == action
        matrix = z[own].T @ z[own] + np.diag([0.0] + [1.0] * ran.x.shape[1])
        assert np.linalg.solve(matrix, z[own].T @ ran.rows.labels[own]) == pytest.approx(found, abs=1e-8)


def chain(patient: int, drugs: list[int], rewards: list[float], shuffled: bool = False) -> Examples:
    """A patient in state 0, who goes one state further with drug 1 and ends from state 2, or stays with drug 0.

    Days differ from patient to patient, so that the values can be told from the state alone.
    """
    state, rows = 0, []
    days = np.sort(np.random.default_rng(patient).permutation(20)[: len(drugs)]) - 10
    for day, drug in zip(days, drugs, strict=True):
        rows.append([day, drug, state])
        state = min(state + drug, 2)
    made = path(f"p{patient:02}", rows, rewards)
    return made.take(np.arange(len(made))[::-1]) if shuffled else made


@pytest.mark.parametrize("shuffled", [False, True])
def test_a_chain_of_three_states_has_the_values_that_follow_by_hand(shuffled: bool) -> None:
    """Drug 1 moves on and pays 1 from the last state; drug 0 stays and pays 0. With discount 0.5: Q* below.

    Drug 1: 1 in state 2 (the end), 0.5 in state 1, 0.25 in state 0. Drug 0: half the best of the same state.
    """
    levels = {"type": "category", "levels": [0, 1, 2]}
    study = study_of(3, data__columns__x2=levels, option__discount=0.5, option__iterations=40, option__l2=1e-6)
    # Every patient waits once in each state, so that both drugs are seen there, and ends with drug 1 in state 2.
    sites = {
        name: concatenate([chain(10 * index + k, [0, 1, 0, 1, 0, 1], [0, 0, 0, 0, 0, 1], shuffled) for k in range(2)])
        for index, name in enumerate("abc")
    }
    ran = Ran(study, sites)
    best = {0: 0.25, 1: 0.5, 2: 1.0}
    states = ran.rows.values[:, STATE]

    values = ran.method.values(ran.weights, ran.x)
    assert [best[state] for state in states] == pytest.approx(values[:, 1].tolist(), abs=1e-5)
    assert [best[state] / 2 for state in states] == pytest.approx(values[:, 0].tolist(), abs=1e-5)
    assert 0.0 == pytest.approx(ran.metrics["bellman_error"].value, abs=1e-5)
    assert 0.25 == pytest.approx(ran.metrics["policy_value"].value, abs=1e-5)
    assert 0.5**5 == pytest.approx(ran.metrics["observed_return"].value, abs=1e-9)
    assert 0.5 == pytest.approx(ran.metrics["policy_agreement"].value, abs=1e-9)
    # Each of six patients took each drug three times; drug 1 is recommended always.
    assert [[0, 18, 0], [0, 18, 0]] == ran.weights["fit/table"].tolist()


def test_next_rows_follow_the_order_of_the_patient_whatever_the_order_of_the_rows() -> None:
    rows = concatenate([path("q", [[3, 0, 0], [1, 1, 0]], [0, 0]), path("p", [[2, np.nan, 0]], [0])])
    found = paths_of(rows, study_of().data, "x1")
    assert [-1, 0, -1] == found.following.tolist()
    assert [1, 0, 0] == found.place.tolist()
    assert [0, 1, 2] == found.actions.tolist()


def test_rows_without_a_place_or_a_reward_are_left_out_and_no_history_is_kept() -> None:
    cells = {"who": ["p", "p", "p"], "x0": [2, None, 1], "x1": ["drug 1"] * 3, "x2": [0.5] * 3, "y": [0, 1, None]}
    raw = RawData({name: np.array(column, dtype=object) for name, column in cells.items()})
    found = conform(study_of().data, raw, "here")
    assert [[2.0, 1.0, 0.5]] == found.examples.values.tolist()
    assert (1, 1, None) == (found.findings.no_order, found.findings.no_label, found.examples.images)


def test_the_future_of_a_next_row_is_cut_to_what_rewards_can_be() -> None:
    rewards = Rewards(-1.0, 2.0, 0.5)
    assert (-1.5, 3.0) == rewards.limits(2)
    found = rewards.targets(np.array([1.0, 1.0, 1.0]), np.array([9.0, -9.0, 1.0]), np.array([1, 0, -1]), 2)
    assert [1 - 0.75, 1 + 1.5, 1.0] == found.tolist()


def test_a_hospital_without_an_action_takes_part_and_an_action_of_nobody_is_named() -> None:
    rng = np.random.default_rng(2)
    sites = {name: patients_of(rng, 12, 100 * k, actions=3 - (name == "a")) for k, name in enumerate("abc")}
    ran = Ran(study_of(4, 3, option__iterations=2), sites)
    assert oracle(ran.x, ran.rows, 0.9, 2, 1.0) == pytest.approx(ran.parameters, abs=1e-8)
    with pytest.raises(NoEstimate, match="nobody was treated by x1 = drug 3,"):
        Ran(study_of(4, 4, option__iterations=2), sites)


def test_what_a_hospital_leaves_out_is_of_enough_patients_to_hide_in() -> None:
    # Drug 0: patients 0 to 5; drug 1: 0 to 2; drug 2: 6 alone.
    rows = [path(f"p{k}", [[1, 0, 0]], [0]) for k in range(6)] + [path(f"p{k}", [[2, 1, 0]], [0]) for k in range(3)]
    paths = paths_of(concatenate([*rows, path("p6", [[1, 2, 0]], [0])]), study_of(3, 3).data, "x1")
    # Alone, patient 6 would follow by subtraction: drug 1 is left out, too.
    assert [0] * 6 + [3] * 4 == summed_groups(paths, 3, 3).tolist()
    assert [0] * 6 + [1] * 3 + [2] == summed_groups(paths, 3, 1).tolist()


def test_no_sum_is_over_fewer_patients_than_the_study_says() -> None:
    rng = np.random.default_rng(4)
    rows = patients_of(rng, 30)
    study = study_of(4, 3, option__min_subset_patients=5, option__iterations=1)
    method = TreatmentPolicy(study, prepared_by(study, rows))
    for number in (0, 1):
        state = {**method.start(), "round": np.array(number)}
        contribution, _ = method.contribute(state, rows, NOTHING, for_site(1, "a", 1))
        assert contribution.smallest_subset is not None and contribution.smallest_subset >= 5


def test_sums_after_a_hospital_was_lost_are_no_estimate() -> None:
    rows = patients_of(np.random.default_rng(4), 30)
    study = study_of(4, 3, option__iterations=2)
    method = TreatmentPolicy(study, prepared_by(study, rows))
    first, _ = method.contribute(method.start(), rows, NOTHING, for_site(1, "a", 1))
    state, _ = method.advance(method.start(), Total(first.arrays, first.weight, 3))
    second, _ = method.contribute(state, rows, NOTHING, for_site(1, "a", 2))
    with pytest.raises(NoEstimate, match="a hospital was lost"):
        method.advance(state, Total(second.arrays, second.weight, 2))


def test_weights_of_another_study_are_refused() -> None:
    study = study_of(4, 3)
    start = TreatmentPolicy(study, prepared_by(study, patients_of(np.random.default_rng(4), 9))).start()
    other = study_of(4, 2)
    method = TreatmentPolicy(other, prepared_by(other, patients_of(np.random.default_rng(4), 9, actions=2)))
    with pytest.raises(Refusal, match="expected weights of the study's actions and columns"):
        method.asks(start)


class Given:
    """Values of two actions in three rows, as a method would say them."""

    def __init__(self, rows: Examples, values: Any) -> None:
        self._paths = paths_of(rows, study_of().data, "x1")
        self._values = np.asarray(values, dtype=np.float64)

    def paths(self, examples: Examples) -> Paths:
        return self._paths

    def rows(self, examples: Examples) -> NDArray[np.float64]:
        return examples.values

    def values(self, weights: Arrays, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        return self._values


def test_a_policy_is_judged_by_means_over_patients_of_what_follows_by_hand() -> None:
    # Patient p: days 1, 2 and 3; q: one day, without an action. The values look one row ahead.
    rows = concatenate([path("p", [[1, 0, 0], [2, 1, 0], [3, 0, 0]], [1, 0.5, 2]), path("q", [[1, np.nan, 0]], [-1])])
    values = [[0.5, 0.25], [1.0, 0.0], [1.0, 1.5], [0.5, 9.0]]
    found = PolicyMeasure(Given(rows, values), Rewards(-1.0, 2.0, 0.5), 1).count({}, rows)
    metrics = found.judge(0, np.random.default_rng(0)).metrics

    # |1 + 0.5 * 1 - 0.5| = 1, |0.5 + 0.5 * 1.5 - 0| = 1.25, |2 - 1| = 1.
    assert 3.25 / 3 == pytest.approx(metrics["bellman_error"].value)
    # 0.5, and 9 cut to the largest reward.
    assert (0.5 + 2) / 2 == pytest.approx(metrics["policy_value"].value)
    assert (1 - 1) / 2 == pytest.approx(metrics["observed_return"].value)
    # Recommended: 0, 0, 1.
    assert 1 / 3 == pytest.approx(metrics["policy_agreement"].value)
    assert (4, 2, 1) == (found.n, found.patients, found.known)
    # Of two patients, half the difference is the deviation; above, the interval ends at the largest reward.
    assert (1.25 - 1.96 * 0.75 / 2**0.5, 2.0) == pytest.approx(
        (metrics["policy_value"].low, metrics["policy_value"].high)
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 3), st.floats(0, 1), st.integers(0, 2**31))
def test_sums_are_within_their_bounds_whatever_the_broadcast_values(done: int, discount: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ends = [path(f"e{k}", [[10, 0, 10, -10], [-10, 1, -10, 10]], [2.0, -1.0]) for k in range(3)]
    days = np.linspace(-10, 10, 40)
    best = path("best", np.column_stack([days, 0 * days, days, days]), [2.0] * 40)
    rows = concatenate([*ends, best])
    study = study_of(4, 3, option__discount=discount, option__iterations=4, data__max_rows_per_site=len(rows))
    method = TreatmentPolicy(study, prepared_by(study, rows))
    start = method.start()
    drawn = {name: rng.normal(size=start[name].shape) * 50 for name in ("weights/coef", "weights/intercept")}
    state = {**start, **drawn, "round": np.array(done)}
    contribution, _ = method.contribute(state, rows, NOTHING, for_site(1, "a", 1))
    plan = word_plan(method.asks(state), 3)
    vector = to_vector(method.asks(state).entries, contribution.arrays)

    assert plan.size == len(encode(plan, np.append(vector, contribution.weight), None))


def test_the_released_model_says_that_it_must_not_guide_treatment() -> None:
    ran = pooled(option__iterations=2)
    said = ran.method.interpretation(ran.weights)
    assert any("must not guide treatment" in sentence for sentence in said.sentences)
    assert "must not guide treatment" in ran.method.description()
    missing = int(np.isnan(ran.rows.values[:, DOSE]).sum())
    assert any(f"{missing} of {len(ran.rows)} training rows are in no regression" in each for each in said.sentences)


def test_coefficients_are_told_in_the_columns_own_units() -> None:
    ran = pooled(option__iterations=2)
    table = {row[0]: row[1:] for row in ran.method.interpretation(ran.weights).tables[0].rows}
    rows = ran.rows.take(~np.isnan(ran.rows.values).any(axis=1))
    names = ("(intercept)", "x0", "x2", "x3")
    own = np.array([table[name] for name in names])
    states = np.column_stack([np.ones(len(rows)), rows.values[:, [0, 2, 3]]])
    assert states @ own == pytest.approx(ran.method.values(ran.weights, ran.method.rows(rows)), abs=1e-9)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data__steps": None}, r"needs \[data.steps\] order"),
        ({"option__action": "x2"}, "action must name a categorical feature column. Received: 'x2'"),
        ({"rounds": 20}, "rounds of at least iterations [+] 1 = 21"),
        ({"data__columns__y": {"type": "category", "levels": [0, 1]}}, "expected a label that is a number"),
        ({"privacy": {"epsilon": 1.0, "delta": 1e-5}}, "adds no noise"),
        ({"evaluation__subgroups": ["x1"]}, "no subgroups or importance"),
        ({"tuning": {"grid": {"l2": [1.0, 2.0]}}}, r"no \[tuning\]"),
    ],
)
def test_a_study_that_it_cannot_serve_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        study_of(**changes)
