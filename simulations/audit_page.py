"""What an audit leaves: ``audit.json`` and ``audit.html``. The page needs no network and runs no script."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from server.charts import COLOURS
from server.svg import GREY, drawn
from shared.methods import METHODS
from shared.methods.averaging import AveragingMethod
from shared.metrics import Interval
from shared.wording import plural, seconds_text
from simulations import pages
from simulations.attacks.membership import LOW_RATE, Attack
from simulations.audit import Audit, audit_of
from simulations.audit_canaries import CONFIDENCE_TEXT

JSON, PAGE = "audit.json", "audit.html"


def write(found: Audit, folder: Path) -> None:
    """Write both files into a folder that exists.

    Raises: NotWritten.
    """
    pages.write(folder, (PAGE, render(found)), (JSON, audit_of(found)))


def render(found: Audit) -> str:
    """Return the page as one HTML text."""
    canary, privacy = found.canary, found.study.privacy
    tone = "no" if found.contradictions else ("yes" if privacy else "open")
    return pages.render(
        PAGE,
        {
            "study": found.study,
            "found": found,
            "canary": canary,
            "membership": found.membership,
            "tone": tone,
            "answer": verdict(found),
            "confidence": CONFIDENCE_TEXT,
            "low_rate": f"{100 * LOW_RATE:.0f} %",
            "allowed": int(LOW_RATE * found.membership.others) if found.membership else 0,
            "says": METHODS[found.study.method.name].outputs,
            "stages": [(stage, guessed, found.alone.get(stage)) for stage, guessed in canary.stages.items()],
            "averages": issubclass(METHODS[found.study.method.name], AveragingMethod),
            "attacks": [
                (name, _interval(attack.auc), _interval(attack.low_rate)) for name, attack in _attacks(found).items()
            ],
            "reaches": [
                (stage, f"{reach.l2:.4g}", f"{reach.influence.l2:.4g}", f"{reach.ratio:.3f}")
                for stage, reach in canary.reaches.items()
            ],
            "seconds": seconds_text(found.seconds),
            "roc": _safe(_roc(_attacks(found))) if found.membership else "",
            "bounds": _safe(_bounds(found)),
        },
    )


def rows(found: Audit) -> list[list[str]]:
    """Return the table for the command: a line of heads, then one for each attack."""
    canary, guessed = found.canary, found.canary.guessed
    lines = [["attack", "AUC", "found"]]
    for name, attack in _attacks(found).items():
        rate = f"true positive rate {_interval(attack.low_rate)} at {100 * LOW_RATE:.0f} % false positives"
        lines.append([f"membership: {name}", _interval(attack.auc), rate])
    right = f"{guessed.right} of {guessed.guesses} guesses right: epsilon at least {canary.bound:.2f}"
    lines.append([f"canaries: {canary.canaries} in {plural(canary.runs, 'run')}", f"{guessed.auc:.3f}", right])
    for stage, each in found.alone.items():
        lines.append([f"totals of {stage}", "", f"{each.alone} of {each.patients} patients stand alone in a number"])
    return lines


def verdict(found: Audit) -> str:
    """Return what the audit found in one sentence."""
    canary = found.canary
    if found.contradictions:
        return found.contradictions[0]
    said = f"epsilon is at least {canary.bound:.2f}, with {CONFIDENCE_TEXT} confidence"
    if found.epsilon is None:
        return (
            "The study promises no differential privacy, and an aggregator that knows all other patients guessed"
            f" rightly in {canary.guessed.right} of {canary.guessed.guesses} cases who was in the data."
        )
    if canary.largest <= found.epsilon:
        return (
            f"Nothing found contradicts epsilon {found.epsilon:g}, but this audit could not: at most it could have"
            f" shown {canary.largest:.2f}. Found: {said}."
        )
    return (
        f"Nothing found contradicts epsilon {found.epsilon:g}: {said}. At most this audit could have shown"
        f" {canary.largest:.2f}."
    )


def _attacks(found: Audit) -> dict[str, Attack]:
    membership = found.membership
    if membership is None:
        return {}
    attacks = {"Loss threshold": membership.loss}
    if membership.lira:
        attacks[f"LiRA, {membership.shadows} shadow models"] = membership.lira
    return attacks


def _interval(interval: Interval) -> str:
    return f"{interval.value:.3f} ({interval.low:.3f} to {interval.high:.3f})"


def _safe(svg: str) -> Any:
    from markupsafe import Markup

    # No text of the study is drawn.
    return Markup(svg)  # noqa: S704


def _roc(attacks: dict[str, Attack]) -> str:
    """Return the ROC curves on logarithmic axes, on which the few who are found out can be seen."""
    least = 10.0 ** math.floor(math.log10(min(LOW_RATE, *(_smallest(attack) for attack in attacks.values()))))

    def draw(axes: Any) -> None:
        guessing = np.geomspace(least, 1.0, 50)
        axes.plot(guessing, guessing, color=GREY, linewidth=1.0, dashes=(4, 3))
        axes.axvline(LOW_RATE, color=GREY, linewidth=0.8)
        for colour, attack in zip(COLOURS, attacks.values(), strict=False):
            shown = [np.maximum(rate, least) for rate in (attack.false_positive_rate, attack.true_positive_rate)]
            axes.plot(*shown, color=colour, drawstyle="steps-post")
        axes.set(xscale="log", yscale="log", xlim=(least, 1.0), ylim=(least, 1.0))
        axes.set(xlabel="false positive rate", ylabel="true positive rate", aspect="equal")
        ticks = [10.0**power for power in range(round(math.log10(least)), 1)]
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
            axis.set_ticks([], minor=True)

    return drawn("membership", "Membership inference: true against false positive rate, both logarithmic.", draw)


def _smallest(attack: Attack) -> float:
    rates = attack.false_positive_rate
    return float(rates[rates > 0.0].min())


def _bounds(found: Audit) -> str:
    """Return what was shown, what could have been shown, and what is promised, on one line."""
    canary = found.canary

    def draw(axes: Any) -> None:
        axes.barh([1.0], [canary.largest], color="#e4e4e4", height=0.5)
        axes.barh([1.0], [canary.bound], color=COLOURS[1 if found.contradictions else 0], height=0.5)
        if found.epsilon is not None:
            axes.axvline(found.epsilon, color=COLOURS[2], linewidth=2.0)
        axes.set(yticks=[], ylim=(0.6, 1.4), xlabel="epsilon")
        axes.set_xlim(0.0, 1.1 * max(canary.largest, found.epsilon or 0.0, 0.1))

    title = f"Lower bound {canary.bound:.2f}, at most {canary.largest:.2f} could have been shown."
    return drawn("bounds", title, draw, size=(5.4, 1.3))
