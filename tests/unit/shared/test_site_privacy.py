"""Privacy unit ``site``: what a whole hospital changes, what one of its patients changes, and what both cost."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.budget import spendings_of
from client.site import encode
from server.privacy import summary_of
from server.strategies import server_optimizer
from shared.errors import StudyError
from shared.examples import Examples, Part, concatenate
from shared.methods import METHODS
from shared.methods.base import NOTHING, Total
from shared.methods.capped_sums import CappedSums
from shared.methods.clipped_averaging import ClippedAveraging, clipped
from shared.methods.preparation_private import PrivatePreparationMethod, blank
from shared.methods.words import word_plan
from shared.plan import multipliers_of, releases_of
from shared.privacy import accounting, calibration, mechanisms
from shared.privacy.accounting import Skellam
from shared.privacy.calibration import Payer
from shared.randomness import for_site
from shared.study import Study
from tests.builders import examples_of, random_consortium, table_study, ticking
from tests.unit.shared.test_preparation_private import TABLE, patients

SITES = 5


def site_study(**changes: Any) -> Study:
    return table_study(
        **{
            "aggregation__secure": True,
            "aggregation__min_sites": 3,
            "privacy__epsilon": 5.0,
            "privacy__delta": 1e-4,
            "privacy__unit": "site",
            "privacy__patients_per_site": 20,
            **changes,
        }
    )


def trained_by(study: Study, noise_multiplier: float = 1.0) -> Any:
    kind: Any = METHODS[study.method.name]
    return kind.create(study, blank(study.data), server_optimizer(study), noise_multiplier=noise_multiplier)


def integers(method: Any, examples: Examples) -> np.ndarray[Any, Any]:
    """What a site adds to the words before noise and masks."""
    state = method.start()
    contribution, _ = method.contribute(state, examples, NOTHING, for_site(7, "a", 1))
    return encode(word_plan(method.asks(state), SITES), contribution, None)[:-1].view(np.int64).astype(float)


def check_change(change: np.ndarray[Any, Any], method: Any, payer: Payer) -> None:
    event = calibration.event_of(method.asks(method.start()), SITES, payer)
    assert isinstance(event, Skellam)
    assert np.abs(change).sum() <= event.l1
    assert np.linalg.norm(change) <= event.l2


# Sums over patients.


@given(patients(6), st.integers(1, 4))
def test_a_site_and_a_patient_change_a_capped_sum_by_no_more_than_is_accounted(examples: Examples, most: int) -> None:
    method = CappedSums(lambda noise: PrivatePreparationMethod(TABLE, noise), most, 1.0)
    whole = integers(method, examples)
    check_change(whole, method, "site")
    for patient in np.unique(examples.patients):
        check_change(whole - integers(method, examples.take(examples.patients != patient)), method, "patient")


def test_a_site_of_more_patients_than_it_counts_for_has_the_influence_of_so_many() -> None:
    """Five patients at the end of the range count as two: 2 sqrt(1 + 9/4), and rows are counted as 2."""
    method = CappedSums(lambda noise: PrivatePreparationMethod(table_study(1).data, noise), 2, 1.0)
    ask = method.asks(method.start())
    five = examples_of([[10.0]] * 5, [0.0] * 5)
    arrays = method.contribute(method.start(), five, NOTHING, for_site(7, "a", 1))[0].arrays

    assert 2.0 == arrays["patients"]
    assert ask.influence and 2 * math.sqrt(1 + 2.25) == pytest.approx(ask.influence.l2)
    # 2 P / (P + 1) = 4/3 of one patient's.
    assert ask.patient_influence and 4 / 3 * math.sqrt(1 + 2.25) == pytest.approx(ask.patient_influence.l2)


def test_a_patient_who_turns_a_capped_sum_round_changes_it_by_more_than_a_patients_own_vector() -> None:
    """Of six at one end and one at the other, counting for six: why the ledger is charged more than one influence."""
    study = table_study(1).data
    method = CappedSums(lambda noise: PrivatePreparationMethod(study, noise), 6, 1.0)
    most = examples_of([[-10.0]] * 6, [0.0] * 6)
    one = examples_of([[10.0]], [0.0], first=6)
    with_one, without = (
        method.contribute(method.start(), examples, NOTHING, for_site(7, "a", 1))[0].arrays["moments"][0, 0]
        for examples in (concatenate([most, one]), most)
    )
    # 6/7 of it, and 6/7 of what one of the others is worth.
    assert with_one - without == pytest.approx(12 / 7)


def test_noise_of_a_capped_preparation_is_reckoned_with_when_means_are_made() -> None:
    """A count below its noise counts as the noise: 1.5 times 20 patients' influence, sqrt(1 + 9/4)."""
    method = CappedSums(lambda noise: PrivatePreparationMethod(table_study(1).data, noise), 20, 1.5)
    sums = {entry.name: np.zeros(entry.shape) for entry in method.asks(method.start()).entries}
    state, _ = method.advance(method.start(), Total(sums, 3.0, 3))

    assert int(1.5 * 20 * math.sqrt(1 + 2.25)) == method.result(state).rows


