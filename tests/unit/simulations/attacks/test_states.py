"""Models that are made to single somebody out, and words of another kind, gain nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import pytest

from client import secagg
from client.data.split import SiteData
from server.strategies import server_optimizer
from shared.examples import Arrays, Part
from shared.methods.base import Total, broadcast
from shared.plan import plan_of
from shared.study import Study
from simulations.attacks import states
from simulations.attacks.aggregator import CheatingAggregator, others
from simulations.local import local_sites
from tests.builders import examples_of, site_of, table_study
from tests.secure import InsecureEntropy, hospitals, secure_study
from tests.unit.simulations.attacks.cheats import FIVE, cheat_on, cheating, part, state, sums_with_victim, without

# Another model for one site


def known_elsewhere() -> CheatingAggregator:
    """Five sites that contribute 2**k from the first model, and nothing from the second one."""
    return cheat_on(hospitals({name: [[2.0**k], [0.0]] for k, name in enumerate(FIVE)}))


def test_a_model_of_its_own_for_one_site_is_refused_at_the_reveal() -> None:
    cheat = known_elsewhere()
    states.states_apart(cheat, state(1), state(2), FIVE)
    assert dict.fromkeys(FIVE, "another-state") == cheat.codes
    assert [] == cheat.knowledge.sums()


def test_a_model_of_its_own_reads_one_site_where_receipts_are_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    without(monkeypatch, "shared.secagg.roster.check_receipt")
    cheat = known_elsewhere()
    states.states_apart(cheat, state(1), state(2), FIVE)
    # The victim's 1, and four times nothing.
    assert [1.0] == sums_with_victim(cheat)


# Half-spaces, with the real method

NAMES = tuple("abcd")
COLUMNS = ("x0", "x1")


def patients() -> tuple[Study, dict[str, SiteData]]:
    """Four hospitals of ten patients; hospital a's last one has by far the largest x0, 5, and is of class 1."""
    study = table_study(aggregation={"secure": True, "min_sites": 3})
    rng = np.random.default_rng(1)
    data = {}
    for name in NAMES:
        x, y = rng.uniform(-1.0, 1.0, (10, 2)), np.tile([0.0, 1.0], 5)
        if name == "a":
            x[-1, 0] = 5.0
        data[name] = site_of(name, examples_of(x, y))
    return study, data


def half_spaces(norm: float) -> tuple[CheatingAggregator, list[Arrays]]:
    """An aggregator after an honest preparation, and two models: one separates a's last patient, the other nobody.

    norm: of the coefficients; the larger, the sharper the edge.
    """
    study, data = patients()
    plan = plan_of(study, server_optimizer(study))
    cheat = CheatingAggregator(local_sites(study, plan, data, InsecureEntropy(0)), study)
    cheat.join(NAMES)
    cheat.sum(1, plan.start(), NAMES)
    (total,) = cheat.knowledge.sums()
    arrays = {name: array for name, array in total.arrays.items() if name != "weight"}
    weight = float(total.arrays["weight"])
    after, _ = plan.advance(plan.start(), Total(arrays, weight, len(NAMES)))
    prepared = dict(broadcast(after))

    def edge(at: float) -> Arrays:
        """Return the model that says yes beyond x0 = at, and no before it."""
        scaled = scaled_x0(prepared, at)
        weights = {
            "train/weights/coef": np.array([[norm, 0.0]]),
            "train/weights/intercept": np.array([-norm * scaled]),
        }
        return {**prepared, **weights}

    return cheat, [{**edge(3.0), "train/round": np.array(0)}, {**edge(7.0), "train/round": np.array(1)}]


def scaled_x0(prepared: Arrays, value: float) -> float:
    """Return x0 as the preparation scales it."""
    center, scale, _ = prepared["prepare/table"][0]
    return float((value - center) / scale)


def difference_of_losses(cheat: CheatingAggregator) -> float | None:
    """How much two sums of all patients' losses differ, if the aggregator has two."""
    found = [each.arrays["loss"] for each in cheat.knowledge.sums() if "loss" in each.arrays]
    return float(found[1] - found[0]) if len(found) == 2 else None


def make_rounds(cheat: CheatingAggregator, models: Iterable[Arrays]) -> None:
    for number, model in enumerate(models, start=2):
        cheat.sum(number, model, NAMES)


def test_two_models_of_huge_norm_that_separate_one_patient_are_refused() -> None:
    cheat, models = half_spaces(1e6)
    make_rounds(cheat, models)
    assert dict.fromkeys(NAMES, "state-out-of-bounds") == cheat.codes
    assert difference_of_losses(cheat) is None


def test_two_models_of_huge_norm_read_one_patients_class_where_norms_are_not_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    without(monkeypatch, "client.question.check_state")
    _, data = patients()
    assert 1.0 == data["a"].parts[Part.TRAINING].labels[-1]
    cheat, models = half_spaces(1e6)
    make_rounds(cheat, models)
    # One patient's loss, 0 on the right side and clipped to 100 on the wrong one; everybody else's cancels.
    assert 100.0 == pytest.approx(difference_of_losses(cheat))


# Words of another kind


MANY = 2**50
"""For so many sites a 1 is 2**2 units of a word; for the five there are, 2**50."""


def test_words_for_another_number_of_sites_are_refused() -> None:
    cheat = cheating()
    states.other_scale(cheat, state(), FIVE, MANY)
    # The victim has sent its words, as it should, and is alone at the reveal.
    assert {**dict.fromkeys(others(FIVE), "another-scale"), "a": "lists-incomplete"} == cheat.codes
    assert [] == cheat.knowledge.sums()


def test_words_for_another_number_of_sites_read_the_victim_where_the_number_is_not_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checked = secagg.open_shares
    monkeypatch.setattr(
        secagg, "open_shares", lambda request, *rest: checked(dataclasses.replace(request, sites=5), *rest)
    )
    cheat = cheating()
    states.other_scale(cheat, state(), FIVE, MANY)
    assert [1.0] == pytest.approx(sums_with_victim(cheat))


def test_bare_words_are_refused() -> None:
    cheat = cheating()
    states.bare_words(cheat, state(), FIVE)
    assert {"a": "unmasked"} == cheat.codes
    assert [] == cheat.knowledge.sums()


def test_bare_words_of_a_study_that_allows_them_are_the_victims_part() -> None:
    cheat = cheating(5, secure_study(aggregation__secure=False))
    states.bare_words(cheat, state(), FIVE)
    assert 1.0 == part(cheat)


def test_a_sum_beyond_the_studys_plan_is_refused() -> None:
    """Every sum of a chosen model tells something: a study of three sums makes three."""
    cheat = cheating()
    states.rounds(cheat, [state(number) for number in (1, 2, 3, 4)], FIVE)
    assert dict.fromkeys(FIVE, "beyond-plan") == cheat.codes
    assert [31.0] * 3 == sums_with_victim(cheat)
