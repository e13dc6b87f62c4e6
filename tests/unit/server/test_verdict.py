"""The answer follows from numbers and intervals: right for good, bad, undefined and missing results."""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from server.subject import majority_share, row_noun
from server.verdict import verdict_of
from shared.metrics import Interval, Judgement
from tests.unit.server.outcomes import (
    Triple,
    deployed_outcome,
    judgement,
    noised_judgement,
    outcome_of,
    private_outcome,
    record,
    study_of,
    with_counts,
)

STUDY = study_of()
HIGH, MIDDLE, LOW = (0.95, 0.93, 0.97), (0.85, 0.82, 0.88), (0.70, 0.65, 0.75)
UNDEFINED = (math.nan, math.nan, math.nan)


def verdict(together: Triple, north: Triple, south: Triple, pooled: Triple | None = None):  # type: ignore[no-untyped-def]
    return verdict_of(
        outcome_of(
            federated=judgement(STUDY, auroc=together),
            local={"north": judgement(STUDY, auroc=north), "south": judgement(STUDY, auroc=south)},
            pooled=judgement(STUDY, auroc=pooled) if pooled else None,
        )
    )


def test_yes_needs_every_hospital_to_gain_clearly() -> None:
    found = verdict(HIGH, MIDDLE, LOW)
    assert found.tone == "yes"
    assert found.answer.startswith("Yes: on these data")


def test_one_unclear_hospital_makes_it_some() -> None:
    found = verdict(HIGH, HIGH, LOW)
    assert found.tone == "mixed"
    assert "clearly better than the own models of 1 of 2 hospitals; against the other, the" in found.answer
    assert "Against north the difference may be chance; together has no better value." in found.reasons


def test_better_for_one_and_worse_for_another_is_said() -> None:
    found = verdict(MIDDLE, HIGH, LOW)
    assert found.tone == "mixed"
    assert found.answer.endswith("of 1 of 2 hospitals, and clearly worse than those of 1.")


def test_only_worse_is_no() -> None:
    found = verdict(MIDDLE, HIGH, MIDDLE)
    assert found.tone == "no"
    assert "clearly worse than the own models of 1 of 2 hospitals" in found.answer


def test_differences_that_may_be_chance_are_not_shown_rather_than_absent() -> None:
    found = verdict(MIDDLE, MIDDLE, MIDDLE)
    assert (found.tone, found.answer[:10]) == ("open", "Not shown:")


def test_a_model_no_better_than_guessing_is_never_worth_it() -> None:
    """Clearly better than both hospitals, but its own interval holds 0.5."""
    found = verdict((0.55, 0.49, 0.61), (0.30, 0.25, 0.35), (0.30, 0.25, 0.35))
    assert found.tone == "no"
    assert "not shown to be better than guessing (AUROC 0.5)" in found.answer


def test_a_loss_against_pooling_is_said_with_its_size() -> None:
    found = verdict(MIDDLE, LOW, LOW, pooled=HIGH)
    assert any("costs 0.100 of AUROC" in reason for reason in found.reasons)


def test_no_clear_loss_against_pooling_is_not_called_no_loss() -> None:
    found = verdict(HIGH, LOW, LOW, pooled=(0.96, 0.94, 0.98))
    assert any("show no clear loss" in reason and "0.010 away" in reason for reason in found.reasons)


def test_without_comparisons_the_run_cannot_tell() -> None:
    found = verdict_of(outcome_of(local={}, local_at_home={}, pooled=None))
    assert found.tone == "open"
    assert "compared with nothing else" in found.answer
    assert len(found.reasons) == 1


def test_held_out_rows_of_one_class_cannot_be_judged() -> None:
    found = verdict_of(outcome_of(federated=judgement(STUDY, auroc=UNDEFINED)))
    assert (found.tone, found.cautions) == ("open", ())
    assert "all belong to one class" in found.reasons[0]


