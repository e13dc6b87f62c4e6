"""The consortium's table one is pandas' of the pooled rows; small counts are nowhere."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from shared.errors import NoEstimate, StudyError
from shared.examples import Examples, Part
from shared.methods.describe_tables import HIDDEN, once
from shared.plan import EVALUATE, EVERYONE, PREPARE, TRAIN
from shared.study import Study
from simulations.local import Consortium
from tests.builders import examples_of, site_of, table_study, ticking

SEX = {"type": "category", "levels": ["f", "m", "x"]}


def study_of(least: int, **changes: Any) -> Study:
    method = {"name": "describe", "rounds": 1, "options": {"min_cell": least}}
    secure = {"aggregation__secure": True, "aggregation__min_sites": 3}
    return table_study(3, **{"method": method, "data__columns__x2": SEX, **secure, **changes})


def patients(seed: int, rows: int) -> Examples:
    """Two numbers, one of which is often missing, and a category of which level x is rare."""
    rng = np.random.default_rng(seed)
    values = np.clip(rng.normal(size=(rows, 3)) * [2.0, 1.0, 1.0], -10, 10)
    values[rng.random(rows) < 0.3, 1] = np.nan
    values[:, 2] = rng.choice([0.0, 1.0, 2.0], rows, p=[0.5, 0.48, 0.02])
    return examples_of(values, rng.integers(0, 2, rows), first=1000 * seed)


def pooled(sites: dict[str, Examples]) -> pd.DataFrame:
    rows = np.vstack([np.column_stack([site.values, site.labels]) for site in sites.values()])
    return pd.DataFrame(rows, columns=["x0", "x1", "x2", "y"])


def described(study: Study, sites: dict[str, Examples]) -> tuple[Any, Any]:
    """Return the plan's results and the method."""
    data = {name: site_of(name, rows) for name, rows in sites.items()}
    plan, progress = Consortium(study, data).run(ticking())
    return plan.result(progress.state), plan.method(progress.state, TRAIN)


SITES = {"a": patients(1, 80), "b": patients(2, 60), "c": patients(3, 70)}


def test_counts_means_deviations_and_quartiles_are_those_of_the_pooled_rows() -> None:
    results, method = described(study_of(1), SITES)
    frame = pooled(SITES)
    numbers = method.interpretation(results[TRAIN]).tables[1]
    for name, of, count, missing, *moments in numbers.rows:
        rows = frame if of == "all" else frame[frame.y == float(of[-1])]
        column = rows[name]
        assert (column.count(), column.isna().sum()) == (count, missing)
        assert moments[:2] == pytest.approx([column.mean(), column.std()], abs=1e-9)
        # A bin is 0.02 wide, and between two values a quartile may be off by one more.
        assert moments[2:] == pytest.approx(column.quantile([0.25, 0.5, 0.75]).tolist(), abs=0.03)
    levels = method.interpretation(results[TRAIN]).tables[2]
    for index, (_, level, everyone, share, *by_class) in enumerate(levels.rows[:3]):
        is_level = frame.x2 == index
        assert SEX["levels"][index] == level
        assert (is_level.sum(), is_level.mean()) == (everyone, pytest.approx(share))
        assert [is_level[frame.y == 0].sum(), is_level[frame.y == 1].sum()] == by_class[::2]


def test_no_small_count_is_in_what_is_broadcast_saved_released_or_shown() -> None:
    frame = pooled(SITES)
    small = frame.groupby(["y", "x2"]).size()
    assert 0 < small.min() < 5  # or this test checks nothing
    data = {name: site_of(name, rows) for name, rows in SITES.items()}
    plan, progress = Consortium(study_of(5), data).run(ticking())
    weights = plan.result(progress.state)[TRAIN]
    told = plan.method(progress.state, TRAIN).interpretation(weights)
    counts = weights["fit/counts"]

    assert not ((counts > 0) & (counts < 5)).any()
    # Level x overall and in one class, and another level in both: or sums would give them away.
    assert 4 == (counts[5:9] == HIDDEN).sum()
    state = np.concatenate([np.ravel(array) for name, array in progress.state.items() if name.startswith("train/")])
    assert not np.isin(small[small < 5], state).any()
    cells = json.dumps(told.as_plain())
    assert "null" in cells
    assert all(f" {count}," not in cells for count in (1, 2, 3, 4))


