"""Random forests from sums over hospitals are those of the pooled rows, node for node."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score

from shared.errors import ProtocolError, StudyError
from shared.examples import Examples, Part
from shared.layout import size_of
from shared.methods import METHODS
from shared.methods.base import PlainMean, Total
from shared.methods.random_forest import columns_of, in_part
from shared.plan import PREPARE, TRAIN
from shared.randomness import for_site
from shared.study import Study
from tests.builders import Consortium, examples_of, site_of, table_study, ticking
from tests.unit.shared.tree_oracle import Grower, Node, binned, in_units, nested

OPTIONS = {"trees": 4, "max_depth": 3, "bins": 8, "min_samples_leaf": 2, "min_subset_patients": 1}


def forest_study(features: int = 4, **changes: Any) -> Study:
    basis = {"method__name": "random-forest", "method__rounds": 4, "method__options": OPTIONS}
    return table_study(features, **{**basis, "aggregation": {"secure": True, "min_sites": 3}, **changes})


def number_study() -> Study:
    return forest_study(data__columns__y={"type": "number", "range": [-30.0, 30.0]})


def dealt(study: Study, y_of: Any, rows: int = 90) -> Consortium:
    """Three sites of unequal size; every third patient has two rows, and some values are missing."""
    rng = np.random.default_rng(3)
    x = rng.normal(scale=3.0, size=(rows, len(study.data.features)))
    y = y_of(x, rng)
    x[rng.random(x.shape) < 0.05] = np.nan
    patients = np.array([f"p{row - (row % 3 == 2)}" for row in range(rows)])
    data = {}
    for name, own in zip("abc", np.split(np.arange(rows), [15, 45]), strict=True):
        plain = examples_of(x[own], y[own])
        data[name] = site_of(name, Examples(plain.values, plain.outside, plain.labels, patients[own]))
    return Consortium(study, data)


def two_classes(x: Any, rng: Any) -> Any:
    return (x[:, 0] + x[:, 1] * (x[:, 2] > 0) + rng.normal(size=len(x)) > 0).astype(float)


def a_number(x: Any, rng: Any) -> Any:
    return np.clip(2 * x[:, 0] - x[:, 1] + rng.normal(size=len(x)), -30, 30)


def oracle(study: Study, consortium: Consortium, results: Any) -> list[Node]:
    """Grow the same trees over all rows in one place."""
    preparation, options = results[PREPARE], study.method.options
    parts = [site.parts[Part.TRAINING] for site in consortium.data.values()]
    x = np.concatenate([preparation.transform(part).x for part in parts])
    labels = np.concatenate([part.labels for part in parts]).tolist()
    patients = np.concatenate([part.patients for part in parts])
    bins, widths = binned(x, results[TRAIN]["edges"])
    shares = in_units([(label + 30.0) / 60.0 for label in labels])

    def counts(rows: list[int]) -> list[int]:
        return [sum(labels[row] == k for row in rows) for k in (0, 1)]

    def gini(rows: list[int]) -> float:
        return sum(count * count for count in counts(rows)) / len(rows)

    def spread(rows: list[int]) -> float:
        return sum(shares[row] for row in rows) ** 2 / len(rows)

    classes = study.data.task != "number"
    inside = in_part(patients, study.study.seed, range(16), options.sample_fraction)
    found = []
    for tree in range(options.trees):

        def columns(depth: int, path: int, tree: int = tree) -> list[int]:
            return columns_of(study.study.seed, tree, depth, x.shape[1], 2)[path].tolist()

        grower = Grower(
            bins,
            widths,
            columns,
            gini if classes else spread,
            (lambda rows: [count / len(rows) for count in counts(rows)])
            if classes
            else (lambda rows: [sum(shares[row] for row in rows) / len(rows)]),
            (lambda rows: 0 in counts(rows)) if classes else (lambda _rows: False),
            options.min_samples_leaf,
            options.max_depth,
        )
        found.append(grower.grow(np.flatnonzero(inside[:, tree]).tolist()))
    return found


@pytest.mark.parametrize(("study", "y_of"), [(forest_study(), two_classes), (number_study(), a_number)])
def test_the_forest_under_masks_is_that_of_the_pooled_rows_node_for_node(study: Study, y_of: Any) -> None:
    consortium = dealt(study, y_of)
    plan, progress = consortium.run(ticking())
    results = plan.result(progress.state)
    expected = oracle(study, consortium, results)
    assert nested(results[TRAIN]) == expected
    assert sum(tree[0] != "leaf" for tree in expected) == 4


def by_hand(study: Study, consortium: Consortium, results: Any) -> Any:
    """Yield (method, state, each site's contribution) of every exchange of the training, without a transport."""
    method = METHODS[study.method.name].create(study, results[PREPARE], PlainMean())
    state = method.start()
    while not method.finished(state):
        said = [
            method.contribute(state, site.parts[Part.TRAINING], {}, for_site(7, "a", 1))[0]
            for site in consortium.data.values()
        ]
        yield method, state, said
        sums = {name: sum(each.arrays[name] for each in said) for name in said[0].arrays}
        state, _ = method.advance(state, Total(sums, sum(each.weight for each in said), len(said)))


def test_no_sum_is_over_fewer_patients_of_a_hospital_than_the_study_says() -> None:
    def fewest(least: int) -> int:
        study = forest_study(method__options={**OPTIONS, "min_subset_patients": least})
        plan, progress = (consortium := dealt(study, two_classes)).run(ticking())
        exchanges = by_hand(study, consortium, plan.result(progress.state))
        return min(each.smallest_subset for _, _, said in exchanges for each in said)

    assert fewest(1) == 1
    assert fewest(4) >= 4


def test_a_hospital_that_left_every_node_adds_nothing_and_goes_on() -> None:
    """Site a has ten patients, and twelve are asked for."""
    study = forest_study(method__options={**OPTIONS, "min_subset_patients": 12})
    consortium = dealt(study, two_classes)
    plan, progress = consortium.run(ticking())
    [_, (_, _, said), *_] = by_hand(study, consortium, plan.result(progress.state))
    assert (said[0].arrays["sums"].sum(), said[0].smallest_subset) == (0.0, 10)
    assert {record.contributors for record in progress.history} == {("a", "b", "c")}


def test_every_sum_is_said_to_depend_on_data_from_the_start() -> None:
    study = forest_study()
    plan, progress = (consortium := dealt(study, two_classes)).run(ticking())
    asks = [method.asks(state) for method, state, _ in by_hand(study, consortium, plan.result(progress.state))]
    assert [ask.data_dependent_subsets for ask in asks] == [True] * 4


def test_the_forecast_is_as_large_as_any_sum() -> None:
    study = forest_study()
    plan, progress = (consortium := dealt(study, two_classes)).run(ticking())
    results = plan.result(progress.state)
    exchanges = list(by_hand(study, consortium, results))
    forecast = exchanges[0][0].forecast()
    assert size_of(forecast.ask.entries) >= max(size_of(method.asks(state).entries) for method, state, _ in exchanges)
    assert forecast.parameters >= sum(array.size for array in results[TRAIN].values())


def test_a_patient_is_in_a_tree_whoever_else_is_there() -> None:
    names = np.array([f"p{index}" for index in range(2000)])
    inside = in_part(names, 7, range(16), 0.632)
    assert np.array_equal(inside[::-1][:3], in_part(names[::-1][:3], 7, range(16), 0.632))
    assert inside.mean(axis=0) == pytest.approx([0.632] * 16, abs=0.04)


def test_columns_are_drawn_anew_for_each_node() -> None:
    drawn = columns_of(7, 0, 3, 30, 5)
    assert drawn.shape == (8, 5)
    assert len({tuple(row) for row in drawn.tolist()}) == 8
    assert np.all(np.diff(drawn, axis=1) > 0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"method__rounds": 3}, "write rounds = 4"),
        ({"aggregation__strategy": "FedAdam"}, 'expected strategy = "FedAvg"'),
        ({"privacy": {"epsilon": 1.0, "delta": 1e-4}}, "adds no noise"),
    ],
)
def test_a_study_that_a_forest_cannot_serve_is_refused(changes: Any, expected: str) -> None:
    with pytest.raises(StudyError, match=expected):
        forest_study(**changes)


