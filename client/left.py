"""What left a hospital in one study, added up from the hospital's record: by step, by run, and what it refused.

The record (``audit.jsonl``, written by ``client/desk.py``) has one line for every reply that left: kinds, sizes and
digests, never a content. Lines of other studies and other events are passed over; so are refusals of questions that
could not be read, which are about no study.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from client.policy import Policy
from shared.reasons import code_advice, code_meaning
from shared.study import Study
from shared.wording import UNDEFINED, bytes_text, rounds_text

STEPS: dict[str, tuple[str, str]] = {
    "PreflightRequest": ("Before a run", "which members this hospital has pinned, and the digest of its code"),
    "JoinRequest": ("Joining a run", "a random number, and this hospital's own rules for sums"),
    "KeysRequest": ("Keys", "public keys for one round"),
    "SharesRequest": ("Shares", "sealed shares of round secrets, which only the other hospitals can open"),
    "ContributeRequest": ("Sums", "sums over this hospital's patients, and public keys for the next round"),
    "RevealRequest": ("Removing masks", "shares by which the masks of one sum of all hospitals are removed"),
    "EndRequest": ("End of a run", "that this hospital has forgotten the run's secrets"),
}
"""Name of each step and what its replies hold, by the kind of request; in the order of a run."""


@dataclass
class Left:
    """What left in one step, or in one run.

    messages: replies, refusals and repeated ones included; again: the repeated ones.
    rounds: of the replies, refusals apart.
    first, last: times, RFC 3339.
    """

    messages: int = 0
    refused: int = 0
    again: int = 0
    size_bytes: int = 0
    rounds: set[int] = field(default_factory=set)
    first: str = ""
    last: str = ""

    def add(self, line: Mapping[str, Any]) -> None:
        """Count one line of the record."""
        refused, time, number = _is_refusal(line), str(line.get("time", "")), line.get("round")
        self.messages += 1
        self.refused += refused
        self.again += bool(line.get("again"))
        self.size_bytes += _count(line.get("bytes"))
        if not refused and _count(number):
            self.rounds.add(_count(number))
        self.first = min(self.first or time, time)
        self.last = max(self.last, time)


@dataclass(frozen=True)
class Everything:
    """All that left in one study.

    steps: by kind of request, in the order of a run.
    runs: by the run's id, in the order of the record; what was said before a run had an id stands under an empty one.
    refusals: by (code, kind of request).
    lines: number of the first and the last line of the record that is counted; None for a record without any.
    """

    total: Left
    steps: Mapping[str, Left]
    runs: Mapping[str, Left]
    refusals: Mapping[tuple[str, str], Left]
    lines: tuple[int, int] | None


def everything(record: Iterable[Mapping[str, Any]], study: str) -> Everything:
    """Return what left.

    record: lines of the hospital's record (``shared.chain.read``).
    study: its digest.
    """
    total, numbers = Left(), []
    steps: dict[str, Left] = {}
    runs: dict[str, Left] = {}
    refusals: dict[tuple[str, str], Left] = {}
    for line in record:
        if line.get("event") != "reply" or line.get("study") != study:
            continue
        step = str(line.get("asked", ""))
        counted = [total, steps.setdefault(step, Left()), runs.setdefault(str(line.get("run", "")), Left())]
        if _is_refusal(line):
            counted.append(refusals.setdefault((str(line.get("code", "")), step), Left()))
        for each in counted:
            each.add(line)
        numbers.append(_count(line.get("n")))
    known = list(STEPS)
    ordered = sorted(steps, key=lambda step: known.index(step) if step in known else len(known))
    lines = (min(numbers), max(numbers)) if numbers else None
    return Everything(total, {step: steps[step] for step in ordered}, runs, refusals, lines)


def _is_refusal(line: Mapping[str, Any]) -> bool:
    return line.get("said") == "Refused"


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


@dataclass(frozen=True)
class LeftRow:
    """What left in one step or run, in words; see ``Left``. ``what``: what the answers hold."""

    name: str
    what: str
    messages: str
    refused: str
    again: str
    rounds: str
    size: str
    first: str
    last: str


def row(name: str, what: str, gone: Left) -> LeftRow:
    """Return what left, in words."""
    return LeftRow(
        name,
        what,
        f"{gone.messages:,}",
        f"{gone.refused:,}",
        f"{gone.again:,}",
        rounds_text(sorted(gone.rounds)),
        bytes_text(gone.size_bytes),
        _time(gone.first),
        _time(gone.last),
    )


def step_rows(gone: Everything, study: Study, policy: Policy) -> tuple[LeftRow, ...]:
    """Return one row for each step; what the policy shows by name stands beside it."""
    more = {
        "PreflightRequest": "how many rows and patients it brings" if policy.show_counts else "",
        "EndRequest": "how good the model is on its own patients" if policy.show_metrics else "",
    }
    rows = []
    for step, each in gone.steps.items():
        name, what = STEPS.get(step, (step, "not known to this version"))
        if step == "ContributeRequest":
            what = f"masked {what}" if study.aggregation.secure else "bare sums over this hospital's patients"
        if more.get(step):
            what = f"{what}; {more[step]}"
        rows.append(row(name, what, each))
    return tuple(rows)


def run_rows(gone: Everything) -> tuple[LeftRow, ...]:
    """Return one row for each run, by the first digits of its id."""
    named = ((run[:16] if run else "Before a run has its id", each) for run, each in gone.runs.items())
    return tuple(row(name, "", each) for name, each in named)


@dataclass(frozen=True)
class RefusalRow:
    """Questions that were refused for one reason at one step."""

    code: str
    step: str
    meaning: str
    advice: str
    times: str
    last: str


def refusal_rows(gone: Everything) -> tuple[RefusalRow, ...]:
    """Return one row for each reason and step."""
    return tuple(
        RefusalRow(
            code or UNDEFINED,
            STEPS.get(step, (step, ""))[0],
            code_meaning(code),
            code_advice(code),
            f"{each.messages:,}",
            _time(each.last),
        )
        for (code, step), each in gone.refusals.items()
    )


def _time(text: str) -> str:
    """Return a time of the record to the second: ``2026-11-21 11:00:05``."""
    return text[:19].replace("T", " ") or UNDEFINED
