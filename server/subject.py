"""What an outcome is about: its main metric and unit, and what its rows and what was made of them are called."""

from __future__ import annotations

import math

from server.outcome import Outcome
from shared import wording
from shared.methods import METHODS
from shared.metrics import Judgement
from shared.wording import IN_LABEL_UNIT


def main_metric(outcome: Outcome) -> str:
    """Return the metric that the answer rests on, the first: AUROC for classes, mean absolute error for a number."""
    return next(iter(outcome.federated.metrics))


def label_unit(outcome: Outcome, metric: str) -> str:
    """Return the unit of a metric's values, empty for shares."""
    return outcome.study.data.columns[outcome.study.data.label].unit if metric in IN_LABEL_UNIT else ""


def product(outcome: Outcome) -> str:
    """Return what the study makes, in one word: ``model``, ``table`` or ``policy``."""
    return METHODS[outcome.study.method.name].noun


def products(outcome: Outcome) -> str:
    """Return the same for several: ``models``."""
    word = product(outcome)
    return f"{word[:-1]}ies" if word.endswith("y") else f"{word}s"


def made_together(outcome: Outcome) -> str:
    """Return what all hospitals made, as it stands inside a sentence."""
    return f"the {product(outcome)} {'trained' if product(outcome) == 'model' else 'made'} together"


def row_noun(outcome: Outcome) -> str:
    """Return ``patient`` if every patient has one row, as far as is known, or counts once, else ``row``."""
    if outcome.together.by_patient:
        return "patient"
    shown = [site.counts for site in outcome.sites if site.counts]
    if outcome.without_counts and outcome.study.data.patient_id is not None:
        return "row"
    return "patient" if all(counts.patients == counts.rows for counts in shown) else "row"


def majority_share(judgement: Judgement) -> tuple[str, float]:
    """Return the most frequent held-out class and its share: the accuracy of calling every row that.

    NaN where there is no confusion table, as of noised sums over many classes.
    """
    rows = judgement.confusion.sum(axis=1)
    if not rows.sum():
        return wording.UNDEFINED, math.nan
    index = int(rows.argmax())
    return judgement.classes[index], float(rows[index] / rows.sum())


def without_own(outcome: Outcome) -> list[str]:
    """Return the hospitals whose own data gave no model, where others' did."""
    return [site.name for site in outcome.sites if site.name not in outcome.local] if outcome.local else []
