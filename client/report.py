"""The hospital's own page after a run: what was asked of it, its patients in numbers, the model on them, what left.

It is made and kept at the hospital: one HTML file that needs no network and runs no script. It has counts of the
hospital's own patients, however small, and never a patient's value or id; in a study of images it has a few of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from client import description, left
from client.approval import Approval
from client.charges import EVENT as CHARGED
from client.data.split import SiteData
from client.leaving import what_leaves
from client.left import Everything, Left
from client.pictures import Picture
from client.policy import Policy
from shared import files
from shared.errors import OutputError
from shared.examples import Examples, Part, concatenate
from shared.methods import METHODS
from shared.metrics import Judgement
from shared.pages import environment
from shared.study import Study
from shared.wording import (
    IN_LABEL_UNIT,
    METRIC_WORDS,
    bytes_text,
    interval_text,
    plural,
    range_text,
    share_text,
    value_text,
)

_TEMPLATES = Path(__file__).parent / "templates"
_FEW_ROWS = 100
_WHOM = {"patient": "each patient at this hospital", "site": "all patients of this hospital together"}
"""Below this many held-out rows the reader is told that intervals are wide."""


def write_own_report(
    path: Path,
    approval: Approval,
    data: SiteData,
    judgement: Judgement | None,
    record: Iterable[Mapping[str, Any]],
    policy: Policy,
    pictures: Sequence[Picture] = (),
) -> None:
    """Write the hospital's own page about one study, mode 0600, or leave what was there.

    approval: of the study.
    data: the frozen cohort.
    judgement: of the released model on the hospital's own held-out rows; None before a run has come so far.
    record: lines of the hospital's record, of all studies (``shared.chain.read``).
    policy: as it is now.
    pictures: of the hospital's own images, which stay with the page.

    Raises: OutputError if it cannot be written; StudyError if the study asks for sums that cannot be described.
    """
    text = render(approval, data, judgement, record, policy, pictures)
    try:
        files.replace_text(path, text, files.SECRET_MODE)
    except OSError as error:
        raise OutputError(f"{path}: the hospital's own report cannot be written: {error.strerror}.") from None


def render(
    approval: Approval,
    data: SiteData,
    judgement: Judgement | None,
    record: Iterable[Mapping[str, Any]],
    policy: Policy,
    pictures: Sequence[Picture] = (),
) -> str:
    """Return the page as one HTML text; the same arguments give the same bytes."""
    study, lines = approval.study, tuple(record)
    gone = left.everything(lines, approval.digest)
    policy = description.shown(policy, study)
    leaving = what_leaves(study, data, len(approval.members))
    context = {
        "study": study,
        "name": data.name,
        "approval": approval,
        "summary": _summary(study, data, judgement, gone),
        "asked": _asked(approval, lines),
        "sums": leaving.sums,
        "parts": _parts(study, data),
        "columns": _columns(study, data),
        "notes": data.notes,
        "judgement": judgement,
        "metrics": _metrics(study, judgement),
        "cautions": _cautions(judgement),
        "confusion": _confusion(judgement),
        "pictures": pictures,
        "steps": left.step_rows(gone, study, policy),
        "runs": left.run_rows(gone),
        "refusals": left.refusal_rows(gone),
        "total": left.row("All", "", gone.total),
        "lines": gone.lines,
        "policy": policy,
    }
    return environment(_TEMPLATES).get_template("report.html").render(context) + "\n"


def _summary(study: Study, data: SiteData, judgement: Judgement | None, gone: Everything) -> tuple[str, ...]:
    patients = plural(concatenate(list(data.parts.values())).whole().patient_count, "patient")
    total = gone.total
    sums = gone.steps.get("ContributeRequest", Left())
    answered = plural(sums.messages - sums.refused - sums.again, "sum")
    said = (
        f"{data.name} took part with {patients} and gave {answered}; {bytes_text(total.size_bytes)} left in all.",
        f"{plural(total.refused, 'question')} {'was' if total.refused == 1 else 'were'} refused."
        if total.refused
        else "No question was refused.",
    )
    if judgement is None or not judgement.metrics:
        return (*said, "The model was not judged here yet.")
    metric = next(iter(judgement.metrics))
    value, label = judgement.metrics[metric], METRIC_WORDS[metric].label
    rows = plural(judgement.n, f"held-out {_noun(judgement)}")
    if math.isnan(value.value):
        return (*said, f"{label} is not defined on this hospital's own {rows}.")
    unit = study.data.columns[study.data.label].unit if metric in IN_LABEL_UNIT else ""
    return (*said, f"On this hospital's own {rows}, the model reaches {label} {interval_text(metric, value, unit)}.")


def _asked(approval: Approval, record: Iterable[Mapping[str, Any]]) -> tuple[tuple[str, str], ...]:
    """Return (term, text) of what was approved, and how often it was charged."""
    study, privacy = approval.study, approval.study.privacy
    charges = [line for line in record if (line.get("event"), line.get("study")) == (CHARGED, study.digest)]
    ledgers = ", ".join(sorted({str(line.get("ledger")) for line in charges}))
    masks = "on: the aggregator gets only sums over several hospitals"
    withdrawn = approval.withdrawn_at
    said = METHODS[study.method.name].outputs
    facts = [
        ("Study", study.name),
        ("Says", said) if said else ("Predicts", study.data.label),
        ("Method", f"{study.method.name}, at most {plural(study.method.rounds, 'training round')}"),
        ("Secure aggregation", masks if study.aggregation.secure else "off: the aggregator saw this hospital's sums"),
        (
            "Privacy",
            f"epsilon {privacy.epsilon:g} and delta {privacy.delta:g} in one run, for {_WHOM[privacy.unit]}"
            if privacy
            else "",
        ),
        ("Charged", f"{plural(len(charges), 'sum')}, to the ledger {ledgers}" if charges else ""),
        ("Members pinned", ", ".join(sorted(approval.members))),
        ("Approved", f"{approval.approved_at:%Y-%m-%d %H:%M} UTC, for {plural(approval.runs, 'run')}"),
        ("Withdrawn", f"{withdrawn:%Y-%m-%d %H:%M} UTC" if withdrawn else ""),
        ("Data from", f"[data.{approval.dataset}] in site.toml"),
    ]
    return tuple((term, text) for term, text in facts if text)


@dataclass(frozen=True)
class PartRow:
    """How much one part of the data holds. ``classes``: rows and share of each class."""

    name: str
    patients: str
    rows: str
    classes: tuple[tuple[str, str], ...]


def _parts(study: Study, data: SiteData) -> tuple[PartRow, ...]:
    everybody = concatenate(list(data.parts.values()))
    named = (
        ("To train on", data.parts[Part.TRAINING]),
        ("Held out to judge the model", data.parts[Part.HELD_OUT]),
        ("All", everybody),
    )
    return tuple(_part(study, name, rows) for name, rows in named)


def _part(study: Study, name: str, rows: Examples) -> PartRow:
    classes = study.data.classes
    counts = np.bincount(rows.labels.astype(int), minlength=len(classes)).tolist() if classes else []
    return PartRow(
        name,
        f"{rows.patient_count:,}",
        f"{len(rows):,}",
        tuple((f"{count:,}", share_text(count, len(rows))) for count in counts),
    )


@dataclass(frozen=True)
class ColumnRow:
    """What the check against the contract found in one column."""

    name: str
    missing: str
    missing_share: str
    outside: str


def _columns(study: Study, data: SiteData) -> tuple[ColumnRow, ...]:
    """Return the columns in which a value is missing or outside the contract."""
    everybody = concatenate(list(data.parts.values()))
    missing = (np.isnan(everybody.values) & ~everybody.outside).sum(axis=0).tolist()
    found = [
        (name, absent, data.findings.outside.get(name, 0))
        for name, absent in zip(study.data.features, missing, strict=True)
    ]
    return tuple(
        ColumnRow(name, f"{absent:,}", share_text(absent, len(everybody)), f"{outside:,}")
        for name, absent, outside in found
        if absent or outside
    )


@dataclass(frozen=True)
class MetricRow:
    """One metric of the model on the hospital's own held-out rows."""

    label: str
    hint: str
    value: str
    range: str
    meaning: str


