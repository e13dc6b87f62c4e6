"""The model card says what the model is for and where it ends, and a study cannot write markup into it."""

from __future__ import annotations

import dataclasses

from server.model_card import model_card
from tests.unit.server.outcomes import (
    deployed_outcome,
    judgement,
    masked_outcome,
    outcome_of,
    private_outcome,
    study_of,
    with_counts,
)


def test_the_card_has_its_parts_in_order() -> None:
    titles = [line[3:] for line in model_card(outcome_of()).splitlines() if line.startswith("## ")]
    assert titles == ["Intended use", "Data", "Method", "Results", "Limits", "Attribution", "Provenance"]


def test_the_card_names_question_data_result_and_digest() -> None:
    study = study_of()
    outcome = outcome_of(federated=judgement(study, auroc=(0.912, 0.871, 0.953)))
    card = model_card(outcome)
    assert "The question: Who is ill?" in card
    assert "2 hospitals, 520 patients, 520 rows; 400 rows trained the model and 120 were held out" in card
    assert "Training rows by class: healthy 200 (50.0 %), ill 200 (50.0 %)." in card
    assert "| AUROC | 0.912 (0.871 to 0.953) |" in card
    assert "Data by A. Author, CC BY 4.0." in card
    assert study.digest in card


def test_the_card_refuses_clinical_use_and_privacy_claims() -> None:
    card = model_card(outcome_of())
    assert "not a medical device" in card
    assert "no privacy guarantee" in card


def test_the_card_of_a_masked_run_says_what_the_masks_do_not_hide() -> None:
    card = model_card(masked_outcome("number", lost={"south": "no-reply"}))
    assert "in a simulation with secure aggregation: the aggregator's code saw sums over 3 or more hospitals" in card
    assert "no privacy guarantee" in card
    assert "without secure aggregation" not in card


def test_the_card_of_a_bare_run_says_that_nothing_was_masked() -> None:
    assert "Trained without secure aggregation and without noise" in model_card(outcome_of())


def test_errors_of_a_number_carry_the_unit() -> None:
    card = model_card(outcome_of("number"))
    assert "| Mean absolute error (mmHg) |" in card
    assert "predicts the number y (mmHg)" in card


def test_a_study_cannot_write_markup() -> None:
    study = study_of(question="# Is <b>it</b> | [so](x)\n\n## really `a`?")
    card = model_card(outcome_of(study=study))
    assert "\\# Is \\<b\\>it\\</b\\> \\| \\[so\\](x) \\#\\# really \\`a\\`?" in card
    assert [line for line in card.splitlines() if line.startswith("#")][1] == "## Intended use"


def test_hospitals_with_one_class_are_named() -> None:
    outcome = outcome_of()
    sites = (outcome.sites[0], with_counts(outcome.sites[1], class_rows=(200, 0)))
    assert "One class only among the training rows: south." in model_card(outcome_of(sites=sites))


def test_subgroups_that_were_not_judged_are_a_limit() -> None:
    assert "Not judged by subgroup" in model_card(outcome_of())


def test_the_card_of_a_run_between_hospitals_counts_rows_where_patients_are_unknown() -> None:
    """800 training rows and 240 held-out ones are known from the sums."""
    card = model_card(deployed_outcome())
    assert "4 hospitals, 1,040 rows; 800 rows trained the model and 240 were held out" in card
    assert "Trained between hospitals with secure aggregation: the aggregator saw sums over 4 or more" in card
    assert "simulation" not in card


def test_a_hospital_with_one_class_is_not_named_unless_it_shows_its_numbers() -> None:
    outcome = deployed_outcome()
    north = with_counts(outcome.sites[0], class_rows=(200, 0))
    card = model_card(dataclasses.replace(outcome, sites=(north, *outcome.sites[1:])))
    assert "One class only among the training rows: north." in card


def test_the_card_of_a_private_run_says_what_it_cost_and_which_numbers_are_noised() -> None:
    card = model_card(private_outcome())
    assert "epsilon 5, delta 0.0001, for one patient at one hospital: training patients paid epsilon 4.96" in card
    assert "Neighbours are data sets that differ by one patient, added or removed." in card
    assert (
        "| Metric | Together, noised (95 % interval) | Together, exact (95 % interval) |"
        " Pooled, without noise (95 % interval) |"
    ) in card
    assert "no privacy guarantee" not in card


def test_the_card_of_a_private_run_between_hospitals_holds_no_exact_number() -> None:
    card = model_card(private_outcome(deployed=True))
    assert "4 hospitals, about 530 patients; about 398 patients trained the model and about 132 were held out" in card
    assert "Training rows by class" not in card
    assert "exact" not in card
