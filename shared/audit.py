"""The record in a coordinator's or a hospital's folder: ``audit.jsonl``, hash-chained (``shared/chain.py``)."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from shared import chain

FILE = "audit.jsonl"


def append(folder: Path, event: str, now: datetime, /, **fields: Any) -> None:
    """Add a line to the record of a folder; see ``shared.chain.append``."""
    chain.append(folder / FILE, event, now, **fields)
