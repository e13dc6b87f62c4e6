"""What a hospital allows, whatever a study proposes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client.data.split import SiteData
from client.policy import Policy, class_patients, simulated, violations
from shared.examples import Part, concatenate
from shared.study import Study
from tests.builders import examples_of, site_of, table_study
from tests.secure import powers, secure_study


def test_a_hospital_that_says_nothing_masks_among_three_and_loses_nobody() -> None:
    assert Policy(min_sites=3, unmasked=False, shrinking=False) == Policy()


def test_a_simulated_hospital_has_the_studys_wishes_as_its_own() -> None:
    assert Policy(min_sites=4, unmasked=False, shrinking=False) == simulated(secure_study(aggregation__min_sites=4))
    assert Policy(min_sites=1, unmasked=True, shrinking=False) == simulated(table_study())


def test_a_simulated_hospital_allows_shrinking_where_the_simulation_says_so() -> None:
    assert simulated(secure_study(simulation__contributors_may_shrink=True)).shrinking


def test_a_policy_of_a_simulation_is_not_part_of_what_hospitals_approve() -> None:
    assert secure_study().digest == secure_study(simulation__contributors_may_shrink=True).digest


@pytest.mark.parametrize(("policy", "study", "fewest"), [(3, 5, 5), (5, 3, 5)])
def test_the_stricter_of_policy_and_study_says_how_few_sites_a_sum_may_have(
    policy: int, study: int, fewest: int
) -> None:
    member = powers(5, secure_study(aggregation__min_sites=study)).member("a")
    assert fewest == replace(member, policy=Policy(min_sites=policy)).min_sites


def small_site(labels: list[int]) -> SiteData:
    """A hospital that holds nobody out, with one patient for each label."""
    rows = examples_of([[0.0, 0.0]] * len(labels), labels)
    return site_of("a", rows, rows.take(np.array([], dtype=int)))


LENIENT = Policy(min_sites=1, min_patients=1, min_class_patients=0)


def broken(policy: Policy, study: Study | None = None, members: int = 3, parameters: int = 1) -> list[str]:
    """The rules that a study breaks with two patients of class 0 and one of class 1."""
    found = violations(policy, study or secure_study(), small_site([0, 0, 1]), members, parameters)
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
    ],
)
def test_a_rule_that_is_broken_is_named(expected: str, policy: Policy) -> None:
    assert [expected] == broken(policy)


def test_a_rule_that_is_just_kept_is_not_broken() -> None:
    exact = replace(LENIENT, methods=("logistic-regression",), min_sites=3, min_patients=3, min_class_patients=1)

    assert [] == broken(replace(exact, max_parameters_per_patient=4.0), parameters=12)


def test_a_model_of_more_parameters_for_each_patient_than_allowed_is_refused() -> None:
    assert ["max_parameters_per_patient"] == broken(replace(LENIENT, max_parameters_per_patient=4.0), parameters=13)


def test_a_study_without_masks_is_refused_unless_the_hospital_allows_it() -> None:
    bare = table_study()

    assert ["unmasked"] == broken(LENIENT, bare)
    assert [] == broken(replace(LENIENT, unmasked=True), bare)


def test_all_broken_rules_are_said_at_once_in_plain_sentences() -> None:
    found = violations(Policy(), secure_study(), small_site([0, 0, 1]), 2, 1)

    assert (
        "min_sites: expected at least 3 hospitals. Received: 2 in the roster.",
        "min_patients: expected at least 20 patients. Received: 3.",
        "min_class_patients: expected at least 5 patients of class 0 of y. Received: 2.",
        "min_class_patients: expected at least 5 patients of class 1 of y. Received: 1.",
    ) == found


def test_rows_of_one_patient_are_one_patient_and_held_out_patients_count() -> None:
    rows = examples_of([[0.0, 0.0]] * 3, [0, 0, 1])
    twice = replace(rows, patients=np.array(["p", "p", "q"]))
    site = site_of("a", twice, examples_of([[0.0, 0.0]], [0], first=9))

    assert {"0": 2, "1": 1} == class_patients(
        secure_study().data, concatenate([site.parts[Part.TRAINING], site.parts[Part.HELD_OUT]])
    )
    assert () == violations(replace(LENIENT, min_patients=3), secure_study(), site, 3, 1)
    assert 1 == len(violations(replace(LENIENT, min_patients=4), secure_study(), site, 3, 1))


def test_a_method_that_does_not_exist_is_no_policy() -> None:
    with pytest.raises(ValueError, match="Did you mean 'neural'"):
        Policy(methods=("nueral",))