# Averaging.

MIXED = st.floats(allow_nan=True, allow_infinity=True)


@given(st.lists(MIXED, min_size=1, max_size=6), st.lists(MIXED, max_size=3), st.sampled_from([1e-3, 1.0, 50.0]))
def test_whatever_is_clipped_is_finite_and_no_longer_than_the_norm(
    first: list[float], second: list[float], norm: float
) -> None:
    made = clipped({"a": np.array(first), "b": np.array(second)}, norm)

    assert np.linalg.norm(np.concatenate(list(made.values()))) <= norm * (1 + 1e-12)


def test_a_longer_change_is_clipped_to_the_norm_exactly_and_a_shorter_one_stays() -> None:
    made = clipped({"a": np.array([3.0, np.nan]), "b": np.array([[4.0]])}, 2.5)

    assert ([1.5, 0.0], [[2.0]]) == (made["a"].tolist(), made["b"].tolist())
    assert [0.3, -0.4] == clipped({"a": np.array([0.3, -0.4])}, 0.5)["a"].tolist()


def test_a_site_sends_its_clipped_change_with_a_constant_weight_and_nothing_else() -> None:
    method = trained_by(site_study(privacy__clipping_norm=0.25))
    data = random_consortium(site_study(), {"a": 30}).data["a"].parts[Part.TRAINING]
    found, _ = method.contribute(method.start(), data, NOTHING, for_site(7, "a", 1))

    assert isinstance(method, ClippedAveraging)
    assert ({"update/coef", "update/intercept"}, 1.0) == (set(found.arrays), found.weight)
    assert 0.25 == pytest.approx(np.linalg.norm(np.concatenate([array.ravel() for array in found.arrays.values()])))


def test_a_site_without_patients_moves_nothing() -> None:
    assert not integers(trained_by(site_study()), examples_of(np.zeros((0, 2)), [])).any()


def test_a_patient_may_turn_a_clipped_change_round_and_no_more_than_that() -> None:
    method = trained_by(site_study(privacy__clipping_norm=0.1))
    few = examples_of([[-1.0, 0.0]] * 3, [1.0] * 3)
    one = examples_of([[-10.0, 0.0]], [0.0], first=3)
    with_one, without = integers(method, concatenate([few, one])), integers(method, few)

    check_change(with_one, method, "site")
    check_change(with_one - without, method, "patient")
    assert np.linalg.norm(with_one - without) > np.linalg.norm(with_one)


@pytest.mark.slow
def test_a_network_for_whole_sites_trains_as_without_privacy_and_sends_the_clipped_change() -> None:
    options = {"architecture": "tabular_mlp", "model": {"units": [3]}, "local_epochs": 2, "proximal_mu": 0.1}
    study = site_study(method__name="neural", method__options=options, privacy__clipping_norm=0.001)
    method = trained_by(study)
    data = random_consortium(study, {"a": 30}).data["a"].parts[Part.TRAINING]
    found, plain = (
        each.contribute(method.start(), data, NOTHING, for_site(7, "a", 1))[0].arrays
        for each in (method, method.method)
    )
    ours, theirs = (np.concatenate([arrays[name].ravel() for name in found]) for arrays in (found, plain))

    assert 0.001 == pytest.approx(np.linalg.norm(ours))
    assert ours == pytest.approx(theirs * 0.001 / np.linalg.norm(theirs))


