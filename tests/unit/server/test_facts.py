"""Who brought what, who was missing, how columns were prepared."""

from __future__ import annotations

import dataclasses

import pytest

from server import facts, prepared
from server.site_rows import site_rows
from server.tables import Cell
from shared.methods.glm import GlmOptions
from shared.methods.tuning import Candidate, Choice
from shared.tuning import Tuning
from shared.wording import UNDEFINED
from tests.unit.server.outcomes import (
    deployed_outcome,
    masked_outcome,
    outcome_of,
    private_outcome,
    record,
    study_of,
    with_counts,
)


def test_hospitals_are_listed_and_added_up() -> None:
    north, _south, everyone = site_rows(outcome_of())
    assert (north.patients, north.training, north.held_out, north.outside) == ("260", "200", "60", "3 (age 3)")
    assert north.classes == (Cell("100", "50.0 %"), Cell("100", "50.0 %"))
    assert (everyone.name, everyone.patients, everyone.outside) == ("All", "520", "6")
    assert [row.rounds for row in site_rows(outcome_of())] == ["3 of 3", "2 of 3", ""]


def test_a_single_hospital_needs_no_total() -> None:
    assert len(site_rows(outcome_of(sites=outcome_of().sites[:1]))) == 1


def test_absences_are_gathered_by_hospital_stage_and_code() -> None:
    history = (
        record("prepare", 1),
        record("train", 1, {"south": "no-reply"}),
        record("train", 2, {"south": "no-reply", "north": "not-finite"}),
        record("train", 3, {"south": "late"}),
        dataclasses.replace(record("evaluate", 1), noted={"north": "replied-twice"}),
    )
    assert [(row.site, row.stage, row.rounds, row.code, row.counted) for row in facts.absences(history)] == [
        ("south", "training", "1 to 2", "no-reply", False),
        ("north", "training", "2", "not-finite", False),
        ("south", "training", "3", "late", False),
        ("north", "evaluation", "1", "replied-twice", True),
    ]


def test_columns_say_contract_missing_and_scale() -> None:
    age, sex = prepared.column_rows(outcome_of())
    assert dataclasses.astuple(age) == (
        "age",
        "at admission",
        "0 to 120 years",
        "10",
        "2.5 %",
        "3",
        "61.25",
        "12.50",
        "median, 63.00",
    )
    assert (sex.contract, sex.missing, sex.missing_share, sex.mean, sex.fill) == (
        "one of female, male",
        "0",
        "",
        "",
        "",
    )


def test_the_run_is_described_with_its_options() -> None:
    found = dict(facts.run_facts(outcome_of()))
    assert found["Method"] == "logistic-regression (max_iter = 1, C = 1.0)"
    assert dict(facts.run_facts(outcome_of("number")))["Method"].startswith(
        "neural (architecture = tabular_mlp, model.units = ["
    )
    assert found["Server strategy"] == "FedAvg"
    assert found["Training rounds"] == "3 of 3 planned"
    assert found["Sent by the hospitals"] == "5.0 kB"
    assert found["Versions"] == "consilium 0.1.0"


def test_a_masked_run_says_how_many_hospitals_remove_the_masks() -> None:
    """Four hospitals: floor(2 * 4 / 3) + 1 = 3."""
    found = dict(facts.run_facts(masked_outcome("number", lost={"south": "no-reply"})))
    assert found["Secure aggregation"] == "on: 3 of 4 hospitals remove the masks of a sum"
    assert found["Fewest hospitals in a sum of this run"] == "3"
    assert found["Hospitals in some sums only"] == "south"


def test_a_bare_run_says_so() -> None:
    found = dict(facts.run_facts(outcome_of()))
    assert found["Secure aggregation"] == "off: each hospital's part travelled bare"


def test_a_hospital_that_is_in_no_sum_is_not_in_some() -> None:
    outcome = masked_outcome()
    never = tuple(
        dataclasses.replace(record, contributors=("north", "south", "east"), dropped={"west": "not-asked"})
        for record in outcome.history
    )
    assert dict(facts.run_facts(dataclasses.replace(outcome, history=never)))["Hospitals in some sums only"] == "none"


@pytest.mark.parametrize(
    ("aggregation", "fewest"),
    [({}, 3), ({"min_sites": 4}, 4), ({"threshold": 4}, 4), ({"min_sites": 2, "threshold": 3}, 3)],
)
def test_no_sum_is_over_fewer_than_the_sites_allow(aggregation: dict[str, int], fewest: int) -> None:
    assert facts.fewest_allowed(masked_outcome(**aggregation)) == fewest