def _metrics(study: Study, judgement: Judgement | None) -> tuple[MetricRow, ...]:
    rows = []
    for metric, interval in (judgement.metrics if judgement else {}).items():
        words = METRIC_WORDS[metric]
        unit = study.data.columns[study.data.label].unit if metric in IN_LABEL_UNIT else ""
        rows.append(
            MetricRow(
                words.label,
                ", ".join(text for text in (unit, words.direction) if text),
                value_text(metric, interval.value),
                range_text(metric, interval),
                words.meaning,
            )
        )
    return tuple(rows)


def _cautions(judgement: Judgement | None) -> tuple[str, ...]:
    if judgement is None:
        return ()
    cautions = []
    if judgement.n < _FEW_ROWS:
        cautions.append(
            f"Only {plural(judgement.n, _noun(judgement))}: intervals are wide, and one patient moves the values."
        )
    if judgement.classes and (judgement.confusion.sum(axis=1) == 0).any():
        cautions.append("Not every class occurs among them, so not every metric is defined.")
    return tuple(cautions)


def _noun(judgement: Judgement) -> str:
    return "patient" if judgement.by_patient else "row"


def _confusion(judgement: Judgement | None) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Return the rows of each true class by called class; empty for a number."""
    if judgement is None:
        return ()
    counts = zip(judgement.classes, judgement.confusion, strict=True)
    return tuple((name, tuple(f"{count:,.0f}" for count in row)) for name, row in counts)
