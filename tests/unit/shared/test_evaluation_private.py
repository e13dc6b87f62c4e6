"""Evaluation with noise: one patient's influence is as stated, and metrics with their intervals survive the noise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared import metrics, metrics_private, scores, scores_private
from shared.errors import StudyError
from shared.examples import Arrays, Examples, Part
from shared.layout import size_of, to_vector
from shared.methods.base import NOTHING, PlainMean, Total
from shared.methods.evaluation import EvaluationMethod
from shared.methods.evaluation_private import PrivateEvaluationMethod
from shared.methods.logistic_regression import LogisticRegressionAveraging
from shared.methods.preparation import PreparationMethod
from shared.metrics import Judgement
from shared.preparation import Preparation
from shared.randomness import for_site
from shared.scores_private import BINS, PrivateSums
from shared.study import Study, parse_study
from tests.unit.server.outcomes import study_of

Floats = NDArray[np.float64]

SEXES = {"everyone": None, "sex=female": ("sex", 0), "sex=male": ("sex", 1)}
BOTH = {**SEXES, "ward=a": ("ward", 0), "ward=b": ("ward", 1), "ward=c": ("ward", 2)}
RANDOMNESS = for_site(7, "north", 1)


def study(classes: int) -> Study:
    columns: dict[str, Any] = {
        "x": {"type": "number", "range": [-10.0, 10.0]},
        "sex": {"type": "category", "levels": ["female", "male"]},
        "ward": {"type": "category", "levels": ["a", "b", "c"]},
        "y": {"type": "category", "levels": list(range(classes))},
    }
    raw = {
        "study": {"name": "small", "question": "Does it work?", "seed": 7},
        "data": {"kind": "table", "label": "y", "columns": columns, "max_rows_per_site": 100},
        "method": {"name": "logistic-regression", "rounds": 3},
    }
    return parse_study(raw, "test")


def preparation(contract: Any) -> Preparation:
    """A preparation of no patients: numbers are left as they are but for their centre."""
    method = PreparationMethod(contract)
    entries = method.asks(method.start()).entries
    state, _ = method.advance(method.start(), Total({each.name: np.zeros(each.shape) for each in entries}, 0.0, 1))
    return method.result(state)


def evaluation(classes: int = 2, groups: Any = SEXES, noise_multiplier: float = 1.0, **options: Any) -> Any:
    made = study(classes)
    prepared = preparation(made.data)
    method = LogisticRegressionAveraging.create(made, prepared, PlainMean())
    rng = np.random.default_rng(5)
    weights = {name: rng.normal(size=array.shape) for name, array in method.result(method.start()).items()}
    return PrivateEvaluationMethod(method, weights, prepared, 0.5, groups, noise_multiplier, **options)


def examples(rows: list[tuple[float, int, int, int, int]]) -> Examples:
    """Rows of (x, sex, ward, label, patient)."""
    table = np.array(rows, dtype=np.float64).reshape(-1, 5)
    values = np.where(table[:, :3] < -50, np.nan, table[:, :3])
    patients = table[:, 4].astype(int).astype(str)
    return Examples(values, np.zeros(values.shape, dtype=bool), table[:, 3], patients)


def vector(method: PrivateEvaluationMethod, rows: Examples) -> Floats:
    contribution, _ = method.contribute(method.start(), rows, NOTHING, RANDOMNESS)
    assert contribution.weight == 1.0
    return to_vector(method.asks(method.start()).entries, contribution.arrays)


def summed(method: PrivateEvaluationMethod, arrays: Arrays, sites: int = 1) -> dict[str, PrivateSums]:
    state, measurements = method.advance(method.start(), Total(arrays, float(sites), sites))
    assert (measurements, method.finished(state)) == ({}, True)
    return method.result(state)


def counted(method: PrivateEvaluationMethod, rows: Examples) -> dict[str, PrivateSums]:
    return summed(method, method.contribute(method.start(), rows, NOTHING, RANDOMNESS)[0].arrays)


def row(classes: int) -> st.SearchStrategy[tuple[float, int, int, int, int]]:
    """A row whose sex and ward may be missing, of one of four patients."""
    sex, ward = st.sampled_from([-99, 0, 1]), st.sampled_from([-99, 0, 1, 2])
    return st.tuples(st.floats(-10, 10), sex, ward, st.integers(0, classes - 1), st.integers(0, 3))


@pytest.mark.parametrize("groups", [{"everyone": None}, SEXES, BOTH], ids=["everyone", "one column", "two columns"])
@pytest.mark.parametrize("classes", [2, 3, 5])
@given(data=st.data())
def test_one_patient_changes_the_vector_by_no_more_than_its_influence(classes: int, groups: Any, data: Any) -> None:
    method = evaluation(classes, groups)
    rows = data.draw(st.lists(row(classes), max_size=12))
    without = [each for each in rows if each[4] != 0]
    change = vector(method, examples(rows)) - vector(method, examples(without))
    assert np.abs(change).sum() <= method.influence.l1 + 1e-9
    assert np.linalg.norm(change) <= method.influence.l2 + 1e-9


@pytest.mark.parametrize(("classes", "groups"), [(2, {"everyone": None}), (2, BOTH), (4, SEXES)])
def test_the_influence_is_reached(classes: int, groups: Any) -> None:
    """A patient with one row, and with a level in each column, adds exactly that much."""
    method = evaluation(classes, groups)
    added = vector(method, examples([(1.0, 0, 2, 1, 0)]))
    assert (method.influence.l1, method.influence.l2) == pytest.approx((added.sum(), np.linalg.norm(added)))


def test_the_influence_is_what_the_module_says() -> None:
    """Four classes: L1 = 2 + sqrt(3), L2 = sqrt(3); one column of subgroups doubles L1 and adds sqrt(2) to L2."""
    assert (1.0, 1.0) == (
        evaluation(2, {"everyone": None}).influence.l1,
        evaluation(2, {"everyone": None}).influence.l2,
    )
    found = evaluation(4, SEXES).influence
    assert (2 * (2 + math.sqrt(3)), math.sqrt(6)) == pytest.approx((found.l1, found.l2))


def test_a_patient_with_four_rows_counts_once() -> None:
    """Three rows are of class 1, one of class 0; two have a sex."""
    rows = [(1.0, 1, 0, 1, 7), (1.0, 1, 0, 1, 7), (1.0, -99, 0, 1, 7), (1.0, -99, 0, 0, 7)]
    found = counted(evaluation(), examples(rows))
    assert (0.25, 0.75) == (found["everyone"].outside.sum(), found["everyone"].inside.sum())
    assert (0.0, 0.5) == pytest.approx((found["sex=female"].inside.sum(), found["sex=male"].inside.sum()))


def test_everything_is_asked_with_noise_and_a_constant_weight() -> None:
    ask = evaluation(3, SEXES, 1.5).asks({})
    assert (Part.HELD_OUT, 64, False, False, 1.0) == (
        ask.part,
        ask.word_bits,
        ask.exact,
        ask.stochastic_rounding,
        ask.weight_bound,
    )
    assert (1.5, evaluation(3, SEXES).influence) == (ask.noise_multiplier, ask.influence)
    assert size_of(ask.entries) == 3 * (2 * 3 * BINS + 2)


def test_noise_is_what_its_multiplier_and_the_shares_of_all_sites_say() -> None:
    """Two classes without subgroups: L2 is 1. Of four sites two are surely honest, so four shares are twice as much."""
    alone = evaluation(2, {"everyone": None}, 1.5)
    zeros = {name: np.zeros((1, 1, BINS)) for name in ("outside", "inside")}
    assert summed(alone, zeros, 4)["everyone"].inside_noise == 1.5
    shared = evaluation(2, {"everyone": None}, 1.5, honest=lambda sites: sites // 2)
    assert summed(shared, zeros, 4)["everyone"].inside_noise == pytest.approx(1.5 * math.sqrt(2))


def test_subgroups_of_two_columns_have_more_noise_than_everyone() -> None:
    """L2 = sqrt(2); a column's counts are scaled by 1 / sqrt(2)."""
    method = evaluation(2, BOTH, 1.0)
    found = summed(method, {name: np.zeros((6, 1, BINS)) for name in ("outside", "inside")})
    assert (math.sqrt(2), 2.0) == pytest.approx((found["everyone"].inside_noise, found["ward=c"].outside_noise))


