"""Is it worth training together? The answer, derived from the numbers and their intervals and from nothing else.

A difference counts only where chance is an unlikely reason for it (``server/gain.py``). Where it may be chance the
answer is "not shown", never "no difference".
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Literal

from server.gain import Comparison, apart, compare, gain, too_few
from server.outcome import Outcome
from shared import wording
from shared.metrics import Judgement
from shared.wording import METRIC_WORDS, interval_text, plural, value_text

GUESSING = {
    "r2": (0.0, "predicting the mean for everybody (R² 0)"),
    "auroc": (0.5, "guessing (AUROC 0.5)"),
    "variance_explained": (0.0, "putting every row at the mean (variance explained 0)"),
    "concordance": (0.5, "guessing (concordance 0.5)"),
}
"""What a model reaches that knows nothing about the patient, by the metric that tells."""

Tone = Literal["yes", "mixed", "no", "open"]

FEW_ROWS = 100
"""Below this many held-out rows the reader is told that intervals are wide."""

_SIMULATE = (
    "Whether it is worth training together can be simulated: `consilium-simulate run` trains the same study alone,"
    " together and on pooled data, where data like these lie on one machine."
)


@dataclass(frozen=True)
class Verdict:
    """The answer.

    tone: ``yes``, ``mixed``, ``no``, or ``open`` where the run cannot tell.
    answer: one sentence.
    reasons: the sentences behind it, in the order of their weight.
    cautions: what limits the answer.
    """

    tone: Tone
    answer: str
    reasons: tuple[str, ...]
    cautions: tuple[str, ...]


def main_metric(outcome: Outcome) -> str:
    """Return the metric that the answer rests on, the first: AUROC for classes, mean absolute error for a number."""
    return next(iter(outcome.federated.metrics))


def label_unit(outcome: Outcome, metric: str) -> str:
    """Return the unit of a metric's values, empty for shares."""
    return outcome.study.data.columns[outcome.study.data.label].unit if metric in ("mae", "rmse") else ""


def verdict_of(outcome: Outcome) -> Verdict:
    """Return the answer to "is it worth training together?" for one run."""
    metric = main_metric(outcome)
    own = outcome.together.metrics[metric]
    if math.isnan(own.value):
        return Verdict("open", "This run cannot tell: the model could not be judged.", (_not_judged(outcome),), ())
    comparison = compare(metric, outcome.together, outcome.local)
    useless = _no_better_than_guessing(outcome)
    tone, answer = _unless_worse_at_home(*_answer(comparison, outcome), outcome)
    if useless:
        tone, answer = "no", f"No: {useless[0].lower()}{useless[1:]}"
    reasons = [
        _level(outcome),
        *_released(outcome),
        *_against_alone(outcome, comparison),
        *_against_pooled(outcome),
        *_at_home(outcome),
    ]
    if outcome.deployed and not outcome.compared:
        reasons.append(_SIMULATE)
    return Verdict(tone, answer, tuple(reasons), tuple(_cautions(outcome)))


def _answer(comparison: Comparison, outcome: Outcome) -> tuple[Tone, str]:
    better, worse, n = len(comparison.better), len(comparison.worse), comparison.compared
    if not n:
        return "open", _nothing_compared(outcome)
    if better == n:
        whom = _whom(outcome, comparison.better)
        return "yes", f"Yes: on these data, the model trained together is clearly better than {whom}."
    if better and worse:
        return "mixed", (
            f"For some: the model trained together is clearly better than the own models of {better} of {n}"
            f" hospitals, and clearly worse than those of {worse}."
        )
    if worse:
        return "no", (
            f"No: the model trained together is clearly worse than the own models of {worse} of {n} hospitals, and"
            " clearly better than none."
        )
    if better:
        return "mixed", (
            f"For some: the model trained together is clearly better than the own models of {better} of {n}"
            f" hospitals; against the {'other' if n - better == 1 else 'others'}, the difference may be chance."
        )
    return "open", "Not shown: every difference from the hospitals' own models may be chance."


def _unless_worse_at_home(tone: Tone, answer: str, outcome: Outcome) -> tuple[Tone, str]:
    """Return the answer, and no plain yes where most hospitals' own models serve their own patients better."""
    metric, homes = main_metric(outcome), outcome.local_at_home
    signs = [apart(metric, outcome.per_site[name], own) for name, own in homes.items() if name in outcome.per_site]
    worse = signs.count(-1)
    if tone != "yes" or worse <= signs.count(1):
        return tone, answer
    return "mixed", (
        "For the patients of all hospitals together, yes: there, the model trained together is clearly better than"
        f" every own model. For a hospital's own patients, no: there, the own models of {worse} of {len(signs)}"
        " hospitals are clearly better."
    )


def _whom(outcome: Outcome, better: tuple[str, ...]) -> str:
    lacking = _without_own(outcome)
    rest = f"; {plural(len(lacking), 'hospital')} got no model alone" if lacking else ""
    if len(better) > 1:
        return f"every one of the {len(better)} hospitals' own models{rest}"
    return f"{better[0]}'s own model{rest}" if lacking else "the hospital's own model"


def _without_own(outcome: Outcome) -> list[str]:
    """Return the hospitals whose own data gave no model, where others' did."""
    return [site.name for site in outcome.sites if site.name not in outcome.local] if outcome.local else []


