"""How numbers, metrics and reason codes are said to people, the same in the report and on the model card."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from shared.metrics import Interval

UNDEFINED = "\N{EN DASH}"
"""Stands for a value that is not defined, such as the AUROC of patients who all belong to one class."""


@dataclass(frozen=True)
class MetricWords:
    """How one metric is presented.

    label: its usual name.
    better: 1 where higher values are better, -1 where lower ones are.
    meaning: one sentence.
    """

    label: str
    better: Literal[1, -1]
    meaning: str


METRIC_WORDS: dict[str, MetricWords] = {
    "auroc": MetricWords(
        "AUROC",
        1,
        "The chance that a random patient of the class gets a higher score than a random one outside it; 0.5 is"
        " guessing, 1 is perfect. With several classes, the mean over the classes.",
    ),
    "average_precision": MetricWords(
        "Average precision",
        1,
        "Area under the precision-recall curve; guessing reaches the share of the class. With several classes, the"
        " mean.",
    ),
    "accuracy": MetricWords("Accuracy", 1, "Share of rows put into the right class."),
    "brier": MetricWords(
        "Brier score", -1, "Mean squared distance between predicted probability and what was observed; 0 is perfect."
    ),
    "log_loss": MetricWords(
        "Log loss", -1, "Mean of -log(probability given to what was observed); punishes confident errors; 0 is perfect."
    ),
    "mae": MetricWords(
        "Mean absolute error", -1, "Mean distance between prediction and observation, in the label's unit."
    ),
    "rmse": MetricWords(
        "Root mean squared error",
        -1,
        "Like the mean absolute error, but large errors count for more; in the label's unit.",
    ),
    "r2": MetricWords(
        "R²", 1, "Share of the variance that is explained; 1 is perfect, 0 is predicting the mean for everybody."
    ),
}

CODE_MEANINGS: dict[str, str] = {
    "no-reply": "the hospital did not answer",
    "late": "the answer came after the deadline",
    "not-asked": "the hospital was not asked: it did not join the run, or is out of its exact sums since it was lost",
    "stale-reply": "an answer to an earlier question arrived; it was ignored",
    "replied-twice": "the same answer came twice; it was counted once",
    "unknown-site": "an answer came under a name that nobody had asked",
    "wrong-entries": "the answer did not hold the agreed parts",
    "wrong-shape": "the answer had another size than agreed",
    "wrong-type": "the answer was not made of the agreed fixed-point words",
    "not-finite": "the contribution held infinities or undefined numbers",
    "beyond-bound": "the contribution was larger than the method allows",
    "state-out-of-bounds": "the hospital refused a model outside the method's bounds",
    "another-study": "the hospital refused: it approved another study than the one it was asked for",
    "beyond-plan": "the hospital refused: the study plans fewer sums",
    "round-went-back": "the hospital refused to answer an earlier round again",
    "study-error": "the hospital could not carry out what the study asks; its log says more",
    "internal-error": "an error inside the hospital's software; only its own log says more",
    # Secure aggregation: who takes part.
    "unmasked": "the hospital refused to send its part without masks",
    "not-my-nonce": "the hospital refused: it did not join this run just now",
    "wrong-run": "the hospital refused: the run's number does not follow from its members",
    "unknown-run": "the hospital refused: it has not entered this run",
    "not-pinned": "somebody takes part whom the hospital did not approve",
    "bad-nonce": "the random number that opens a run had the wrong length",
    "bad-signature": "a signature was not that of the hospital it was said to be from",
    "repeated-member": "a hospital was named twice",
    "too-few-members": "too few hospitals to hide one's part in their sum",
    "too-many-members": "more hospitals than secure aggregation serves",
    "bad-threshold": "the number of hospitals needed to remove the masks is not one that keeps them safe",
    # Secure aggregation: keys and shares.
    "no-keys": "the hospital refused: it announced no keys for this round",
    "stale-keys": "keys of another round were handed out",
    "bad-key": "a public key was one that gives no secret",
    "repeated-key": "the same key was announced twice",
    "own-key-changed": "the hospital refused: its own key had been replaced or left out",
    "already-shared": "the hospital refused to share one round's secrets among others than before",
    "missing-shares": "the answer did not hold exactly the shares that were asked for",
    "not-shared": "the hospital refused: it had shared no secrets for this round",
    "not-a-holder": "the hospital refused a share from somebody who takes no part in the round",
    "seal-broken": "the hospital could not open a share that was sealed to it",
    "bad-share": "a share was not a valid one",
    # Secure aggregation: the sum, and removing its masks.
    "another-scale": "the hospital refused: it was asked to scale its part for another number of hospitals",
    "already-answered": "the hospital refused to answer the same round a second time with other words",
    "state-answered": "the hospital refused to answer for the same model twice",
    "no-receipt": "the hospital signed no receipt for its contribution",
    "stale-receipt": "a receipt was for another round",
    "other-maskers": "hospitals had been told of different partners, so their masks do not cancel",
    "another-state": "hospitals had been sent different models in one round",
    "below-threshold": "the hospital refused: too few hospitals were left for a sum",
    "contributors-changed": "the hospital refused: two sums over different hospitals could be subtracted",
    "members-changed": "the hospital refused: an earlier run over the same patients had other members",
    "settled-changed": "the hospital refused: a finished stage, such as the preparation, was not as before",
    "bad-preparation": "the hospital refused: scales and means that no sums over the declared ranges give",
    "malformed": "the answer could not be read",
    "not-a-sum": "the sum was larger than so many contributions can make it",
    "nothing-to-reveal": "the hospital refused to remove masks: it was not part of this sum",
    "already-revealed": "the hospital refused to remove the masks of one round twice",
    "lists-overlap": "the hospital refused: a hospital was listed as counted and as lost",
    "lists-incomplete": "the hospital refused: some who masked were listed neither as counted nor as lost",
    "listed-as-dropped": "the hospital refused: it contributed, and was listed as lost",
    "own-receipt-changed": "the hospital refused: its own receipt had been replaced or left out",
    "wrong-shares": "the shares it gave did not fit the others'; the masks were removed without them",
}
"""What each reason code means, for whoever reads the report."""


def code_meaning(code: str) -> str:
    """Return the sentence for a reason code, or one that points to the hospital's log."""
    return CODE_MEANINGS.get(code, "the hospital's own log says more")


