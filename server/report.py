"""The report: one HTML file that says what was asked, whether training together was worth it, and how that is known.

It needs no network and runs no script: charts are inline SVG, fonts are the reader's own, and a content security policy
forbids the rest. Every text of the study is escaped. The same outcome gives the same bytes.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from server import calls, charts, facts, meaning, prepared, site_rows, tables
from server.model_card import card_sections, model_card
from server.outcome import Outcome, patients_and_rows
from server.subject import label_unit, main_metric, majority_share, product, row_noun
from server.verdict import verdict_of
from shared import files
from shared.errors import NotWritten
from shared.methods import METHODS
from shared.pages import environment
from shared.scores_private import BINS
from shared.wording import METRIC_WORDS, number_text, plural, value_text

__all__ = ["model_card", "render", "write_report"]

_TEMPLATES = Path(__file__).parent / "templates"


def write_report(outcome: Outcome, path: Path) -> None:
    """Write the report, or leave what was there.

    path: of the HTML file; its folder exists.

    Raises: NotWritten.
    """
    text = render(outcome)
    try:
        files.replace_text(path, text)
    except OSError as error:
        raise NotWritten(path, error) from None


def render(outcome: Outcome) -> str:
    """Return the report as one HTML text."""
    return environment(_TEMPLATES).get_template("report.html").render(_context(outcome)) + "\n"


def _context(outcome: Outcome) -> dict[str, Any]:
    study, judgement = outcome.study, outcome.federated
    metric = main_metric(outcome)
    return {
        "study": study,
        "outcome": outcome,
        "judgement": judgement,
        "together": outcome.together,
        "bins": BINS,
        "odds": number_text(math.exp(outcome.privacy.epsilon)) if outcome.privacy else "",
        "costs": facts.cost_rows(outcome),
        "sizes": _sizes(outcome),
        "predicts": not METHODS[study.method.name].outputs,
        "told": site_rows.told(outcome),
        "noun": row_noun(outcome),
        "made": product(outcome),
        "verdict": verdict_of(outcome),
        "metric": METRIC_WORDS[metric],
        "metrics": [METRIC_WORDS[name] for name in judgement.metrics],
        "headlines": tables.headlines(outcome),
        "comparison": tables.comparison_table(outcome),
        "homes": tables.home_rows(outcome),
        "homeless": [site.name for site in outcome.sites if site.name not in outcome.per_site],
        "subgroups": tables.subgroup_table(outcome) if outcome.subgroups else None,
        "legend": tables.legend(judgement),
        "confusion": calls.confusion_rows(judgement),
        "diagnostics": calls.diagnostic_values(judgement),
        "majority": _majority(outcome),
        "sites": site_rows.site_rows(outcome),
        "absences": facts.absences(outcome.history),
        "left_out": facts.left_out(outcome),
        "columns": prepared.column_rows(outcome),
        "images": prepared.image_facts(outcome),
        "run": facts.run_facts(outcome),
        "fewest": facts.fewest_allowed(outcome),
        "choice": tables.choice_table(outcome),
        "forests": meaning.forests(outcome.interpretation),
        "meanings": meaning.text_tables(outcome.interpretation),
        "dependences": meaning.dependence_plots(outcome.interpretation),
        "dependence_legend": meaning.dependence_legend(outcome.interpretation),
        "card": card_sections(outcome, meaning=False),
        "unit": label_unit(outcome, metric),
        **_charts(outcome),
    }


def _charts(outcome: Outcome) -> dict[str, Any]:
    """Return the charts by name; those that this study has no use for are None."""
    from markupsafe import Markup

    judgement = outcome.federated
    number, classes = "mae" in judgement.metrics, "auroc" in judgement.metrics
    drawn = {
        "learning": charts.learning_curve(outcome.training),
        "roc": charts.roc(judgement) if classes else None,
        "precision_recall": charts.precision_recall(judgement) if classes else None,
        "calibration": charts.calibration(judgement) if classes else None,
        "tuning": charts.tuning_curve(outcome.choice) if outcome.choice else None,
        "predicted_observed": charts.predicted_observed(judgement) if number else None,
    }
    # Safe to insert as they are: no text of the study is drawn in a chart.
    return {name: svg and Markup(svg) for name, svg in drawn.items()}  # noqa: S704


def _sizes(outcome: Outcome) -> str:
    hospitals = plural(len(outcome.sites), "hospital")
    patients, rows = patients_and_rows(outcome)
    if patients is None:
        counted = f"about {plural(rows, 'patient')}" if outcome.privacy else plural(rows, "row")
        return f"{hospitals}, {counted}"
    counted = plural(patients, "patient") + ("" if rows == patients else f", {plural(rows, 'row')}")
    return f"{hospitals}, {counted}"


def _majority(outcome: Outcome) -> str:
    """Return what accuracy must be held against; empty for a number."""
    if not outcome.federated.classes:
        return ""
    name, share = majority_share(outcome.federated)
    accuracy = outcome.federated.metrics["accuracy"].value
    if math.isnan(share):
        return ""
    return (
        f"{value_text('accuracy', accuracy)} of the rows are put into the right class. Calling every row {name}, the"
        f" most frequent class, would put {value_text('accuracy', share)} into the right class."
    )
