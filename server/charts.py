"""The report's charts: matplotlib figures, as SVG texts that stand inside an HTML page.

No text of the study is drawn: names, units and legends are the page's, where they are escaped, wrapped and read aloud.
Marks differ by colour and by dash; colours are those of Okabe and Ito (2008, "Color universal design"), which
colour-blind readers tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from server.outcome import RoundRecord
from server.svg import GREY, INK, drawn
from shared.interpretation import Dependence
from shared.methods.tuning import Choice
from shared.metrics import Curve, Judgement
from shared.scores import CALIBRATION_GROUPS, Floats
from shared.wording import number_text

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#5f5f5f")
DASHES = ("", "5 2.2", "1.6 1.6", "7 2 1.6 2")
"""SVG dash patterns, in line widths of one; the legend draws them too."""

MOST_LINES = len(COLOURS) * len(DASHES)
"""More classes than this are drawn in one grey, and only their mean stands out."""

_GRID = 500
"""Points of one curve that fall into one cell of a 500 x 500 grid are drawn as one."""


def line_style(index: int, count: int) -> tuple[str, str]:
    """Return (colour, dash pattern) of the line of class ``index`` of ``count``."""
    if count > MOST_LINES:
        return GREY, ""
    return COLOURS[index % len(COLOURS)], DASHES[index // len(COLOURS)]


def wilson(hits: float, rows: float) -> tuple[float, float]:
    """Return the 95 % interval of a share (Wilson 1927, JASA 22:209-212); (0, 1) without rows."""
    if rows <= 0:
        return 0.0, 1.0
    z2 = 1.959964**2
    share = hits / rows
    centre = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    half = math.sqrt(z2 * (share * (1 - share) / rows + z2 / (4 * rows * rows))) / (1 + z2 / rows)
    return max(0.0, centre - half), min(1.0, centre + half)


def drawable(curve: Curve) -> bool:
    """Whether both kinds of rows were held out, so that the class has a ROC curve."""
    ends = (curve.false_positive_rate, curve.true_positive_rate)
    return all(len(end) > 1 and end[-1] > 0 for end in ends)


def area(curve: Curve) -> float:
    """Return the area under one ROC curve, NaN where there is none."""
    return float(np.trapezoid(curve.true_positive_rate, curve.false_positive_rate)) if drawable(curve) else math.nan


def learning_curve(training: Sequence[RoundRecord]) -> str | None:
    """Return the loss by training round; None where no method reported a loss. Hollow marks: a hospital was missing."""
    told = [record for record in training if "loss" in record.measurements]
    points = [(record.round, record.measurements["loss"], bool(record.dropped)) for record in told]
    if not points:
        return None
    rounds, losses = [point[0] for point in points], [point[1] for point in points]

    def draw(axes: Any) -> None:
        axes.plot(rounds, losses, color=COLOURS[0], marker="o" if len(points) <= 60 else "", markersize=3.5)
        missing = [(number, loss) for number, loss, incomplete in points if incomplete]
        if missing:
            axes.plot(*zip(*missing, strict=True), "o", color=COLOURS[1], markerfacecolor="white", markersize=6.5)
        axes.set(xlabel="round", ylabel="training loss")
        axes.set_ylim(bottom=0.0)
        axes.xaxis.get_major_locator().set_params(integer=True)
        if len(points) == 1:
            axes.set_xticks(rounds)

    title = f"Training loss by round, from {losses[0]:.3g} to {losses[-1]:.3g} in {len(points)} rounds."
    return drawn("learning", title, draw, size=(5.4, 3.0))


def tuning_curve(choice: Choice) -> str:
    """Return what each candidate reached, with the deviation between folds; the chosen one stands out."""
    numbers = [index + 1 for index, each in enumerate(choice.candidates) if not math.isnan(each.mean)]
    reached = [choice.candidates[number - 1] for number in numbers]
    spread = [0.0 if math.isnan(each.deviation) else each.deviation for each in reached]

    def draw(axes: Any) -> None:
        axes.errorbar(
            numbers, [each.mean for each in reached], spread, color=COLOURS[0], marker="o", markersize=4, linewidth=1.2
        )
        best = choice.candidates[choice.chosen].mean
        axes.plot(choice.chosen + 1, best, "o", color=COLOURS[1], markersize=8, markeredgecolor="white", zorder=3)
        axes.set(xlabel="candidate", ylabel="mean over the folds")
        axes.xaxis.get_major_locator().set_params(integer=True)

    title = f"Mean over the folds for {len(choice.candidates)} candidates; number {choice.chosen + 1} was chosen."
    return drawn("tuning", title, draw, size=(5.4, 3.0))


def roc(judgement: Judgement) -> str | None:
    """Return the ROC curves; a binary study's operating point is marked. None where no class can be drawn."""
    curves = [curve for curve in judgement.curves if drawable(curve)]
    if not curves:
        return None

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.0, dashes=(4, 3))
        _lines(axes, judgement, lambda curve: _thin(curve.false_positive_rate, curve.true_positive_rate))
        if len(judgement.curves) > 1:
            axes.plot(*_mean_curve(curves, _height_of_roc), color=INK, linewidth=2.4)
        else:
            rates = judgement.confusion / judgement.confusion.sum(axis=1, keepdims=True)
            axes.plot(rates[0, 1], rates[1, 1], "o", color=COLOURS[1], markersize=7, markeredgecolor="white")
        _square(axes, "false positive rate (1 - specificity)", "true positive rate (sensitivity)")

    return drawn("roc", "Receiver operating characteristic: true against false positive rate.", draw)


