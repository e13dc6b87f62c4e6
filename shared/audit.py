"""The record in a coordinator's or a hospital's folder: ``audit.jsonl``, hash-chained (``shared/chain.py``)."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from shared import chain
from shared.errors import AuditError

FILE = "audit.jsonl"


def append(folder: Path, event: str, now: datetime, /, **fields: Any) -> None:
    """Add a line to the record of a folder; see ``shared.chain.append``."""
    chain.append(folder / FILE, event, now, **fields)


def command(folder: Path, what: str) -> None:
    """Do what the command ``audit`` of both sides does.

    what: ``verify`` or ``show``.

    Raises: AuditError if the record is not whole, naming the line.
    """
    path = folder / FILE
    if what == "show":
        for line in chain.read(path):
            about = {key: value for key, value in line.items() if key not in ("n", "time", "event", "previous")}
            print(f"{line['n']:>6}  {line['time']}  {line['event']:<12} {json.dumps(about, sort_keys=True)}")
        return
    verdict = chain.verify(path)
    if not verdict.intact:
        raise AuditError(f"{path}: {verdict.why}")
    print(f"{path}: whole, {verdict.lines} line(s); digest of the last one: {verdict.digest}")
