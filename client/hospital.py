"""Who answers at a hospital's node, and under which rules: all that ``client/desk.py`` is given."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.approval import Approval
from client.charges import Charge
from client.policy import Policy
from client.site import Site, SiteState
from shared.errors import Refusal
from shared.secagg.keys import Entropy, SigningKey

Record = Callable[[str, Mapping[str, Any]], None]
"""Appends a line to the hospital's record: the event, and its fields."""
Pay = Callable[[str, Charge], None]
"""Charges what noised words cost: the part of ``site.toml`` that the data came from, and the charge."""
Report = Callable[[Approval, Site, SiteState], None]
"""Makes the hospital's own report of a finished run."""


def _no_budget(_dataset: str, _wanted: Charge) -> None:
    raise Refusal("no-budget", "this hospital has no ledger for studies with noise")


@dataclass(frozen=True, eq=False)
class Hospital:
    """Who answers, and under which rules.

    folder: the hospital's own.
    code: digest of the code that runs here.
    approvals: of a study by its digest, as it stands now; None where there is none. It is the same object until the
        hospital approves or withdraws.
    record: of everything that leaves.
    pay: charges a draw of noise to the ledger of the data that an approval is about, before any of it leaves; raises
        Refusal.
    report: of a finished run, for the hospital alone.
    """

    name: str
    folder: Path
    signing: SigningKey
    policy: Policy
    code: str
    approvals: Callable[[str], Approval | None]
    record: Record
    entropy: Entropy = secrets.token_bytes
    pay: Pay = _no_budget
    report: Report = lambda _approval, _site, _state: None
