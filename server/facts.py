"""The report's facts: who was missing, how the run was done, and what it cost."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from server.outcome import Outcome, RoundRecord
from server.privacy import PrivacySummary
from shared.methods import METHODS
from shared.methods.averaging import AveragingMethod
from shared.reasons import code_advice, code_meaning
from shared.secagg import roster
from shared.study import Study
from shared.tuning import tuned
from shared.wording import (
    UNDEFINED,
    bytes_text,
    number_text,
    rounds_text,
    seconds_text,
)

STAGE_NAMES = {"prepare": "preparation", "tune": "tuning", "train": "training", "evaluate": "evaluation"}


@dataclass(frozen=True)
class Absence:
    """Rounds of one stage that did not have one hospital's answer, or had it in an odd way, for one reason.

    advice: what to do about it; may be empty.
    """

    site: str
    stage: str
    rounds: str
    code: str
    meaning: str
    advice: str
    counted: bool


def absences(history: Sequence[RoundRecord]) -> tuple[Absence, ...]:
    """Return who was missing when and why, and what was odd without being left out."""
    found: dict[tuple[str, str, str, bool], list[int]] = {}
    for record in history:
        for codes, counted in ((record.dropped, False), (record.noted, True)):
            for site, code in codes.items():
                found.setdefault((site, record.stage, code, counted), []).append(record.round)
    return tuple(
        Absence(
            site,
            STAGE_NAMES.get(stage, stage),
            rounds_text(rounds),
            code,
            code_meaning(code),
            code_advice(code),
            counted,
        )
        for (site, stage, code, counted), rounds in found.items()
    )


@dataclass(frozen=True)
class LeftOut:
    """One enrolled hospital that did not take part."""

    site: str
    code: str
    meaning: str
    advice: str


def left_out(outcome: Outcome) -> tuple[LeftOut, ...]:
    """Return which enrolled hospitals did not take part, why, and what to do about it."""
    return tuple(LeftOut(site, code, code_meaning(code), code_advice(code)) for site, code in outcome.left_out.items())


def run_facts(outcome: Outcome) -> tuple[tuple[str, str], ...]:
    """Return (term, text) of how the run was done."""
    study = outcome.study
    history = outcome.history
    slowest = max((record.seconds for record in outcome.training), default=0.0)
    averages = issubclass(METHODS[study.method.name], AveragingMethod)
    moved = f"{study.aggregation.strategy}{_options(study.aggregation.options)}"
    strategy = (("Server strategy", moved),) if averages else ()
    where = (("Where", "between hospitals, over the network"),) if outcome.deployed else ()
    return (
        *where,
        ("Method", f"{study.method.name}{_options(_trained(outcome).method.options)}"),
        ("Training rounds", f"{len(outcome.training)} of {study.method.rounds} planned"),
        *_privacy_facts(outcome.privacy),
        *strategy,
        ("Secure aggregation", _masks(outcome)),
        ("Fewest hospitals that a sum may have", str(fewest_allowed(outcome))),
        (
            "Fewest hospitals in a sum of this run",
            UNDEFINED if outcome.smallest_sum is None else str(outcome.smallest_sum),
        ),
        ("Hospitals in some sums only", ", ".join(outcome.in_some_sums) or "none"),
        ("Seed", str(study.study.seed)),
        ("Threads for one operation", str(study.study.threads)),
        ("Sent by the hospitals", bytes_text(sum(record.bytes_up for record in history))),
        ("Sent to the hospitals", bytes_text(sum(record.bytes_down for record in history))),
        ("Time", f"{seconds_text(outcome.seconds_total)} in all; slowest training round {seconds_text(slowest)}"),
        ("Peak memory", bytes_text(outcome.peak_memory_bytes)),
        (
            "Intervals",
            f"95 %, from {study.evaluation.bootstrap_replicates} Poisson resamples of summed counts, or sums of squares"
            + (", with the noise drawn anew in those of noised counts" if outcome.privacy else ""),
        ),
        ("Versions", ", ".join(f"{name} {version}" for name, version in outcome.versions.items()) or UNDEFINED),
    )


def _trained(outcome: Outcome) -> Study:
    """Return the study with the options that the model was trained with."""
    study, choice = outcome.study, outcome.choice
    return tuned(study, study.tuning.candidates[choice.chosen]) if study.tuning and choice else study


def _privacy_facts(privacy: PrivacySummary | None) -> tuple[tuple[str, str], ...]:
    if privacy is None:
        return ()
    return (
        (
            "Differential privacy",
            f"epsilon {privacy.epsilon:g}, delta {privacy.delta:g}, for {privacy.whom}",
        ),
        ("Spent", privacy.spent),
    )


@dataclass(frozen=True)
class CostRow:
    """What one stage costs, and over which patients it is. ``pld``: the tighter epsilon, where there is one."""

    stage: str
    patients: str
    noise_multiplier: str
    exchanges: str
    epsilon: str
    pld: str


def cost_rows(outcome: Outcome) -> tuple[CostRow, ...]:
    """Return one row for each stage of a private run; empty without privacy."""
    stages = outcome.privacy.stages if outcome.privacy else {}
    return tuple(
        CostRow(
            stage=STAGE_NAMES.get(name, name),
            patients="held-out" if name == "evaluate" else "training",
            noise_multiplier=number_text(stage.noise_multiplier),
            exchanges=f"{stage.exchanges:,}",
            epsilon=number_text(stage.epsilon),
            pld=UNDEFINED if stage.pld_epsilon is None else number_text(stage.pld_epsilon),
        )
        for name, stage in stages.items()
    )


def _masks(outcome: Outcome) -> str:
    if outcome.threshold is None:
        return "off: each hospital's part travelled bare"
    return f"on: {outcome.threshold} of {len(outcome.sites)} hospitals remove the masks of a sum"


def fewest_allowed(outcome: Outcome) -> int:
    """Return the smallest number of hospitals that any sum could be over, whatever the aggregator does."""
    aggregation = outcome.study.aggregation
    if not aggregation.secure:
        return aggregation.min_sites
    # The default follows the share-holders of a round, who may be as few as SMALLEST.
    return max(aggregation.min_sites, aggregation.threshold or roster.default_threshold(roster.SMALLEST))


def _options(options: object) -> str:
    known = dataclasses.asdict(options) if dataclasses.is_dataclass(options) and not isinstance(options, type) else {}
    return f" ({', '.join(_settings(known))})" if known else ""


def _settings(options: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return ``name = value`` for each option; those of a part are called ``part.name``."""
    settings: list[str] = []
    for name, value in options.items():
        if isinstance(value, Mapping):
            settings += _settings(value, f"{prefix}{name}.")
        elif value is not None:
            settings.append(f"{prefix}{name} = {list(value) if isinstance(value, tuple) else value}")
    return settings