def test_an_overall_mean_is_shown_though_its_count_is_hidden() -> None:
    """Of 30 rows, 2 have no x1: 28 would tell, and so would 134 / 28, which is no mean of 29, 27 or 26 whole numbers.

    In sixteenths of the range, 20, from -10, the mean is 12.
    """
    values = np.column_stack([np.arange(10.0), np.arange(10.0), np.zeros(10)])
    lacking = values.copy()
    lacking[:2, 1] = np.nan
    sites = {name: examples_of(rows, [0, 1] * 5) for name, rows in {"a": values, "b": values, "c": lacking}.items()}
    results, method = described(study_of(5), sites)
    everyone, no, yes = method.interpretation(results[TRAIN]).tables[1].rows[3:]

    assert ("x1", "all", None, None) == everyone[:4]
    assert -10 + 12 * 20 / 16 == everyone[4]
    assert (None,) * 7 == no[2:] == yes[2:]


def test_quartiles_need_four_times_as_many_rows() -> None:
    results, method = described(study_of(5), {name: patients(seed, 12) for seed, name in enumerate("abc")})
    everyone, no, _ = method.interpretation(results[TRAIN]).tables[1].rows[:3]

    assert None not in everyone[6:]
    assert (None, None, None) == no[6:]
    assert None not in no[4:6]


def test_a_patient_counts_once() -> None:
    several = Examples(np.ones((3, 1)), np.zeros((3, 1), bool), np.array([0.0, 1.0, 1.0]), np.array(["p", "q", "p"]))
    assert [0.0, 1.0] == once(several).labels.tolist()


def test_the_held_out_means_are_as_far_from_the_table_as_pandas_says() -> None:
    data = {name: site_of(name, rows, patients(10 + len(rows), 40)) for name, rows in SITES.items()}
    plan, progress = Consortium(study_of(1), data).run(ticking())
    training, held_out = pooled(SITES), pooled({name: site.parts[Part.HELD_OUT] for name, site in data.items()})
    expected = []
    for name in ("x0", "x1"):
        expected.append((held_out[name].mean() - training[name].mean()) / training[name].std())
    for level in range(3):
        share = (training.x2 == level).mean()
        expected.append(((held_out.x2 == level).mean() - share) / np.sqrt(share * (1 - share)))
    judged = plan.result(progress.state)[EVALUATE][EVERYONE].judge(100, np.random.default_rng(0))

    assert 120 == judged.n
    assert judged.metrics["mean_difference"].value == pytest.approx(np.abs(expected).mean(), abs=1e-9)


def test_a_label_that_is_a_number_is_a_column() -> None:
    study = study_of(1, data__columns__y={"type": "number", "range": [0.0, 1.0]})
    results, method = described(study, SITES)
    groups, numbers, _ = method.interpretation(results[TRAIN]).tables
    assert (("all", 210, 1.0),) == groups.rows
    assert ("y", "all", 210) == numbers.rows[2][:3]


def test_nothing_is_prepared_and_no_count_by_column_leaves_with_the_preparation() -> None:
    results, _ = described(study_of(5), SITES)
    assert ((), {}, {}, ()) == (
        results[PREPARE].columns,
        results[PREPARE].missing,
        results[PREPARE].outside,
        results[PREPARE].class_rows,
    )
    assert 210 == results[PREPARE].rows


def test_fewer_patients_than_a_cell_may_have_are_no_table() -> None:
    with pytest.raises(NoEstimate, match="min_cell = 5"):
        described(study_of(5), {name: patients(seed, 1) for seed, name in enumerate("abc")})


def test_subgroups_are_refused() -> None:
    with pytest.raises(StudyError, match="nothing of subgroups"):
        study_of(5, evaluation__subgroups=["x2"])
