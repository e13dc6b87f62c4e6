"""What the benchmark of secure aggregation measures is the real protocol. No speed is asserted."""

from __future__ import annotations

import numpy as np
import pytest

from shared.methods.words import word_plan
from simulations.benchmarks import secagg, secagg_costs, secagg_masking
from simulations.benchmarks.secagg import Line
from simulations.benchmarks.secagg_rounds import (
    Aggregator,
    OneVector,
    RealSites,
    members_of,
    study_of_rounds,
    timed_round,
)
from tests.secure import InsecureEntropy


def test_every_side_of_the_masking_is_timed_as_often_as_asked() -> None:
    took = secagg_masking.measure(1000, 2)
    assert dict.fromkeys(("add", "mask", "mask, one thread", "flower"), 2) == {
        name: len(samples) for name, samples in took.items()
    }
    assert all(sample > 0 for samples in took.values() for sample in samples)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_timed_round_ends_with_the_sum_of_those_that_contributed(lost: int) -> None:
    study, count = study_of_rounds(), 5
    members = members_of(study, count, InsecureEntropy(1))
    words = {name: np.full(10, 10**place, dtype=np.uint32) for place, name in enumerate(members)}
    sites = RealSites(members, words)
    aggregator = Aggregator(study, members, sites, 10)
    outcome = timed_round(aggregator, sites, list(members)[:lost]).outcome
    step = 2.0 ** word_plan(OneVector(10).asks({}), count).fraction_bits[0]
    assert [11111.0 - lost] * 9 == (outcome.total.arrays["vector"] * step).tolist()
    assert count - lost == outcome.total.contributors


def test_one_site_and_the_aggregator_are_timed_in_each_repeat() -> None:
    took = secagg_costs.crypto(4, 100, 1, 2, InsecureEntropy(2))
    assert {"site, set-up": 2, "site": 2, "aggregator, lost": 2} == {name: len(each) for name, each in took.items()}


def test_the_aggregators_vectors_take_the_same_memory_whatever_the_number_of_sites() -> None:
    few, many = (secagg_costs.memory(sites, 10**6, InsecureEntropy(3)) for sites in (4, 12))
    assert few["messages"] < many["messages"]
    assert many["vectors"] < 1.2 * few["vectors"]
    assert few["vectors"] >= 10**6 * 4


@pytest.mark.parametrize(("sense", "met"), [("at least", True), ("at most", False)])
def test_a_goal_is_met_by_the_median_from_its_own_side(sense: secagg.Sense, met: bool) -> None:
    assert met is Line("speed", "x", 2.0, 1.0, sense, 1.5).met
    assert Line("speed", "x", 2.0, 1.0).met is None


def test_a_ratio_is_the_median_of_the_repeats_own_ratios() -> None:
    line = secagg.ratio("a / b", [2.0, 9.0, 8.0], [1.0, 3.0, 2.0], "at least", 3.5)
    assert (3.0, 2.0, False) == (line.median, line.fastest, line.met)
    assert "MISSED" in secagg.table([line])