def test_lower_errors_are_better() -> None:
    study = study_of("number")
    alone = judgement(study, mae=(10.0, 9.0, 11.0))
    found = verdict_of(
        outcome_of("number", federated=judgement(study, mae=(4.0, 3.5, 4.5)), local={"north": alone, "south": alone})
    )
    assert found.tone == "yes"
    assert "reach mean absolute error 10.0 mmHg" in found.reasons[1]


def test_a_number_no_better_than_its_mean_is_said() -> None:
    study = study_of("number")
    found = verdict_of(outcome_of("number", federated=judgement(study, r2=(-0.2, -0.4, 0.1))))
    assert found.tone == "no"
    assert "predicting the mean for everybody" in found.answer


def test_several_classes_are_judged_by_their_mean() -> None:
    found = verdict_of(outcome_of("multiclass"))
    assert "the mean AUROC of 3 classes" in found.reasons[0]


def test_the_reader_is_warned_of_what_limits_the_answer() -> None:
    outcome = outcome_of(federated=judgement(STUDY, 80, auroc=HIGH), history=(record("train", 1, {"south": "late"}),))
    cautions = " ".join(verdict_of(outcome).cautions)
    assert "Not all models were judged on the same patients" in cautions
    assert "Only 80 patients were held out" in cautions
    assert "In 1 of 1 training round, at least one hospital was missing" in cautions


def test_several_rows_of_one_patient_are_said_to_narrow_intervals() -> None:
    outcome = outcome_of()
    sites = (with_counts(outcome.sites[0], rows=300), outcome.sites[1])
    assert "too narrow" in verdict_of(outcome_of(sites=sites)).cautions[-1]


def test_the_majority_is_what_accuracy_must_beat() -> None:
    """30 healthy and 10 ill: calling everyone healthy is right in 3 of 4."""
    found = dataclasses.replace(judgement(STUDY), confusion=np.array([[20.0, 10.0], [5.0, 5.0]]))
    assert ("healthy", 0.75) == majority_share(found)


def test_a_run_between_hospitals_points_to_the_simulation() -> None:
    found = verdict_of(deployed_outcome())
    assert found.tone == "open"
    assert "between real hospitals no model is made alone or from pooled data" in found.answer
    assert "`consilium-simulate run`" in found.reasons[-1]


def test_a_useless_model_between_hospitals_is_still_said_to_be_useless() -> None:
    found = verdict_of(deployed_outcome(federated=judgement(STUDY, auroc=(0.5, 0.4, 0.6))))
    assert found.tone == "no"


def test_rows_are_called_rows_where_patients_are_unknown_and_may_have_several() -> None:
    """With a patient id in the contract, and two hospitals that do not show their patients."""
    outcome = deployed_outcome()
    assert row_noun(outcome) == "patient"
    several = dataclasses.replace(STUDY, data=dataclasses.replace(STUDY.data, patient_id="id"))
    unknown = dataclasses.replace(outcome, study=several)
    assert row_noun(unknown) == "row"
    assert "Patients may have several rows" in verdict_of(unknown).cautions[-1]


def test_a_private_simulation_is_judged_by_its_exact_values_and_tells_the_noised_ones() -> None:
    """Noised, the model would seem worse than both hospitals' own."""
    outcome = private_outcome(
        federated=judgement(STUDY, auroc=LOW),
        federated_exact=judgement(STUDY, auroc=HIGH),
        local={"north": judgement(STUDY, auroc=MIDDLE), "south": judgement(STUDY, auroc=MIDDLE)},
    )
    found = verdict_of(outcome)
    assert "yes" == found.tone
    assert found.reasons[1].endswith(
        "What hospitals would see of the same model: noised, AUROC 0.700 (95 % interval 0.650 to 0.750); its interval"
        " covers the noise, too."
    )


def test_a_noised_number_of_patients_is_not_held_against_the_exact_one() -> None:
    """The noised judgement has another n than the models that it is compared with."""
    outcome = private_outcome(federated=noised_judgement(STUDY, 300))
    assert not any("not all judged on the same" in caution for caution in verdict_of(outcome).cautions)


