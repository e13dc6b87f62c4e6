"""Hospitals with folders, keys and approvals of their own, whose desks answer in this process."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import numpy as np

from client import approving
from client.approving import Proposal
from client.data.split import SiteData
from client.deployment import Approvals
from client.desk import Desk
from client.hospital import Hospital
from client.policy import Policy
from shared import packing
from shared.messages import Reply
from shared.packing import Packed
from shared.secagg.keys import SigningKey
from shared.study import load_study
from tests.builders import examples_of, site_of

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HEAD = """
[study]
name = "small"
question = "Does it work?"
seed = 7

[data]
kind = "table"
label = "y"
max_rows_per_site = 1000

[data.columns.x0]
type = "number"
range = [-10.0, 10.0]
"""
"""A study about x0, as far as every study of desks is the same."""
STUDY = f"""{HEAD}
[data.columns.y]
type = "category"
levels = [0, 1]

[method]
name = "logistic-regression"
rounds = 3

[aggregation]
min_sites = 3

[evaluation]
bootstrap_replicates = 100
histogram_bins = 1000
"""
CODE = "digest of the code"
POLICY = Policy(min_patients=1, min_class_patients=0)


class Desks:
    """One hospital for each letter, with twenty patients each; all have approved one study and pinned each other."""

    def __init__(self, folder: Path, names: str, text: str = STUDY, policy: Policy = POLICY) -> None:
        self.folder, self.policy, self.text = folder, policy, text
        self.study_file = folder / "study.toml"
        self.study_file.write_text(text)
        self.study = load_study(self.study_file)
        self.signing = {name: SigningKey(name.encode() * 32) for name in names}
        self.identities = {name: key.public for name, key in self.signing.items()}
        self.records: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        rng = np.random.default_rng(3)
        for name in names:
            self._found(name, rng)
        self.desks = {name: self._desk(name) for name in names}

    def _found(self, name: str, rng: np.random.Generator) -> None:
        """Make a hospital that has approved the study."""
        x = rng.normal(size=(20, 1))
        self._approve(name, site_of(name, examples_of(x, (x[:, 0] > 0).astype(float))))

    def _approve(self, name: str, data: SiteData) -> None:
        proposal = Proposal(self.study, self.text, data, "small", self.identities, CODE, 9)
        approving.approve(self.folder / name, proposal, NOW)

    def _desk(self, name: str) -> Desk:
        folder = self.folder / name
        approvals = Approvals(folder)

        def record(event: str, fields: Any) -> None:
            self.records[name].append({"event": event, **fields})

        return Desk(Hospital(name, folder, self.signing[name], self.policy, CODE, approvals.read, record))

    def restart(self, name: str) -> None:
        """Start a hospital's node anew: what was in its memory is gone."""
        self.desks[name] = self._desk(name)

    def withdraw(self, name: str) -> None:
        """Let a hospital take its approval back."""
        approving.withdraw(self.folder / name, self.study.digest, NOW)

    def answer(self, name: str, asked: Packed) -> Reply:
        """Return a hospital's reply, read from its bytes."""
        packed, _ = self.desks[name].answer(asked, "message")
        reply: Reply = packing.unpack(packed, *get_args(Reply))
        return reply
