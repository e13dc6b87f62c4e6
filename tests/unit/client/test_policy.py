"""What a hospital allows, whatever a study proposes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from client import policy
from client.data.split import SiteData
from client.policy import (
    Policy,
    check_cohort,
    check_subsets,
    check_sum,
    class_patients,
    simulated,
    violations,
)
from shared.errors import Refusal
from shared.examples import Examples, Part, concatenate
from shared.methods.base import Ask, Contribution
from shared.methods.tuning import folds_of
from shared.reasons import CODE_MEANINGS
from shared.study import Study
from tests.builders import examples_of, site_of, table_study
from tests.secure import powers, secure_study


def test_a_hospital_that_says_nothing_masks_among_three_and_loses_nobody() -> None:
    assert Policy(min_sites=3, unmasked=False, shrinking=False) == Policy()


def test_a_simulated_hospital_has_the_studys_wishes_as_its_own() -> None:
    wishes = [(each.min_sites, each.unmasked, each.shrinking) for each in (simulated(secure_study()), BARE_POLICY)]

    assert [(3, False, False), (1, True, False)] == wishes


def test_a_simulated_hospital_has_as_few_patients_as_it_likes() -> None:
    assert () == violations(simulated(secure_study()), secure_study(), small_site([0]), 3, 10**9, 5)


def test_a_simulated_hospital_allows_shrinking_where_the_simulation_says_so() -> None:
    assert simulated(secure_study(simulation__contributors_may_shrink=True)).shrinking


def test_a_fold_on_which_candidates_are_judged_has_enough_patients() -> None:
    study = secure_study(tuning__grid={"C": [1.0]}, tuning__folds=2)
    data = small_site([0, 1] * 8)
    training = data.parts[Part.TRAINING]
    folds = np.bincount(folds_of(np.unique(training.patients), study.study.seed, 2))
    assert min(folds) > 2
    check_cohort(replace(LENIENT, min_part_patients=int(min(folds))), study, data)
    with pytest.raises(Refusal, match="too-few-patients"):
        check_cohort(replace(LENIENT, min_part_patients=int(min(folds)) + 1), study, data)


def test_a_policy_of_a_simulation_is_not_part_of_what_hospitals_approve() -> None:
    assert secure_study().digest == secure_study(simulation__contributors_may_shrink=True).digest


@pytest.mark.parametrize(("policy", "study", "fewest"), [(3, 5, 5), (5, 3, 5)])
def test_the_stricter_of_policy_and_study_says_how_few_sites_a_sum_may_have(
    policy: int, study: int, fewest: int
) -> None:
    member = powers(5, secure_study(aggregation__min_sites=study)).member("a")
    assert fewest == replace(member, policy=Policy(min_sites=policy)).min_sites


BARE_POLICY = simulated(table_study())


def small_site(labels: list[int]) -> SiteData:
    """A hospital that holds nobody out, with one patient for each label."""
    rows = examples_of([[0.0, 0.0]] * len(labels), labels)
    return site_of("a", rows, rows.take(np.array([], dtype=int)))


LENIENT = Policy(min_sites=1, min_patients=1, min_class_patients=0, min_part_patients=1)


def broken(
    policy: Policy, study: Study | None = None, members: int = 3, parameters: int = 1, subsets: int | None = None
) -> list[str]:
    """The rules that a study breaks with two patients of class 0 and one of class 1."""
    found = violations(policy, study or secure_study(), small_site([0, 0, 1]), members, parameters, subsets)
    return [sentence.partition(":")[0] for sentence in found]


def test_a_study_within_every_rule_breaks_none() -> None:
    assert [] == broken(LENIENT)


@pytest.mark.parametrize(
    ("expected", "policy"),
    [
        ("methods", replace(LENIENT, methods=("neural",))),
        ("methods", replace(LENIENT, methods=())),
        ("min_sites", replace(LENIENT, min_sites=4)),
        ("min_patients", replace(LENIENT, min_patients=4)),
        ("min_class_patients", replace(LENIENT, min_class_patients=2)),
        ("min_part_patients", replace(LENIENT, min_part_patients=4, min_patients=3)),
    ],
)
def test_a_rule_that_is_broken_is_named(expected: str, policy: Policy) -> None:
    assert [expected] == broken(policy)


def test_a_rule_that_is_just_kept_is_not_broken() -> None:
    exact = replace(LENIENT, methods=("logistic-regression",), min_sites=3, min_patients=3, min_class_patients=1)

    assert [] == broken(replace(exact, min_part_patients=3, max_parameters_per_patient=4.0), parameters=12)


def test_a_model_of_more_parameters_for_each_patient_than_allowed_is_refused() -> None:
    assert ["max_parameters_per_patient"] == broken(replace(LENIENT, max_parameters_per_patient=4.0), parameters=13)


def test_sums_over_subsets_that_the_data_choose_are_refused_unless_the_hospital_allows_them() -> None:
    assert ["data_dependent_subsets"] == broken(LENIENT, subsets=5)
    assert [] == broken(replace(LENIENT, data_dependent_subsets=True), subsets=5)


def test_a_study_that_keeps_to_fewer_patients_in_a_subset_than_the_hospital_is_refused() -> None:
    allowed = replace(LENIENT, data_dependent_subsets=True, min_subset_patients=5)
    assert ["min_subset_patients"] == broken(allowed, subsets=4)
    with pytest.raises(Refusal, match="subset-too-small"):
        check_sum(allowed, secure_study(), HELD_OUT_TWO, asks(subset_patients=1), 3, 0)


def test_a_study_without_masks_is_refused_unless_the_hospital_allows_it() -> None:
    bare = table_study()

    assert ["unmasked"] == broken(LENIENT, bare)
    assert [] == broken(replace(LENIENT, unmasked=True), bare)


def test_all_broken_rules_are_said_at_once_in_plain_sentences() -> None:
    found = violations(Policy(min_part_patients=3), secure_study(), small_site([0, 0, 1]), 2, 1, None)

    assert (
        "min_sites: expected at least 3 hospitals. Received: 2 in the roster.",
        "min_patients: expected at least 20 patients. Received: 3.",
        "min_class_patients: expected at least 5 patients of class 0 of y to train on. Received: 2.",
        "min_class_patients: expected at least 5 patients of class 1 of y to train on. Received: 1.",
    ) == found


def test_rows_of_one_patient_are_one_patient_and_held_out_patients_count() -> None:
    rows = examples_of([[0.0, 0.0]] * 3, [0, 0, 1])
    twice = replace(rows, patients=np.array(["p", "p", "q"]))
    site = site_of("a", twice, examples_of([[0.0, 0.0]], [0], first=9))

    assert {"0": 2, "1": 1} == class_patients(
        secure_study().data, concatenate([site.parts[Part.TRAINING], site.parts[Part.HELD_OUT]])
    )
    assert () == violations(replace(LENIENT, min_patients=3), secure_study(), site, 3, 1, None)
    assert 1 == len(violations(replace(LENIENT, min_patients=4), secure_study(), site, 3, 1, None))


def test_a_method_that_does_not_exist_is_no_policy() -> None:
    with pytest.raises(ValueError, match="Did you mean 'neural'"):
        Policy(methods=("nueral",))


# In each round


def part_of(labels: list[int], first: int = 0) -> Examples:
    return examples_of([[0.0, 0.0]] * len(labels), labels, first)


def asks(**changes: Any) -> Ask:
    return replace(Ask(Part.TRAINING, (), 1.0, 64, False, 0.0, 0.0), **changes)


HELD_OUT_TWO = site_of("a", part_of([0, 0, 1]), part_of([0, 1], first=9))


@pytest.mark.parametrize(
    ("code", "policy", "ask", "parameters"),
    [
        ("method-not-allowed", replace(LENIENT, methods=("neural",)), asks(), 0),
        ("too-few-members", replace(LENIENT, min_sites=4), asks(), 0),
        ("too-few-patients", replace(LENIENT, min_patients=6), asks(), 0),
        ("too-few-patients", replace(LENIENT, min_part_patients=3), asks(), 0),
        ("too-few-of-a-class", replace(LENIENT, min_class_patients=2), asks(), 0),
        ("too-many-parameters", replace(LENIENT, max_parameters_per_patient=4.0), asks(), 13),
        ("data-dependent-subsets", LENIENT, asks(subset_patients=5), 0),
    ],
)
def test_a_sum_that_breaks_a_rule_is_refused_with_the_rules_code(
    code: str, policy: Policy, ask: Ask, parameters: int
) -> None:
    with pytest.raises(Refusal) as caught:
        check_sum(policy, secure_study(), HELD_OUT_TWO, ask, 3, parameters)
    assert code == caught.value.code


def test_a_sum_that_just_keeps_every_rule_is_allowed() -> None:
    policy = Policy(
        min_sites=3,
        methods=("logistic-regression",),
        min_patients=5,
        min_class_patients=1,
        min_part_patients=2,
        max_parameters_per_patient=4.0,
        data_dependent_subsets=True,
    )

    check_sum(policy, secure_study(), HELD_OUT_TWO, asks(subset_patients=5), 3, 12)


@pytest.mark.parametrize("part", [Part.TRAINING, Part.HELD_OUT])
def test_the_refusal_is_the_same_whichever_part_is_asked_for(part: Part) -> None:
    """Two are held out: asked about those to train on, the hospital would say so as well."""
    with pytest.raises(Refusal) as caught:
        check_sum(replace(LENIENT, min_part_patients=3), secure_study(), HELD_OUT_TWO, asks(part=part), 3, 0)
    assert "too-few-patients" == caught.value.code


def test_a_hospital_that_holds_nobody_out_has_no_sum_over_too_few() -> None:
    check_cohort(replace(LENIENT, min_part_patients=3), secure_study(), small_site([0, 0, 1]))


@pytest.mark.parametrize("policy", [replace(LENIENT, min_patients=6), replace(LENIENT, min_class_patients=2)])
def test_what_the_coordinator_hears_has_no_number_in_it(policy: Policy) -> None:
    with pytest.raises(Refusal) as caught:
        check_cohort(policy, secure_study(), HELD_OUT_TWO)
    assert not any(letter.isdigit() for letter in caught.value.hint)


def test_every_rule_that_can_be_refused_has_a_meaning_for_the_coordinator() -> None:
    assert set() == policy._HINTS.keys() - CODE_MEANINGS.keys()


@pytest.mark.parametrize(("smallest", "allowed"), [(5, True), (4, False), (None, False)])
def test_a_subset_that_the_data_choose_has_enough_patients_or_is_refused(smallest: int | None, allowed: bool) -> None:
    contribution = Contribution({}, 1.0, smallest)
    ask = asks(subset_patients=5)
    if allowed:
        check_subsets(Policy(min_subset_patients=5), ask, contribution)
        return
    with pytest.raises(Refusal) as caught:
        check_subsets(Policy(min_subset_patients=5), ask, contribution)
    assert "subset-too-small" == caught.value.code


def test_sums_over_everybody_need_not_say_how_small_their_subsets_are() -> None:
    check_subsets(Policy(), asks(), Contribution({}, 1.0))
