"""What a sweep leaves: ``sweep.json`` and ``sweep.html``. The page needs no network and runs no script."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from server.charts import COLOURS
from server.svg import GREY, drawn
from shared.wording import METRIC_WORDS, number_text, seconds_text, value_text
from simulations import pages
from simulations.sweep import Sweep, sweep_of

JSON, PAGE = "sweep.json", "sweep.html"


def write(found: Sweep, folder: Path) -> None:
    """Write both files into a folder that exists.

    Raises: NotWritten.
    """
    pages.write(folder, (PAGE, render(found)), (JSON, sweep_of(found)))


def rows(found: Sweep) -> list[list[str]]:
    """Return the table: a line of heads, then one for each epsilon, the reference last."""
    names = list(found.points[-1].metrics)
    lines = [["Epsilon", "Noise multiplier", *(METRIC_WORDS[name].label for name in names)]]
    for point in found.points:
        head = "without noise" if point.epsilon is None else f"{point.epsilon:g}"
        noise = number_text(point.noise_multiplier) if point.noise_multiplier else ""
        cells = [
            f"{value_text(name, spread.mean)} \N{PLUS-MINUS SIGN} {value_text(name, spread.deviation)}"
            for name, spread in ((name, point.metrics[name]) for name in names)
        ]
        lines.append([head, noise, *cells])
    return lines


def render(found: Sweep) -> str:
    """Return the page as one HTML text."""
    from markupsafe import Markup

    heads, *lines = rows(found)
    return pages.render(
        PAGE,
        {
            "study": found.study,
            "seeds": found.seeds,
            "metric": METRIC_WORDS[found.metric],
            "heads": heads,
            "rows": lines,
            # No text of the study is drawn.
            "chart": Markup(_chart(found)),  # noqa: S704
            "seconds": seconds_text(found.seconds),
        },
    )


def _chart(found: Sweep) -> str:
    """Return the main metric against epsilon, on a logarithmic axis, with every run, and the reference as a line."""
    name = found.metric
    *private, reference = found.points
    label = METRIC_WORDS[name].label

    def draw(axes: Any) -> None:
        epsilons = [point.epsilon for point in private]
        means = [point.metrics[name].mean for point in private]
        deviations = [point.metrics[name].deviation for point in private]
        mean, deviation = reference.metrics[name].mean, reference.metrics[name].deviation
        axes.axhspan(mean - deviation, mean + deviation, color="#e4e4e4", linewidth=0)
        axes.axhline(mean, color=GREY, dashes=(4, 3))
        for point in private:
            values = point.metrics[name].values
            axes.plot([point.epsilon] * len(values), values, "o", color=COLOURS[0], alpha=0.3, markersize=3)
        axes.errorbar(epsilons, means, yerr=deviations, color=COLOURS[0], marker="o", capsize=3)
        axes.set(xscale="log", xlabel="epsilon", ylabel=label)
        axes.set_xticks(epsilons, [f"{epsilon:g}" for epsilon in epsilons])
        axes.minorticks_off()

    return drawn("sweep", f"{label} against epsilon, and without noise.", draw, size=(5.4, 3.4))
