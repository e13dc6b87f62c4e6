"""Data augmentation: how an image is altered, that training sees it, and which studies may ask for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simulations
from shared.errors import StudyError
from shared.models import network, runtime
from shared.models.augmentation import alterations, augmented
from shared.models.image_cnn import ImageCnn
from shared.models.training import Descent, batches, trainer
from shared.study import load_study
from tests.unit.shared.test_neural import image_study, images_of, mlp_study

IMAGE = np.arange(12, dtype=np.float32).reshape(1, 3, 4, 1)
AS_IT_IS = {"down": 0, "right": 0, "contrast": 1, "brightness": 0, "top": 2, "left": 3}
"""The rectangle, of 1 x 1 pixels in so small an image, is in the lower right corner."""


def altered(**how: float) -> Any:
    tf = runtime.start(1)
    return augmented(tf.constant(IMAGE), tf.constant([list({**AS_IT_IS, **how}.values())], tf.float32))[0, :, :, 0]


def test_a_rectangle_is_painted_over_by_the_mean() -> None:
    assert [[0, 1, 2, 3], [4, 0, 6, 7], [8, 9, 10, 11]] == altered(top=1, left=1).numpy().tolist()


def test_a_shifted_image_repeats_its_edge() -> None:
    assert [[1, 2, 3, 3], [1, 2, 3, 3], [5, 6, 7, 0]] == altered(down=1, right=-1).numpy().tolist()


def test_contrast_and_brightness_change_every_pixel_that_is_left() -> None:
    assert [[1, 3, 5, 7], [9, 11, 13, 15], [17, 19, 21, 0]] == altered(contrast=2, brightness=1).numpy().tolist()


def test_what_is_drawn_covers_its_ranges_and_keeps_the_rectangle_within_the_image() -> None:
    drawn = alterations((50, 40), (28, 20, 1), np.random.default_rng(0)).reshape(2000, 6)

    low, high = drawn.min(axis=0), drawn.max(axis=0)
    assert ([-3, -2, 0, 0], [3, 2, 20, 14]) == (low[[0, 1, 4, 5]].tolist(), high[[0, 1, 4, 5]].tolist())
    np.testing.assert_allclose([0.7, -0.4], low[2:4], atol=0.01)
    np.testing.assert_allclose([1.3, 0.4], high[2:4], atol=0.01)


def test_every_epoch_trains_on_images_altered_anew() -> None:
    own = trainer("image_cnn", ImageCnn(filters=(8,), dense_units=4), (8, 8, 1), 2, 1)
    x, y = images_of(4).images.astype(np.float32), images_of(4).labels
    two = Descent(2, batch_size=4, learning_rate=0.1, momentum=0, proximal_mu=0, loss_bound=100, augment=True)
    index, _ = batches(4, two, drawn := np.random.default_rng(3))
    expected = start = network.initial_weights(own.model, 1)
    for rows, how in zip(index, alterations(index.shape, (8, 8, 1), drawn), strict=True):
        one = dataclasses.replace(two, epochs=1, augment=False)
        expected, _ = own.train(expected, augmented(x[rows], how).numpy(), y[rows], one, np.random.default_rng(0))

    found, _ = own.train(start, x, y, two, np.random.default_rng(3))

    for name, array in expected.items():
        np.testing.assert_allclose(array, found[name], atol=1e-6)


def test_a_study_without_augmentation_keeps_the_digest_it_had() -> None:
    assert image_study().digest == image_study(augment=False).digest != image_study(augment=True).digest


def test_a_table_takes_no_augmentation() -> None:
    with pytest.raises(StudyError, match='augment goes with kind = "images"'):
        mlp_study(options={"augment": True})


def test_patient_level_privacy_takes_no_augmentation() -> None:
    private = Path(simulations.__file__).parent / "studies" / "pneumonia_cnn_private.toml"
    with pytest.raises(StudyError, match=r'no \[privacy\] of unit "patient"'):
        load_study(private, [("method.options.augment", "true")])