def value_text(metric: str, value: float) -> str:
    """Return a metric's value as tables print it: three decimals for shares, three digits for amounts in a unit."""
    if not math.isfinite(value):
        return UNDEFINED
    return _signed(f"{value:.3f}") if metric not in ("mae", "rmse") else number_text(value)


def in_sentence(label: str) -> str:
    """Return a metric's name as it stands inside a sentence: ``mean absolute error``, but ``AUROC``."""
    return label if label[:2].isupper() else label[0].lower() + label[1:]


def _signed(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text


def range_text(metric: str, interval: Interval) -> str:
    """Return ``0.985 to 0.999``, or a dash where the interval is not defined."""
    if not (math.isfinite(interval.low) and math.isfinite(interval.high)):
        return UNDEFINED
    return f"{value_text(metric, interval.low)} to {value_text(metric, interval.high)}"


def interval_text(metric: str, interval: Interval, unit: str = "") -> str:
    """Return ``0.994 (95 % interval 0.985 to 0.999)``."""
    return f"{value_text(metric, interval.value)}{unit and ' ' + unit} (95 % interval {range_text(metric, interval)})"


def number_text(value: float, digits: int = 3) -> str:
    """Return a number with at least ``digits`` significant digits, thousands separated, no exponent where avoidable."""
    if not math.isfinite(value):
        return UNDEFINED
    if value == 0.0:
        return "0"
    exponent = math.floor(math.log10(abs(value)))
    if exponent < -5 or exponent > 11:
        return _signed(f"{value:.{digits - 1}e}")
    return _signed(f"{value:,.{max(0, digits - 1 - exponent)}f}")


def share_text(part: float, whole: float) -> str:
    """Return ``12.5 %``; a dash when there is no whole."""
    return f"{100.0 * part / whole:.1f} %" if whole else UNDEFINED


def bytes_text(count: int) -> str:
    """Return a number of bytes in decimal units: ``1.2 MB``."""
    if count < 1000:
        return f"{count} bytes"
    for power, unit in ((1, "kB"), (2, "MB"), (3, "GB")):
        if count < 1000 ** (power + 1):
            return f"{count / 1000**power:.1f} {unit}"
    return f"{count / 1000**4:,.1f} TB"


def seconds_text(seconds: float) -> str:
    """Return a duration: ``0.42 s``, ``12.3 s``, ``2 min 5 s``, ``3 h 20 min``."""
    if seconds < 10:
        return f"{seconds:.2f} s"
    if seconds < 60:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def rounds_text(rounds: Sequence[int]) -> str:
    """Return numbers with runs drawn together: ``1, 3 to 5``."""
    parts: list[list[int]] = []
    for number in sorted(set(rounds)):
        if parts and number == parts[-1][-1] + 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in parts)


def plural(count: int, noun: str) -> str:
    """Return ``1 hospital``, ``5 hospitals``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