def precision_recall(judgement: Judgement) -> str | None:
    """Return the precision-recall curves, and for a binary study what guessing reaches. None without any class."""
    curves = [curve for curve in judgement.curves if drawable(curve)]
    if not curves:
        return None

    def draw(axes: Any) -> None:
        # Between two thresholds the curve has the height of the lower one, as average precision counts it.
        _lines(axes, judgement, lambda curve: _thin(*_steps(curve)), drawstyle="steps-pre")
        if len(judgement.curves) > 1:
            axes.plot(*_mean_curve(curves, _height_of_precision), color=INK, linewidth=2.4, drawstyle="steps-pre")
        else:
            axes.axhline(judgement.confusion[1].sum() / judgement.n, color=GREY, linewidth=1.0, dashes=(4, 3))
            called = judgement.confusion[:, 1]
            if called.sum():
                recall = called[1] / judgement.confusion[1].sum()
                axes.plot(
                    recall, called[1] / called.sum(), "o", color=COLOURS[1], markersize=7, markeredgecolor="white"
                )
        _square(axes, "recall (sensitivity)", "precision (positive predictive value)")

    return drawn("precision-recall", "Precision against recall.", draw)


def calibration(judgement: Judgement) -> str | None:
    """Return observed against predicted shares by predicted tenth, None without rows.

    Several classes: dark dots with 95 % intervals for all of them together, faint dots for each.
    """
    curves = [curve for curve in judgement.curves if len(curve.rows)]
    if not curves:
        return None

    def draw(axes: Any) -> None:
        axes.plot([0, 1], [0, 1], color=GREY, linewidth=1.0, dashes=(4, 3))
        if len(judgement.curves) > 1:
            for index, curve in enumerate(judgement.curves):
                colour, _ = line_style(index, len(judgement.curves))
                axes.plot(curve.predicted, curve.observed, "o", color=colour, markersize=3, alpha=0.5, clip_on=False)
        predicted, observed, rows = _by_tenth(curves)
        colour = COLOURS[0] if len(judgement.curves) == 1 else INK
        bounds = [wilson(share * n, n) for share, n in zip(observed, rows, strict=True)]
        axes.vlines(predicted, *zip(*bounds, strict=True), color=colour, linewidth=1.3, alpha=0.55)
        axes.scatter(
            predicted, observed, s=16 + 70 * rows / rows.max(), color=colour, linewidths=0, zorder=3, clip_on=False
        )
        _square(axes, "predicted probability", "observed share")

    return drawn("calibration", "Calibration: observed share against predicted probability, by tenth.", draw)


def _by_tenth(curves: Sequence[Curve]) -> tuple[Floats, Floats, Floats]:
    """Return (mean prediction, observed share, rows) of each predicted tenth, over the classes together."""
    rows = np.concatenate([curve.rows for curve in curves])
    predicted = np.concatenate([curve.predicted for curve in curves])
    observed = np.concatenate([curve.observed for curve in curves])
    tenth = np.minimum((predicted * CALIBRATION_GROUPS).astype(np.int64), CALIBRATION_GROUPS - 1)
    weights = np.stack([rows, rows * predicted, rows * observed], axis=1)
    sums = np.zeros((CALIBRATION_GROUPS, 3))
    np.add.at(sums, tenth, weights)
    sums = sums[sums[:, 0] > 0]
    return sums[:, 1] / sums[:, 0], sums[:, 2] / sums[:, 0], sums[:, 0]


