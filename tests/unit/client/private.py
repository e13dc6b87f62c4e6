"""Hospitals that approved a study with ``[privacy]``: real desks, ledgers and budgets, and all that they say.

Their secrets are reproducible, so that the same questions are asked again of a hospital with other patients.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from client import costs, deployment, ledger, settings
from client.data.split import SiteData
from client.deployment import Approvals
from client.desk import Desk
from client.hospital import Hospital
from client.ledger import Ledger
from client.policy import Policy
from client.secagg_state import Member
from client.site import Site
from server.exchange import Port
from server.preflight import preflight
from server.strategies import server_optimizer
from server.training import Progress, run_study
from server.transport import Arrival
from shared import packing
from shared.examples import Examples, Part
from shared.messages import Reply, Request
from shared.methods.base import PlainMean
from shared.packing import Packed
from shared.plan import plan_of
from tests.builders import ticking
from tests.secure import InsecureEntropy
from tests.unit.server.desks import CODE, HEAD, NOW, Desks

STUDY = f"""{HEAD}missing = [99]

[data.columns.sex]
type = "category"
levels = ["f", "m"]

[data.columns.y]
type = "category"
levels = [0, 1]

[method]
name = "private-logistic-regression"
rounds = 3

[aggregation]
min_sites = 3

[privacy]
epsilon = 5.0
delta = 1e-4

[evaluation]
bootstrap_replicates = 100
subgroups = ["sex"]
"""
BUDGET = "epsilon = 5.0\ndelta = 1e-4"
"""What one run costs, and no more."""
POLICY = Policy(min_patients=1, min_class_patients=0, min_part_patients=1, show_counts=True, show_metrics=True)
"""It would show everything, were there no noise."""


def rows_of(values: Any, labels: Any, first: str = "p") -> Examples:
    """Rows of x0 and sex, one patient each."""
    found = np.asarray(values, dtype=np.float64)
    patients = np.array([f"{first}{row}" for row in range(len(found))])
    return Examples(found, np.zeros(found.shape, dtype=bool), np.asarray(labels, dtype=np.float64), patients)


def patients_of(name: str, training: int = 40, held_out: int = 20, seed: int = 3) -> SiteData:
    """A hospital whose label leans on x0."""
    rng = np.random.default_rng([seed, ord(name)])
    parts = {}
    for part, count in ((Part.TRAINING, training), (Part.HELD_OUT, held_out)):
        x = rng.normal(scale=3.0, size=count)
        values = np.column_stack([x, rng.integers(0, 2, count)])
        parts[part] = rows_of(values, (x + rng.normal(size=count) > 0).astype(float), str(part)[0])
    return SiteData(name, parts)


class PrivateDesks(Desks):
    """One hospital for each letter, with sixty patients each; all have approved the study for nine runs."""

    def __init__(self, folder: Path, names: str = "abcd", text: str = STUDY, budget: str = BUDGET) -> None:
        self.budget, self.starts = budget, dict.fromkeys(names, 0)
        super().__init__(folder, names, text, POLICY)

    def _found(self, name: str, rng: np.random.Generator) -> None:
        (self.folder / name).mkdir()
        self.pays(name, self.budget)
        self.treats(name, patients_of(name))

    def copied(self, folder: Path, starts: int) -> PrivateDesks:
        """Return the same hospitals in another folder, with nodes that were started so often before."""
        made = copy.copy(self)
        made.folder, made.starts = folder, dict.fromkeys(self.starts, starts)
        shutil.copytree(self.folder, folder)
        made.desks = {name: made._desk(name) for name in self.desks}
        return made

    def pays(self, name: str, budget: str) -> None:
        """Write what a hospital's ``site.toml`` says of its budget."""
        written = f"[budget]\n{budget}\n" if budget else ""
        (self.folder / name / "site.toml").write_text(f'[data.small]\npath = "table.csv"\n{written}')

    def treats(self, name: str, data: SiteData) -> None:
        """Let a hospital approve the study with these patients."""
        folder = self.folder / name
        owed = costs.bill(folder, settings.load(folder), "small", self.study, data)
        assert owed is not None
        costs.begin(folder, owed, NOW)
        self._approve(name, data)

    def _desk(self, name: str) -> Desk:
        folder = self.folder / name

        def record(event: str, fields: Any) -> None:
            self.records[name].append({"event": event, **fields})

        # A node that is started anew draws other secrets.
        self.starts[name] += 1
        return Desk(
            Hospital(
                *(name, folder, self.signing[name], self.policy, CODE, Approvals(folder).read, record),
                entropy=InsecureEntropy(1000 * self.starts[name] + ord(name)),
                pay=deployment.pay(folder),
            )
        )

    def ledger(self, name: str) -> Ledger:
        """Return a hospital's ledger, verified."""
        return ledger.read(self.folder / name, "small")

    def site(self, name: str, data: SiteData) -> Site:
        """Return the site of a hospital as its desk has it, with these patients."""
        member = Member(
            *(name, self.signing[name], self.identities, self.policy, self.study), InsecureEntropy(1000 + ord(name))
        )
        return Site(member, data, plan_of(self.study, PlainMean()), CODE)


@dataclass(frozen=True, eq=False)
class Said:
    """One question to one hospital, and its reply, both as they travelled."""

    site: str
    asked: Packed
    request: Request
    packed: Packed

    @property
    def reply(self) -> Reply:
        reply: Reply = packing.unpack(self.packed, *get_args(Reply))
        return reply


@dataclass
class Listening:
    """A transport to desks that keeps everything that is said."""

    desks: Desks
    said: list[Said] = field(default_factory=list)

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        for site, request in requests.items():
            asked = packing.pack(request)
            packed, _ = self.desks.desks[site].answer(asked, "message")
            self.said.append(Said(site, asked, request, packed))
            yield Arrival(site, self.said[-1].reply)

    def of(self, site: str, *kinds: type[Any]) -> list[Said]:
        """Return what was said by one hospital in answer to these kinds of questions, or to all."""
        return [each for each in self.said if each.site == site and (not kinds or isinstance(each.request, kinds))]


def run(desks: Desks) -> tuple[Progress, Listening]:
    """Ask all hospitals whether they are ready, and run the study with them to its end."""
    heard, study = Listening(desks), desks.study
    plan = plan_of(study, server_optimizer(study))
    preflight(study, desks.identities, CODE, Port(heard, 60.0))
    return run_study(study, plan, desks.identities, heard, Progress("first", plan.start()), ticking()), heard