def _nothing_compared(outcome: Outcome) -> str:
    if outcome.deployed and not outcome.pooled:
        return (
            "This run cannot tell: between real hospitals no model is trained alone or on pooled data, so there is"
            " nothing to compare with."
        )
    beside = "only with pooled data" if outcome.pooled else "with nothing else"
    return f"This run cannot tell: the model was compared {beside}, not with the hospitals' own models."


def _no_better_than_guessing(outcome: Outcome) -> str:
    """Return a sentence if the model is not shown to be of any use, else an empty text."""
    told = [metric for metric in GUESSING if metric in outcome.together.metrics]
    if not told:
        return ""
    metric, own = told[0], outcome.together.metrics[told[0]]
    value, guess = GUESSING[metric]
    if math.isnan(own.value) or own.low > value:
        return ""
    return f"The model trained together is not shown to be better than {guess}; {interval_text(metric, own)}."


def _level(outcome: Outcome) -> str:
    judgement, data = outcome.together, outcome.study.data
    about = "about " if outcome.noised else ""
    rows = f"{about}{judgement.n:,} held-out {row_noun(outcome)}{'' if judgement.n == 1 else 's'}"
    metric = main_metric(outcome)
    if metric not in ("mae", "auroc"):
        words = METRIC_WORDS[metric]
        return f"On {rows}: {wording.in_sentence(words.label)} {interval_text(metric, judgement.metrics[metric])}."
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


def _released(outcome: Outcome) -> list[str]:
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


def _against_alone(outcome: Outcome, comparison: Comparison) -> list[str]:
    metric = main_metric(outcome)
    words, unit = METRIC_WORDS[metric], label_unit(outcome, metric)
    label = wording.in_sentence(words.label)
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
        f"Trained alone and judged on the same {row_noun(outcome)}s, the hospitals' models reach {label}"
        f" {value_text(metric, alone[worst])}{suffix} ({worst}) to {value_text(metric, alone[best])}{suffix}"
        f" ({best}), median {value_text(metric, middle)}{suffix}; together, {value_text(metric, own)}{suffix}."
        if len(alone) > 1
        else f"Trained alone, {best} reaches {label} {value_text(metric, alone[best])}{suffix}; together,"
        f" {value_text(metric, own)}{suffix}."
    ]
    lacking = _without_own(outcome)
    if lacking:
        sentences.append(f"Alone, the same method gives no model at {', '.join(lacking)}.")
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


def _against_pooled(outcome: Outcome) -> list[str]:
    if outcome.pooled is None:
        return []
    metric = main_metric(outcome)
    own, pooled = outcome.together.metrics[metric], outcome.pooled.metrics[metric]
    if math.isnan(pooled.value):
        return []
    unit = label_unit(outcome, metric)
    reached = f"with all data in one place, the same kind of model reaches {interval_text(metric, pooled, unit)}"
    gap = value_text(metric, abs(gain(metric, own, pooled).value)) + (unit and f" {unit}")
    sign = apart(metric, outcome.together, outcome.pooled)
    if sign < 0:
        what = "Not pooling the data, and the noise, cost" if outcome.privacy else "Not pooling the data costs"
        return [f"{what} {gap} of {wording.in_sentence(METRIC_WORDS[metric].label)}: {reached}."]
    if sign > 0:
        return [f"It is {gap} better than pooling the data, which is unusual and worth a second look: {reached}."]
    return [f"Against pooling the data, these {row_noun(outcome)}s show no clear loss: {reached}, {gap} away."]


def _at_home(outcome: Outcome) -> list[str]:
    metric = main_metric(outcome)
    pairs = [(outcome.per_site[name], own) for name, own in outcome.local_at_home.items() if name in outcome.per_site]
    gains = [gain(metric, together.metrics[metric], own.metrics[metric]).value for together, own in pairs]
    defined = [value for value in gains if not math.isnan(value)]
    if not defined:
        return []
    better, worse = sum(value > 0 for value in defined), sum(value < 0 for value in defined)
    clear = [apart(metric, together, own) for together, own in pairs]
    same = len(defined) - better - worse
    have = "has" if len(defined) == 1 else "have"
    return [
        f"Judged on their own {row_noun(outcome)}s only, {better} of {plural(len(defined), 'hospital')} {have} a better"
        f" value with the model trained together than with their own, {worse or 'no'} a worse"
        f" one{f', {same} the same' if same else ''}; clearly better: {clear.count(1)}, clearly worse:"
        f" {clear.count(-1)}."
    ]


def _cautions(outcome: Outcome) -> list[str]:
    noun = row_noun(outcome)
    cautions = list(outcome.cautions)
    judged = {judgement.n for judgement in outcome.local.values()} | ({outcome.pooled.n} if outcome.pooled else set())
    if judged - {outcome.together.n}:
        cautions.append(
            f"The models were not all judged on the same {noun}s (see the last column of the table): compare with care."
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


def _not_judged(outcome: Outcome) -> str:
    if outcome.noised:
        return "The noise is larger than what the held-out patients could show: they are too few for this epsilon."
    if not outcome.together.n:
        return "No patients were held out."
    if main_metric(outcome) != "auroc":
        return "The error is not defined on the held-out patients."
    return (
        f"The {plural(outcome.together.n, 'held-out row')} all belong to one class, and ranking needs two. The other"
        " values in the table still hold."
    )


def row_noun(outcome: Outcome) -> str:
    """Return ``patient`` if every patient has one row, as far as is known, else ``row``."""
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
