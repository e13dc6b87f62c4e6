"""What the tests of real processes share: a consortium made once and copied, and its logs when a test fails."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import consortium
from tests.e2e.commands import simulate, weights_of
from tests.e2e.consortium import Consortium
from tests.e2e.studies import write_data, write_study

NAMES = ["Aarhus", "Basel", "Cork", "Delft"]
RUNS = 60
"""Runs that hospitals allow: the tests run one study many times."""


def pytest_runtest_setup() -> None:
    """Forget consortia that earlier tests closed."""
    consortium.KNOWN[:] = [each for each in consortium.KNOWN if not each.closed]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the logs of every consortium of a test that fails."""
    report = yield
    if report.failed:
        report.sections += [(f"logs below {each.root}", each.logs()) for each in consortium.KNOWN]
    return report


class Template:
    """Four hospitals that have approved a short study; nothing of it was ever started.

    study: six rounds on breast cancer data, which are eight exchanges.
    data: each hospital's file; newcomer: that of one more.
    """

    def __init__(self, root: Path) -> None:
        self.study = write_study(
            root / "biopsies.toml", "breast_cancer", method__rounds=6, aggregation__deadline_s=20.0
        )
        self.data = write_data(root / "data", self.study, "breast_cancer", [*NAMES, "newcomer"])
        self.newcomer = self.data.pop("newcomer")
        self.made = Consortium.make(root / "made", self.data, runs=RUNS)
        self.made.approve(self.study)

    def copy(self, root: Path) -> Consortium:
        """Return a copy that a test can do with as it likes; only one copy can run at a time."""
        shutil.copytree(self.made.root, root, symlinks=True)
        return Consortium.at(root)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Template]:
    """The template, made once."""
    made = Template(tmp_path_factory.mktemp("template"))
    yield made
    made.made.close()


@pytest.fixture(scope="module")
def running(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    """A copy of the template at work, for all tests of one file: each of them leaves everything running."""
    copy = template.copy(tmp_path_factory.mktemp("running") / "consortium")
    try:
        copy.start()
        yield copy
    finally:
        copy.close()


@pytest.fixture(scope="session")
def simulated(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The template's study simulated in one process, without a network: metrics and weights."""
    folder = tmp_path_factory.mktemp("simulated") / "run"
    metrics = simulate(template.study, template.data, folder)
    return metrics, weights_of(folder)
