"""Metrics from histograms: equal to scikit-learn's on the rows, and sums that add."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    log_loss,
    mean_absolute_error,
    mean_squared_error,
    r2_score,
    roc_auc_score,
    roc_curve,
)

from shared import metrics, scores
from shared.metrics import Judgement
from shared.scores import ClassSums, NumberSums

BINS = 16384
Floats = NDArray[np.float64]


def both(odds: Floats) -> Floats:
    """Log-odds of both classes of a binary study, from those of the second."""
    return np.column_stack([-odds, odds])


def binary(odds: Floats, labels: Floats, bins: int = BINS, threshold: float = 0.5) -> ClassSums:
    return scores.count_classes(both(odds), labels, ("no", "yes"), bins, threshold)


def judged(sums: ClassSums | NumberSums, replicates: int = 100) -> Judgement:
    return metrics.judge(sums, replicates, np.random.default_rng(0))


def points(judgement: Judgement) -> dict[str, float]:
    return {name: interval.value for name, interval in judgement.metrics.items()}


def saturated(rng: np.random.Generator, labels: Floats) -> Floats:
    """Every probability is 1 to many digits; bins of the probability could not tell any two apart."""
    return 40 + 3 * rng.normal(size=len(labels)) + 2 * labels


def rare(rng: np.random.Generator, labels: Floats) -> Floats:
    return -7 + rng.normal(size=len(labels)) + 2 * labels


def tied(rng: np.random.Generator, labels: Floats) -> Floats:
    return np.round(rng.normal(size=len(labels)) + labels)


def wide(rng: np.random.Generator, labels: Floats) -> Floats:
    """A tenth of the scores lie beyond the outermost bin's edge."""
    return 300 * rng.normal(size=len(labels)) + 300 * labels


@pytest.mark.parametrize(
    ("scored", "prevalence"), [(saturated, 0.3), (rare, 0.002), (tied, 0.3), (wide, 0.3), (tied, 0.01)]
)
def test_binary_metrics_are_scikit_learns(
    scored: Callable[[np.random.Generator, Floats], Floats], prevalence: float
) -> None:
    rng = np.random.default_rng(11)
    labels = (rng.random(20_000) < prevalence).astype(float)
    odds = scored(rng, labels)
    p = scores.probabilities(odds)
    found = points(judged(binary(odds, labels)))
    clipped = np.clip(odds, -scores.LOG_ODDS_LIMIT, scores.LOG_ODDS_LIMIT)
    assert roc_auc_score(labels, clipped) == pytest.approx(found["auroc"], abs=1e-3)
    assert average_precision_score(labels, clipped) == pytest.approx(found["average_precision"], abs=1e-3)
    assert accuracy_score(labels, p >= 0.5) == pytest.approx(found["accuracy"], abs=1e-12)
    assert brier_score_loss(labels, p) == pytest.approx(found["brier"], abs=1e-12)
    # Probabilities that round to 1 have lost what their log-odds still say, hence the tolerance.
    assert log_loss(labels, p) == pytest.approx(found["log_loss"], rel=1e-3)


def test_several_classes_are_averaged_over_one_against_the_rest() -> None:
    rng = np.random.default_rng(12)
    labels = rng.integers(0, 4, 5000).astype(float)
    logits = rng.normal(size=(5000, 4)) + np.eye(4)[labels.astype(int)]
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    odds = scores.log_odds(logits)
    assert softmax == pytest.approx(scores.probabilities(odds), abs=1e-12)
    found = points(judged(scores.count_classes(odds, labels, tuple("abcd"), BINS, 0.5)))
    one_hot = np.eye(4)[labels.astype(int)]
    assert roc_auc_score(labels, softmax, multi_class="ovr") == pytest.approx(found["auroc"], abs=1e-3)
    assert average_precision_score(one_hot, softmax) == pytest.approx(found["average_precision"], abs=1e-3)
    assert accuracy_score(labels, softmax.argmax(axis=1)) == pytest.approx(found["accuracy"], abs=1e-12)
    assert np.square(softmax - one_hot).sum(axis=1).mean() == pytest.approx(found["brier"], abs=1e-12)
    assert log_loss(labels, softmax) == pytest.approx(found["log_loss"], abs=1e-9)


def test_errors_of_numbers_are_scikit_learns() -> None:
    rng = np.random.default_rng(13)
    labels = rng.uniform(20, 80, 3000)
    predicted = labels + rng.normal(scale=5, size=3000)
    found = points(judged(scores.count_numbers(predicted, labels, (0.0, 100.0), BINS)))
    assert mean_absolute_error(labels, predicted) == pytest.approx(found["mae"], abs=1e-9)
    assert math.sqrt(mean_squared_error(labels, predicted)) == pytest.approx(found["rmse"], abs=1e-9)
    assert r2_score(labels, predicted) == pytest.approx(found["r2"], abs=1e-9)


def test_predictions_are_held_within_the_declared_range() -> None:
    sums = scores.count_numbers(np.array([-50.0, 250.0]), np.array([0.0, 90.0]), (0.0, 100.0), 1000)
    assert points(judged(sums))["mae"] == pytest.approx((0 + 10) / 2)


