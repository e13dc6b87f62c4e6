"""Federated preparation: one exchange of counts and sums over all sites' training patients.

Sums run over u = (v - smallest) / (largest - smallest), which lies in [0, 1], so the contract bounds every sum.
Medians come from a histogram of ``MEDIAN_BINS`` bins over the declared range, and are right to range / MEDIAN_BINS;
deviations are the population's. A column that is wholly missing or constant at one site, or at all, is harmless: what
has no observed spread is left unscaled.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import ProtocolError
from shared.examples import Arrays, Examples, Part
from shared.layout import Entry
from shared.methods.base import NOTHING, Ask, Contribution, Measurements, Total
from shared.preparation import FeatureColumn, Preparation
from shared.randomness import Randomness
from shared.schema import DataContract

MEDIAN_BINS = 1000
_CONSTANT = 1e-6
"""A deviation below this share of the declared range counts as none: fixed-point steps lie far below it."""
_COUNT_PRECISION = 0.5
_SUM_PRECISION = 1e-6


class PreparationMethod:
    """One exchange over the training patients; its result is a ``Preparation``."""

    def __init__(self, contract: DataContract) -> None:
        self.contract = contract

    def start(self) -> Arrays:
        """Return the state before the exchange: nothing but the fact that none has been made."""
        return {"rounds": np.array(0)}

    def asks(self, state: Arrays) -> Ask:
        """Return the layout of the sums; every bound follows from the contract."""
        most = float(self.contract.max_rows_per_site)
        entries = [Entry("rows", (), most, _COUNT_PRECISION)]
        for name, shape, whole in self._sums():
            entries.append(Entry(name, shape, most, _COUNT_PRECISION if whole else _SUM_PRECISION))
        return Ask(
            part=Part.TRAINING,
            entries=tuple(entries),
            weight_bound=most,
            word_bits=64,
            stochastic_rounding=False,
            state_norm=0.0,
            state_norm_bound=0.0,
        )

    def _sums(self) -> list[tuple[str, tuple[int, ...], bool]]:
        """Return (name, shape, whether it is a count) of every sum but the rows."""
        contract = self.contract
        p = len(contract.features)
        sums: list[tuple[str, tuple[int, ...], bool]] = [("missing", (p,), True), ("outside", (p,), True)]
        for name in contract.features:
            column = contract.columns[name]
            if column.type == "category":
                sums.append((f"levels/{name}", (len(column.levels),), True))
            else:
                sums += [(f"moments/{name}", (2,), False), (f"histogram/{name}", (MEDIAN_BINS,), True)]
        if contract.images:
            sums.append(("pixels", (2, contract.images.channels), False))
        if contract.task == "number":
            sums.append(("label", (2,), False))
        else:
            sums.append(("classes", (len(contract.classes),), True))
        return sums

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return counts, sums and histograms of this site's training rows."""
        contract = self.contract
        arrays: dict[str, NDArray[Any]] = {
            "rows": np.array(float(len(examples))),
            "missing": np.isnan(examples.values).sum(axis=0).astype(np.float64),
            "outside": examples.outside.sum(axis=0).astype(np.float64),
        }
        for name, values in zip(contract.features, examples.values.T, strict=True):
            column = contract.columns[name]
            observed = values[~np.isnan(values)]
            if column.type == "category":
                counts = np.bincount(observed.astype(np.int64), minlength=len(column.levels))
                arrays[f"levels/{name}"] = counts.astype(np.float64)
            else:
                unit = _unit(observed, column.range)
                bins = np.minimum((unit * MEDIAN_BINS).astype(np.int64), MEDIAN_BINS - 1)
                arrays[f"moments/{name}"] = np.array([unit.sum(), np.square(unit).sum()])
                arrays[f"histogram/{name}"] = np.bincount(bins, minlength=MEDIAN_BINS).astype(np.float64)
        if examples.images is not None and contract.images:
            unit = _unit(examples.images.astype(np.float64), contract.images.range)
            moments = [unit.mean(axis=(1, 2)).sum(axis=0), np.square(unit).mean(axis=(1, 2)).sum(axis=0)]
            arrays["pixels"] = np.array(moments)
        if contract.task == "number":
            unit = _unit(examples.labels, contract.columns[contract.label].range)
            arrays["label"] = np.array([unit.sum(), np.square(unit).sum()])
        else:
            arrays["classes"] = np.bincount(examples.labels.astype(np.int64), minlength=len(contract.classes)).astype(
                float
            )
        return Contribution(arrays, float(len(examples))), NOTHING

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the derived statistics; the raw histograms are not kept."""
        sums, rows = total.arrays, float(total.arrays["rows"])
        table = np.zeros((len(self.contract.features), 3))
        for index, name in enumerate(self.contract.features):
            column = self.contract.columns[name]
            if column.type == "category":
                counts = sums[f"levels/{name}"]
                share = counts[1] / max(counts.sum(), 1.0) if len(column.levels) == 2 else 0.0
                table[index] = (0.0, 1.0, share)
            else:
                observed = rows - float(sums["missing"][index])
                center, scale = _moments(sums[f"moments/{name}"], observed, column.range)
                table[index] = (center, scale, _median(sums[f"histogram/{name}"], column.range, center))
        pixels = np.zeros((0, 2))
        if self.contract.images:
            pixels = np.array([_moments(channel, rows, (0.0, 1.0)) for channel in sums["pixels"].T])
        label, classes = np.array([0.0, 1.0]), np.zeros(0)
        if self.contract.task == "number":
            label = np.array(_moments(sums["label"], rows, self.contract.columns[self.contract.label].range))
        else:
            classes = np.array(sums["classes"])
        counts = np.stack([sums["missing"], sums["outside"]])
        state = {"rounds": np.array(1), "rows": np.array(rows), "table": table, "counts": counts}
        return {**state, "pixels": pixels, "label": label, "classes": classes}, {}

    def finished(self, state: Arrays) -> bool:
        """Whether the one exchange has been made."""
        return bool(state["rounds"] >= 1)

    def result(self, state: Arrays) -> Preparation:
        """Return the preparation that the sums give.

        Raises: ProtocolError ``bad-preparation`` for one that no sums give: a scale of almost nothing would make one
            patient's value the largest of all.
        """
        self._check(state)
        rows = int(state["rows"])
        missing, outside = (row.astype(int).tolist() for row in state["counts"])
        columns = []
        for index, name in enumerate(self.contract.features):
            center, scale, fill = (float(value) for value in state["table"][index])
            columns.append(
                FeatureColumn(
                    name=name,
                    levels=len(self.contract.columns[name].levels),
                    center=center,
                    scale=scale,
                    fill=fill,
                    indicator=0 < missing[index] < rows,
                )
            )
        return Preparation(
            contract=self.contract,
            columns=tuple(columns),
            image_mean=tuple(float(value) for value in state["pixels"][:, 0]),
            image_deviation=tuple(float(value) for value in state["pixels"][:, 1]),
            label_mean=float(state["label"][0]),
            label_deviation=float(state["label"][1]),
            rows=rows,
            missing=dict(zip(self.contract.features, missing, strict=True)),
            outside=dict(zip(self.contract.features, outside, strict=True)),
            class_rows=tuple(int(count) for count in state["classes"]),
        )

    def _check(self, state: Arrays) -> None:
        contract = self.contract
        places, spreads, widths = [], [], []
        for name, (center, scale, fill) in zip(contract.features, state["table"], strict=True):
            low, high = contract.columns[name].range or (0.0, 1.0)
            places += [(center - low) / (high - low), (fill - low) / (high - low)]
            spreads.append(float(scale))
            widths.append(high - low)
        for mean, deviation in state["pixels"]:
            places.append(mean)
            spreads.append(float(deviation))
            widths.append(1.0)
        mean, deviation = state["label"]
        low, high = (contract.columns[contract.label].range if contract.task == "number" else None) or (0.0, 1.0)
        places.append((mean - low) / (high - low))
        spreads.append(float(deviation))
        widths.append(high - low)
        # Sums in fixed point and their division are right to some billionths.
        apart = all(-1e-6 <= place <= 1.0 + 1e-6 for place in places)
        # What has no spread is left unscaled: by 1.
        wide = all(
            scale == 1.0 or _CONSTANT * width <= scale <= width for scale, width in zip(spreads, widths, strict=True)
        )
        counted = all(np.all((array >= 0) & (array < 2.0**53)) for array in (state["rows"], state["counts"]))
        if not (apart and wide and counted):
            raise ProtocolError("bad-preparation", "no sums over the declared ranges give these means and scales")

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> None:
        """Nothing stays at the hospital."""
        return


def _unit(values: NDArray[Any], bounds: tuple[float, float] | None) -> NDArray[np.float64]:
    """Return values scaled by their declared range to [0, 1]."""
    assert bounds is not None
    return np.asarray((values - bounds[0]) / (bounds[1] - bounds[0]), dtype=np.float64)


def _moments(sums: NDArray[Any], count: float, bounds: tuple[float, float] | None) -> tuple[float, float]:
    """Return mean and population deviation, in the column's unit, from sums of u and u**2."""
    assert bounds is not None
    low, width = bounds[0], bounds[1] - bounds[0]
    if count < 1:
        return low + width / 2, 1.0
    mean = float(sums[0]) / count
    deviation = math.sqrt(max(float(sums[1]) / count - mean * mean, 0.0))
    return low + width * mean, width * deviation if deviation > _CONSTANT else 1.0


def _median(histogram: NDArray[Any], bounds: tuple[float, float] | None, otherwise: float) -> float:
    """Return the median; ``otherwise`` where nothing was observed."""
    assert bounds is not None
    if histogram.sum() < 1:
        return otherwise
    return float(bounds[0] + (bounds[1] - bounds[0]) * quantile(histogram, 0.5))


def quantile(histogram: NDArray[Any], share: float) -> float:
    """Return a quantile as a share of the range that the bins divide; rows of a bin are spread evenly inside it.

    share: from 0 to 1; between two rows it lies as far as between their ranks, as in NumPy.
    """
    cumulative = np.cumsum(histogram)
    rank = 1.0 + (round(float(cumulative[-1])) - 1) * share
    # The k-th smallest value lies (k - 1/2) of the way through its bin's rows.
    around = np.array([math.floor(rank), math.ceil(rank)]) - 0.5
    index = np.searchsorted(cumulative, around)
    position = index + (around - (cumulative - histogram)[index]) / histogram[index]
    further = rank - math.floor(rank)
    return float((1.0 - further) * position[0] + further * position[1]) / len(histogram)