# Costs.


def test_preparation_training_and_evaluation_of_a_site_come_to_the_studys_epsilon_together() -> None:
    study = site_study()
    chosen = multipliers_of(study)
    assert chosen
    releases = releases_of(study)
    asks = [(releases.prepare, chosen.prepare), (releases.train, chosen.train), (releases.evaluate, chosen.evaluate)]
    prepare, train, evaluate = (
        calibration.event_of(dataclasses.replace(ask, noise_multiplier=z), 100, "site")  # type: ignore[type-var]
        for ask, z in asks
    )
    assert prepare and train and evaluate

    assert 5.0 == pytest.approx(accounting.epsilon([prepare, train, train, train, evaluate], 1e-4), rel=1e-4)
    assert 1.25 == pytest.approx(accounting.epsilon([prepare], 1e-4), rel=1e-4)
    assert 1.25 == pytest.approx(accounting.epsilon([evaluate], 1e-4), rel=1e-4)
    summary = summary_of(study)
    assert summary and summary.epsilon_training == summary.epsilon_held_out == pytest.approx(5.0, rel=1e-4)


def test_a_hospital_is_charged_what_one_patient_may_lose_in_each_part() -> None:
    """In training twice the clipping norm, at the scale of the site's own noise."""
    study = site_study(privacy__clipping_norm=0.5)
    training, held_out = spendings_of(study, "cohort")
    chosen = multipliers_of(study)
    train = releases_of(study).train
    assert chosen and not isinstance(train, calibration.Steps)
    noise = mechanisms.sum_noise(
        chosen.train, (0.5 * math.sqrt(3), 0.5), train.entries, mechanisms.Sharing(100, 100, 0), 64
    )
    charged = training.events[1]

    assert isinstance(charged, Skellam) and isinstance(held_out.events[0], Skellam)
    assert mechanisms.sensitivity(math.sqrt(3), 1.0, 3, noise.scale) == (charged.l1, charged.l2)
    assert ((chosen.train * noise.l2) ** 2, 3) == (charged.variance, charged.count)
    assert ((Part.TRAINING,), (Part.HELD_OUT,)) == (training.parts, held_out.parts)
    # Patients cost about twice what the study promises for sites.
    assert 5.0 < accounting.epsilon(training.events, 1e-4) < 11.0
    assert accounting.epsilon(held_out.events, 1e-4) < 1.25 / 2


def test_a_held_out_part_counts_for_as_many_patients_as_go_with_the_training_part() -> None:
    """A fifth is held out: five for twenty. One patient's influence on the histogram is 1."""
    by_hash, by_column = site_study(data__test_fraction=0.2), site_study(data__split_column="s")

    assert [5.0, 20.0] == pytest.approx([releases_of(each).evaluate.influence.l2 for each in (by_hash, by_column)])  # type: ignore[union-attr]


def test_a_simulated_run_for_whole_sites_stays_within_its_epsilon_and_ends() -> None:
    study = site_study(method__rounds=2)
    plan, progress = random_consortium(study, dict.fromkeys("abcde", 30)).run(ticking())

    assert plan.finished(progress.state)
    assert all(np.isfinite(array).all() for array in plan.result(progress.state)["train"].values())


# What cannot be.


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"privacy__patients_per_site": None}, "patients_per_site"),
        ({"privacy__sampling_rate": 0.5}, "sampling_rate"),
        ({"method__name": "private-logistic-regression"}, '"logistic-regression"'),
        ({"privacy__preparation_share": 0.95}, "epsilon and delta"),
    ],
)
def test_a_study_for_whole_sites_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        multipliers_of(site_study(**changes))


def test_the_unit_patient_needs_another_logistic_regression() -> None:
    with pytest.raises(StudyError, match="private-logistic-regression"):
        site_study(privacy__unit="patient")
