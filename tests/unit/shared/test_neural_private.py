"""Networks with DP-SGD at the site: what leaves, what it costs, and that nobody can predict a batch from the study."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from server.strategies import server_optimizer
from shared.errors import StudyError
from shared.examples import Arrays, Examples
from shared.methods.base import Contribution, Total
from shared.methods.neural_private import PrivateNeural, steps
from shared.methods.preparation_private import blank
from shared.privacy.accounting import SampledGaussian
from shared.privacy.settings import Privacy
from shared.randomness import for_site
from shared.study import Study
from tests.builders import examples_of, table_study

SECRET, OTHER = bytes(range(32)), bytes(32)


def private_study(**changes: object) -> Study:
    return table_study(
        2,
        method__name="neural",
        method__options={"architecture": "tabular_mlp", "model": {"units": []}, "learning_rate": 0.5, "momentum": 0.0},
        aggregation__secure=True,
        aggregation__min_sites=3,
        **{"privacy__epsilon": 5.0, "privacy__delta": 1e-5, "privacy__patients_per_site": 40, **changes},
    )


def method_of(study: Study, noise_multiplier: float = 1.0) -> PrivateNeural:
    return PrivateNeural(study, blank(study.data), server_optimizer(study), noise_multiplier)


def patients(rows: int = 40) -> Examples:
    x = np.random.default_rng(1).normal(size=(rows, 2))
    return examples_of(x, (x[:, 0] > 0).astype(float))


def contributed(entropy: Callable[[int], bytes], noise_multiplier: float = 1.0) -> Contribution:
    """What a site with these secrets sends in round 1 of the same study."""
    method = method_of(private_study(), noise_multiplier)
    contribution, memory = method.contribute(method.start(), patients(), {}, for_site(7, "a", 1, entropy))
    assert {} == memory
    return contribution


def same(one: Arrays, other: Arrays) -> bool:
    return all(np.array_equal(one[name], other[name]) for name in one)


def test_who_knows_the_studys_seed_site_and_round_cannot_replay_a_batch_or_its_noise() -> None:
    """Nearly without noise, so that it is the sampled patients that differ."""
    first, again, unknown = (
        contributed(lambda size, key=key: key[:size], noise_multiplier=1e-3)  # type: ignore[misc]
        for key in (SECRET, SECRET, OTHER)
    )

    assert same(first.arrays, again.arrays)
    assert np.abs(first.arrays["update/head/kernel"] - unknown.arrays["update/head/kernel"]).max() > 0.01


def test_only_the_change_of_the_weights_leaves_with_a_constant_weight() -> None:
    contribution = contributed(lambda size: SECRET[:size])

    assert {"update/head/kernel", "update/head/bias"} == set(contribution.arrays)
    assert 1.0 == contribution.weight


def test_a_round_costs_its_steps_a_pass_over_the_patients_being_one_over_the_rate() -> None:
    method = method_of(private_study(privacy__sampling_rate=0.05), noise_multiplier=1.5)
    event = method.asks(method.start()).event

    assert isinstance(event, SampledGaussian)
    assert (1.5, 0.05, 20) == (event.noise_multiplier, event.sampling_rate, event.count)
    assert [20, 40, 1] == [
        steps(Privacy(epsilon=1.0, delta=1e-5, sampling_rate=rate), epochs)
        for rate, epochs in ((0.05, 1), (0.05, 2), (1.0, 1))
    ]


def test_sites_count_the_same_however_many_patients_they_have() -> None:
    method = method_of(private_study())
    state = method.start()
    total = {entry.name: np.full(entry.shape, 3.0) for entry in method.asks(state).entries}
    moved, measured = method.advance(state, Total(total, 3.0, 3))

    assert {} == measured
    assert 1.0 == pytest.approx(float((moved["weights/head/bias"] - state["weights/head/bias"])[0]))


def test_the_expected_number_of_patients_has_to_be_stated() -> None:
    with pytest.raises(StudyError, match="patients_per_site"):
        private_study(privacy__patients_per_site=None)
