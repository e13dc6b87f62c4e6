"""How raw rows become what a model reads: imputation, scaling and encoding, one for all hospitals.

- number: z = (v - mean) / deviation over the observed values of all sites; missing becomes the median.
- category of two levels: 0 or 1, missing becomes the share of ones. More levels: one column a level, missing all zero.
- a column of which some but not all values are missing gets an indicator column beside it; under differential privacy,
  a number or category of two levels that declares codes for "missing" does, and means stand for medians.
- images: (pixel - mean) / deviation by channel.
- sequences: at each step one channel for each letter, or the columns of that row as above; all zero where no letter was
  read, and where a history has no step. The last channel is zero but at the last step, where it is the number of steps
  there is room for: times that channel, the mean over the steps is what stands at the last one.

The numbers come from sums over all sites (``shared/methods/preparation.py``), never from one site: scaling per site
removes exactly the differences between hospitals that a model should see, and costs accuracy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.examples import Examples
from shared.schema import DataContract

_BLOCK = 2048


@dataclass(frozen=True)
class FeatureColumn:
    """How one column of the contract is encoded.

    name: of the column.
    levels: number of levels of a category; 0 for a number.
    center, scale: z = (v - center) / scale; 0 and 1 for a category.
    fill: what replaces a missing number, or a missing category of two levels.
    indicator: whether a column "is missing" stands beside it.
    """

    name: str
    levels: int
    center: float
    scale: float
    fill: float
    indicator: bool


@dataclass(frozen=True, eq=False)
class Prepared:
    """What a model reads.

    x: array of shape (n, features), float64; (n, height, width, channels), float32; or (n, steps, channels), float32.
    y: array of shape (n,), float64; class index or number.
    """

    x: NDArray[Any]
    y: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True)
class Preparation:
    """Imputation, scaling and encoding, one for all sites.

    contract: the data contract that it belongs to.
    columns: one for each feature column of a table; none where rows are read as they are.
    image_mean, image_deviation: by channel, of pixels scaled to [0, 1].
    label_mean, label_deviation: of a label that is a number; 0 and 1 otherwise.
    rows: training rows of all sites; under differential privacy the noised number of their patients.
    missing, outside: by column, missing values (out-of-contract values included) and out-of-contract values; empty
        where nobody counted: under differential privacy.
    class_rows: training rows by class index; empty for a number, and where nobody counted.
    """

    contract: DataContract
    columns: tuple[FeatureColumn, ...]
    image_mean: tuple[float, ...]
    image_deviation: tuple[float, ...]
    label_mean: float
    label_deviation: float
    rows: int
    missing: dict[str, int]
    outside: dict[str, int]
    class_rows: tuple[int, ...]

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the columns of ``Prepared.x`` for a table: ``age``, ``cp=2``, ``chol missing``."""
        names: list[str] = []
        for column in self.columns:
            levels = self.contract.columns[column.name].levels
            if column.levels > 2:
                names += [f"{column.name}={level}" for level in levels]
            else:
                names.append(f"{column.name}={levels[1]}" if column.levels else column.name)
            if column.indicator:
                names.append(f"{column.name} missing")
        return tuple(names)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one prepared row: (features,), (height, width, channels) or (steps, channels)."""
        images, length = self.contract.images, self.contract.sequence_length
        if length:
            channels = sum(len(text.letters) for text in self.contract.texts.values()) or len(self.feature_names)
            return length, channels + 1
        return (images.height, images.width, images.channels) if images else (len(self.feature_names),)

    def transform(self, examples: Examples) -> Prepared:
        """Return the rows as the model reads them; computed once for each table and preparation."""
        return examples.derived("prepared", self, lambda: Prepared(self._x(examples), examples.labels))

    def _x(self, examples: Examples) -> NDArray[Any]:
        if self.contract.sequence_length:
            return self._sequences(examples)
        if examples.images is not None:
            assert self.contract.images is not None
            low, high = self.contract.images.range
            unit = (examples.images.astype(np.float32) - np.float32(low)) / np.float32(high - low)
            mean, deviation = (
                np.array(by_channel, np.float32) for by_channel in (self.image_mean, self.image_deviation)
            )
            return np.ascontiguousarray((unit - mean) / deviation)
        # Without columns nothing was prepared: rows are read as they are.
        return self._encoded(examples.values) if self.columns else examples.values

    def _sequences(self, examples: Examples) -> NDArray[np.float32]:
        steps, channels = self.input_shape
        x = np.zeros((len(examples), steps, channels), np.float32)
        if examples.images is None:
            x[..., :-1] = examples.values[..., None] == np.arange(channels - 1)
            x[:, -1, -1] = steps
            return x
        there = ~np.isposinf(examples.images).any(axis=2)
        x[there, :-1] = self._encoded(examples.images[there])
        x[np.arange(len(x)), there.sum(axis=1) - 1, -1] = steps
        return x

    def _encoded(self, rows: NDArray[np.float64]) -> NDArray[np.float64]:
        encoded = np.empty((len(rows), len(self.feature_names)))
        # By blocks that stay in the processor's cache, because columns lie across the rows.
        for start in range(0, len(rows), _BLOCK):
            self._encode(rows[start : start + _BLOCK], encoded[start : start + _BLOCK])
        return encoded

    def _encode(self, rows: NDArray[np.float64], encoded: NDArray[np.float64]) -> None:
        center, scale, fill = np.array([(each.center, each.scale, each.fill) for each in self.columns]).T
        absent = np.isnan(rows)
        scaled = (np.where(absent, fill, rows) - center) / scale
        place = 0
        for source, column in enumerate(self.columns):
            if column.levels > 2:
                encoded[:, place : place + column.levels] = rows[:, source, None] == np.arange(column.levels)
                place += column.levels
            else:
                encoded[:, place] = scaled[:, source]
                place += 1
            if column.indicator:
                encoded[:, place] = absent[:, source]
                place += 1

    def as_plain(self) -> dict[str, Any]:
        """Return everything but the contract as JSON values."""
        plain = dataclasses.asdict(dataclasses.replace(self))
        del plain["contract"]
        return plain

    @classmethod
    def from_plain(cls, contract: DataContract, plain: Mapping[str, Any]) -> Preparation:
        """Return the preparation that ``as_plain`` wrote.

        Raises: TypeError or KeyError if a key is missing or unknown.
        """
        lists = {key: tuple(plain[key]) for key in ("image_mean", "image_deviation", "class_rows")}
        columns = tuple(FeatureColumn(**column) for column in plain["columns"])
        return cls(**{**plain, **lists, "columns": columns, "contract": contract})