def predicted_observed(judgement: Judgement) -> str | None:
    """Return the mean observed number against the mean predicted one, by predicted tenth of the declared range."""
    curve = judgement.curves[0]
    if not len(curve.rows):
        return None

    def draw(axes: Any) -> None:
        both = np.concatenate([curve.predicted, curve.observed])
        margin = 0.06 * (float(np.ptp(both)) or 1.0)
        ends = (float(both.min()) - margin, float(both.max()) + margin)
        axes.plot(ends, ends, color=GREY, linewidth=1.0, dashes=(4, 3))
        axes.plot(curve.predicted, curve.observed, color=COLOURS[0], linewidth=1.2)
        axes.scatter(
            curve.predicted, curve.observed, s=20 + 180 * curve.rows / curve.rows.max(), color=COLOURS[0], alpha=0.75
        )
        axes.set(xlim=ends, ylim=ends, xlabel="mean prediction", ylabel="mean observation", aspect="equal")

    return drawn(
        "predicted-observed", "Mean observation against mean prediction, by tenth of the declared range.", draw
    )


def dependences(shown: Sequence[Dependence]) -> list[str]:
    """Return a chart for each column, all on one upright scale: steps, and below them a mark at each edge."""
    said = [number for each in shown for row in each.values for number in row]
    if not said:
        return []
    margin = 0.05 * (max(said) - min(said)) or 0.5
    upright = (min(said) - margin, max(said) + margin)
    return [_dependence(f"dependence-{index}", each, upright) for index, each in enumerate(shown)]


def _dependence(name: str, shown: Dependence, upright: tuple[float, float]) -> str:
    # The outer intervals have no end: as much of them is drawn as a tenth of the rest, but no value that cannot be.
    low, high = shown.range
    edges, values = np.array(shown.edges), np.array(shown.values)
    margin = 0.1 * float(np.ptp(edges)) or high - low
    ends = np.array([max(low, edges[0] - margin), *edges, min(high, edges[-1] + margin)])

    def draw(axes: Any) -> None:
        axes.plot(edges, np.zeros(len(edges)), "|", color=GREY, markersize=9, transform=axes.get_xaxis_transform())
        for index, line in enumerate(values.T):
            axes.plot(ends, [line[0], *line], drawstyle="steps-pre", **_look(index, values.shape[1]))
        axes.set_ylim(upright)

    what = f"{len(shown.names)} lines of {len(values)} steps"
    if len(shown.names) == 1:
        what = f"from {number_text(values[0, 0])} at the lowest values of the column to {number_text(values[-1, 0])}"
    return drawn(name, f"What the model says on average: {what}.", draw, size=(4.4, 2.9))


def _lines(axes: Any, judgement: Judgement, points: Callable[[Curve], tuple[Floats, Floats]], **options: Any) -> None:
    """Draw one line for each class; many lines are thin and faint."""
    count = len(judgement.curves)
    for index, curve in enumerate(judgement.curves):
        if not drawable(curve):
            continue
        axes.plot(*points(curve), **_look(index, count), **options)


def _look(index: int, count: int) -> dict[str, Any]:
    """Return how the line of class ``index`` of ``count`` is drawn."""
    colour, dash = line_style(index, count)
    look: dict[str, Any] = {"color": colour, "linewidth": 1.8}
    if count > 1:
        look |= {"linewidth": 1.1, "alpha": 0.75}
    return look | ({"dashes": [float(part) for part in dash.split()]} if dash else {})


def _square(axes: Any, xlabel: str, ylabel: str) -> None:
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel=xlabel, ylabel=ylabel, aspect="equal")
    ticks = [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    axes.set(xticks=ticks, yticks=ticks)


def _thin(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Return the points that differ on the grid from the one before, and both ends."""
    cells = np.stack([np.round(x * _GRID), np.round(y * _GRID)])
    differs = np.any(np.diff(cells, axis=1) != 0, axis=0)
    # A point is kept when the curve leaves its cell or has just entered it, so that corners stay where they are.
    kept = np.concatenate([[True], differs]) | np.concatenate([differs, [True]])
    return x[kept], y[kept]


def _steps(curve: Curve) -> tuple[Floats, Floats]:
    return np.concatenate([[0.0], curve.recall]), np.concatenate([curve.precision[:1], curve.precision])


def _mean_curve(curves: Sequence[Curve], height: Callable[[Curve, Floats], Floats]) -> tuple[Floats, Floats]:
    """Return the mean height of the classes' curves: the area below it is the macro mean of their areas."""
    x = np.linspace(0.0, 1.0, _GRID + 1)
    return x, np.mean([height(curve, x) for curve in curves], axis=0)


def _height_of_roc(curve: Curve, x: Floats) -> Floats:
    return np.asarray(np.interp(x, curve.false_positive_rate, curve.true_positive_rate))


def _height_of_precision(curve: Curve, x: Floats) -> Floats:
    index = np.searchsorted(curve.recall, x - 1e-12)
    return np.asarray(curve.precision[np.minimum(index, len(curve.precision) - 1)])
