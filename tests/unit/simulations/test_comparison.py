"""Baselines: the same engine, on one hospital's data and on all data, judged on the same rows."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from shared.examples import Part
from shared.plan import EVALUATE, EVERYONE, PREPARE
from simulations.comparison import POOLED, compare, exact_sums, in_one_place
from simulations.local import Consortium
from tests.builders import examples_of, random_consortium, site_of, table_study, ticking

SIZES = {"a": 40, "b": 60}


def clock() -> float:
    return float(next(_TICKS))


_TICKS = itertools.count()


def test_pooled_is_one_fit_to_everybodys_rows() -> None:
    consortium = random_consortium(table_study(), SIZES)
    compared = compare(consortium, list(SIZES), clock, lambda _what: None)
    plan, progress = consortium.run(ticking())
    preparation = plan.result(progress.state)[PREPARE]
    prepared = [preparation.transform(data.parts[Part.TRAINING]) for data in consortium.data.values()]
    x, y = np.vstack([part.x for part in prepared]), np.concatenate([part.y for part in prepared])
    oracle = roc_auc_score(y, LogisticRegression(max_iter=10_000).fit(x, y).decision_function(x))
    assert compared.pooled is not None
    assert compared.pooled.metrics["auroc"].value == pytest.approx(oracle, abs=2e-3)


def test_every_baseline_is_judged_on_the_rows_of_the_sites_that_were_judged() -> None:
    compared = compare(random_consortium(table_study(), SIZES), ["b"], clock, lambda _what: None)
    assert compared.pooled is not None
    assert {compared.pooled.n, *(judgement.n for judgement in compared.local.values())} == {60}
    assert {name: judgement.n for name, judgement in compared.local_at_home.items()} == SIZES


PRIVATE = {
    "method__name": "private-logistic-regression",
    "aggregation__secure": True,
    "privacy": {"epsilon": 5.0, "delta": 1e-4},
}


def test_baselines_of_a_private_study_have_no_noise() -> None:
    """They are those of the same study without privacy."""
    private, plain = (
        compare(random_consortium(table_study(**changes), SIZES), list(SIZES), clock, lambda _what: None)
        for changes in (PRIVATE, {})
    )
    assert plain.pooled is not None and private.pooled is not None
    assert plain.pooled.metrics == private.pooled.metrics
    assert plain.local["a"].metrics == private.local["a"].metrics


def test_the_exact_sums_of_a_private_run_are_over_the_hospitals_that_were_judged() -> None:
    """The noised ones count about 150 patients, with a deviation of sqrt(24) times the noise in a bin."""
    consortium = random_consortium(table_study(**PRIVATE), {"a": 40, "b": 60, "c": 50})
    plan, progress = consortium.run(ticking())
    assert 90 == exact_sums(consortium, plan, progress, ["a", "c"]).n
    noised = plan.result(progress.state)[EVALUATE][EVERYONE]
    counted = noised.outside.sum() + noised.inside.sum()
    assert 150 == pytest.approx(counted, abs=6 * math.sqrt(24) * noised.inside_noise)
    assert 150 != round(counted, 6)


def test_only_what_the_study_asks_for_is_trained() -> None:
    told: list[str] = []
    study = table_study(simulation__compare=["local"])
    compared = compare(random_consortium(study, SIZES), list(SIZES), clock, told.append)
    assert compared.pooled is None
    assert told == ["a alone", "b alone"]


def test_a_baseline_that_diverges_is_left_out_and_named() -> None:
    """The consortium's own run is not lost over it."""
    options = {"architecture": "tabular_mlp", "learning_rate": 1e30, "local_epochs": 3}
    study = table_study(method__name="neural", method__options=options)
    compared = compare(random_consortium(study, SIZES), list(SIZES), clock, lambda _what: None)
    assert (compared.pooled, compared.local) == (None, {})
    assert compared.failed == (POOLED, "a", "b")


def test_baselines_run_in_the_studys_own_consortium_rules() -> None:
    """A consortium of one is what a baseline is: ``min_sites`` and planned faults are not for it."""
    study = table_study(aggregation__min_sites=2, simulation__faults=["a 2 lost"])
    compared = compare(random_consortium(study, SIZES), list(SIZES), clock, lambda _what: None)
    assert compared.failed == ()


def test_subgroups_may_have_any_names() -> None:
    """Levels such as ost and ost/west, or one called server, are names for people, not for arrays."""
    levels = ["ost", "ost/west", "server", "a/server/b"]
    columns = {"data__columns__place": {"type": "category", "levels": levels}}
    study = table_study(evaluation__subgroups=["place"], **columns)
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=(40, 2)), np.arange(40) % 4])
    names = list(study.data.features)
    x = x[:, [["x0", "x1", "place"].index(name) for name in names]]
    data = {name: site_of(name, examples_of(x, np.arange(40) // 2 % 2)) for name in SIZES}
    plan, progress = Consortium(study, data).run(ticking())
    sums = plan.result(progress.state)["evaluate"]
    assert {name: group.n for name, group in sums.items()} == {
        "everyone": 80,
        **{f"place={level}": 20 for level in levels},
    }


def test_the_same_consortium_gives_the_same_judgements() -> None:
    first, second = (compare(random_consortium(table_study(), SIZES), ["a"], clock, lambda _w: None) for _ in range(2))
    assert first.pooled is not None
    assert second.pooled is not None
    assert dataclasses.asdict(first.pooled)["metrics"] == dataclasses.asdict(second.pooled)["metrics"]


def test_patients_of_two_hospitals_with_the_same_id_stay_two_patients() -> None:
    a, b = examples_of([[1.0], [2.0]], [0, 1], first=0), examples_of([[3.0], [4.0]], [0, 1], first=1)
    assert 1 == len(set(a.patients) & set(b.patients))
    rows = in_one_place({"a": a, "b": b})
    assert 4 == rows.patient_count
    # Only what two have gets another name: a forest's part of the patients follows from it.
    assert [True, False, False, True] == [name in {*a.patients, *b.patients} for name in rows.patients]
