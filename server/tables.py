"""The report's tables of results: from an outcome to rows of texts, so that the templates only lay out."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from server.charts import area, line_style
from server.gain import apart, gain, too_few
from server.outcome import Outcome
from server.scale import scale
from server.subject import label_unit, main_metric
from shared.metrics import Interval, Judgement
from shared.tuning import words
from shared.wording import METRIC_WORDS, UNDEFINED, range_text, value_text

_NO_INTERVAL = Interval(math.nan, math.nan, math.nan)


@dataclass(frozen=True)
class Cell:
    """A value, and its interval below it."""

    value: str
    range: str = ""


@dataclass(frozen=True)
class Mark:
    """An interval on a scale, each end as a share of the scale's width."""

    low: float
    value: float
    high: float


@dataclass(frozen=True)
class ModelRow:
    """One model in a comparison.

    kind: ``alone``, ``together``, ``released``, ``pooled`` or ``subgroup``.
    gain: by how much the model trained together is better, by the main metric.
    cells: one for each metric.
    """

    name: str
    kind: str
    mark: Mark | None
    gain: Cell
    cells: tuple[Cell, ...]
    n: str


@dataclass(frozen=True)
class ModelTable:
    """Models judged by the same metrics.

    heads: (label, unit and direction) of each metric; the first is the main one, which is drawn.
    ticks: (share of the scale's width, text).
    reference: where the model trained together lies on the scale; None if undefined.
    same_n: whether all models were judged on equally many rows.
    """

    heads: tuple[tuple[str, str], ...]
    rows: tuple[ModelRow, ...]
    ticks: tuple[tuple[float, str], ...]
    reference: float | None
    same_n: bool


@dataclass(frozen=True)
class Headline:
    """One of the few numbers that the answer opens with."""

    name: str
    value: str
    range: str
    kind: str


def headlines(outcome: Outcome) -> tuple[Headline, ...]:
    """Return the main metric alone (median over the hospitals), together and pooled, as far as they were compared."""
    metric = main_metric(outcome)
    alone = [judgement.metrics[metric].value for judgement in outcome.local.values()]
    alone = [value for value in alone if math.isfinite(value)]
    shown = []
    if alone:
        spread = f"{value_text(metric, min(alone))} to {value_text(metric, max(alone))}" if len(alone) > 1 else ""
        which = f"Alone, median of {len(alone)}" if len(alone) > 1 else "Alone"
        shown.append(
            Headline(which, value_text(metric, statistics.median(alone)), spread and f"hospitals: {spread}", "alone")
        )
    together = cell_of(metric, outcome.together.metrics[metric])
    shown.append(Headline("Together", together.value, together.range and f"95 %: {together.range}", "together"))
    if outcome.federated_exact:
        noised = cell_of(metric, outcome.federated.metrics[metric])
        shown.append(
            Headline("As released, noised", noised.value, noised.range and f"95 %: {noised.range}", "released")
        )
    if outcome.pooled:
        pooled = cell_of(metric, outcome.pooled.metrics[metric])
        shown.append(Headline("Pooled", pooled.value, pooled.range and f"95 %: {pooled.range}", "pooled"))
    return tuple(shown)


def comparison_table(outcome: Outcome) -> ModelTable:
    """Return each hospital alone, together (exact, and as it is released), and pooled, on all held-out rows."""
    models = [(f"{name} alone", "alone", judgement) for name, judgement in outcome.local.items()]
    models.append(("Together", "together", outcome.together))
    if outcome.federated_exact:
        models.append(("Together, as released: noised", "released", outcome.federated))
    if outcome.pooled:
        models.append(("Pooled", "pooled", outcome.pooled))
    return _model_table(outcome, models, outcome.together)


def subgroup_table(outcome: Outcome) -> ModelTable:
    """Return the model trained together on each subgroup's held-out rows, below everyone."""
    models = [("Everyone", "together", outcome.federated)]
    models += [(name, "subgroup", judgement) for name, judgement in outcome.subgroups.items()]
    return _model_table(outcome, models, outcome.federated)


def _model_table(outcome: Outcome, models: Sequence[tuple[str, str, Judgement]], together: Judgement) -> ModelTable:
    metrics = tuple(outcome.federated.metrics)
    main = main_metric(outcome)
    intervals = [judgement.metrics[main] for _, _, judgement in models]
    ends = [end for interval in intervals for end in dataclasses.astuple(interval) if math.isfinite(end)]
    low, high, ticks = scale(min(ends), max(ends)) if ends else (0.0, 1.0, ())

    def place(value: float) -> float:
        return (value - low) / (high - low)

    rows = [
        ModelRow(
            name=name,
            kind=kind,
            mark=_mark(judgement.metrics[main], place),
            gain=_gain(main, together, judgement) if kind in ("alone", "pooled") else Cell(""),
            cells=tuple(cell_of(metric, judgement.metrics[metric]) for metric in metrics),
            n=f"{judgement.n:,}",
        )
        for name, kind, judgement in models
    ]
    heads = tuple((METRIC_WORDS[metric].label, _direction(metric, label_unit(outcome, metric))) for metric in metrics)
    own = together.metrics[main].value
    return ModelTable(
        heads,
        tuple(rows),
        tuple((place(tick), text) for tick, text in ticks),
        place(own) if math.isfinite(own) else None,
        len({judgement.n for _, _, judgement in models}) == 1,
    )


