"""A consortium for studies of several methods: made once, and each run held against a simulation."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.e2e.commands import simulate, weights_of
from tests.e2e.consortium import Consortium


@dataclass(frozen=True)
class Asked:
    """A study, and the data that it is about.

    text: of its file.
    data: name of the hospitals' ``[data.NAME]`` part.
    """

    text: str
    data: str = "own"


@dataclass(eq=False)
class World:
    """Hospitals that have approved studies, and allow sums over subsets that the data choose.

    root: everything is below it.
    studies: by name.
    tables: by name of the data, each hospital's text by the hospital's name; ``own`` is the first.
    more: what else stands in every hospital's ``site.toml``.
    disturbed: studies whose runs a test begins, because of what it does to them.
    """

    root: Path
    studies: Mapping[str, Asked]
    tables: Mapping[str, Mapping[str, str]]
    more: str = ""
    disturbed: tuple[str, ...] = ()
    runs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, asked in self.studies.items():
            self.path(name).write_text(asked.text, encoding="utf-8")
        for data, texts in self.tables.items():
            for hospital, text in texts.items():
                self.table(data, hospital).write_text(text, encoding="utf-8")
        own, *others = self.tables
        made = {hospital: self.table(own, hospital) for hospital in self.tables[own]}
        self.consortium = Consortium.make(self.root / "made", made, data_dependent_subsets=True)
        for hospital in self.consortium.names:
            with (self.consortium.hospital(hospital) / "site.toml").open("a", encoding="utf-8") as file:
                file.writelines(f'[data.{name}]\npath = "{self.table(name, hospital)}"\n' for name in others)
                file.write(self.more)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(self._approve, self.consortium.names))

    def _approve(self, hospital: str) -> None:
        for name, asked in self.studies.items():
            self.consortium.approve(self.path(name), [hospital], asked.data)

    def path(self, study: str) -> Path:
        """Return a study's file."""
        return self.root / f"{study}.toml"

    def table(self, data: str, hospital: str) -> Path:
        """Return a hospital's file of some data."""
        return self.root / f"{data}-{hospital}.csv"

    def begin(self, study: str) -> str:
        """Begin a run of a study, and return its name."""
        self.runs[study] = self.consortium.begin(self.path(study))
        return self.runs[study]

    def folder(self, study: str) -> Path:
        """Return the folder of a study's last run at the coordinator."""
        return self.consortium.server / "runs" / self.runs[study]

    def begin_two(self, study: str) -> None:
        """Begin the runs of a study and of the next one, unless they were begun: two at a time are soonest done."""
        undisturbed = [name for name in self.studies if name not in self.disturbed]
        at = undisturbed.index(study) if study in undisturbed else len(undisturbed)
        for name in undisturbed[at : at + 2]:
            if name not in self.runs:
                self.begin(name)

    def finished(self, study: str) -> dict[str, Any]:
        """Wait for a study's last run, and return its ``metrics.json``."""
        self.begin_two(study)
        self.consortium.wait_finished(self.runs[study])
        metrics: dict[str, Any] = json.loads((self.folder(study) / "metrics.json").read_text(encoding="utf-8"))
        return metrics

    @contextlib.contextmanager
    def forbidden(self, hospital: str) -> Iterator[Path]:
        """Let a hospital allow no sums over subsets that the data choose, for a while; its folder."""
        folder = self.consortium.hospital(hospital)
        text = (folder / "site.toml").read_text(encoding="utf-8")
        changed = text.replace("data_dependent_subsets = true", "data_dependent_subsets = false")
        (folder / "site.toml").write_text(changed, encoding="utf-8")
        try:
            yield folder
        finally:
            (folder / "site.toml").write_text(text, encoding="utf-8")

    def check_simulated(self, study: str) -> dict[str, Any]:
        """Simulate a study, check that its last run ends with the same numbers, and return the run's."""
        self.begin_two(study)
        folder = self.root / f"simulated-{study}"
        data = {name: self.table(self.studies[study].data, name) for name in self.consortium.names}
        simulated = simulate(self.path(study), data, folder)
        metrics = self.finished(study)
        assert weights_of(folder) == self.consortium.weights(self.runs[study])
        for part in ("federated", "intervals", "tuning", "interpretation"):
            assert simulated[part] == metrics[part], part
        return metrics
