"""A private step is that of Abadi et al. 2016: Poisson-sampled, clipped, noised, and divided by a public constant."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from shared.errors import StudyError
from shared.models import network, runtime
from shared.models.image_cnn import ImageCnn
from shared.models.tabular_mlp import TabularMlp
from shared.models.training import Trainer
from shared.privacy.dpsgd import Patients, PrivatePlan, PrivateTrainer
from shared.privacy.noise import Stream

PLAN = PrivatePlan(
    steps=1, sampling_rate=1.0, nominal_patients=10, noise_multiplier=2.0, clipping_norm=0.5, learning_rate=0.1
)
NOBODY = 1e-12
"""A sampling rate at which no one is drawn."""


def plan(**changes: Any) -> PrivatePlan:
    return dataclasses.replace(PLAN, **changes)


def insecure(number: int = 1) -> Stream:
    """A stream whose key is known, so that tests give the same numbers each time."""
    return Stream(bytes([number]) * 32)


@pytest.fixture(scope="module")
def linear() -> PrivateTrainer:
    """y = w1 x1 + w2 x2 + b, squared error, four rows at once."""
    runtime.start(1)
    return PrivateTrainer(TabularMlp(units=()).build((2,), 1), 1, pad=4)


def start(w1: float = 0.0, w2: float = 0.0, b: float = 0.0) -> dict[str, NDArray[np.float32]]:
    return {"head/kernel": np.array([[w1], [w2]], np.float32), "head/bias": np.array([b], np.float32)}


def flat(weights: dict[str, NDArray[Any]]) -> NDArray[np.float64]:
    return np.concatenate([np.ravel(array) for array in weights.values()]).astype(np.float64)


def patients_data(count: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    drawn = np.random.default_rng(seed)
    return drawn.normal(size=(count, 2)).astype(np.float32), drawn.normal(size=count).astype(np.float32)


def by_hand(
    weights: NDArray[np.float64], steps: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]], made: PrivatePlan
) -> NDArray[np.float64]:
    """Algorithm 1 of Abadi et al., in NumPy, for the linear network: (x, y, noise) of each step."""
    velocity = np.zeros(3)
    for x, y, noise in steps:
        inputs = np.column_stack([x, np.ones(len(x))])
        gradients = 2.0 * (inputs @ weights - y)[:, None] * inputs
        norms = np.linalg.norm(gradients, axis=1)
        total = (gradients * np.minimum(1.0, made.clipping_norm / norms)[:, None]).sum(axis=0)
        noised = total + made.noise_multiplier * made.clipping_norm * noise
        velocity = made.momentum * velocity + noised / (made.sampling_rate * made.nominal_patients)
        weights = weights - made.learning_rate * velocity
    return weights


def test_steps_are_those_of_the_paper_and_no_row_beyond_the_pad_is_cut(linear: PrivateTrainer) -> None:
    x, y = patients_data(11)
    batches = [np.arange(11), np.array([3]), np.array([], np.int64), np.arange(4)]
    noise = np.random.default_rng(1).normal(size=(4, 3)).astype(np.float32)
    made = plan(momentum=0.5)
    expected = by_hand(np.array([1.0, -1.0, 0.5]), [(x[b], y[b], z) for b, z in zip(batches, noise, strict=True)], made)
    after = linear.descend(start(1.0, -1.0, 0.5), x, y, [(batches[:2], noise[:2]), (batches[2:], noise[2:])], made)
    assert pytest.approx(expected, rel=1e-3) == flat(after)


def test_no_patient_moves_the_weights_beyond_the_clipping_norm(linear: PrivateTrainer) -> None:
    """The patient's gradient is ten thousand times as long as C; learning rate * C / L = 0.005."""
    x, y = patients_data(9)
    x[8], y[8] = (100.0, -100.0), 50.0
    noise = np.zeros((1, 3), np.float32)
    without, with_patient = (
        flat(linear.descend(start(), x, y, [([np.arange(count)], noise)], PLAN)) for count in (8, 9)
    )
    assert pytest.approx(0.005, rel=1e-3) == np.linalg.norm(with_patient - without)
    assert np.linalg.norm(with_patient - without) <= 0.005


