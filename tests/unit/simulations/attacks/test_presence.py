"""What one patient adds to a sum, and whether anybody else does: numbers that can be checked by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from client.data.split import SiteData
from shared.examples import Part
from shared.study import Study, parse_study
from simulations.attacks.observed import Observed, observe
from simulations.attacks.presence import Alone, Asked, Person, Rows, asked_of, standing_alone
from tests.builders import examples_of, site_of
from tests.unit.simulations.attacks.audited import insecure_entropy


def staged(method: str, **options: Any) -> Study:
    """Patients of stage 0, 1 or 2, sick or not."""
    columns = {"stage": {"type": "category", "levels": [0, 1, 2]}, "sick": {"type": "category", "levels": [0, 1]}}
    return parse_study(
        {
            "study": {"name": "small", "question": "Who is sick?"},
            "data": {"kind": "table", "label": "sick", "columns": columns, "max_rows_per_site": 100},
            "method": {"name": method, "rounds": 25, "options": options},
            "aggregation": {"min_sites": 2, "secure": False},
        },
        "test",
    )


def hospitals(rare: int) -> dict[str, SiteData]:
    """Two hospitals with 12 patients each; so many at the first one have stage 2, which nobody else has."""
    data = {}
    for first, name in enumerate("ab"):
        stages = np.arange(12) % 2
        stages[: rare * (name == "a")] = 2
        rows = examples_of(stages[:, None], (np.arange(12) // 2) % 2, first=100 * first)
        data[name] = site_of(name, rows)
    return data


@pytest.mark.parametrize(("rare", "alone"), [(1, 1), (2, 0)])
def test_the_only_patient_with_a_level_stands_alone_in_its_count_and_two_do_not(rare: int, alone: int) -> None:
    data = hospitals(rare)
    observed = observe(staged("glm", family="logistic", l2=1.0), data, insecure_entropy(1))

    found = standing_alone(observed, data, 100, np.random.default_rng(1))

    assert Alone(patients=24, alone=alone) == found["prepare"]
    assert Alone(patients=24, alone=alone) == found["train"]


def test_what_cancels_among_others_is_not_taken_for_nothing_whatever_patients_are_called_elsewhere() -> None:
    """At the start the slopes of all but one row of a stage and class add up to zero; ids are the same everywhere."""
    data = {}
    for name in "abcdefgh":
        more = [0, 1] if name == "a" else []
        data[name] = site_of(name, examples_of(np.array([0, 0, 1, 1, *more])[:, None], [0, 1, 0, 1, *more]))
    observed = observe(staged("glm", family="logistic", l2=1.0), data, insecure_entropy(1))

    assert Alone(patients=34, alone=0) == standing_alone(observed, data, 100, np.random.default_rng(1))["train"]


def test_so_many_patients_are_looked_at_by_chance() -> None:
    data = hospitals(1)
    observed = observe(staged("glm", family="logistic", l2=1.0), data, insecure_entropy(1))

    assert 7 == standing_alone(observed, data, 7, np.random.default_rng(1))["prepare"].patients


def grown(least: int) -> tuple[Observed, dict[str, SiteData], Asked]:
    """One tree whose root splits; the second level's sum."""
    data = hospitals(3)
    for hospital in data.values():
        rows = hospital.parts[Part.TRAINING]
        rows.labels[:] = rows.values[:, 0] == 1
    options = {"trees": 1, "max_depth": 1, "min_samples_leaf": 1, "sample_fraction": 1.0, "min_subset_patients": least}
    observed = observe(staged("random-forest", max_features=3, **options), data, insecure_entropy(1))
    return observed, data, asked_of(observed)[-1]


def test_a_patient_adds_one_row_to_each_column_of_the_root_whether_he_joins_or_is_there() -> None:
    """Three columns of one level each, all of them split on: three cells, one of each column."""
    _, data, asked = grown(least=1)
    rows = data["a"].parts[Part.TRAINING]
    first, others = rows.take(np.arange(1)), rows.take(np.arange(1, 12))

    joins = Person(first, Rows(others), joins=True).adds(asked)
    leaves = Person(first, Rows(rows), joins=False).adds(asked)

    assert 3.0 == joins.sum()
    assert joins.tolist() == leaves.tolist()


def test_a_patient_who_makes_a_subset_large_enough_adds_all_of_it() -> None:
    """With five a node, four patients of a hospital are in no sum, and the fifth brings them all: five rows."""
    _, data, asked = grown(least=5)
    rows = data["a"].parts[Part.TRAINING]

    added = Person(rows.take(np.arange(1)), Rows(rows.take(np.arange(1, 5))), joins=True).adds(asked)

    assert 3.0 * 5.0 == added.sum()
