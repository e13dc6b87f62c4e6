"""What would leave, counted by hand for small studies, and never a cell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client import description
from client.data.conform import Findings
from client.data.split import SiteData
from client.description import Leaving, check_threshold, what_leaves
from client.policy import Policy
from shared.errors import StudyError
from shared.examples import Part
from shared.study import Study
from simulations.local import Consortium
from tests.builders import examples_of, site_of, table_study, ticking
from tests.secure import secure_study


def site(rows: int = 4, held_out: int = 2) -> SiteData:
    x = np.arange(2.0 * (rows + held_out)).reshape(-1, 2)
    y = [index % 2 for index in range(rows + held_out)]
    return site_of("a", examples_of(x[:rows], y[:rows]), examples_of(x[rows:], y[rows:], first=rows))


def of(study: Study) -> Leaving:
    return what_leaves(study, site(), 4)


def say(study: Study | None = None, data: SiteData | None = None, policy: Policy | None = None, sites: int = 4) -> str:
    study, data = study or secure_study(), data or site()
    leaving = what_leaves(study, data, sites)
    return description.text(study, data, (1, 3), policy or Policy(), sites, leaving)


def test_the_numbers_of_a_study_with_two_number_columns_are_those_counted_by_hand() -> None:
    prepare, train, evaluate = of(table_study()).sums

    # Rows; missing and outside by column; two moments and 1000 bins of each column; two classes; the weight.
    assert 1 + 2 * 2 + 2 * (2 + 1000) + 2 + 1 == prepare.numbers
    # Two columns and their indicators, the intercept; the loss; the weight.
    assert 2 * 2 + 1 + 1 + 1 == train.numbers
    # Scores of two classes in 1000 bins, four counts, four losses, everyone's weight; the weight.
    assert 2 * 1000 + 4 + 4 + 1 + 1 == evaluate.numbers


def test_the_model_is_counted_at_its_widest() -> None:
    assert 5 == of(table_study()).parameters


def test_every_number_is_a_word_and_a_run_is_all_its_exchanges() -> None:
    leaving = of(table_study(method__rounds=7))
    prepare, train, evaluate = leaving.sums

    assert [1, 7, 1] == [each.times for each in leaving.sums]
    assert 8 * (prepare.numbers + 7 * train.numbers + evaluate.numbers) == leaving.size_bytes


def test_training_patients_and_held_out_patients_are_told_apart() -> None:
    assert [(Part.TRAINING, 4), (Part.TRAINING, 4), (Part.HELD_OUT, 2)] == [
        (each.part, each.patients) for each in of(table_study()).sums
    ]


def grouped(**changes: Any) -> Study:
    columns = {
        "x0": {"type": "number", "range": [-10.0, 20.0]},
        "x1": {"type": "category", "levels": ["f", "m", "d"]},
        "y": {"type": "category", "levels": [0, 1]},
    }
    return table_study(data__columns=columns, evaluation__subgroups=["x1"], **changes)


def test_every_subgroup_is_one_more_evaluation() -> None:
    alone = 2 * 1000 + 4 + 4 + 1

    assert 4 * alone + 1 == of(grouped()).sums[2].numbers
    assert "again for x1 = f, x1 = m, x1 = d" in say(grouped(), policy=Policy(unmasked=True))


def test_a_run_in_which_every_column_lacks_values_ends_with_the_model_that_was_described() -> None:
    study = grouped(aggregation__min_sites=3)
    rows = np.array([[1.0, 0.0], [np.nan, 1.0], [3.0, np.nan], [4.0, 2.0]])
    data = {name: site_of(name, examples_of(rows, [0, 1, 0, 1])) for name in "abc"}
    plan, progress = Consortium(study, data).run(ticking())

    weights = plan.result(progress.state)["train"]
    assert sum(array.size for array in weights.values()) == what_leaves(study, data["a"], 3).parameters


@pytest.mark.slow
def test_a_network_is_counted_by_its_weights() -> None:
    options = {"architecture": "tabular_mlp", "model": {"units": [3]}}
    leaving = of(table_study(method={"name": "neural", "rounds": 2, "options": options}))

    # Two columns and two indicators into three units, these into one output for each of two classes.
    assert (4 * 3 + 3) + (3 * 2 + 2) == leaving.parameters
    assert 4 * leaving.sums[1].numbers == leaving.sums[1].size_bytes


def test_the_text_says_counts_by_column_and_who_was_left_out() -> None:
    data = site(40, 10)
    values = data.parts[Part.TRAINING].values.copy()
    outside = np.zeros_like(values, dtype=bool)
    values[:3, 0] = np.nan
    outside[0, 0] = True
    training = replace(data.parts[Part.TRAINING], values=values, outside=outside)
    findings = Findings(outside={"x0": 1}, no_label=2)
    said = say(data=SiteData("a", {**data.parts, Part.TRAINING: training}, findings))

    assert "50 patients: 40 patients to train on, 10 patients held out" in said
    assert "opted out, and left out before anything else: 1 patient" in said
    assert "Left out: 2 row(s) without a label." in said
    assert "class 0 of y: 25 patients" in said
    assert "column x0: missing 2 of 50, outside the contract 1" in said
    assert "column x1" not in said


def test_the_text_holds_no_cell() -> None:
    marked = 7.65432
    data = site_of(
        "a", examples_of(np.full((4, 2), marked), [0, 1, 0, 1]), examples_of([[marked, marked]], [1], first=777)
    )

    assert not {word for word in ("7.65", "p777") if word in say(data=data)}


def test_a_masked_study_says_over_how_many_hospitals_and_that_there_is_no_noise() -> None:
    said = say(sites=7)

    assert "over at least 5 hospitals" in said
    assert "No noise is added" in said


def test_the_hospitals_own_minimum_counts_where_it_is_stricter() -> None:
    assert "over at least 6 hospitals" in say(sites=7, policy=Policy(min_sites=6))


def test_a_study_without_masks_says_so() -> None:
    said = say(table_study())

    assert "NOT masked" in said
    assert "learns only totals" not in said


def test_what_the_policy_lets_the_coordinator_see_is_said() -> None:
    assert "does not see: how many rows and patients you bring, how good" in say()
    assert "sees, with your name: how many rows and patients you bring." in say(policy=Policy(show_counts=True))


@pytest.mark.parametrize(
    ("sites", "changes", "expected"),
    [
        (2, {}, "3 to 100 hospitals. Received: 2"),
        (101, {}, "3 to 100"),
        (7, {"aggregation__threshold": 3}, "threshold"),
    ],
)
def test_a_roster_with_which_the_study_cannot_be_masked_is_refused(
    sites: int, changes: dict[str, int], expected: str
) -> None:
    with pytest.raises(StudyError, match=expected):
        check_threshold(secure_study(**changes), sites)


def test_a_study_without_masks_may_have_any_number_of_hospitals() -> None:
    check_threshold(table_study(), 2)