def cell_of(metric: str, interval: Interval) -> Cell:
    """Return a metric's value and interval as tables print them."""
    value = value_text(metric, interval.value)
    return Cell(value, "" if value == UNDEFINED else range_text(metric, interval))


def _direction(metric: str, unit: str) -> str:
    return ", ".join(text for text in (unit, METRIC_WORDS[metric].direction) if text)


def _mark(interval: Interval, place: Callable[[float], float]) -> Mark | None:
    ends = dataclasses.astuple(interval)
    return (
        Mark(place(interval.low), place(interval.value), place(interval.high))
        if all(map(math.isfinite, ends))
        else None
    )


@dataclass(frozen=True)
class CandidateRow:
    """One candidate of a study that tunes. number: as in the chart; chosen: whether the model was trained with it."""

    number: int
    options: str
    mean: str
    deviation: str
    chosen: bool


@dataclass(frozen=True)
class ChoiceTable:
    """What was tried, by which metric."""

    metric: str
    direction: str
    rows: tuple[CandidateRow, ...]

    @property
    def undefined(self) -> bool:
        """Whether a candidate reached nothing."""
        return any(row.mean == UNDEFINED for row in self.rows)


def choice_table(outcome: Outcome) -> ChoiceTable | None:
    """Return what each candidate reached; None for a study that tunes nothing."""
    choice, tuning = outcome.choice, outcome.study.tuning
    if choice is None or tuning is None:
        return None
    rows = tuple(
        CandidateRow(
            number=index + 1,
            options=words(options),
            mean=value_text(choice.metric, found.mean),
            deviation=value_text(choice.metric, found.deviation),
            chosen=index == choice.chosen,
        )
        for index, (options, found) in enumerate(zip(tuning.candidates, choice.candidates, strict=True))
    )
    heading = METRIC_WORDS[choice.metric].label
    return ChoiceTable(heading, _direction(choice.metric, label_unit(outcome, choice.metric)), rows)


@dataclass(frozen=True)
class HomeRow:
    """One hospital's own held-out rows, judged by its own model and by the one trained together."""

    name: str
    n: str
    own: Cell
    together: Cell
    gain: Cell
    reading: str


def home_rows(outcome: Outcome) -> tuple[HomeRow, ...]:
    """Return one row for each hospital that was judged at home."""
    metric = main_metric(outcome)
    rows = []
    for name, together in outcome.per_site.items():
        cell = cell_of(metric, together.metrics.get(metric, _NO_INTERVAL))
        own = outcome.local_at_home.get(name)
        if own is None:
            rows.append(HomeRow(name, f"{together.n:,}", Cell(UNDEFINED), cell, Cell(UNDEFINED), "not compared"))
            continue
        rows.append(
            HomeRow(
                name=name,
                n=f"{together.n:,}",
                own=cell_of(metric, own.metrics[metric]),
                together=cell,
                gain=_gain(metric, together, own),
                reading=_reading(metric, together, own),
            )
        )
    return tuple(rows)


def _gain(metric: str, together: Judgement, other: Judgement) -> Cell:
    """Return the gain by training together, signed, with its interval."""
    difference = gain(metric, together.metrics[metric], other.metrics[metric])
    if math.isnan(difference.value):
        return Cell(UNDEFINED)
    value, low, high = (_signed(metric, end) for end in dataclasses.astuple(difference))
    return Cell(value, "" if UNDEFINED in (low, high) else f"{low} to {high}")


def _signed(metric: str, value: float) -> str:
    text = value_text(metric, abs(value))
    if text == UNDEFINED or not text.strip("0."):
        return text
    return f"+{text}" if value > 0 else f"\N{MINUS SIGN}{text}"


def _reading(metric: str, together: Judgement, own: Judgement) -> str:
    if math.isnan(together.metrics[metric].value - own.metrics[metric].value):
        return "one class only: not defined" if together.classes else "not defined"
    if too_few(together):
        return "too few to tell"
    return {1: "clearly better together", -1: "clearly worse together", 0: "may be chance"}[
        apart(metric, together, own)
    ]


@dataclass(frozen=True)
class LegendEntry:
    """One class in the charts: how its line looks, its name, and the area under its ROC curve."""

    colour: str
    dash: str
    name: str
    auroc: str


def legend(judgement: Judgement) -> tuple[LegendEntry, ...]:
    """Return the legend of the charts' lines; empty for a number."""
    count = len(judgement.curves)
    return tuple(
        LegendEntry(*line_style(index, count), curve.name, value_text("auroc", area(curve)))
        for index, curve in enumerate(judgement.curves)
        if judgement.classes
    )