@pytest.mark.parametrize("patients", [1, 1000])
def test_the_noise_has_its_standard_deviation_whatever_the_number_of_patients(patients: int) -> None:
    """Nobody is drawn, so all that moves the 60,501 weights is noise: z C / L = 2 * 0.5 / 10 = 0.1."""
    runtime.start(1)
    trainer = PrivateTrainer(TabularMlp(units=(500, 100)).build((20,), 1), 1)
    size = 20 * 500 + 500 + 500 * 100 + 100 + 100 + 1
    zero = {name: np.zeros(own.shape, np.float32) for name, own in network.variables(trainer.model).items()}
    x, y = np.ones((patients, 20), np.float32), np.ones(patients, np.float32)
    made = plan(sampling_rate=NOBODY, nominal_patients=10 * 10**12, learning_rate=1.0)
    moves = flat(trainer.train(zero, x, y, np.arange(patients), made, insecure()))
    assert size == len(moves)
    assert pytest.approx(0.1, rel=0.02) == moves.std()
    assert abs(moves.mean()) < 4 * 0.1 / math.sqrt(size)
    # Gaussian: 4.55 % beyond two standard deviations.
    assert pytest.approx(0.0455, rel=0.1) == (np.abs(moves) > 0.2).mean()


def test_every_step_draws_noise_of_its_own(linear: PrivateTrainer) -> None:
    """Without momentum, 400 steps of deviation 0.01 end 0.2 away: noise used twice would end elsewhere."""
    made = plan(sampling_rate=NOBODY, nominal_patients=10**13, steps=400)
    x, y = patients_data(1)
    ends = [flat(linear.train(start(), x, y, np.arange(1), made, insecure(key))) for key in range(60)]
    assert pytest.approx(0.2, rel=0.15) == np.std(ends)


def test_a_batch_with_parts_has_the_noise_of_one_draw(linear: PrivateTrainer) -> None:
    """Forty rows in ten parts with gradients of zero: the step is the noise of one draw."""
    noise = np.array([[1.0, -2.0, 3.0]], np.float32)
    x, y = np.ones((40, 2), np.float32), np.zeros(40, np.float32)
    after = linear.descend(start(), x, y, [([np.arange(40)], noise)], PLAN)
    assert pytest.approx([-0.01, 0.02, -0.03]) == flat(after)


def test_every_patient_is_drawn_by_itself_with_the_sampling_rate() -> None:
    """Of 1,000 patients at q = 0.1, 400 times: the batch has mean 100 and variance 90, each patient mean 40."""
    units, stream = Patients.of(np.arange(1000)), insecure()
    batches = [units.draw(0.1, stream) for _ in range(400)]
    sizes = np.array([len(batch) for batch in batches])
    assert pytest.approx(100.0, abs=4 * math.sqrt(90 / 400)) == sizes.mean()
    assert pytest.approx(90.0, rel=4 * math.sqrt(2 / 400)) == sizes.var()
    times = np.bincount(np.concatenate(batches), minlength=1000)
    assert pytest.approx(36.0, rel=4 * math.sqrt(2 / 1000)) == times.var()


def test_a_patient_with_many_rows_gives_one_of_them_at_random() -> None:
    units, stream = Patients.of(np.array(["b", "a", "b", "b", "c", "b"])), insecure()
    batches = np.array([units.draw(1.0, stream) for _ in range(400)])
    assert (400, 3) == batches.shape
    assert {1} == set(batches[:, 0])
    assert {4} == set(batches[:, 2])
    assert pytest.approx([100] * 4, abs=4 * math.sqrt(75)) == np.bincount(batches[:, 1])[[0, 2, 3, 5]]


def test_a_patient_with_many_rows_moves_the_weights_no_further_than_one_with_one(linear: PrivateTrainer) -> None:
    x, y = np.full((100, 2), 100.0, np.float32), np.full(100, 50.0, np.float32)
    made = plan(noise_multiplier=1e-9)
    moves = flat(linear.train(start(), x, y, np.zeros(100, np.int64), made, insecure()))
    assert pytest.approx(0.005, rel=1e-3) == np.linalg.norm(moves)


