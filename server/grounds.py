"""The sentences behind an answer: how good, against each hospital alone, against pooled data, at home; its limits."""

from __future__ import annotations

import math
import statistics

from server.gain import Comparison, apart, gain, too_few
from server.outcome import Outcome
from server.subject import label_unit, made_together, main_metric, product, products, row_noun, without_own
from shared import wording
from shared.wording import METRIC_WORDS, interval_text, plural, value_text

FEW_ROWS = 100
"""Below this many held-out rows the reader is told that intervals are wide."""


def level(outcome: Outcome) -> str:
    """Return how good it is, in one sentence."""
    judgement, data = outcome.together, outcome.study.data
    about = "about " if outcome.noised else ""
    rows = f"{about}{judgement.n:,} held-out {row_noun(outcome)}{'' if judgement.n == 1 else 's'}"
    metric = main_metric(outcome)
    if metric not in ("mae", "auroc"):
        value = interval_text(metric, judgement.metrics[metric], label_unit(outcome, metric))
        return f"On {rows}: {wording.in_sentence(METRIC_WORDS[metric].label)} {value}."
    if metric == "mae":
        error, explained = judgement.metrics["mae"], judgement.metrics["r2"]
        off = interval_text("mae", error, label_unit(outcome, "mae"))
        return f"On {rows}, its predictions are off by {off} on average; R² is {interval_text('r2', explained)}."
    auroc = judgement.metrics["auroc"]
    if data.task == "binary":
        return (
            f"On {rows}, it ranks one with {data.label} = {data.classes[1]} above one without in"
            f" {100 * auroc.value:.1f} % of pairs: AUROC {interval_text('auroc', auroc)}."
        )
    accuracy = judgement.metrics["accuracy"]
    return (
        f"On {rows}, the mean AUROC of {len(data.classes)} classes, each against the rest, is"
        f" {interval_text('auroc', auroc)}, and {100 * accuracy.value:.1f} % are put into the right class."
    )


def released(outcome: Outcome) -> list[str]:
    """Return what a run between hospitals would say, where the exact value is known beside it."""
    if outcome.federated_exact is None:
        return []
    metric = main_metric(outcome)
    label = wording.in_sentence(METRIC_WORDS[metric].label)
    noised = outcome.federated.metrics[metric]
    told = (
        f"they would not know {label}, which the noise drowns."
        if math.isnan(noised.value)
        else f"noised, {label} {interval_text(metric, noised)}; its interval covers the noise, too."
    )
    return [f"That is exact, as only a simulation can be. What hospitals would see of the same model: {told}"]


def against_alone(outcome: Outcome, comparison: Comparison) -> list[str]:
    """Return how good the hospitals' own ones are on the same rows, and against which the difference may be chance."""
    metric = main_metric(outcome)
    words, unit = METRIC_WORDS[metric], label_unit(outcome, metric)
    label, what = wording.in_sentence(words.label), product(outcome)
    alone = {name: judgement.metrics[metric].value for name, judgement in outcome.local.items()}
    alone = {name: value for name, value in alone.items() if not math.isnan(value)}
    if not alone:
        return []
    own = outcome.together.metrics[metric].value
    ranked = sorted(alone, key=lambda name: alone[name] * words.better)
    worst, best = ranked[0], ranked[-1]
    middle = statistics.median(alone.values())
    suffix = unit and f" {unit}"
    sentences = [
        f"Alone, and judged on the same {row_noun(outcome)}s, the hospitals' {products(outcome)} reach {label}"
        f" {value_text(metric, alone[worst])}{suffix} ({worst}) to {value_text(metric, alone[best])}{suffix}"
        f" ({best}), median {value_text(metric, middle)}{suffix}; together, {value_text(metric, own)}{suffix}."
        if len(alone) > 1
        else f"Alone, {best}'s {what} reaches {label} {value_text(metric, alone[best])}{suffix}; together,"
        f" {value_text(metric, own)}{suffix}."
    ]
    lacking = without_own(outcome)
    if lacking:
        sentences.append(f"Alone, the same method gives no {what} at {', '.join(lacking)}.")
    if comparison.unclear:
        ahead = sum(
            gain(metric, outcome.together.metrics[metric], outcome.local[name].metrics[metric]).value > 0
            for name in comparison.unclear
        )
        sentences.append(_may_be_chance(comparison.unclear, ahead))
    return sentences