def test_a_hospital_that_does_not_show_its_numbers_has_none_in_the_table() -> None:
    _north, south, east, _west, _everyone = site_rows(deployed_outcome())
    assert ("260", "3 (age 3)") == (south.patients, south.outside)
    assert {"not shown"} == {east.patients, east.rows, east.training, east.held_out, east.outside}
    assert (Cell("not shown"), Cell("not shown")) == east.classes
    assert "3 of 3" == east.rounds


def test_the_total_of_hidden_numbers_is_what_the_sums_say() -> None:
    """800 rows were prepared, 400 of each class, with 3 values outside; the model was judged on 240."""
    everyone = site_rows(deployed_outcome())[-1]
    assert ("not shown", "1,040", "800", "240", "3") == (
        everyone.patients,
        everyone.rows,
        everyone.training,
        everyone.held_out,
        everyone.outside,
    )
    assert (Cell("400", "50.0 %"), Cell("400", "50.0 %")) == everyone.classes


@pytest.mark.parametrize("others", [slice(1, 2), slice(1, 4)])
def test_a_hospital_that_says_another_number_of_classes_does_not_shift_the_table(others: slice) -> None:
    """Whether or not the others all show their numbers."""
    outcome = deployed_outcome()
    odd = with_counts(outcome.sites[0], class_rows=(1, 2, 3))
    rows = site_rows(dataclasses.replace(outcome, sites=(odd, *outcome.sites[others])))
    assert {2} == {len(row.classes) for row in rows}


def test_enrolled_hospitals_that_took_no_part_are_listed_with_what_to_do() -> None:
    lakeside, hilltop = facts.left_out(deployed_outcome())
    assert ("lakeside", "the hospital has not approved this study") == (lakeside.site, lakeside.meaning)
    assert "consilium-client start" in hilltop.advice


def test_a_run_between_hospitals_says_so() -> None:
    assert "between hospitals, over the network" == dict(facts.run_facts(deployed_outcome()))["Where"]
    assert "Where" not in dict(facts.run_facts(outcome_of()))


def test_the_total_of_a_private_run_says_only_what_noised_sums_count() -> None:
    """About 398 training patients and 132 held-out ones, by noised counts of 400 and 120."""
    everyone = site_rows(private_outcome(deployed=True))[-1]
    assert ("about 530", "not shown", "about 398", "about 132", "not shown") == (
        everyone.patients,
        everyone.rows,
        everyone.training,
        everyone.held_out,
        everyone.outside,
    )
    assert (Cell("not shown"), Cell("not shown")) == everyone.classes


def test_a_private_simulation_adds_up_what_it_knows_of_its_hospitals() -> None:
    """Four hospitals of 100 rows of each class; the preparation counted none."""
    assert (Cell("400", "50.0 %"), Cell("400", "50.0 %")) == site_rows(private_outcome())[-1].classes


def test_columns_of_a_private_run_have_no_counts() -> None:
    age, sex = prepared.column_rows(private_outcome())
    assert ("", "", "", "mean, 63.00") == (age.missing, age.missing_share, age.outside, age.fill)
    assert "share of male, 0.500" == sex.fill


def test_a_private_run_says_its_guarantee_and_what_each_stage_cost() -> None:
    found = dict(facts.run_facts(private_outcome()))
    assert found["Differential privacy"] == "epsilon 5, delta 0.0001, for one patient at one hospital"
    assert found["Spent"] == (
        "training patients paid epsilon 4.96, for preparation and training together; held-out ones 4.98, for evaluation"
    )
    assert [dataclasses.astuple(row) for row in facts.cost_rows(private_outcome())] == [
        ("preparation", "training", "4.00", "1", "0.900", UNDEFINED),
        ("training", "training", "2.50", "3", "4.75", "4.50"),
        ("evaluation", "held-out", "0.850", "1", "4.98", UNDEFINED),
    ]
    assert () == facts.cost_rows(outcome_of())


def test_a_method_that_averages_nothing_has_no_server_strategy_and_an_unset_option_is_not_printed() -> None:
    study = study_of()
    glm = dataclasses.replace(study.method, name="glm", options=GlmOptions(family="logistic"))
    said = dict(facts.run_facts(outcome_of(study=dataclasses.replace(study, method=glm))))
    assert "Server strategy" not in said
    assert "glm (family = logistic, l2 = 0.0, standard_errors = rows)" == said["Method"]


def test_a_study_that_tunes_is_told_with_the_options_that_its_model_was_trained_with() -> None:
    study = dataclasses.replace(study_of(), tuning=Tuning(grid={"C": (0.1, 10.0)}))
    choice = Choice("auroc", 1, (Candidate((0.7,)), Candidate((0.8,))))
    said = dict(facts.run_facts(outcome_of(study=study, choice=choice)))
    assert "logistic-regression (max_iter = 1, C = 10.0)" == said["Method"]
