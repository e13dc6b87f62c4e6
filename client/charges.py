"""What a hospital's ledger charges, and how it stands in a line of the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from client.budget import Orders, Spending
from shared.errors import AuditError, ConsiliumError
from shared.examples import Part
from shared.privacy import accounting

OPENED, EVENT = "opened", "charged"
_TEXTS = ("study", "digest", "run", "stage", "draw")
_NUMBERS = ("round", "attempt")
_KEYS = {"n", "time", "event", "ledger", *_TEXTS, *_NUMBERS, "split", "parts", "events", "previous"}


@dataclass(frozen=True, kw_only=True)
class Charge:
    """What one draw of noise is charged for.

    study, digest: name and digest of the study; run, round, attempt: of the request; stage: ``shared.plan``.
    draw: the name of the draw of noise.
    spending: the events, and over which patients.
    """

    study: str
    digest: str
    run: str
    round: int
    attempt: int
    stage: str
    draw: str
    spending: Spending

    def __post_init__(self) -> None:
        texts, numbers = [getattr(self, name) for name in _TEXTS], [getattr(self, name) for name in _NUMBERS]
        if not all(isinstance(text, str) and text for text in texts):
            raise ValueError(f"a charge has texts for {', '.join(_TEXTS)}")
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError(f"a charge has numbers for {', '.join(_NUMBERS)}")


@dataclass(frozen=True)
class Entry:
    """A charge as it stands in the ledger: the number of its line, and when it was made, in UTC."""

    n: int
    time: datetime
    charge: Charge


def to_plain(wanted: Charge) -> dict[str, Any]:
    """Return a charge as JSON values, for its line."""
    spending = wanted.spending
    return {
        **{name: getattr(wanted, name) for name in (*_TEXTS, *_NUMBERS)},
        "split": spending.split,
        "parts": [str(part) for part in spending.parts],
        "events": [accounting.to_plain(event) for event in spending.events],
    }


def parsed(values: Iterable[Mapping[str, Any]], name: str, path: Path) -> tuple[Orders | None, tuple[Entry, ...]]:
    """Return the orders and the charges that a ledger's lines say; None before it is begun.

    values: the lines, in order. name, path: of the ledger.

    Raises: AuditError: a line that this version cannot read is never passed over.
    """
    orders: Orders | None = None
    entries: list[Entry] = []
    for number, value in enumerate(values, start=1):
        match value.get("event"), value.get("ledger") == name:
            case "recovered", _:
                pass  # The chain was mended after a crash: nothing was charged.
            case known, True if known == OPENED and orders is None and _are_orders(value.get("orders")):
                orders = {part: value["orders"][part] for part in Part}
            case known, True if known == EVENT and orders is not None and set(value) == _KEYS:
                entries.append(_entry(value, path))
            case _:
                raise AuditError(f"{path}: line {number} is not one of the ledger {name} that this version can read.")
    return orders, tuple(entries)


def _are_orders(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == set(Part) and set(value.values()) <= set(accounting.ORDERS)


def _entry(value: Mapping[str, Any], path: Path) -> Entry:
    try:
        spending = Spending(
            split=str(value["split"]),
            parts=tuple(Part(part) for part in value["parts"]),
            events=tuple(accounting.from_plain(event) for event in value["events"]),
        )
        made = Charge(**{key: value[key] for key in (*_TEXTS, *_NUMBERS)}, spending=spending)
        return Entry(value["n"], datetime.fromisoformat(value["time"]), made)
    except (ConsiliumError, TypeError, ValueError) as error:
        why = type(error).__name__
        raise AuditError(f"{path}: line {value['n']} is not a charge that this version can read ({why}).") from None