def _may_be_chance(names: tuple[str, ...], ahead: int) -> str:
    n = len(names)
    if n == 1:
        return f"Against {names[0]} the difference may be chance; together has {'the' if ahead else 'no'} better value."
    whom = f"{', '.join(names[:-1])} and {names[-1]}" if n <= 3 else f"{n} hospitals"
    return f"Against {whom} the difference may be chance; together has the better value in {ahead} of {n} cases."


def against_pooled(outcome: Outcome) -> list[str]:
    """Return what not pooling the data costs."""
    if outcome.pooled is None:
        return []
    metric = main_metric(outcome)
    own, pooled = outcome.together.metrics[metric], outcome.pooled.metrics[metric]
    if math.isnan(pooled.value):
        return []
    unit = label_unit(outcome, metric)
    value = interval_text(metric, pooled, unit)
    reached = f"with all data in one place, the same kind of {product(outcome)} reaches {value}"
    gap = value_text(metric, abs(gain(metric, own, pooled).value)) + (unit and f" {unit}")
    sign = apart(metric, outcome.together, outcome.pooled)
    if sign < 0:
        what = "Not pooling the data, and the noise, cost" if outcome.privacy else "Not pooling the data costs"
        return [f"{what} {gap} of {wording.in_sentence(METRIC_WORDS[metric].label)}: {reached}."]
    if sign > 0:
        return [f"It is {gap} better than pooling the data, which is unusual and worth a second look: {reached}."]
    return [f"Against pooling the data, these {row_noun(outcome)}s show no clear loss: {reached}, {gap} away."]


def at_home(outcome: Outcome) -> list[str]:
    """Return how many hospitals' own rows are served better."""
    metric = main_metric(outcome)
    pairs = [(outcome.per_site[name], own) for name, own in outcome.local_at_home.items() if name in outcome.per_site]
    gains = [gain(metric, together.metrics[metric], own.metrics[metric]).value for together, own in pairs]
    defined = [value for value in gains if not math.isnan(value)]
    if not defined:
        return []
    better, worse = sum(value > 0 for value in defined), sum(value < 0 for value in defined)
    clear = [apart(metric, together, own) for together, own in pairs]
    same = len(defined) - better - worse
    have = "has" if better == 1 else "have"
    return [
        f"Judged on their own {row_noun(outcome)}s only, {better} of {plural(len(defined), 'hospital')} {have} a better"
        f" value with {made_together(outcome)} than with their own, {worse or 'no'} a worse one"
        f"{f', {same} the same' if same else ''}; clearly better: {clear.count(1)}, clearly worse:"
        f" {clear.count(-1)}."
    ]


def cautions_of(outcome: Outcome) -> list[str]:
    """Return what limits the answer."""
    noun = row_noun(outcome)
    cautions = list(outcome.cautions)
    judged = {judgement.n for judgement in outcome.local.values()} | ({outcome.pooled.n} if outcome.pooled else set())
    if judged - {outcome.together.n}:
        cautions.append(
            f"Not all {products(outcome)} were judged on the same {noun}s (see the last column of the table): compare"
            " with care."
        )
    n = outcome.together.n
    if n < FEW_ROWS:
        about = "about " if outcome.noised else ""
        held_out = f"Only {about}{plural(n, noun)} {'was' if n == 1 else 'were'} held out"
        cautions.append(
            f"{held_out}: {'too few to compare models' if too_few(outcome.together) else 'intervals are wide'}."
        )
    incomplete = sum(bool(record.dropped) for record in outcome.training)
    if incomplete:
        cautions.append(
            f"In {incomplete} of {plural(len(outcome.training), 'training round')}, at least one hospital was missing."
        )
    if noun == "row":
        known = any(site.counts and site.counts.patients != site.counts.rows for site in outcome.sites)
        cautions.append(
            "Some patients have several rows; intervals treat rows as independent, so they are too narrow."
            if known
            else "Patients may have several rows; intervals treat rows as independent, and are too narrow if so."
        )
    return cautions
