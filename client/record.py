"""A hospital's record in words: who took part in what, when, and what left."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from shared import audit, chain
from shared.reasons import code_meaning

_ASKED = {
    "PreflightRequest": "whether this hospital is ready",
    "JoinRequest": "to join a run",
    "KeysRequest": "for keys",
    "SharesRequest": "for shares of keys",
    "ContributeRequest": "for its sum",
    "RevealRequest": "to unmask a sum",
    "EndRequest": "to end a run",
}
_SAID = {
    "Ready": "ready",
    "Joined": "joined",
    "Keys": "public keys",
    "Shares": "sealed shares",
    "Contributed": "its own sum",
    "Revealed": "shares that unmask the sum of all hospitals",
    "Ended": "ended",
}


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return the record's lines; none where nothing was recorded yet.

    Raises: AuditError if it cannot be read.
    """
    path = folder / audit.FILE
    return list(chain.read(path)) if path.exists() else []


def last(found: Iterable[Mapping[str, Any]], count: int) -> list[Mapping[str, Any]]:
    """Return the last lines."""
    return list(deque(found, maxlen=count))


def last_answer(found: Iterable[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Return the line of the last message that was answered; None where there is none."""
    answers = deque((line for line in found if line.get("event") == "reply"), maxlen=1)
    return answers[0] if answers else None


def in_words(found: Iterable[Mapping[str, Any]], shown: int | None = None) -> Iterator[str]:
    """Yield the lines as people read them: number, time, what happened.

    found: all lines from the first; a study's name is in the line that approves it.
    shown: how many of the last lines; None for all.
    """
    names: dict[str, str] = {}
    written: deque[str] = deque(maxlen=shown)
    for line in found:
        if line.get("event") in ("approved", "withdrawn"):
            names[str(line.get("study"))] = str(line.get("name"))
        written.append(
            f"{line.get('n', '?'):>6}  {str(line.get('time', '?'))[:19].replace('T', ' ')}  {_what(line, names)}"
        )
    yield from written


def _what(line: Mapping[str, Any], names: Mapping[str, str]) -> str:
    match line.get("event"):
        case "joined":
            said = f"joined the consortium {line.get('consortium')}, fingerprint {str(line.get('fingerprint'))[:16]}"
        case "approved":
            members = ", ".join(sorted(line.get("members") or {}))
            said = (
                f"approved {line.get('name')} for {line.get('runs')} run(s) with {members};"
                f" snapshot {_short(line.get('cohort'))}, code {_short(line.get('code'))}"
            )
        case "withdrawn":
            said = f"withdrew {line.get('name')}"
        case "charged":
            said = (
                f"{_name(line, names)}, run {_short(line.get('run'))}: charged a sum to the ledger"
                f" {line.get('ledger')}, line {line.get('line')} (digest {_short(line.get('digest'))})"
            )
        case "reply":
            said = _reply(line, names)
        case "recovered":
            said = f"mended the record after a crash: {line.get('cut_bytes')} bytes of a line that was never finished"
        case other:
            fields = {key: value for key, value in line.items() if key not in ("n", "time", "event", "previous")}
            said = " ".join([str(other), *(f"{key}={value}" for key, value in fields.items())])
    return said


def _reply(line: Mapping[str, Any], names: Mapping[str, str]) -> str:
    asked = _ASKED.get(str(line.get("asked")), "for something unreadable")
    run = f", run {_short(line.get('run'))}" if line.get("run") else ""
    number = f", exchange {line['round']}" if line.get("round") else ""
    again = ", the same once more" if line.get("again") else ""
    where = f"{_name(line, names)}{run}{number}: was asked {asked}"
    size = f"{line.get('bytes')} bytes, digest {_short(line.get('digest'))}"
    if line.get("said") == "Refused":
        return f"{where}, refused: {code_meaning(str(line.get('code')))} ({line.get('code')}; {size}{again})"
    said = _SAID.get(str(line.get("said")), str(line.get("said")))
    return f"{where}, sent {said} ({size}{again})"


def _name(line: Mapping[str, Any], names: Mapping[str, str]) -> str:
    study = str(line.get("study"))
    return names.get(study) or (f"study {_short(study)}" if study else "no study")


def _short(digest: object) -> str:
    return str(digest)[:16]