def test_a_private_run_whose_noise_drowns_the_patients_says_so() -> None:
    found = verdict_of(private_outcome(deployed=True, federated=noised_judgement(STUDY, noise=200.0)))
    assert ("open", 1) == (found.tone, len(found.reasons))
    assert found.reasons[0].startswith("The noise is larger than what the held-out patients could show")


def test_noised_numbers_of_patients_are_about() -> None:
    found = verdict_of(private_outcome(deployed=True))
    assert found.reasons[0].startswith(f"On about {private_outcome(deployed=True).federated.n} held-out patients")


def test_no_plain_yes_where_hospitals_own_models_serve_their_own_patients_better() -> None:
    """As with a table of all patients: near to all of them, and farther from one hospital's than its own table."""
    alone = {"north": judgement(STUDY, auroc=MIDDLE), "south": judgement(STUDY, auroc=LOW)}
    at_home = {name: judgement(STUDY, auroc=HIGH) for name in alone}
    together_at_home = {name: judgement(STUDY, auroc=LOW) for name in alone}
    found = verdict_of(
        outcome_of(
            federated=judgement(STUDY, auroc=HIGH), local=alone, local_at_home=at_home, per_site=together_at_home
        )
    )
    assert "mixed" == found.tone
    assert "the own models of 2 of 2 hospitals are clearly better." in found.answer


def test_a_hospital_that_gets_no_model_alone_is_named() -> None:
    found = verdict_of(outcome_of(federated=judgement(STUDY, auroc=HIGH), local={"south": judgement(STUDY, auroc=LOW)}))
    assert found.answer.endswith("clearly better than south's own model; 1 hospital got no model alone.")
    assert "Alone, the same method gives no model at north." in found.reasons


def of_method(name: str, metric: str, together: Triple, alone: Triple):  # type: ignore[no-untyped-def]
    """A run of two hospitals whose only metric is one that a method has for itself, of patients who count once."""
    study = study_of("number")
    made, own = (
        Judgement({metric: Interval(*values)}, 120, curves=(), by_patient=True) for values in (together, alone)
    )
    return outcome_of(
        study=dataclasses.replace(study, method=dataclasses.replace(study.method, name=name)),
        federated=made,
        local={"north": own, "south": own},
        per_site={},
        local_at_home={},
        pooled=None,
    )


def test_a_metric_that_does_not_say_which_policy_is_better_gives_no_verdict() -> None:
    found = verdict_of(of_method("treatment-policy", "bellman_error", (1.0, 0.9, 1.1), (2.0, 1.9, 2.1)))
    assert "open" == found.tone
    assert "This run cannot tell: mean Bellman error does not say which policy is better for patients." == found.answer
    assert "On 120 held-out patients: mean Bellman error 1.00 mmHg (95 % interval 0.900 to 1.10)." == found.reasons[0]
    assert "median 2.00 mmHg; together, 1.00 mmHg." in found.reasons[1]


def test_a_table_is_called_a_table() -> None:
    found = verdict_of(of_method("describe", "mean_difference", (0.1, 0.05, 0.15), (0.4, 0.3, 0.5)))
    assert "Yes: on these data, the table made together is clearly better than every one of the 2 hospitals' own" in (
        found.answer
    )
    assert "the hospitals' tables reach mean standardised difference 0.400" in found.reasons[1]


def test_where_each_patient_counts_once_rows_do_not_narrow_intervals() -> None:
    outcome = of_method("describe", "mean_difference", (0.1, 0.05, 0.15), (0.4, 0.3, 0.5))
    several = tuple(with_counts(site, patients=1) for site in outcome.sites)
    outcome = dataclasses.replace(outcome, sites=several)
    assert "patient" == row_noun(outcome)
    assert not [caution for caution in verdict_of(outcome).cautions if "several rows" in caution]