def test_four_rows_by_hand() -> None:
    """Scores 1, 2, 3, 4 of no, yes, no, yes: three of four pairs are in order."""
    judgement = judged(binary(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, 0.0, 1.0]), threshold=0.9))
    found = points(judgement)
    assert found["auroc"] == pytest.approx(3 / 4)
    assert found["average_precision"] == pytest.approx((1 / 1 + 2 / 3) / 2)
    # 0.9 is a log-odds of 2.197: rows 3 and 4 are called yes.
    assert judgement.confusion.tolist() == [[1, 1], [1, 1]]
    assert found["accuracy"] == pytest.approx(2 / 4)


def test_equal_scores_count_half() -> None:
    assert points(judged(binary(np.zeros(10), np.arange(10.0) % 2)))["auroc"] == pytest.approx(0.5)


def test_zero_is_an_edge_so_that_even_odds_are_told_apart() -> None:
    assert scores.bin_of(np.array([-1e-12, 0.0]), 1000).tolist() == [499, 500]


def test_scores_beyond_the_limit_lie_in_the_outermost_bins() -> None:
    assert scores.bin_of(np.array([-1e9, 1e9]), 1000).tolist() == [0, 999]


def test_the_roc_curve_is_scikit_learns() -> None:
    rng = np.random.default_rng(14)
    labels = (rng.random(300) < 0.4).astype(float)
    odds = tied(rng, labels)
    curve = judged(binary(odds, labels)).curves[0]
    false_positives, true_positives, _ = roc_curve(labels, odds, drop_intermediate=False)
    assert false_positives == pytest.approx(curve.false_positive_rate)
    assert true_positives == pytest.approx(curve.true_positive_rate)


def test_calibration_groups_hold_every_row_once() -> None:
    odds = np.array([-3.0, -2.9, 0.1, 4.0])
    curve = judged(binary(odds, np.array([0.0, 1.0, 1.0, 1.0]))).curves[0]
    assert curve.rows.tolist() == [2, 1, 1]
    assert curve.observed.tolist() == [0.5, 1.0, 1.0]
    assert curve.predicted == pytest.approx([0.0499, 0.525, 0.982], abs=1e-3)


def test_a_class_that_is_absent_leaves_ranking_undefined() -> None:
    judgement = judged(binary(np.array([1.0, 2.0]), np.zeros(2)))
    assert {"auroc": None, "average_precision": None, "accuracy": 0.0, "n": 2}.items() <= judgement.values().items()
    assert all(math.isnan(end) for end in (judgement.metrics["auroc"].low, judgement.metrics["auroc"].high))


def test_absent_classes_do_not_enter_the_macro_mean() -> None:
    """Of three classes the third never occurs: the first two are ranked perfectly."""
    odds = scores.log_odds(np.array([[5.0, 0, 0], [4.0, 0, 0], [0, 5.0, 0], [0, 4.0, 0]]))
    judgement = judged(scores.count_classes(odds, np.array([0.0, 0, 1, 1]), ("a", "b", "c"), BINS, 0.5))
    assert judgement.metrics["auroc"].value == 1.0


@pytest.mark.parametrize("task", ["binary", "number"])
def test_no_rows_leave_everything_undefined(task: str) -> None:
    none = np.zeros(0)
    sums = binary(none, none) if task == "binary" else scores.count_numbers(none, none, (0.0, 1.0), BINS)
    values = judged(sums).values()
    assert values.pop("n") == 0
    assert set(values.values()) == {None}


def test_a_label_that_is_constant_has_no_r2() -> None:
    sums = scores.count_numbers(np.array([4.0, 6.0]), np.array([5.0, 5.0]), (0.0, 10.0), BINS)
    assert judged(sums).values() == {"mae": pytest.approx(1.0), "rmse": pytest.approx(1.0), "r2": None, "n": 2}


def test_the_interval_of_an_accuracy_is_the_binomial_one() -> None:
    """90 of 100 right: the standard error is sqrt(0.9 * 0.1 / 100) = 0.03, so 95 % is 0.9 -+ 0.0588."""
    odds = np.ones(100)
    labels = np.array([0.0] * 10 + [1.0] * 90)
    interval = judged(binary(odds, labels), replicates=4000).metrics["accuracy"]
    assert (0.9 - 0.0588, 0.9 + 0.0588) == pytest.approx((interval.low, interval.high), abs=0.012)


def test_the_interval_of_a_mean_error_is_the_normal_one() -> None:
    """400 errors of 1 and 3 alike: mean 2, deviation 1, standard error 1/20, so 95 % is 2 -+ 0.098."""
    labels = np.full(400, 50.0)
    predicted = labels + np.tile([1.0, 3.0], 200)
    interval = judged(scores.count_numbers(predicted, labels, (0.0, 100.0), BINS), replicates=4000).metrics["mae"]
    assert interval.value == pytest.approx(2.0)
    assert (1.902, 2.098) == pytest.approx((interval.low, interval.high), abs=0.012)


