"""Boosted trees from sums over hospitals are those of the pooled rows, node for node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits

from shared.errors import StudyError
from shared.examples import Part
from shared.methods.base import Contribution, Total
from shared.methods.gradient_boosting import GradientBoosting
from shared.methods.tree_bins import Bins
from shared.plan import PREPARE, TRAIN
from shared.randomness import for_site
from shared.study import Study
from tests.builders import Consortium, examples_of, site_of, table_study, ticking
from tests.unit.shared.tree_oracle import Grower, Node, binned, in_units, nested, said, softmax

OPTIONS = {"iterations": 3, "max_depth": 2, "bins": 8, "min_samples_leaf": 4, "min_subset_patients": 1}
CLASSES: dict[str, Any] = {"type": "category", "levels": [0, 1]}
THREE: dict[str, Any] = {"type": "category", "levels": [0, 1, 2]}
NUMBER: dict[str, Any] = {"type": "number", "range": [-10.0, 10.0]}


def boosting_study(label: Any = CLASSES, features: int = 3, **changes: Any) -> Study:
    basis = {"method__name": "gradient-boosting", "method__rounds": 7, "method__options": OPTIONS}
    secure = {"aggregation": {"secure": True, "min_sites": 3}}
    return table_study(features, **{**basis, **secure, "data__columns__y": label, **changes})


def dealt(study: Study, rows: int = 80) -> Consortium:
    """Three sites of unequal size."""
    rng = np.random.default_rng(5)
    x = rng.normal(scale=3.0, size=(rows, len(study.data.features)))
    score = x[:, 0] + x[:, 1] * (x[:, 2] > 0) + rng.normal(size=rows)
    classes = len(study.data.classes)
    y = np.digitize(score, [-2.0, 2.0] if classes == 3 else [0.0]).astype(float) if classes else score.clip(-10, 10)
    parts = np.split(np.arange(rows), [15, 40])
    sites = {n: site_of(n, examples_of(x[own], y[own], first=int(own[0]))) for n, own in zip("abc", parts, strict=True)}
    return Consortium(study, sites)


def oracle(study: Study, consortium: Consortium, results: Any) -> list[Node]:
    """Boost the same trees over all rows in one place, equations 5 and 7 of Chen and Guestrin row by row."""
    options, classes = study.method.options, len(study.data.classes)
    parts = [site.parts[Part.TRAINING] for site in consortium.data.values()]
    x = np.concatenate([results[PREPARE].transform(part).x for part in parts])
    labels = np.concatenate([part.labels for part in parts]).tolist()
    shares = in_units([(label + 10.0) / 20.0 for label in labels])
    bins, widths = binned(x, results[TRAIN]["edges"])
    scores = [results[TRAIN]["base"].tolist() for _ in labels]
    found: list[Node] = []
    for _ in range(options.iterations):
        grown = []
        for output in range(3 if classes == 3 else 1):
            if classes:
                p = [softmax(row)[output] for row in scores]
                hits = [float(label == (output if classes == 3 else 1)) for label in labels]
                g = in_units([own - hit for own, hit in zip(p, hits, strict=True)])
                h = in_units([own * (1.0 - own) for own in p])
            else:
                g, h = (
                    in_units([row[0] - share for row, share in zip(scores, shares, strict=True)]),
                    [1.0] * len(labels),
                )

            def explained(rows: list[int], g: list[float] = g, h: list[float] = h) -> float:
                return sum(g[row] for row in rows) ** 2 / (sum(h[row] for row in rows) + options.l2)

            def leaf(rows: list[int], g: list[float] = g, h: list[float] = h) -> list[float]:
                total = sum(h[row] for row in rows) + options.l2
                return [-options.learning_rate * sum(g[row] for row in rows) / total]

            grower = Grower(
                bins,
                widths,
                lambda _depth, _path: range(x.shape[1]),
                explained,
                leaf,
                lambda _rows: False,
                options.min_samples_leaf,
                options.max_depth,
            )
            grown.append(grower.grow(list(range(len(labels)))))
        for own, row in zip(bins, scores, strict=True):
            for output, tree in enumerate(grown):
                row[output] += said(tree, own)[0]
        found += grown
    return found


@pytest.mark.parametrize("label", [CLASSES, THREE, NUMBER], ids=["two classes", "three classes", "number"])
def test_the_trees_under_masks_are_those_of_the_pooled_rows_node_for_node(label: Any) -> None:
    study = boosting_study(label)
    consortium = dealt(study)
    plan, progress = consortium.run(ticking())
    results = plan.result(progress.state)
    expected = oracle(study, consortium, results)
    assert nested(results[TRAIN]) == expected
    assert {tree[0] for tree in expected} <= {0, 1, 2}


def test_trees_begin_at_the_log_odds_of_the_training_rows() -> None:
    consortium = dealt(boosting_study())
    plan, progress = consortium.run(ticking())
    labels = np.concatenate([site.parts[Part.TRAINING].labels for site in consortium.data.values()])
    assert plan.result(progress.state)[TRAIN]["base"] == pytest.approx(
        [np.log((labels.sum() + 0.5) / ((1 - labels).sum() + 0.5))]
    )


def test_a_number_is_predicted_in_the_labels_unit() -> None:
    consortium = dealt(boosting_study(NUMBER))
    plan, progress = consortium.run(ticking())
    results, method = plan.result(progress.state), plan.method(progress.state, TRAIN)
    rows = [site.parts[Part.TRAINING] for site in consortium.data.values()]
    predicted = np.concatenate([method.scores(results[TRAIN], results[PREPARE].transform(part))[:, 0] for part in rows])
    labels = np.concatenate([part.labels for part in rows])
    assert predicted.mean() == pytest.approx(labels.mean(), abs=0.05)
    assert np.square(labels - predicted).mean() < 0.75 * labels.var()


def test_a_hospital_that_was_restarted_answers_the_same() -> None:
    """What it remembers of earlier questions only saves time."""
    consortium = dealt(boosting_study())
    plan, progress = consortium.run(ticking())
    results = plan.result(progress.state)
    weights = {name: array.copy() for name, array in results[TRAIN].items()}
    weights["feature"][weights["feature"] == -1] = np.where(np.arange((weights["feature"] == -1).sum()) >= 8, -2, -1)
    state = {"round": np.array(6), **{f"weights/{name}": array for name, array in weights.items()}}
    method: GradientBoosting = plan.method(progress.state, TRAIN)  # type: ignore[assignment]
    used = consortium.data["a"].parts[Part.TRAINING]
    answers = [
        method.contribute(state, examples, {}, for_site(7, "a", 1))[0].arrays["sums"]
        for examples in (used, used.take(np.arange(len(used))))
    ]
    assert answers[0].any()
    assert np.array_equal(*answers)


def with_own_bins(least: int) -> tuple[GradientBoosting, Consortium, Any]:
    """Every patient alone has a bin of x0, so that the sums by it say each one's weights; the state to begin from."""
    options = {**OPTIONS, "iterations": 6, "learning_rate": 0.5, "bins": 128, "min_subset_patients": least}
    consortium = dealt(boosting_study(method__options=options, method__rounds=13))
    for number, site in enumerate(consortium.data.values()):
        own = site.parts[Part.TRAINING]
        own.values[:, 0] = np.sort(own.values[:, 0]).searchsorted(own.values[:, 0]) * 0.3 - 9.0 + 0.1 * number
    plan, progress = consortium.run(ticking())
    method: GradientBoosting = plan.method(progress.state, TRAIN)  # type: ignore[assignment]
    return method, consortium, method.start()


