"""K-means over hospitals is Lloyd's algorithm on the pooled rows; with a smallest subset, no sum is over fewer."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import Refusal, StudyError
from shared.examples import Part
from shared.methods.base import NOTHING, Total
from shared.methods.design import Term
from shared.methods.k_means import KMeans
from shared.methods.k_means_tables import interpretation
from shared.plan import EVALUATE, EVERYONE, PREPARE, TRAIN
from shared.randomness import for_site
from shared.study import Study
from simulations.local import Consortium
from tests.builders import examples_of, random_consortium, site_of, table_study, ticking

SIZES = {"a": 40, "b": 60, "c": 50}


def study_of(least: int, **changes: Any) -> Study:
    options = {"clusters": 3, "starts": 2, "min_subset_patients": least}
    method = {"name": "k-means", "rounds": 60, "options": options}
    changes = {"method": method, **changes}
    return table_study(**changes, aggregation__secure=True, aggregation__min_sites=3)


def lloyd(rows: NDArray[np.float64], centres: NDArray[np.float64]) -> tuple[NDArray[np.float64], float]:
    """Lloyd's algorithm with plain distances: return the centres, and the squared distance summed over the rows."""
    while True:
        apart = np.array([[((row - centre) ** 2).sum() for centre in centres] for row in rows])
        nearest = apart.argmin(axis=1)
        following = np.array(
            [rows[nearest == k].mean(axis=0) if (nearest == k).any() else c for k, c in enumerate(centres)]
        )
        if np.allclose(following, centres, rtol=0.0, atol=1e-13):
            return following, float(apart.min(axis=1).sum())
        centres = following