def test_who_replays_all_but_the_secret_gets_other_batches() -> None:
    units = Patients.of(np.arange(1000))
    mine, replayed = units.draw(0.5, Stream.fresh()), units.draw(0.5, Stream.fresh())
    assert not np.array_equal(mine, replayed)


def test_the_same_stream_gives_the_same_weights_and_another_gives_others(linear: PrivateTrainer) -> None:
    x, y = patients_data(30)
    made = plan(sampling_rate=0.5, steps=3)
    first, again, other = (flat(linear.train(start(), x, y, np.arange(30), made, insecure(key))) for key in (1, 1, 2))
    assert first.tolist() == again.tolist()
    assert not np.any(first == other)


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_row_whose_gradient_is_not_finite_counts_as_nothing(linear: PrivateTrainer, value: float) -> None:
    x, y = patients_data(9)
    noise = np.zeros((1, 3), np.float32)
    expected = flat(linear.descend(start(), x, y, [([np.delete(np.arange(9), 5)], noise)], PLAN))
    x[5] = value
    assert pytest.approx(expected) == flat(linear.descend(start(), x, y, [([np.arange(9)], noise)], PLAN))


def test_weights_that_are_not_finite_end_the_training_all_the_same(linear: PrivateTrainer) -> None:
    x, y = patients_data(9)
    after = linear.descend(start(np.inf), x, y, [([np.arange(9)], np.zeros((1, 3), np.float32))], PLAN)
    assert not np.isfinite(flat(after)).all()


def test_many_chunks_of_noise_give_what_one_gives(linear: PrivateTrainer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What differs is the order of the draws; so nobody is drawn, and the momentum must go on from chunk to chunk."""
    x, y = patients_data(1)
    noise = np.random.default_rng(3).normal(size=(6, 3)).astype(np.float32)
    none, made = [np.array([], np.int64)], plan(momentum=0.9)
    whole = linear.descend(start(), x, y, [(none * 6, noise)], made)
    pieces = linear.descend(start(), x, y, [(none, noise[[step]]) for step in range(6)], made)
    assert pytest.approx(flat(whole)) == flat(pieces)


def test_without_noise_or_clipping_to_speak_of_a_network_learns_as_the_plain_one_does() -> None:
    """One step over all rows: the mean gradient, where nothing is clipped and L is the number of rows."""
    from shared.models.training import Descent

    runtime.start(1)
    model = ImageCnn(filters=(8,), dense_units=5).build((4, 4, 1), 2)
    drawn = np.random.default_rng(4)
    x, y = drawn.normal(size=(20, 4, 4, 1)), drawn.integers(2, size=20)
    weights = network.initial_weights(model, 1)
    descent = Descent(epochs=1, batch_size=20, learning_rate=0.1, momentum=0.0, proximal_mu=0.0, loss_bound=1e9)
    expected, _ = Trainer(model, 1).train(weights, x, y, descent, drawn)
    made = plan(nominal_patients=20, clipping_norm=1e3, noise_multiplier=1e-12)
    after = PrivateTrainer(model, 1).train(weights, x, y, np.arange(20), made, insecure())
    assert pytest.approx(flat(expected), abs=1e-6) == flat(after)


def test_a_network_that_mixes_patients_is_refused_before_anything_is_trained() -> None:
    runtime.start(1)
    import keras

    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2)(keras.layers.BatchNormalization()(inputs)))
    with pytest.raises(StudyError, match="mixes the examples"):
        PrivateTrainer(model, 1)


def test_rows_without_a_patient_are_refused(linear: PrivateTrainer) -> None:
    x, y = patients_data(3)
    with pytest.raises(ValueError, match="one length"):
        linear.train(start(), x, y, np.arange(2), PLAN, insecure())


@pytest.mark.parametrize(
    "changes",
    [
        {"noise_multiplier": 0.0},
        {"noise_multiplier": math.inf},
        {"clipping_norm": math.nan},
        {"sampling_rate": 0.0},
        {"sampling_rate": 1.5},
        {"nominal_patients": 0},
        {"steps": 0},
        {"momentum": 1.0},
    ],
)
def test_a_plan_without_privacy_or_sense_does_not_exist(changes: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        plan(**changes)
