"""The consortium's table one: who the training patients are, overall and by class of the label.

Hayes-Larson, Kezios, Mooney and Lovasi 2019, "Who is in this study, anyway? Guidelines for a useful Table 1", J. Clin.
Epidemiol. 114, say what belongs into it.

One sum over the training patients, each with its first row. Of each number, by class: how many have it, its sum and sum
of squares, and a histogram of ``MEDIAN_BINS`` bins of the declared range; of each category, by class: patients by
level. Means and deviations (divisor n - 1) are exact, quartiles right to a bin. A label that is a number is a column
like the others, and there are no classes.

Counts of fewer than ``min_cell`` patients, and those that would give them away, are hidden (``shared/disclosure.py``)
by ``advance``, before anything is broadcast, saved or released; so are mean and deviation wherever the count behind
them is, and quartiles of fewer than four times ``min_cell`` patients: a quarter of them lies below the first. The
aggregator's process sees the sums themselves, for a moment. Nothing is imputed or scaled, so there is no preparation:
rows are counted, and no more.

The table is judged by how far the held-out patients' means lie from it, in its standard deviations.

The state holds ``round`` and ``weights/...``: ``mean`` and ``deviation`` of numbers and levels as shares of the range,
``fit/counts`` (parts, 1 + groups) and ``fit/moments`` (numbers, 5, 1 + groups); hidden ones are -1.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from shared import disclosure
from shared.errors import NoEstimate
from shared.examples import Arrays, Examples, Part
from shared.interpretation import Interpretation
from shared.layout import Entry
from shared.methods import describe_tables
from shared.methods.averaging import norm, weights_of
from shared.methods.base import (
    NOTHING,
    Ask,
    Contribution,
    Forecast,
    Measurements,
    Total,
    forecast_of,
    under,
    used,
)
from shared.methods.describe_measure import SMALLEST_DEVIATION, Differences
from shared.methods.describe_tables import HIDDEN, described, once
from shared.methods.plain import PlainMethod
from shared.methods.preparation import MEDIAN_BINS, quantile
from shared.methods.unsupervised import Floats, check_study
from shared.preparation import Preparation, Prepared
from shared.randomness import Randomness
from shared.schema import CLOSED

if TYPE_CHECKING:
    from shared.study import Study

_COUNT_PRECISION = 0.5
_SUM_PRECISION = 1e-6


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class DescribeOptions:
    """``[method.options]`` of ``describe``.

    min_cell: counts of fewer patients are hidden, and what would give them away.
    """

    min_cell: Annotated[int, Field(ge=1, le=1000)] = 5


class Describe(PlainMethod):
    """One study; weights as in the state."""

    Options: ClassVar[type[Any]] = DescribeOptions
    outputs: ClassVar[str] = "how far it lies from the means, in standard deviations"
    noun: ClassVar[str] = "table"
    prepared: ClassVar[bool] = False

    def __init__(self, study: Study, preparation: Preparation) -> None:
        options: DescribeOptions = study.method.options
        self.least = options.min_cell
        self.preparation = preparation
        self.contract = study.data
        self.max_rows = float(study.data.max_rows_per_site)
        self.groups = max(len(self.contract.classes), 1)
        self.columns = described(self.contract)
        # Means and deviations are shares of a range.
        self.state_norm_bound = float(2 * sum(column.width for column in self.columns) + 1)

    @classmethod
    def check(cls, study: Study) -> None:
        """Raise ValueError unless the study is about a table, and asks for nothing beside it."""
        check_study(study, "describe", ("table",))
        if study.evaluation.subgroups:
            raise ValueError(
                "describe tells by class of the label, and nothing of subgroups. Received: [evaluation] subgroups ="
                f" {list(study.evaluation.subgroups)}; make one of them the label"
            )
        if study.evaluation.importance:
            raise ValueError(
                "describe has no model whose columns could matter. Received: [evaluation] importance = true"
            )
        if study.tuning:
            raise ValueError("describe has no option that could make its table better. Received: a [tuning] part")

    def start(self) -> Arrays:
        """Return a table in which everything is hidden."""
        width, shown = sum(column.width for column in self.columns), 1 + len(self.contract.classes)
        weights = {
            "mean": np.zeros(width),
            "deviation": np.zeros(width),
            "fit/counts": np.full((1 + sum(column.parts for column in self.columns), shown), HIDDEN),
            "fit/moments": np.full((sum(column.number for column in self.columns), 5, shown), HIDDEN),
        }
        return {"round": np.array(0), **under("weights", weights)}

    def asks(self, state: Arrays) -> Ask:
        """Return the layout: by class, counts of levels, and counts, sums and histograms of numbers."""
        most, groups = self.max_rows, self.groups
        entries = [Entry("rows", (groups,), most, _COUNT_PRECISION)]
        for index, column in enumerate(self.columns):
            if column.number:
                entries.append(Entry(f"moments/{index}", (groups, 2), most, _SUM_PRECISION))
                entries.append(Entry(f"histogram/{index}", (groups, MEDIAN_BINS), most, _COUNT_PRECISION))
            else:
                entries.append(Entry(f"levels/{index}", (groups, column.width), most, _COUNT_PRECISION))
        return Ask(
            part=Part.TRAINING,
            entries=tuple(entries),
            weight_bound=most,
            word_bits=64,
            stochastic_rounding=False,
            state_norm=norm(used(weights_of(state))),
            state_norm_bound=self.state_norm_bound,
        )

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return this site's counts, sums and histograms."""
        groups, examples = self.groups, once(examples)
        group = examples.labels.astype(np.int64) if self.contract.classes else np.zeros(len(examples), np.int64)
        arrays: dict[str, NDArray[Any]] = {"rows": np.bincount(group, minlength=groups).astype(np.float64)}
        for index, column in enumerate(self.columns):
            there, unit = column.observed(examples)
            own = group[there]
            bins = MEDIAN_BINS if column.number else column.width
            place = np.minimum((unit * MEDIAN_BINS).astype(np.int64), bins - 1) if column.number else unit.astype(int)
            counts = np.bincount(own * bins + place, minlength=groups * bins).reshape(groups, bins).astype(np.float64)
            if column.number:
                sums = [np.bincount(own, weights=values, minlength=groups) for values in (unit, np.square(unit))]
                arrays[f"moments/{index}"] = np.stack(sums, axis=1)
            arrays[f"{'histogram' if column.number else 'levels'}/{index}"] = counts
        return Contribution(arrays, float(len(examples))), NOTHING

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the table, without what is hidden.

        Raises: NoEstimate with fewer patients than one cell may have.
        """
        totals = self._grouped(total.arrays["rows"][:, None])[:, 0]
        if totals[0] < self.least:
            raise NoEstimate(f"describe has no table: expected at least min_cell = {self.least} training patients.")
        counts = [np.where(disclosure.hidden_totals(totals, self.least), HIDDEN, totals)[None]]
        means, deviations, moments = [], [], []
        for index, column in enumerate(self.columns):
            kind = "histogram" if column.number else "levels"
            found = self._grouped(total.arrays[f"{kind}/{index}"])
            parts = found.sum(axis=1, keepdims=True) if column.number else found
            parts = np.column_stack([parts, totals - parts.sum(axis=1)]).T
            hidden = disclosure.hidden_cells(np.vstack([totals, parts]), self.least)[1:]
            counts.append(np.where(hidden, HIDDEN, parts))
            if column.number:
                sums = self._grouped(total.arrays[f"moments/{index}"])
                told = self._moments(parts[0], sums, found, hidden[0])
                moments.append(told)
                mean, deviation = told[0, :1], told[1, :1]
                shown = mean != HIDDEN
            else:
                mean = parts[:-1, 0] / totals[0]
                deviation, shown = np.sqrt(mean * (1.0 - mean)), ~hidden[:-1, 0]
            means.append(np.where(shown, mean, 0.0))
            deviations.append(np.where(shown & (deviation >= SMALLEST_DEVIATION), deviation, 0.0))
        weights = {
            "mean": np.concatenate(means),
            "deviation": np.concatenate(deviations),
            "fit/counts": np.vstack(counts),
            "fit/moments": np.array(moments).reshape(len(moments), 5, len(totals)),
        }
        return {"round": np.array(1), **under("weights", weights)}, {}

    def _grouped(self, sums: Floats) -> Floats:
        """Return the sums over all rows, then those of each class; without classes all rows alone."""
        return np.vstack([sums.sum(axis=0), sums]) if self.contract.classes else sums

    def _moments(self, rows: Floats, sums: Floats, histograms: Floats, hidden: NDArray[np.bool_]) -> Floats:
        """Return mean, deviation and quartiles, shape (5, 1 + groups).

        Those of a group are hidden with its count: with the overall mean they would give it away. Overall they are
        shown if the patients are enough, though their number may be hidden: rounded then, because an exact mean of
        whole numbers says of how many it is.
        """
        told = np.full((5, len(rows)), HIDDEN)
        for group, n in enumerate(rows):
            if n < max(self.least, 1) or (group and hidden[group]):
                continue
            mean = sums[group, 0] / n
            spread = max(sums[group, 1] - n * mean * mean, 0.0)
            told[:2, group] = mean, np.sqrt(spread / (n - 1)) if n > 1 else HIDDEN
            if hidden[group]:
                # To steps of the range in which each number of patients near n has a mean.
                step = 2.0 ** -math.floor(math.log2(n))
                told[:2, group] = np.rint(told[:2, group] / step) * step
            if n >= 4 * self.least:
                told[2:, group] = [quantile(histograms[group], share) for share in (0.25, 0.5, 0.75)]
        return told

    def finished(self, state: Arrays) -> bool:
        """Whether the one exchange has been made."""
        return bool(state["round"] >= 1)

    def result(self, state: Arrays) -> Arrays:
        """Return the table."""
        return weights_of(state)

    def scores(self, weights: Arrays, prepared: Prepared) -> Floats:
        """Return how far rows lie from the means: the root mean square over what is known of them, shape (n, 1)."""
        examples = Examples(
            prepared.x, np.zeros(prepared.x.shape, dtype=bool), prepared.y, np.zeros(len(prepared), dtype=np.str_)
        )
        off = self.measure().standardised(weights, examples)
        known = np.maximum((~np.isnan(off)).sum(axis=1), 1)
        return np.asarray(np.sqrt(np.nansum(np.square(off), axis=1) / known))[:, None]

    def measure(self) -> Differences:
        """Return how the table is judged: by how far held-out rows' means lie from it."""
        return Differences(tuple(column for column in self.columns if not column.label))

    def forecast(self) -> Forecast:
        """Return what a training sum holds."""
        by = f", by class of {self.contract.label}" if self.contract.classes else ""
        numbers = sum(column.number for column in self.columns)
        contents = [f"how many patients there are{by}; each counts with its first row"]
        if numbers:
            contents.append(
                f"of each number ({numbers}){by}: the sum, the sum of squares, and how many patients lie in each of"
                f" {MEDIAN_BINS:,} equal parts of the declared range"
            )
        if numbers < len(self.columns):
            contents.append(f"of each category ({len(self.columns) - numbers}){by}: how many patients have each level")
        return forecast_of(self, *contents)

    def description(self) -> str:
        """Return two sentences for the model card."""
        return (
            "A table of the training patients of all hospitals, each with its first row: counts, means, standard"
            " deviations and quartiles, from one sum. Hidden are counts of fewer than"
            f" {self.least} patients, and those that would give them away."
        )

    def interpretation(self, weights: Arrays) -> Interpretation:
        """Return the table."""
        return describe_tables.interpretation(weights, self.contract, self.columns, self.least)
