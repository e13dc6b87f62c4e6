"""Cox's proportional hazards on a time grid that hospitals share.

Cox 1972, "Regression models and life-tables", J. R. Stat. Soc. B 34(2): the hazard at time t of a row x is h(t)
exp(x b), and b maximises the partial likelihood (``shared/methods/partial_likelihood.py``). Times count by interval of
``survival.Grid``, and events of one interval are tied; a row that is censored in an interval was still at risk for its
events. Who is at risk in an interval leaves in it or later. So each hospital adds up exp(x b) and its derivatives over
its rows by the interval in which they leave, and the aggregator accumulates. Newton's method does the rest
(``shared/methods/summed_loss.py``): the optimum, and its standard errors, are those of the pooled rows with the same
intervals, to rounding. Rows count as independent, also those of one patient.

Sums are over subsets that the data choose. Where fewer than ``min_subset_patients`` of a hospital's patients leave in
an interval, the hospital joins intervals (``survival.coarsened``): it counts its own rows of some intervals in one of
them, so the result is that of the pooled rows with times that much coarser. With Efron's ties, patients with the
event and without it are so many each. Which rows are joined depends on times alone, so a hospital's cells are the same
in every round, and none can be subtracted from another; for the same reason nothing is tuned. With 1 no time is made
coarser.

What an aggregator learns, over all hospitals: of each interval how many rows had the event, and at each point sums of
exp(x b) and its derivatives over those who leave: at the first, b = 0, how many rows, their column sums, and sums of
products of two columns. An interval in which few patients of few hospitals leave tells much about them, and sums at
several points are several equations in the same rows. Fewer intervals tell less.

exp(x b) is bounded by that of ``FARTHEST``: a point at which a row is beyond is given up like one at which the loss
rose. Where a column orders all events (monotone likelihood; Bryson and Johnson 1981, Technometrics 23(4)) there is no
optimum; that is found and named, as separation is in ``shared/methods/glm.py``.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.errors import NoEstimate
from shared.examples import Arrays, Examples
from shared.interpretation import Interpretation
from shared.methods import coefficients, cox_tables, newton, partial_likelihood, subsets, two_words
from shared.methods.base import NOTHING, Contribution, Forecast, Measurements, Total, within
from shared.methods.coefficients import Fitted, Wording
from shared.methods.design import design_of
from shared.methods.partial_likelihood import FARTHEST, RelativeHazard
from shared.methods.row_sums import Floats, Targets, summed
from shared.methods.summed_loss import SummedLossMethod, check_study
from shared.methods.survival import Concordance, Grid, Indices, coarsened
from shared.preparation import Preparation, Prepared
from shared.randomness import Randomness
from shared.schema import CLOSED

if TYPE_CHECKING:
    from shared.study import Study

_GIVEN_UP_OF = 8
"""Rounds of which most ended at a point that was given up: the optimum is then beyond ``FARTHEST``, if anywhere."""


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class CoxOptions:
    """``[method.options]`` of ``cox``.

    intervals: of equal width into which the label's range is cut.
    ties: how events of one interval count.
    min_subset_patients: fewest patients of one hospital who leave in an interval; 1 for the pooled result.
    """

    intervals: Annotated[int, Field(ge=2, le=200)] = 50
    ties: Literal["breslow", "efron"] = "breslow"
    min_subset_patients: Annotated[int, Field(ge=1)] = 5


class _Leaving(NamedTuple):
    """A hospital's rows by the interval in which they leave.

    rows: indices, by interval; starts: shape (intervals + 1,), where each interval begins among them.
    tied, tied_starts: the same of those with the event.
    smallest: fewest patients in an interval that has any.
    """

    rows: Indices
    starts: Indices
    tied: Indices
    tied_starts: Indices
    smallest: int


class Cox(SummedLossMethod):
    """One prepared study; weights are ``coef`` (1, columns), and ``intercept`` (1,), which is zero.

    ``fit/hazard`` (intervals,) is Breslow's baseline hazard in each interval.
    """

    Options: ClassVar[type[Any]] = CoxOptions
    outputs: ClassVar[str] = "a log relative hazard"
    censored: ClassVar[bool] = True
    name = "cox"
    without_minimum = (
        "For these columns the rows with the event are always, or nearly, those that the column puts first (monotone"
        " likelihood). Leave a column out, or join its levels."
    )

    def __init__(self, study: Study, preparation: Preparation) -> None:
        design = design_of(preparation, every_level=False)
        super().__init__(study, preparation, design, RelativeHazard(), ridge=0.0)
        self.options: CoxOptions = study.method.options
        self.subset_patients = self.options.min_subset_patients
        self.contract = study.data
        low, high = study.data.columns[study.data.label].range or (0.0, 1.0)
        self.grid = Grid(low, high, self.options.intervals)
        self.efron = self.options.ties == "efron"

    @classmethod
    def check(cls, study: Study) -> None:
        """Raise ValueError unless the study is about a table whose label is a time to an event."""
        check_study(study, "cox")
        if study.data.event is None:
            raise ValueError("cox needs [data] event, the column that says how a time ended. Received: none")
        if study.tuning:
            raise ValueError(
                "cox has nothing to tune: sums over the same patients in other intervals could be subtracted, and leave"
                " few of them. Received: a [tuning] part"
            )

    # The hospital's half.

    def _parts(self, state: Arrays) -> list[two_words.Part]:
        d = len(self.design.bounds)
        reach = float((np.abs(self._parameters(state)) @ self.design.bounds).max())
        most, hazard = float(self.max_rows), self.loss.bounds(reach).loss
        shape = (self.grid.intervals, d * (d + 1) // 2)
        parts = [
            two_words.Part("leaving", shape, most * hazard),
            two_words.Part("events", (self.grid.intervals,), most),
            two_words.Part("events_x", (d,), most),
            two_words.Part("beyond", (), most),
        ]
        return [*parts, two_words.Part("tied", shape, most * hazard)] if self.efron else parts

    def _leaving(self, examples: Examples) -> _Leaving:
        assert examples.events is not None
        patients = examples.patient_index
        kinds = examples.events.astype(np.int64) * self.efron
        cells = coarsened(self.grid.index(examples.labels), kinds, patients, self.options.min_subset_patients)
        rows = np.argsort(cells, kind="stable")
        tied = rows[examples.events[rows]]
        every = np.arange(self.grid.intervals + 1)
        starts, tied_starts = (np.searchsorted(cells[each], every) for each in (rows, tied))
        smallest = subsets.fewest(2 * cells + kinds, patients)
        return _Leaving(rows, starts, tied, tied_starts, smallest)

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return this site's sums by interval at the broadcast point."""
        leaving = examples.derived("leaving", (self.preparation, self.options), lambda: self._leaving(examples))
        x, parameters, bounds = self.matrix(examples), self._parameters(state), self.design.bounds
        ended = x[leaving.tied]
        arrays: dict[str, NDArray[Any]] = {
            "leaving": self._by_interval(x[leaving.rows], leaving.starts, parameters),
            "events": np.diff(leaving.tied_starts).astype(np.float64),
            "events_x": np.array([len(ended), *ended.sum(axis=0)]) / bounds,
            "beyond": np.array(float((x @ parameters[0, 1:] > FARTHEST).sum())),
        }
        if self.efron:
            arrays["tied"] = self._by_interval(ended, leaving.tied_starts, parameters)
        words = two_words.split(self._parts(state), arrays)
        return Contribution(words, float(len(examples)), leaving.smallest), NOTHING

    def _by_interval(self, x: Floats, starts: Indices, parameters: Floats) -> Floats:
        """Return sums of exp(x b) and its two derivatives, one triangle (1, x)(1, x)' exp(x b) for each interval."""
        bounds = self.design.bounds
        upper = np.triu_indices(len(bounds))
        made = np.zeros((self.grid.intervals, len(upper[0])))
        for cell in np.flatnonzero(np.diff(starts)):
            rows = x[starts[cell] : starts[cell + 1]]
            sums = summed(self.loss, rows, Targets(np.zeros(len(rows))), parameters)
            made[cell] = (sums.hessian[0] / np.outer(bounds, bounds))[upper]
        return made

    # The aggregator's half.

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the state moved by one Newton step, with the baseline hazard at the end.

        Raises: NoEstimate if there is no optimum, or none was found within the study's rounds.
        """
        following, said = super().advance(state, total)
        if self.finished(following):
            arrays = two_words.join(self._parts(state), total.arrays)
            at_risk = self._at_risk(arrays)[:, 0, 0]
            hazard = np.where(arrays["events"] > 0, arrays["events"] / np.maximum(at_risk, 1e-300), 0.0)
            following = {**following, "fit/hazard": hazard}
        return following, said if math.isfinite(said["loss"]) else {}

    def _matrices(self, packed: Floats) -> Floats:
        """Return sums by interval as symmetric matrices, shape (intervals, d, d), in the prepared columns' units."""
        bounds = self.design.bounds
        upper = np.triu_indices(len(bounds))
        made = np.zeros((len(packed), len(bounds), len(bounds)))
        made[:, upper[0], upper[1]] = packed
        made[:, upper[1], upper[0]] = packed
        return made * np.outer(bounds, bounds)

    def _at_risk(self, arrays: Arrays) -> Floats:
        return np.cumsum(self._matrices(arrays["leaving"])[::-1], axis=0)[::-1]

    def _sums(self, arrays: Arrays, parameters: Floats) -> newton.Sums:
        """Return the negative log partial likelihood with its derivatives."""
        tied = self._matrices(arrays["tied"]) if self.efron else None
        events_x = arrays["events_x"] * self.design.bounds
        if arrays["beyond"] > 0.5:
            return partial_likelihood.nowhere(len(events_x), arrays["events"])
        return partial_likelihood.at(parameters[0], self._at_risk(arrays), arrays["events"], events_x, tied)

    def about(self, arrays: Arrays, sums: newton.Sums, total: Total) -> dict[str, NDArray[Any]]:
        """Return what the first sums say of the columns, for all rounds and for the tables.

        Raises: NoEstimate without events, or where no column differs among those at risk.
        """
        events = sums.curvature
        if events == 0:
            raise NoEstimate("cox has no estimate: no training row of any hospital ended with the event.")
        gram = sums.hessian.copy()
        gram[0, 0] = events
        free = newton.independent(gram, self.design.bounds)
        free[0] = False
        if not free.any():
            raise NoEstimate("cox has no estimate: no column differs between the rows at risk when an event happens.")
        return {
            "free": free.astype(np.float64),
            "spread": np.sqrt(np.maximum(np.diag(gram), 0.0) / events),
            "first_loss": np.array(sums.loss),
            "rows": np.array(float(total.weight)),
            "events": np.array(events),
            "mean_weight": np.array(1.0),
        }

    def diverged(self, memory: Arrays, weight: float) -> bool:
        """Whether the decrement falls as slowly as under a monotone likelihood, or most points were given up."""
        last = memory["decrements"][-_GIVEN_UP_OF:]
        given_up = len(last) == _GIVEN_UP_OF and 2 * int(np.isinf(last).sum()) > _GIVEN_UP_OF
        return given_up or newton.endless(memory, weight)

    # What the model says.

    def scores(self, weights: Arrays, prepared: Prepared) -> Floats:
        """Return log relative hazards, shape (n, 1): 0 for the means of numbers and the first levels."""
        return self.predictors(weights, prepared)

    def measure(self) -> Concordance:
        """Return how the model is judged: by who has the event first."""
        return Concordance(self, self.preparation, self.grid)

    def forecast(self) -> Forecast:
        """Return what each sum holds."""
        state, label = self.start(), self.contract.label
        whose = f"of each of {self.grid.intervals} intervals of {label}"
        least = f"intervals with fewer than {self.options.min_subset_patients} of your patients are joined first"
        contents = (
            f"{whose}: how many of your rows ended with the event, and, weighted by the model's relative hazard, your"
            f" rows that end in it, their columns, and products of two columns; {least}",
            *((f"{whose}: the same weighted sums over the rows with the event",) if self.efron else ()),
            "the sum of each column over all rows with the event",
        )
        return Forecast(self.asks(state), sum(array.size for array in self.result(state).values()), contents)

    def description(self) -> str:
        """Return two sentences for the model card."""
        least = self.options.min_subset_patients
        coarser = f" A hospital joined intervals in which fewer than {least} of its patients left." if least > 1 else ""
        return (
            f"Cox's proportional hazards on {self.grid.intervals} intervals of {self.contract.label}, ties"
            f" after {self.options.ties.capitalize()}, fitted by Newton's method on sums over all hospitals.{coarser}"
        )

    def interpretation(self, weights: Arrays) -> Interpretation:
        """Return coefficients with hazard ratios, how well the model fits, and the baseline hazard."""
        if "fit/hazard" not in weights:
            return Interpretation()
        fit, wording = within("fit", weights), Wording(ratio="hazard ratio")
        free = fit["free"] > 0
        found = Fitted(
            self.design, self.design.parameters(weights["coef"], weights["intercept"])[0], free, fit["inverse"]
        )
        note = "Coefficients are by one unit of the column; a hazard ratio above 1 is an earlier event."
        table = coefficients.table([found], wording, note)
        # There is no intercept: the baseline hazard takes its place.
        table = dataclasses.replace(table, rows=table.rows[1:])
        plot = coefficients.forest(found, wording)
        said = coefficients.sentences(self.design, np.array([True, *free[1:]]))
        tables = (table, cox_tables.fit_table(fit), cox_tables.baseline(fit["hazard"], self.grid, self.contract))
        return Interpretation(tuple(said), tables, (plot,) if plot else ())
