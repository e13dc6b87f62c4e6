"""Proportional hazards by sums: statsmodels' ``PHReg`` on the pooled rows with the same intervals, with masks on."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.duration.hazard_regression import PHReg

from client.policy import class_patients
from shared.bundle import examples_of as cells_of
from shared.errors import NoEstimate, StudyError
from shared.examples import Examples
from shared.fixedpoint import encode
from shared.layout import to_vector
from shared.methods.base import PlainMean
from shared.methods.cox import Cox
from shared.methods.survival import Grid, coarsened
from shared.methods.words import word_plan
from shared.plan import TRAIN
from shared.randomness import for_site
from shared.study import Study
from tests.builders import Consortium, examples_of, site_of, ticking
from tests.unit.shared.linear_models import Fit, prepared_by, secure_study

TIME = {"type": "number", "range": [0.0, 10.0], "unit": "years"}
DEATH = {"type": "category", "levels": ["alive", "dead"]}


def study_of(features: int = 2, least: int = 1, **options: Any) -> Study:
    return secure_study(
        "cox",
        features,
        data__columns__y=TIME,
        data__columns__death=DEATH,
        data__event="death",
        method__options={"intervals": 20, "min_subset_patients": least, **options},
    )


def rows(n: int = 120, features: int = 2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Columns, times and events; about a third are censored."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(n, features))
    times = rng.exponential(3.0, n) * np.exp(-x @ np.linspace(0.8, -0.5, features))
    ends = rng.uniform(1.0, 10.0, n)
    return x, np.minimum(times, ends), times <= ends


def with_events(x: Any, times: Any, events: Any, first: int = 0) -> Examples:
    return dataclasses.replace(examples_of(x, times, first), events=np.asarray(events, dtype=bool))


def fit(study: Study, x: Any, times: Any, events: Any, sites: int = 3) -> Fit:
    """Deal rows to hospitals in order, and run the study."""
    data = {
        f"s{k}": site_of(f"s{k}", with_events(x[own], times[own], events[own], 1000 * k))
        for k, own in enumerate(np.array_split(np.arange(len(times)), sites))
    }
    plan, progress = Consortium(study, data).run(ticking())
    results = plan.result(progress.state)
    prepared = results["prepare"].transform(examples_of(x, times)).x
    rounds = sum(record.stage == TRAIN for record in progress.history)
    return Fit(plan.method(progress.state, TRAIN), results[TRAIN], results["prepare"], prepared, rounds)


@pytest.mark.parametrize("ties", ["breslow", "efron"])
def test_the_table_is_that_of_the_pooled_rows_on_the_same_grid(ties: str) -> None:
    x, times, events = rows()
    ours = fit(study_of(ties=ties), x, times, events)
    oracle = PHReg(np.floor(2 * times), x, events, ties=ties).fit(disp=0)
    said = np.array([ours.table["x0"], ours.table["x1"]], dtype=float)
    expected = np.column_stack([oracle.params, oracle.bse, oracle.tvalues, oracle.pvalues, oracle.conf_int()])
    assert expected == pytest.approx(said[:, :6], abs=1e-7)
    assert np.exp(oracle.params) == pytest.approx(said[:, 6], abs=1e-7)
    assert oracle.llf == pytest.approx(ours.said["log partial likelihood"], abs=1e-8)


def test_hospitals_that_join_intervals_have_the_pooled_result_of_the_coarser_times() -> None:
    x, times, events = rows()
    ours = fit(study_of(least=5, ties="efron"), x, times, events)
    joined = [
        coarsened(np.floor(2 * times[own]).astype(int), events[own].astype(int), np.arange(len(own)), 5)
        for own in np.array_split(np.arange(120), 3)
    ]
    oracle = PHReg(np.concatenate(joined), x, events, ties="efron").fit(disp=0)
    assert oracle.params == pytest.approx([ours.table["x0"][0], ours.table["x1"][0]], abs=1e-7)


def test_four_patients_by_hand() -> None:
    """Events of x = 1, then 0, then 1, and x = 0 is censored last. With r = exp(b) the likelihood is r / (2r + 2) times
    1 / (r + 2) times r / (r + 1), and largest where 2 / (r + 1) = r / (r + 2), so r^2 - r - 4 = 0.
    """
    x, times, events = np.array([[1.0], [0.0], [1.0], [0.0]]), np.array([1.1, 2.1, 3.1, 4.1]), np.array([1, 1, 1, 0])
    ours = fit(study_of(1), x, times, events == 1, sites=4)
    assert math.log((1 + math.sqrt(17)) / 2) == pytest.approx(ours.table["x0"][0], abs=1e-9)
    assert ours.said["log partial likelihood without columns"] == pytest.approx(-math.log(4 * 3 * 2))


def test_the_baseline_is_breslows() -> None:
    x, times, events = rows()
    ours = fit(study_of(), x, times, events)
    hazards, cells = np.exp((x - x.mean(axis=0)) @ [ours.table["x0"][0], ours.table["x1"][0]]), np.floor(2 * times)
    ends = np.unique(cells[events])
    steps = [(cells[events] == cell).sum() / hazards[cells >= cell].sum() for cell in ends]
    table = np.array(ours.method.interpretation(ours.weights).tables[2].rows)
    assert (ends + 1) / 2 == pytest.approx(table[:, 0])
    assert np.cumsum(steps) == pytest.approx(table[:, 1], abs=1e-6)
    assert np.exp(-np.cumsum(steps)) == pytest.approx(table[:, 2], abs=1e-6)


def test_a_hospital_without_events_and_one_censored_before_them_all_take_part() -> None:
    x, times, events = rows()
    times[:40], events[:40] = 0.1, False
    events[40:80] = False
    oracle = PHReg(np.floor(2 * times), x, events).fit(disp=0)
    ours = fit(study_of(least=5), x, times, events)
    exact = fit(study_of(), x, times, events)
    assert oracle.params == pytest.approx([exact.table["x0"][0], exact.table["x1"][0]], abs=1e-7)
    assert ours.said["events"] == events.sum()


def test_a_constant_column_is_named_and_not_estimated() -> None:
    x, times, events = rows()
    x[:, 1] = 2.0
    ours = fit(study_of(), x, times, events)
    alone = fit(study_of(1), x[:, :1], times, events)
    assert ours.table["x1"][0] is None
    assert alone.table["x0"] == pytest.approx(ours.table["x0"], abs=1e-9)
    assert "determined by the columns before: x1." in ours.method.interpretation(ours.weights).sentences[0]


def test_a_column_without_which_no_event_happens_is_named() -> None:
    x, times, events = rows()
    x[:, 1] = events
    with pytest.raises(NoEstimate, match=r"coefficients of x1.* grow.*monotone likelihood"):
        fit(study_of(), x, times, events)


def test_without_an_event_there_is_no_estimate() -> None:
    x, times, events = rows()
    with pytest.raises(NoEstimate, match="no training row of any hospital ended with the event"):
        fit(study_of(), x, times, events & False)


def test_the_smallest_cell_is_told_to_the_policy() -> None:
    """By themselves 1 and 2 patients leave in the two intervals; joined, 3."""
    examples = with_events([[0.0], [1.0], [2.0]], [0.1, 9.0, 9.1], [1, 1, 0])
    smallest = []
    for least in (1, 2, 3):
        method = Cox.create(study_of(1, least), prepared_by(study_of(1), examples), PlainMean())
        assert method.asks(method.start()).data_dependent_subsets
        smallest.append(method.contribute(method.start(), examples, {}, for_site(7, "a", 1))[0].smallest_subset)
    assert smallest == [1, 3, 3]


@given(
    st.lists(st.tuples(st.integers(0, 6), st.integers(0, 1)), max_size=40),
    st.integers(1, 5),
)
def test_joined_intervals_have_enough_patients_of_each_kind_or_hold_all_rows(
    leaving: list[tuple[int, int]], least: int
) -> None:
    cells, kinds = (np.array([each[place] for each in leaving], dtype=np.int64) for place in (0, 1))
    joined = coarsened(cells, kinds, np.arange(len(cells)), least)
    counts = np.unique(2 * joined + kinds, return_counts=True)[1]
    assert counts.min(initial=least) >= least or len(set(joined)) == 1
    assert set(joined) <= set(cells)
    order = np.argsort(cells, kind="stable")
    assert np.all(np.diff(joined[order]) >= 0)


@settings(max_examples=25)
@given(st.floats(-300.0, 300.0), st.floats(-300.0, 300.0), st.sampled_from(["breslow", "efron"]))
def test_no_point_takes_a_contribution_beyond_its_bounds(one: float, other: float, ties: str) -> None:
    x, times, events = rows(30)
    study = study_of(ties=ties)
    examples = with_events(np.clip(8 * x, -10, 10), times, events)
    method = Cox.create(study, prepared_by(study, examples), PlainMean())
    state = {**method.start(), "weights/coef": np.array([[one, other]])}
    ask = method.asks(state)
    contribution, _ = method.contribute(state, examples, {}, for_site(7, "a", 1))
    vector = to_vector(ask.entries, contribution.arrays)
    assert len(encode(word_plan(ask, 3), np.append(vector, contribution.weight), None)) == len(vector) + 1


def test_concordance_is_that_of_all_pairs() -> None:
    x, times, events = rows()
    study = study_of()
    examples = with_events(x, times, events)
    method = Cox.create(study, prepared_by(study, examples), PlainMean())
    weights = method.result({**method.start(), "weights/coef": np.array([[0.3, 0.5]])})
    judged = method.measure().count(weights, examples).judge(100, np.random.default_rng(0)).metrics["concordance"]
    eta, cells = method.scores(weights, method.preparation.transform(examples))[:, 0], np.floor(2 * times)
    known = right = 0.0
    for i in np.flatnonzero(events):
        for j in range(len(x)):
            if cells[j] > cells[i] or (cells[j] == cells[i] and not events[j]):
                known += 1
                right += float(eta[i] > eta[j]) + 0.5 * float(eta[i] == eta[j])
    assert right / known == pytest.approx(judged.value, abs=2e-3)
    assert judged.low < judged.value < judged.high


def test_patients_with_the_event_are_those_of_a_class_to_a_policy() -> None:
    examples = dataclasses.replace(with_events([[0.0]] * 3, [1, 2, 3], [1, 1, 0]), patients=np.array(["p", "p", "q"]))
    assert {"dead": 1} == class_patients(study_of(1).data, examples)


def test_a_row_to_be_predicted_has_neither_time_nor_event() -> None:
    assert cells_of(study_of(1).data, [{"x0": 2.0}]).values.tolist() == [[2.0]]


def test_a_time_at_the_end_of_the_range_is_in_the_last_interval() -> None:
    assert Grid(0.0, 10.0, 20).index(np.array([0.0, 0.49, 0.5, 10.0])).tolist() == [0, 0, 1, 19]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method__name": "linear-regression", "method__options": {}}, "only 'cox' knows censored times"),
        ({"data__event": None}, r"cox needs \[data\] event"),
        ({"tuning__grid": {"intervals": [10, 20]}}, "cox has nothing to tune"),
        ({"data__event": "x0"}, "a category of .* with two levels"),
        ({"data__columns__y": {"type": "category", "levels": [0, 1]}}, "a label of type number"),
    ],
)
def test_what_is_no_time_to_an_event_is_refused(changes: dict[str, Any], words: str) -> None:
    whole = {
        "data__columns__y": TIME,
        "data__columns__death": DEATH,
        "data__event": "death",
        **changes,
    }
    with pytest.raises(StudyError, match=words):
        secure_study(whole.pop("method__name", "cox"), 2, **whole)