def test_many_classes_have_more_noise_outside_where_there_are_more_patients() -> None:
    """Five classes: 4 are outside each, in counts scaled by 1 / 2."""
    zeros = {"outside": np.zeros((1, 5, BINS)), "inside": np.zeros((1, 5, BINS)), "calls": np.zeros((1, 2))}
    found = summed(evaluation(5, {"everyone": None}, 1.0), zeros)["everyone"]
    assert (math.sqrt(3), 2 * math.sqrt(3)) == pytest.approx((found.inside_noise, found.outside_noise))


def test_scores_that_are_no_number_count_like_any_other() -> None:
    odds = np.array([[np.nan, np.nan], [-np.inf, np.inf], [-1.0, 1.0]])
    outside, inside, calls = scores_private.count_patients(
        odds, np.array([0.0, 1.0, 1.0]), np.ones(3), scores_private.edges_of(0.5, 2)
    )
    assert (1.0, 2.0, 3.0) == (outside.sum(), inside.sum(), calls.sum())


def test_the_threshold_is_an_edge() -> None:
    edges = scores_private.edges_of(0.2, 2)
    assert scores.probabilities(edges)[BINS // 2 - 1] == pytest.approx(0.2)


def test_a_number_is_refused_with_the_reason() -> None:
    with pytest.raises(StudyError, match=r"not yet judged with noise\. Received: 'y' of type number"):
        PrivateEvaluationMethod.check(study_of("number").data)


def test_what_the_hospital_keeps_is_exact_and_by_group() -> None:
    rng = np.random.default_rng(2)
    rows = examples([(rng.normal(), index % 2, 0, index % 3 % 2, index) for index in range(40)])
    method = evaluation(bins=1000)
    kept = method.keep({}, {Part.HELD_OUT: rows}, NOTHING)
    exact = EvaluationMethod(method.method, method.weights, method.preparation, 1000, 0.5, ("sex", 1)).count(rows)
    assert list(SEXES) == list(kept)
    assert np.array_equal(exact.histogram, kept["sex=male"].histogram)


def sums_of(odds: Floats, labels: Floats, noise: float, rng: np.random.Generator) -> PrivateSums:
    """Noised counts of a binary study at the threshold 0.5."""
    edges = scores_private.edges_of(0.5, 2)
    both = np.column_stack([-odds, odds])
    outside, inside, _ = scores_private.count_patients(both, labels, np.ones(len(labels)), edges)
    shape = outside.shape
    return PrivateSums(
        classes=("no", "yes"),
        edges=edges,
        outside=outside + noise * rng.normal(size=shape),
        inside=inside + noise * rng.normal(size=shape),
        calls=None,
        outside_noise=noise,
        inside_noise=noise,
    )


def judged(sums: PrivateSums, replicates: int = 200) -> Judgement:
    return metrics_private.judge(sums, replicates, np.random.default_rng(0))


def scored(rng: np.random.Generator, n: int, apart: float = 1.75) -> tuple[Floats, Floats]:
    """Log-odds of n patients, every second ill; those of a class are normal with deviation 1.3."""
    labels = np.arange(float(n)) % 2
    return 1.3 * (rng.normal(size=n) + apart * (labels - 0.5)), labels


def test_without_noise_few_bins_say_what_the_rows_say() -> None:
    rng = np.random.default_rng(1)
    odds, labels = scored(rng, 20_000)
    exact = metrics.judge(
        scores.count_classes(np.column_stack([-odds, odds]), labels, ("no", "yes"), 16384, 0.5), 100, rng
    )
    found = judged(sums_of(odds, labels, 1e-9, rng))
    for name, tolerance in (("auroc", 0.002), ("average_precision", 0.006), ("accuracy", 1e-9), ("brier", 0.002)):
        assert exact.metrics[name].value == pytest.approx(found.metrics[name].value, abs=tolerance)
    assert math.isnan(found.metrics["log_loss"].value)
    assert exact.confusion == pytest.approx(found.confusion, abs=1e-6)
    assert found.n == 20_000


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """AUROC is Phi(1.75 / sqrt 2) = 0.8920, and Phi(0.875) = 0.8092 of either class are called right."""
    rng = np.random.default_rng(15)
    covered = {"auroc": 0, "accuracy": 0, "sensitivity": 0}
    for _ in range(100):
        odds, labels = scored(rng, 184)
        found = judged(sums_of(odds, labels, 1.5, rng))
        for name, truth in (("auroc", 0.8920), ("accuracy", 0.8092), ("sensitivity", 0.8092)):
            interval = {**found.metrics, **found.diagnostics}[name]
            covered[name] += interval.low <= truth <= interval.high
    assert all(count in range(88, 101) for count in covered.values()), covered


def test_noise_makes_intervals_wider() -> None:
    rng = np.random.default_rng(3)
    odds, labels = scored(rng, 200)
    quiet, loud = (judged(sums_of(odds, labels, noise, np.random.default_rng(4))) for noise in (1e-6, 2.0))
    for name in ("auroc", "average_precision", "accuracy", "brier"):
        a, b = quiet.metrics[name], loud.metrics[name]
        assert b.high - b.low > 1.2 * (a.high - a.low)


def several(noise: float, rng: np.random.Generator, n: int = 600) -> PrivateSums:
    """Three classes; noise outside is sqrt(2) times that inside."""
    labels = np.arange(float(n)) % 3
    odds = scores.log_odds(rng.normal(size=(n, 3)) + 2 * np.eye(3)[labels.astype(int)])
    edges = scores_private.edges_of(None, 3)
    outside, inside, calls = scores_private.count_patients(odds, labels, np.ones(n), edges)
    wider = math.sqrt(2) * noise
    return PrivateSums(
        classes=("a", "b", "c"),
        edges=edges,
        outside=outside + wider * rng.normal(size=outside.shape),
        inside=inside + noise * rng.normal(size=inside.shape),
        calls=calls + noise * rng.normal(size=2),
        outside_noise=wider,
        inside_noise=noise,
    )


def test_several_classes_are_ranked_each_against_the_rest() -> None:
    quiet, loud = (judged(several(noise, np.random.default_rng(8))) for noise in (1e-9, 1.5))
    assert quiet.metrics["auroc"].value == pytest.approx(loud.metrics["auroc"].value, abs=0.02)
    assert quiet.metrics["accuracy"].value == pytest.approx(loud.metrics["accuracy"].value, abs=0.02)
    assert (("a", "b", "c"), (0, 0), {}) == (loud.classes, loud.confusion.shape, loud.diagnostics)
    assert [curve.name for curve in loud.curves] == ["a", "b", "c"]


def test_what_noise_drowns_is_undefined() -> None:
    """Three patients under noise of 20 in each bin."""
    rng = np.random.default_rng(6)
    for sums in (sums_of(np.ones(3), np.array([0.0, 1.0, 1.0]), 20.0, rng), several(20.0, rng, 3)):
        assert {None} == {value for name, value in judged(sums).values().items() if name != "n"}


@pytest.mark.parametrize("level", [-5.0, 0.0])
def test_counts_below_zero_are_nobody(level: float) -> None:
    counts = np.full((1, BINS), level)
    sums = PrivateSums(("no", "yes"), scores_private.edges_of(0.5, 2), counts, counts, None, 1.0, 1.0)
    found = judged(sums)
    assert (0, 0.0, 0) == (found.n, found.confusion.sum(), len(found.curves[0].rows))


@given(st.lists(st.floats(-1e6, 1e6), min_size=4 * BINS, max_size=4 * BINS), st.floats(1e-3, 1e3))
def test_no_noise_makes_a_metric_leave_its_range(values: list[float], noise: float) -> None:
    counts = np.array(values).reshape(2, 2, BINS)
    sums = PrivateSums(("no", "yes"), scores_private.edges_of(0.5, 2), counts[:1, 0], counts[:1, 1], None, noise, noise)
    found = judged(sums, 20)
    for interval in {**found.metrics, **found.diagnostics}.values():
        assert all(math.isnan(end) or 0.0 <= end <= 1.0 for end in (interval.low, interval.value, interval.high))


def test_bars_of_calibration_know_the_noise() -> None:
    """Dots stand for as many rows as would tell the share that well without noise: never more than there are."""
    odds, labels = scored(np.random.default_rng(9), 400)
    quiet, loud = (judged(sums_of(odds, labels, noise, np.random.default_rng(10))).curves[0] for noise in (1e-6, 2.0))
    assert quiet.rows.sum() == pytest.approx(400, rel=1e-3)
    assert loud.rows.sum() < 350
