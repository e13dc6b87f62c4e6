"""Is it worth training together? The answer, derived from the numbers and their intervals and from nothing else.

A difference counts only where chance is an unlikely reason for it (``server/gain.py``). Where it may be chance the
answer is "not shown", never "no difference". ``server/grounds.py`` has the sentences behind it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from server import grounds
from server.gain import Comparison, apart, compare
from server.outcome import Outcome
from server.subject import made_together, main_metric, product, products, without_own
from shared import wording
from shared.wording import METRIC_WORDS, interval_text, plural

GUESSING = {
    "r2": (0.0, "predicting the mean for everybody (R² 0)"),
    "auroc": (0.5, "guessing (AUROC 0.5)"),
    "variance_explained": (0.0, "putting every row at the mean (variance explained 0)"),
    "concordance": (0.5, "guessing (concordance 0.5)"),
}
"""What a model reaches that knows nothing about the patient, by the metric that tells."""

Tone = Literal["yes", "mixed", "no", "open"]

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


def verdict_of(outcome: Outcome) -> Verdict:
    """Return the answer to "is it worth training together?" for one run."""
    metric = main_metric(outcome)
    own = outcome.together.metrics[metric]
    if math.isnan(own.value):
        return Verdict(
            "open", f"This run cannot tell: the {product(outcome)} could not be judged.", (_not_judged(outcome),), ()
        )
    comparison = compare(metric, outcome.together, outcome.local)
    useless = _no_better_than_guessing(outcome)
    tone, answer = _unless_worse_at_home(*_answer(comparison, outcome), outcome)
    if useless:
        tone, answer = "no", f"No: {useless[0].lower()}{useless[1:]}"
    if not METRIC_WORDS[metric].decides:
        label = wording.in_sentence(METRIC_WORDS[metric].label)
        tone = "open"
        answer = f"This run cannot tell: {label} does not say which {product(outcome)} is better for patients."
    reasons = [
        grounds.level(outcome),
        *grounds.released(outcome),
        *grounds.against_alone(outcome, comparison),
        *grounds.against_pooled(outcome),
        *grounds.at_home(outcome),
    ]
    if outcome.deployed and not outcome.compared and METRIC_WORDS[metric].decides:
        reasons.append(_SIMULATE)
    return Verdict(tone, answer, tuple(reasons), tuple(grounds.cautions_of(outcome)))


def _answer(comparison: Comparison, outcome: Outcome) -> tuple[Tone, str]:
    better, worse, n = len(comparison.better), len(comparison.worse), comparison.compared
    if not n:
        return "open", _nothing_compared(outcome)
    made, owns = made_together(outcome), f"own {products(outcome)}"
    if better == n:
        whom = _whom(outcome, comparison.better)
        return "yes", f"Yes: on these data, {made} is clearly better than {whom}."
    if better and worse:
        return "mixed", (
            f"For some: {made} is clearly better than the {owns} of {better} of {n} hospitals, and clearly worse than"
            f" those of {worse}."
        )
    if worse:
        return "no", (
            f"No: {made} is clearly worse than the {owns} of {worse} of {n} hospitals, and clearly better than none."
        )
    if better:
        return "mixed", (
            f"For some: {made} is clearly better than the {owns} of {better} of {n} hospitals; against the"
            f" {'other' if n - better == 1 else 'others'}, the difference may be chance."
        )
    return "open", f"Not shown: every difference from the hospitals' {owns} may be chance."


def _unless_worse_at_home(tone: Tone, answer: str, outcome: Outcome) -> tuple[Tone, str]:
    """Return the answer, and no plain yes where most hospitals' own models serve their own patients better."""
    metric, homes = main_metric(outcome), outcome.local_at_home
    signs = [apart(metric, outcome.per_site[name], each) for name, each in homes.items() if name in outcome.per_site]
    worse = signs.count(-1)
    if tone != "yes" or worse <= signs.count(1):
        return tone, answer
    return "mixed", (
        f"For the patients of all hospitals together, yes: there, {made_together(outcome)} is clearly better than every"
        f" own {product(outcome)}. For a hospital's own patients, no: there, the own {products(outcome)} of {worse} of"
        f" {len(signs)} hospitals are clearly better."
    )


def _whom(outcome: Outcome, better: tuple[str, ...]) -> str:
    lacking, what = without_own(outcome), product(outcome)
    rest = f"; {plural(len(lacking), 'hospital')} got no {what} alone" if lacking else ""
    if len(better) > 1:
        return f"every one of the {len(better)} hospitals' own {products(outcome)}{rest}"
    return f"{better[0]}'s own {what}{rest}" if lacking else f"the hospital's own {what}"


def _nothing_compared(outcome: Outcome) -> str:
    what = product(outcome)
    if outcome.deployed and not outcome.pooled:
        return (
            f"This run cannot tell: between real hospitals no {what} is made alone or from pooled data, so there is"
            " nothing to compare with."
        )
    beside = "only with pooled data" if outcome.pooled else "with nothing else"
    return f"This run cannot tell: the {what} was compared {beside}, not with the hospitals' own {products(outcome)}."


def _no_better_than_guessing(outcome: Outcome) -> str:
    """Return a sentence if the model is not shown to be of any use, else an empty text."""
    told = [metric for metric in GUESSING if metric in outcome.together.metrics]
    if not told:
        return ""
    metric, own = told[0], outcome.together.metrics[told[0]]
    value, guess = GUESSING[metric]
    if math.isnan(own.value) or own.low > value:
        return ""
    made = made_together(outcome)
    return f"{made[0].upper()}{made[1:]} is not shown to be better than {guess}; {interval_text(metric, own)}."


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
