"""What would leave, counted by hand for small studies, and never a cell."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client import costs, description
from client.data.conform import Findings
from client.data.split import SiteData
from client.description import check_threshold
from client.leaving import Leaving, what_leaves
from client.policy import Policy
from shared.errors import StudyError
from shared.examples import Arrays, Part
from shared.methods import METHODS
from shared.methods.base import Ask, PlainMean, Total
from shared.methods.logistic_regression import LogisticRegressionAveraging
from shared.plan import multipliers_of, plan_of, releases_of
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


def test_every_candidate_on_every_fold_is_one_more_training() -> None:
    study = table_study(method__rounds=7, tuning__grid={"C": [0.1, 1.0]}, tuning__folds=3)
    leaving = of(study)
    tune = leaving.sums[1]

    assert [1, 8, 7, 1] == [each.times for each in leaving.sums]
    # Two classes in 4,000 bins, four calls, four losses and a weight are more than a training sends.
    assert 2 * 3 * (8000 + 4 + 4 + 1) + 1 == tune.numbers
    assert 2 * 3 * of(table_study()).parameters == leaving.parameters
    assert "for each of 2 candidates (C)" in tune.contents[0]


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


def test_columns_dealt_anew_are_counted_in_fewer_steps_where_predictions_are_counted_in_steps() -> None:
    study = table_study(evaluation__importance=True, evaluation__histogram_bins=4000)
    assert "the same in 1,000 steps for each of 2 columns" in of(study).sums[-1].contents[-1]


def test_a_method_with_sums_of_its_own_sums_the_same_with_columns_dealt_anew() -> None:
    study = table_study(evaluation__importance=True, method__name="pca", method__options={"components": 1})
    assert "the same for each of 2 columns" in of(study).sums[-1].contents[-1]


def test_a_run_in_which_every_column_lacks_values_ends_with_the_model_that_was_described() -> None:
    study = grouped(aggregation__min_sites=3)
    rows = np.array([[1.0, 0.0], [np.nan, 1.0], [3.0, np.nan], [4.0, 2.0]])
    data = {name: site_of(name, examples_of(rows, [0, 1, 0, 1])) for name in "abc"}
    plan, progress = Consortium(study, data).run(ticking())

    weights = plan.result(progress.state)["train"]
    assert sum(array.size for array in weights.values()) == what_leaves(study, data["a"], 3).parameters


class Nodes(LogisticRegressionAveraging):
    """Sums over subsets that the data choose: a node of a tree, as it were."""

    def asks(self, state: Arrays) -> Ask:
        return replace(super().asks(state), subset_patients=5)


def test_sums_over_subsets_that_the_data_choose_are_known_before_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not of(table_study()).subsets
    monkeypatch.setitem(METHODS, "logistic-regression", Nodes)  # type: ignore[arg-type]
    assert of(table_study()).subsets
    assert "at least 7 of your patients, or nobody." in say(policy=Policy(min_subset_patients=7))


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


# Studies with [privacy].


def noised(**changes: Any) -> Study:
    basis: dict[str, Any] = {
        "method": {"name": "private-logistic-regression", "rounds": 3},
        "privacy": {"epsilon": 5.0, "delta": 1e-4},
        "data__columns": {
            "x0": {"type": "number", "range": [-10.0, 20.0], "missing": [99]},
            "x1": {"type": "category", "levels": ["f", "m"]},
            "y": {"type": "category", "levels": [0, 1]},
        },
        "evaluation__subgroups": ["x1"],
    }
    return secure_study(**{**basis, **changes})


def test_the_numbers_of_a_study_with_noise_are_those_counted_by_hand() -> None:
    prepare, train, evaluate = of(noised()).sums

    # Patients; one measured and two moments of x0; two levels of x1; the weight.
    assert 1 + 1 + 2 + 2 + 1 == prepare.numbers
    # x0 and its indicator, x1, the intercept; the weight.
    assert 3 + 1 + 1 == train.numbers
    # 12 bins in and outside the class, for everyone and for f and m; the weight.
    assert 3 * 2 * 12 + 1 == evaluate.numbers


def test_a_run_with_noise_ends_with_the_model_that_was_described_whatever_the_data_lack() -> None:
    study = noised(method__rounds=1)
    rows = np.array([[1.0, 0.0], [2.0, 1.0], [3.0, 0.0], [4.0, 1.0]])
    data = {name: site_of(name, examples_of(rows, [0, 1, 0, 1])) for name in "abc"}
    plan, progress = Consortium(study, data).run(ticking())

    weights = plan.result(progress.state)["train"]
    assert sum(array.size for array in weights.values()) == what_leaves(study, data["a"], 3).parameters


def entries_of(study: Study) -> list[set[str]]:
    """The names of what is summed in preparation, training and evaluation."""
    releases = releases_of(study)
    plan = plan_of(study, PlainMean())
    state, _ = plan.advance(
        plan.start(), Total({each.name: np.zeros(each.shape) for each in releases.prepare.entries}, 3.0, 3)
    )
    return [{each.name for each in ask.entries} for ask in (releases.prepare, plan.asks(state), releases.evaluate)]


def test_nothing_is_summed_under_noise_that_the_description_does_not_know() -> None:
    """Whoever adds an entry describes it in ``client/description_private.py``."""
    columns = {"x0": {"type": "number", "range": [-10.0, 20.0]}, "y": {"type": "category", "levels": [0, 1, 2]}}
    three = noised(data__columns=columns, evaluation__subgroups=[])

    assert [{"patients", "measured", "moments", "levels"}, {"gradient"}, {"outside", "inside"}] == entries_of(noised())
    assert [{"patients", "measured", "moments"}, {"gradient"}, {"outside", "inside", "calls"}] == entries_of(three)


def told(study: Study | None = None, policy: Policy | None = None, sites: int = 4) -> str:
    return say(study or noised(), site(40, 10), policy, sites)


def test_under_noise_neither_counts_of_missing_values_nor_losses_nor_rows_are_said_to_leave() -> None:
    sums = told().split("What would leave")[1].split("How it is protected")[0]

    assert not {word for word in ("missing", "outside the contract", "error", "loss", "rows there are") if word in sums}
    assert "whatever your policy says, since it has no noise: how many rows and patients you bring" in sums
    assert "By your policy" not in sums
    assert "again for x1 = f, x1 = m" in sums


def test_what_the_policy_would_show_is_not_shown_under_noise() -> None:
    assert "sees, with your name" not in told(policy=Policy(show_counts=True, show_metrics=True))


def test_noise_is_said_as_a_deviation_and_as_the_multiple_of_what_one_patient_changes() -> None:
    study = noised()
    chosen = multipliers_of(study)
    assert chosen

    # One patient changes a training sum by its clipping norm, 1; an evaluation with subgroups by sqrt(2).
    assert f"noise of standard deviation {chosen.train:.2f} at least" in told(study)
    assert f"{chosen.train:.2f} times (the noise multiplier) the most that one patient changes it, 1.00" in told(study)
    assert f"standard deviation {chosen.evaluate * 2**0.5:.2f} at least" in told(study)


def test_the_guarantee_says_epsilon_delta_unit_shares_and_how_many_may_collude() -> None:
    """Of 7 hospitals 5 remove masks, and 2 may collude: 3 shares are enough. e**5 is 148."""
    said = told(sites=7)

    assert "epsilon 5 and delta 0.0001" in said
    assert "at most 148 times" in said
    assert "one patient at one hospital" in said
    assert "adds at least 1/3 of its variance" in said
    assert "at most 2 of 7 give theirs away" in said
    assert "No noise is added" not in said


def test_a_study_for_whole_hospitals_says_so_and_what_its_sums_hold() -> None:
    study = noised(
        method={"name": "logistic-regression", "rounds": 3},
        privacy={"epsilon": 5.0, "delta": 1e-4, "unit": "site", "patients_per_site": 40},
    )
    said = told(study)

    assert "one patient at one hospital" not in said and "The unit is a hospital" in said
    assert "Your ledger is in patients' units" in said
    assert "all together cut to length 1" in said
    assert "the most that this hospital changes it" in said and "the most that one patient changes it" not in said
    assert {"update/coef", "update/intercept"} == entries_of(study)[1]


def test_so_many_colluding_hospitals_that_no_honest_noise_is_left_are_refused() -> None:
    with pytest.raises(StudyError, match="colluding_sites"):
        told(noised(privacy={"epsilon": 5.0, "delta": 1e-4, "colluding_sites": 3}), sites=4)


def test_a_lost_hospitals_part_is_not_called_found_by_subtraction_under_noise() -> None:
    assert "subtraction" not in told(policy=Policy(shrinking=True))


def test_the_price_stands_below_the_protection() -> None:
    study, data = noised(), site(40, 10)
    owed = costs.Bill("heart", (), 3, None)
    said = description.text(study, data, (0, 0), Policy(), 4, what_leaves(study, data, 4), owed)

    assert said.index("How it is protected") < said.index("What it costs of your privacy budget")


@pytest.mark.slow
def test_steps_of_dp_sgd_are_described_as_noise_of_this_hospital() -> None:
    options = {"architecture": "tabular_mlp", "model": {"units": [3]}, "local_epochs": 2}
    study = noised(
        method={"name": "neural", "rounds": 2, "options": options},
        privacy={"epsilon": 5.0, "delta": 1e-4, "sampling_rate": 0.25, "patients_per_site": 40},
    )
    said = told(study)
    train = of(study).sums[1]

    assert "made here in 8 steps of DP-SGD, each on patients drawn with probability 0.25" in said
    assert "length 1 for every patient" in said
    # The weights, and the constant weight: no loss, no count of clipped values.
    assert of(study).parameters + 1 == train.numbers
    assert {name.split("/")[0] for name in entries_of(study)[1]} == {"update"}
