"""Federated preparation with noise: one exchange, of which one patient changes no more than a known L1 and L2 norm.

Values are scaled by their declared range to s in [-1, 1]. What a row adds, in the units of the vector:

- 1 to the number of patients.
- a number: 1/2 where it was measured and -1/2 where not; s and s**2 where measured. L1 <= 5/2, L2 <= 3/2. (Halves of
  either sign cost half of what ones and zeros would; the count follows with the number of patients.)
- a category of two levels: 1/2 to its level. L1, L2 <= 1/2. Categories of more levels need nothing.
- a channel of an image: the means of s and of s**2 over its pixels. L1 <= 2, L2 <= sqrt(2).

A patient adds the mean over its rows, which is no longer than the longest of them. Adding or removing one patient is
what makes neighbours. What follows from the noised sums is post-processing: nothing in it may divide by a count that is
below its noise, and no noise may lead outside the declared ranges.

Which columns the model reads follows from the contract alone: a number or a category of two levels that declares codes
for "missing" has an indicator column, whether or not values are missing. Means stand for medians.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from shared.errors import StudyError
from shared.examples import Arrays, Examples, Part
from shared.layout import Entry
from shared.methods.base import NOTHING, ROOM, Ask, Contribution, Influence, Measurements, Total
from shared.methods.preparation import PreparationMethod
from shared.preparation import FeatureColumn, Preparation
from shared.randomness import Randomness
from shared.schema import DataContract

_PRECISION = 1e-6
_LEAST_SPREAD = 0.02**2
"""Smallest variance of s: a deviation of one hundredth of the declared range."""
_BLANK_SHARE = 1 / 8
"""Deviation, as a share of the declared range, while nothing is known."""


class PrivatePreparationMethod(PreparationMethod):
    """One noised exchange over the training patients; its result is a ``Preparation``.

    The preparation's ``rows`` are the noised number of patients, at least 1; ``missing``, ``outside`` and
    ``class_rows`` are empty: nobody counted.

    noise_multiplier: standard deviation of the honest sites' noise over the L2 influence, > 0.

    Raises: StudyError as ``check``.
    """

    def __init__(self, contract: DataContract, noise_multiplier: float) -> None:
        check(contract)
        super().__init__(contract)
        self.noise_multiplier = noise_multiplier
        self._numbers = _numbers(contract)
        self._pairs = [name for name in contract.features if len(contract.columns[name].levels) == 2]
        self._channels = contract.images.channels if contract.images else 0

    @property
    def influence(self) -> Influence:
        """One patient's influence on the vector."""
        numbers, pairs, channels = len(self._numbers), len(self._pairs), self._channels
        return Influence(
            1.0 + 2.5 * numbers + 0.5 * pairs + 2.0 * channels,
            math.sqrt(1.0 + 2.25 * numbers + 0.25 * pairs + 2.0 * channels),
        )

    def asks(self, state: Arrays) -> Ask:
        """Return the layout of the sums, one patient's influence, and the noise."""
        # A patient has at least one row, and adds at most 1 to a number.
        most = self.contract.max_rows_per_site * ROOM
        shapes = {
            "patients": (),
            "measured": (len(self._numbers),),
            "moments": (len(self._numbers) + self._channels, 2),
            "levels": (len(self._pairs), 2),
        }
        return Ask(
            part=Part.TRAINING,
            entries=tuple(Entry(name, shape, most, _PRECISION) for name, shape in shapes.items() if math.prod(shape)),
            weight_bound=1.0,
            word_bits=64,
            stochastic_rounding=False,
            state_norm=0.0,
            state_norm_bound=0.0,
            exact=False,
            influence=self.influence,
            noise_multiplier=self.noise_multiplier,
        )

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return this site's sums over its training patients, without noise."""
        contract = self.contract
        _, patient, rows = np.unique(examples.patients, return_inverse=True, return_counts=True)
        share = 1.0 / rows[patient]
        arrays: dict[str, NDArray[np.float64]] = {"patients": np.array(float(len(rows)))}
        columns = dict(zip(contract.features, examples.values.T, strict=True))
        if self._numbers:
            s = np.column_stack([_signed(columns[name], contract.columns[name].range) for name in self._numbers])
            arrays["measured"] = share @ np.where(np.isnan(s), -0.5, 0.5)
            s = np.nan_to_num(s)
            arrays["moments"] = np.column_stack([share @ s, share @ np.square(s)])
        if examples.images is not None and contract.images:
            # One image at a time: as float64, all of them would fill the memory.
            each = (_signed(image, contract.images.range) for image in examples.images)
            moments = np.array([(s.mean(axis=(0, 1)), np.square(s).mean(axis=(0, 1))) for s in each])
            arrays["moments"] = np.tensordot(share, moments.reshape(-1, 2, self._channels), axes=1).T
        if self._pairs:
            halves = [[0.5 * share @ (columns[name] == level) for level in (0, 1)] for name in self._pairs]
            arrays["levels"] = np.array(halves)
        return Contribution(arrays, 1.0), NOTHING

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the derived statistics; the sums are not kept."""
        contract, sums = self.contract, total.arrays
        noise = self.noise_multiplier * self.influence.l2
        # A count below its own noise says no more than that noise does.
        least = max(noise, 1.0)
        most = float(contract.max_rows_per_site * total.contributors)
        patients = min(max(float(sums["patients"]), least), most)
        if self._channels:
            counts = np.full(self._channels, patients)
        else:
            counts = np.clip(sums.get("measured", np.zeros(0)) + 0.5 * patients, min(least, patients), patients)
        moments = sums.get("moments", np.zeros((0, 2)))
        means = np.clip(moments[:, 0] / counts, -1.0, 1.0)
        deviations = np.sqrt(_variances(means, moments[:, 1] / counts, noise / counts))
        table = np.tile([0.0, 1.0, 0.0], (len(contract.features), 1))
        pixels = np.zeros((0, 2))
        if self._channels:
            pixels = np.column_stack([0.5 + 0.5 * means, 0.5 * deviations])
        for name, mean, deviation in zip(self._numbers, means, deviations, strict=False):
            low, high = contract.columns[name].range or (0.0, 1.0)
            center = min(max(low + (high - low) * (0.5 + 0.5 * mean), low), high)
            table[contract.features.index(name)] = (center, (high - low) * 0.5 * deviation, center)
        for name, halves in zip(self._pairs, sums.get("levels", ()), strict=True):
            ones, zeros = max(2.0 * halves[1], 1.0), max(2.0 * halves[0], 1.0)
            table[contract.features.index(name), 2] = ones / (ones + zeros)
        state = {"rounds": np.array(1), "rows": np.array(patients), "counts": np.zeros((2, 0)), "table": table}
        return {**state, "pixels": pixels, "label": np.array([0.0, 1.0])}, {}

    def result(self, state: Arrays) -> Preparation:
        """Return the preparation that the noised sums give.

        Raises: ProtocolError ``bad-preparation`` for one that no sums give.
        """
        self._check(state)
        return _preparation(self.contract, state["table"], state["pixels"], int(state["rows"]))


def check(contract: DataContract) -> None:
    """Raise StudyError where the label is a number."""
    if contract.task == "number":
        raise StudyError(
            "[privacy] expected a label of type category: a number's spread is not yet prepared with noise. Received:"
            f" {contract.label!r} of type number. Make it a category of ranges, or leave [privacy] out."
        )


def blank(contract: DataContract) -> Preparation:
    """Return the preparation before any data: of the same columns, each in the middle of its range; ``rows`` is 0."""
    check(contract)
    table = np.tile([0.0, 1.0, 0.5], (len(contract.features), 1))
    for name in _numbers(contract):
        low, high = contract.columns[name].range or (0.0, 1.0)
        middle = low + (high - low) / 2
        table[contract.features.index(name)] = (middle, (high - low) * _BLANK_SHARE, middle)
    channels = contract.images.channels if contract.images else 0
    return _preparation(contract, table, np.tile([0.5, _BLANK_SHARE], (channels, 1)), 0)


def _numbers(contract: DataContract) -> list[str]:
    return [name for name in contract.features if contract.columns[name].type == "number"]


def _signed(values: NDArray[np.float64], bounds: tuple[float, float] | None) -> NDArray[np.float64]:
    """Return values scaled by their declared range to [-1, 1]; missing ones stay NaN."""
    assert bounds is not None
    # Values have been held against the range; but the guarantee rests on these lines alone.
    return np.clip((values - bounds[0]) / (bounds[1] - bounds[0]) * 2.0 - 1.0, -1.0, 1.0)


def _variances(
    means: NDArray[np.float64], squares: NDArray[np.float64], noise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what is believed of each s's variance: the nearer to the columns' common one, the more noise there is.

    A variance is a small difference of noised numbers: with few patients, only what all columns together say of it can
    be trusted. This is the empirical Bayes estimate of Efron and Morris 1973, "Stein's Estimation Rule and Its
    Competitors", JASA 68, for unequal noise. With little noise, each column's own variance stands.

    noise: standard deviation of the noise in each mean, > 0; in a variance it is sqrt(1 + 4 mean**2) times that.
    """
    if not len(means):
        return means
    doubt = np.square(noise) * (1.0 + 4.0 * np.square(means))
    weights = doubt.min() / doubt
    own = np.clip(squares - np.square(means), _LEAST_SPREAD, 1.0)
    common = np.average(own, weights=weights)
    apart = max(float(np.average(np.square(own - common) - doubt, weights=weights)), 0.0)
    return np.asarray(common + apart / (apart + doubt) * (own - common))


def _preparation(
    contract: DataContract, table: NDArray[np.float64], pixels: NDArray[np.float64], rows: int
) -> Preparation:
    columns = []
    for name, (center, scale, fill) in zip(contract.features, table, strict=True):
        column = contract.columns[name]
        indicator = bool(column.missing) and len(column.levels) <= 2
        columns.append(FeatureColumn(name, len(column.levels), float(center), float(scale), float(fill), indicator))
    return Preparation(
        contract=contract,
        columns=tuple(columns),
        image_mean=tuple(float(value) for value in pixels[:, 0]),
        image_deviation=tuple(float(value) for value in pixels[:, 1]),
        label_mean=0.0,
        label_deviation=1.0,
        rows=rows,
        missing={},
        outside={},
        class_rows=(),
    )