def test_intervals_cover_the_truth_about_as_often_as_they_say() -> None:
    """Scores of both classes are normal with deviation 1 and one apart: the true AUROC is Phi(1 / sqrt 2) = 0.7602."""
    rng = np.random.default_rng(15)
    covered = 0
    for _ in range(100):
        labels = np.arange(200.0) % 2
        interval = judged(binary(rng.normal(size=200) + labels, labels), replicates=200).metrics["auroc"]
        covered += interval.low <= 0.7602 <= interval.high
    assert covered in range(88, 101)


def test_batches_of_resamples_draw_the_same_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    sums = binary(np.linspace(-3, 3, 50), np.arange(50.0) % 2)
    at_once = judged(sums).metrics
    monkeypatch.setattr(metrics, "_DRAWN_AT_ONCE", 700)  # seven resamples of fifty bins and two classes
    assert at_once == judged(sums).metrics


def test_the_same_generator_gives_the_same_intervals() -> None:
    sums = binary(np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.0, 1.0, 0.0, 1.0]))
    assert judged(sums).metrics == judged(sums).metrics


rows = st.lists(st.tuples(st.floats(-2000, 2000), st.integers(0, 1), st.integers(0, 3)), min_size=1, max_size=60)


@given(rows)
def test_sums_of_any_split_add_up_to_the_sums_of_all(table: list[tuple[float, int, int]]) -> None:
    odds, labels, sites = (np.array(column, dtype=float) for column in zip(*table, strict=True))
    whole = binary(odds, labels, bins=1000)
    parts = [binary(odds[sites == site], labels[sites == site], bins=1000) for site in range(4)]
    assert np.array_equal(whole.histogram, sum(part.histogram for part in parts))
    assert np.array_equal(whole.confusion, sum(part.confusion for part in parts))
    assert whole.brier == pytest.approx(sum(part.brier for part in parts))
    assert whole.log_loss == pytest.approx(sum(part.log_loss for part in parts))
    assert len(table) == whole.n == sum(part.n for part in parts)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 100), st.integers(0, 3)), min_size=1, max_size=60))
def test_sums_of_errors_add_up_too(table: list[tuple[float, float, int]]) -> None:
    predicted, labels, sites = (np.array(column, dtype=float) for column in zip(*table, strict=True))

    def counted(chosen: NDArray[np.bool_]) -> NumberSums:
        return scores.count_numbers(predicted[chosen], labels[chosen], (0.0, 100.0), 1000)

    whole = counted(np.ones(len(table), dtype=bool))
    parts = [counted(sites == site) for site in range(4)]
    assert np.array_equal(whole.histogram, sum(part.histogram for part in parts))
    assert whole.groups == pytest.approx(sum(part.groups for part in parts))
    for name in ("absolute", "squared", "label", "label_squared"):
        assert getattr(whole, name) == pytest.approx(sum(getattr(part, name) for part in parts))


def _row_bootstrap(losses: np.ndarray, generator: np.random.Generator) -> float:
    """Width of the 95 % interval when whole rows are drawn anew."""
    means = [losses[generator.integers(0, len(losses), len(losses))].mean() for _ in range(1000)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(high - low)


def test_intervals_of_losses_are_those_of_drawing_rows_anew() -> None:
    generator = np.random.default_rng(1)
    y = generator.integers(0, 10, 400)
    logits = generator.normal(size=(400, 10))
    logits[np.arange(400), y] += 1.5
    odds = scores.log_odds(logits)
    judgement = metrics.judge(
        scores.count_classes(odds, y.astype(float), tuple("abcdefghij"), 4096, 0.5), 500, generator
    )
    p = scores.probabilities(odds)
    briers, losses = np.square(p - np.eye(10)[y]).sum(axis=1), -np.log(p[np.arange(400), y])
    for name, rows in (("brier", briers), ("log_loss", losses)):
        interval = judgement.metrics[name]
        assert interval.high - interval.low == pytest.approx(_row_bootstrap(rows, generator), rel=0.15)


def test_the_interval_of_average_precision_lies_around_its_value() -> None:
    """Rows drawn twice tie with themselves, which would lift the resamples above the value."""
    generator = np.random.default_rng(2)
    y = generator.integers(0, 10, 200)
    logits = generator.normal(size=(200, 10))
    logits[np.arange(200), y] += 1.0
    sums = scores.count_classes(scores.log_odds(logits), y.astype(float), tuple("abcdefghij"), 16384, 0.5)
    interval = metrics.judge(sums, 500, generator).metrics["average_precision"]
    assert interval.value == pytest.approx((interval.low + interval.high) / 2, abs=0.01)


def test_r2_of_a_constant_label_is_undefined() -> None:
    labels = np.full(30, 4.7)
    judgement = metrics.judge(
        scores.count_numbers(labels + 0.1, labels, (0.0, 10.0), 1000), 100, np.random.default_rng(0)
    )
    assert judgement.values()["r2"] is None
    assert judgement.values()["mae"] == pytest.approx(0.1)