def asked(method: GradientBoosting, consortium: Consortium, state: Any) -> tuple[Any, list[Contribution]]:
    """Return the state after one exchange, and what each hospital said."""
    parts = [site.parts[Part.TRAINING] for site in consortium.data.values()]
    said = [method.contribute(state, part, {}, for_site(7, "a", 1))[0] for part in parts]
    sums = {name: sum(each.arrays[name] for each in said) for name in said[0].arrays}
    return method.advance(state, Total(sums, 80.0, 3))[0], said


def weights_of(state: Any, said: Contribution) -> Any:
    """Return by node and bin of x0: how many rows (0 or 1), g and h."""
    widths = Bins(state["weights/edges"]).widths
    return said.arrays["sums"].reshape(-1, widths.sum(), 3)[:, : widths[0]]


def effective(weights: Any) -> float:
    """Return Kish's effective sample size; nobody stands out where all are zero."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if weights.any() else float(len(weights))


@pytest.mark.parametrize(("least", "expected"), [(1, 1), (4, 4)])
def test_in_a_whole_run_no_fewer_patients_of_a_hospital_are_told_apart(least: int, expected: int) -> None:
    """By the sums of one node; and by numbers of rows, of all nodes of all trees."""
    method, consortium, state = with_own_bins(least)
    there: dict[int, list[Any]] = {0: [], 1: [], 2: []}
    fewest, told = [], []
    following, _ = asked(method, consortium, state)
    while not method.finished(state := following):
        following, said = asked(method, consortium, state)
        for site, each in enumerate(said):
            there[site] += list(nodes := weights_of(state, each))
            parts = [node[node[:, 0] > 0] for node in nodes if node.any()]
            fewest += [effective(np.abs(part[:, channel])) for part in parts for channel in (1, 2)]
            told += [int(np.unique(part, axis=0, return_counts=True)[1].min()) for part in parts]
            assert each.smallest_subset is not None and each.smallest_subset >= expected
    paths = [np.stack(nodes)[:, np.any(nodes, axis=0)[:, 0], 0] for nodes in there.values()]
    together = min(int(np.unique(path, axis=1, return_counts=True)[1].min()) for path in paths)
    assert expected == min(told)
    assert min(together, *fewest) >= expected


@pytest.mark.parametrize(("least", "expected"), [(1, [1]), (4, [4, 5, 6, 7])])
def test_earlier_trees_that_are_sure_of_everybody_but_one_single_nobody_out(least: int, expected: list[int]) -> None:
    """The first tree is in doubt about one bin of x0 alone, which is one patient of site c."""
    method, consortium, state = with_own_bins(least)
    state, _ = asked(method, consortium, state)
    alone = int(Bins(state["weights/edges"]).codes(np.array([[0.0, 0.0, 0.0]]))[0, 0])
    arrays = {
        "feature": [0, -1, 0, -1, -1, -2],
        "bin": [alone - 1, 0, alone, 0, 0, 0],
        "left": [1, 0, 3, 0, 0, 0],
        "fit/weight": [0] * 6,
        "fit/gain": [0] * 6,
    }
    value = np.array([0.0, -60.0, 0.0, 0.0, -60.0, 0.0])[:, None]
    state = {**state, "weights/value": value, **{f"weights/{k}": np.array(v, float) for k, v in arrays.items()}}
    _, said = asked(method, consortium, state)
    in_doubt = [np.count_nonzero(weights_of(state, each)[0, :, 2]) for each in said]
    assert sum(in_doubt) in expected and 1 == np.count_nonzero(in_doubt)


def test_too_few_rounds_are_told_with_what_to_write() -> None:
    with pytest.raises(StudyError, match="write rounds = 7"):
        boosting_study(method__rounds=6)


def test_groups_of_different_folds_are_not_subtracted() -> None:
    tuning = {"folds": 2, "grid": {"learning_rate": [0.1, 0.3]}}
    boosting_study(tuning=tuning)
    with pytest.raises(StudyError, match="only with min_subset_patients = 1"):
        boosting_study(tuning=tuning, method__options={**OPTIONS, "min_subset_patients": 5})


def test_what_the_trees_say_on_average_is_told_as_log_odds() -> None:
    plan, progress = dealt(boosting_study()).run(ticking())
    said = plan.method(progress.state, TRAIN).interpretation(plan.result(progress.state)[TRAIN])
    assert said.dependences[0].names == ("log-odds of 1",)


@pytest.mark.slow
def test_breast_cancer_is_told_as_well_as_by_scikit_learn() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    columns = {f"x{i}": {"type": "number", "range": [0.0, 2.0 * float(x[:, i].max())]} for i in range(30)}
    study = boosting_study(
        features=30,
        method__rounds=301,
        method__options={},
        aggregation={"secure": False, "min_sites": 3},
        **{f"data__columns__{name}": each for name, each in columns.items()},
    )
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:455], order[455:]
    nobody = examples_of(np.zeros((0, 30)), [])
    data = {
        f"site_{k}": site_of(f"site_{k}", examples_of(x[rows], y[rows], first=1000 * k), nobody)
        for k, rows in enumerate(np.array_split(train, 5))
    }
    held_out = examples_of(x[test], y[test], first=9000)
    data["site_0"] = site_of("site_0", data["site_0"].parts[Part.TRAINING], held_out)
    plan, progress = Consortium(study, data).run(ticking())
    results = plan.result(progress.state)
    scores = plan.method(progress.state, TRAIN).scores(results[TRAIN], results[PREPARE].transform(held_out))[:, 1]
    with threadpool_limits(1):
        peer = HistGradientBoostingClassifier(random_state=0).fit(x[train], y[train])
    expected = roc_auc_score(y[test], peer.predict_proba(x[test])[:, 1])
    assert roc_auc_score(y[test], scores) == pytest.approx(expected, abs=0.01)