def test_the_centres_are_those_of_the_pooled_rows_from_the_same_start() -> None:
    consortium = random_consortium(study_of(1), SIZES)
    plan, progress = consortium.run(ticking())
    results = plan.result(progress.state)
    preparation = results[PREPARE]
    pooled = np.vstack([preparation.transform(site.parts[Part.TRAINING]).x for site in consortium.data.values()])
    starts = KMeans(consortium.study, preparation).start()["centres"]
    ends = [lloyd(pooled, start) for start in starts]
    centres, distance = min(ends, key=lambda end: end[1])
    counts = np.bincount(((pooled[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1))
    order = np.argsort(-counts, kind="stable")

    weights = results[TRAIN]
    assert weights["centres"] == pytest.approx(centres[order], abs=1e-10)
    assert weights["fit/rows"].tolist() == counts[order].tolist()
    # Everyone is judged on the training rows here.
    judged = results[EVALUATE][EVERYONE].judge(0, np.random.default_rng(0)).metrics
    assert judged["mean_squared_distance"].value == pytest.approx(distance / len(pooled), abs=1e-9)
    total = ((pooled - pooled.mean(axis=0)) ** 2).sum()
    assert judged["variance_explained"].value == pytest.approx(1 - distance / total, abs=1e-9)


def test_the_table_counts_every_row_by_cluster_and_class() -> None:
    consortium = random_consortium(study_of(1), SIZES)
    plan, progress = consortium.run(ticking())
    weights = plan.result(progress.state)[TRAIN]
    labels = np.concatenate([site.parts[Part.TRAINING].labels for site in consortium.data.values()])

    assert weights["fit/labels"].sum(axis=0).tolist() == [*np.bincount(labels.astype(int)), 0]
    assert weights["fit/labels"].sum(axis=1).tolist() == weights["fit/rows"].tolist()


def membership(method: KMeans, sums: NDArray[np.float64], rows: NDArray[np.float64], first: int) -> Any:
    """Return who is in each cluster: one column a patient, 1 at that patient and 0 at the others, from ``first`` on."""
    columns = rows[:, first : first + SIZES["a"]]
    low, high = columns.min(axis=0), columns.max(axis=0)
    counts, totals = sums[..., :1], sums[..., 1:] * method.bounds
    return (totals[..., first : first + SIZES["a"]] - counts * low) / (high - low)


@pytest.mark.parametrize(("least", "expected"), [(1, 1), (5, 5)])
def test_by_all_sums_of_a_run_and_of_other_centres_no_fewer_patients_are_told_apart(least: int, expected: int) -> None:
    """Whatever is added or subtracted, of rounds and starts: patients who were always together stay together."""
    features = 2 + SIZES["a"]
    consortium = random_consortium(study_of(least, features=features, method__rounds=2), SIZES)
    for name, site in consortium.data.items():
        site.parts[Part.TRAINING].values[:, 2:] = np.eye(SIZES["a"]) if name == "a" else 0.0
    plan, progress = consortium.run(ticking())
    method = KMeans(study_of(least, features=features), plan.result(progress.state)[PREPARE])
    parts = [site.parts[Part.TRAINING] for site in consortium.data.values()]
    rows = method.preparation.transform(parts[0]).x
    state, seen = dict(method.start()), []
    rng = np.random.default_rng(0)
    for number in range(12):
        said = [method.contribute(state, part, NOTHING, for_site(1, "a", number))[0] for part in parts]
        assert said[0].smallest_subset is not None and said[0].smallest_subset >= expected
        own = said[0].arrays
        seen.append(membership(method, np.concatenate([own["rows"][..., None], own["sums"]], axis=2), rows, 2))
        sums = {each: sum(contribution.arrays[each] for contribution in said) for each in own}
        moved, _ = method.advance(state, Total(sums, 150.0, 3))
        # Those of a cheat, after six rounds of the run.
        drawn = rng.normal(size=state["centres"].shape) if number > 5 else moved["centres"]
        state = {**state, "round": moved["round"], "centres": drawn}
    together = np.rint(np.concatenate(seen).reshape(-1, SIZES["a"])).astype(int)
    assert together.sum(axis=0).tolist() == [len(seen) * 2] * SIZES["a"]
    assert expected == min(np.unique(together, axis=1, return_counts=True)[1])


def test_a_site_that_was_started_anew_answers_the_same() -> None:
    consortium = random_consortium(study_of(5, method__rounds=2), SIZES)
    plan, progress = consortium.run(ticking())
    method = KMeans(consortium.study, plan.result(progress.state)[PREPARE])
    state, rows = dict(method.start()), consortium.data["a"].parts[Part.TRAINING]
    method.contribute({**state, "centres": state["centres"] + 0.2}, rows, NOTHING, for_site(1, "a", 1))
    kept, _ = method.contribute(state, rows, NOTHING, for_site(1, "a", 2))
    again, _ = method.contribute(state, rows.take(np.arange(len(rows))), NOTHING, for_site(1, "a", 2))
    assert kept.arrays["sums"].tolist() == again.arrays["sums"].tolist()


def test_centres_that_the_study_has_not_are_refused() -> None:
    consortium = random_consortium(study_of(5), SIZES)
    plan, progress = consortium.run(ticking())
    method = KMeans(consortium.study, plan.result(progress.state)[PREPARE])
    with pytest.raises(Refusal, match="expected centres of shape"):
        method.asks({**method.start(), "centres": np.zeros((2, 4, 2))})


def test_a_label_that_is_a_number_has_a_mean_and_a_deviation_in_each_cluster() -> None:
    number = {"type": "number", "range": [0.0, 20.0]}
    study = study_of(1, data__columns__y=number, method__options={"clusters": 2, "min_subset_patients": 1})
    near, far = examples_of([[-5, 0], [-5, 0]], [2, 4]), examples_of([[5, 0], [5, 0]], [10, 16])
    sites = {name: site_of(name, rows) for name, rows in {"a": near, "b": far, "c": near, "d": far}.items()}
    plan, progress = Consortium(study, sites).run(ticking())
    weights = plan.result(progress.state)[TRAIN]
    of_cluster = {round(row): told for row, told in zip(weights["centres"][:, 0], weights["fit/labels"], strict=True)}

    assert of_cluster[-1] == pytest.approx([3.0, 1.0])
    assert of_cluster[1] == pytest.approx([13.0, 3.0])


def test_a_study_needs_a_round_for_the_label() -> None:
    with pytest.raises(StudyError, match="rounds of at least 2"):
        table_study(method={"name": "k-means", "rounds": 1, "options": {"clusters": 2}})


def test_what_is_hidden_of_a_cluster_is_no_zero_and_an_empty_cluster_has_no_centre() -> None:
    weights = {
        "centres": np.array([[0.0, 1.0], [2.0, 3.0]]),
        "fit/rows": np.array([9.0, 0.0]),
        "fit/labels": np.array([[6.0, 0.0, 3.0], [0.0, 0.0, 0.0]]),
    }
    contract = study_of(5).data
    terms = [Term(name, 0, 1.0, center=1.0, scale=2.0) for name in contract.features[:2]]
    clusters, centres = interpretation(weights, contract, terms, 5).tables
    assert (("cluster 1", 9, 1.0, 6, None, 3),) == clusters.rows
    assert (1.0, 3.0) == tuple(row[1] for row in centres.rows) and ("column", "cluster 1") == centres.head
