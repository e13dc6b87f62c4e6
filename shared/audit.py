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


def verify(folder: Path) -> str:
    """Return what to say of a record that is intact, with the digest of its last line.

    Raises: AuditError naming the first line at fault, or if there is no record.
    """
    verdict = chain.verify(folder / FILE)
    if not verdict.intact:
        raise AuditError(f"{folder / FILE}: {verdict.fault}. {verdict.why}")
    return f"intact: {verdict.why}\ndigest of the last line  {verdict.digest}"


def show(folder: Path) -> None:
    """Print the lines of a record, each with its fields as JSON.

    Raises: AuditError if it cannot be read.
    """
    for line in chain.read(folder / FILE):
        about = {key: value for key, value in line.items() if key not in ("n", "time", "event", "previous")}
        print(f"{line['n']:>6}  {line['time']}  {line['event']:<12} {json.dumps(about, sort_keys=True)}")
