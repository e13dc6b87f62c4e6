"""What a hospital allows, whatever a study proposes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from client.policy import Policy, simulated
from tests.builders import table_study
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