def grown() -> tuple[Any, Any]:
    study = forest_study()
    plan, progress = dealt(study, two_classes).run(ticking())
    return plan.method(progress.state, TRAIN), plan.result(progress.state)


def test_a_state_with_open_nodes_at_several_depths_is_refused() -> None:
    method, results = grown()
    feature = results[TRAIN]["feature"].copy()
    leaves = np.flatnonzero(feature == -1)
    feature[leaves[[0, -1]]] = -2
    state = {"round": np.array(3), **{f"weights/{name}": array for name, array in results[TRAIN].items()}}
    with pytest.raises(ProtocolError, match="one depth"):
        method.asks({**state, "weights/feature": feature})


def test_the_model_says_importances_and_dependences() -> None:
    method, results = grown()
    said = method.interpretation(results[TRAIN])
    (importance,) = said.tables
    assert sum(float(row[1] or 0.0) for row in importance.rows) == pytest.approx(1.0)
    assert importance.rows[0][0] == said.dependences[0].column
    assert said.dependences[0].names == ("probability of 1",)


def test_breast_cancer_is_told_as_well_as_by_scikit_learn() -> None:
    x, y = load_breast_cancer(return_X_y=True)
    columns = {f"x{i}": {"type": "number", "range": [0.0, 2.0 * float(x[:, i].max())]} for i in range(30)}
    study = forest_study(
        30, method__rounds=9, method__options={}, **{f"data__columns__{name}": each for name, each in columns.items()}
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
    said = plan.method(progress.state, TRAIN).scores(results[TRAIN], results[PREPARE].transform(held_out))[:, 1]
    peer = RandomForestClassifier(max_depth=8, min_samples_leaf=5, random_state=0).fit(x[train], y[train])
    expected = roc_auc_score(y[test], peer.predict_proba(x[test])[:, 1])
    assert roc_auc_score(y[test], said) == pytest.approx(expected, abs=0.02)
