"""A study from the first command to the report, with real processes, and what each side can show of it afterwards."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import BIN, command, simulate, until, weights_of
from tests.e2e.conftest import NAMES, Template
from tests.e2e.consortium import Consortium
from tests.e2e.studies import write_data, write_study

pytestmark = pytest.mark.e2e

EXCHANGES = 8
"""Of the template's study: prepare, six rounds, evaluate."""


@dataclass(frozen=True)
class First:
    """The first run of a consortium, asked for before anything was started.

    shown: what the display said; code: its exit code after Ctrl-C.
    """

    at: Consortium
    name: str
    shown: str
    code: int

    @property
    def folder(self) -> Path:
        return self.at.server / "runs" / self.name

    @property
    def metrics(self) -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / "metrics.json").read_text(encoding="utf-8"))
        return content


@pytest.fixture(scope="module")
def first(template: Template, tmp_path_factory: pytest.TempPathFactory) -> Iterator[First]:
    at = template.copy(tmp_path_factory.mktemp("first") / "consortium")
    try:
        shown, code = interrupted(at, template.study)
        at.start()
        name = at.status_rows("runs")[0]["run"]
        at.wait_finished(name)
        yield First(at, name, shown, code)
    finally:
        at.close()


def interrupted(at: Consortium, study: Path) -> tuple[str, int]:
    """Ask for a run, wait until the display says that nothing runs, and end the display with Ctrl-C."""
    path = at.root / "run.out"
    # As in a shell's foreground: what is started in its background inherits that the signal is ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    with path.open("wb") as output:
        process = subprocess.Popen(
            [BIN / "consilium-server", "run", at.server, study], stdout=subprocess.DEVNULL, stderr=output
        )
    signal.signal(signal.SIGINT, before)
    try:
        until("the display says what is missing", lambda: "does not run" in path.read_text(encoding="utf-8"), 60)
        process.send_signal(signal.SIGINT)
        code = process.wait(20)
    finally:
        process.kill()
    return path.read_text(encoding="utf-8"), code


def test_a_run_asked_for_before_anything_was_started_says_what_to_type(first: First) -> None:
    assert "consilium-server start" in first.shown


def test_ctrl_c_ends_the_display_and_not_the_run(first: First) -> None:
    assert (130, "finished") == (first.code, first.at.status(first.name).state)


def test_a_deployed_run_ends_with_the_same_bits_as_a_simulated_one(
    first: First, simulated: tuple[dict[str, Any], dict[str, bytes]]
) -> None:
    metrics, weights = simulated
    assert weights == first.at.weights(first.name)
    assert metrics["federated"] == first.metrics["federated"]


def test_a_deployed_run_leaves_the_files_of_a_simulated_one(first: First, template: Template, tmp_path: Path) -> None:
    simulate(template.study, template.data, tmp_path / "run", "--rounds", "1")
    expected = {
        path.relative_to(tmp_path / "run")
        for path in (tmp_path / "run").rglob("*")
        if path.is_file() and "checkpoint" not in path.parts
    }
    assert set() == {path for path in expected if not (first.folder / path).is_file()}


def test_a_deployed_run_has_nothing_to_compare_with_and_shows_no_hospital_alone(first: First) -> None:
    metrics = first.metrics
    assert (None, {}, {}) == (metrics["pooled"], metrics["local"], metrics["per_site"])
    assert {None} == {site[key] for site in metrics["sites"].values() for key in ("patients", "rows")}


def test_the_status_shows_the_processes_the_hospitals_and_the_run(first: First) -> None:
    assert {"superlink": "ready", "superexec": "ready", "gateway": "ready"} == {
        row["process"]: row["state"] for row in first.at.status_rows("processes")
    }
    assert dict.fromkeys(NAMES, "enrolled") == {
        row["hospital"]: row["state"] for row in first.at.status_rows("hospitals") if row["last seen"] != "never"
    }
    assert [(first.name, "finished")] == [(row["run"], row["state"]) for row in first.at.status_rows("runs")]


def test_every_hospital_has_its_own_report(first: First) -> None:
    assert dict.fromkeys(NAMES, 1) == {
        name: len(list((first.at.hospital(name) / "reports").glob("*.html"))) for name in NAMES
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_hospitals_record_has_every_sum_it_gave_and_every_one_it_opened(first: First, name: str) -> None:
    said = [(line["said"], line["round"]) for line in first.at.record(first.at.hospital(name)) if "said" in line]
    numbers = list(range(1, EXCHANGES + 1))
    assert numbers == [number for what, number in said if what == "Contributed"]
    assert numbers == [number for what, number in said if what == "Revealed"]


@pytest.mark.parametrize("side", ["consilium-server", "consilium-client"])
def test_a_record_verifies_and_names_a_line_that_was_changed(first: First, side: str, tmp_path: Path) -> None:
    folder = first.at.server if side == "consilium-server" else first.at.hospital("Basel")
    command(side, "audit", folder, "verify")
    for file in folder.glob("audit.*"):
        shutil.copy(file, tmp_path)
    record = tmp_path / "audit.jsonl"
    lines = record.read_text(encoding="utf-8").splitlines(keepends=True)
    lines[4] = lines[4].replace('"time": "20', '"time": "19')
    record.write_text("".join(lines), encoding="utf-8")
    found = command(side, "audit", tmp_path, "verify", check=False)
    assert 2 == found.returncode
    assert "Line 5 was changed" in found.stderr


def test_a_second_run_of_a_study_is_refused_while_one_goes_on_and_stop_ends_it(
    first: First, template: Template
) -> None:
    name = first.at.begin(template.study)
    first.at.wait_exchanges(name, 2)
    again = command("consilium-server", "run", first.at.server, template.study, "--detach", check=False)
    command("consilium-server", "stop", first.at.server, name)
    done = len(first.at.status(name).history)
    # The next run needs the same hospitals: it would wait for ever if the one that was stopped still held them.
    following = first.at.begin(template.study)
    first.at.wait_exchanges(following, 1)
    command("consilium-server", "stop", first.at.server, following)
    assert (2, True) == (again.returncode, f"consilium-server stop {first.at.server} {name}" in again.stderr)
    assert "stopped" == first.at.status(name).state
    assert done + 1 >= len(first.at.status(name).history)


Make = Callable[[Mapping[str, Path], Path], Consortium]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Make]:
    """Make a consortium of hospitals with such data that have approved a study, start it, and close it at the end."""
    known: list[Consortium] = []

    def make(data: Mapping[str, Path], study: Path) -> Consortium:
        known.append(Consortium.make(tmp_path / "consortium", data))
        known[0].approve(study)
        known[0].start()
        return known[0]

    yield make
    for each in known:
        each.close()


def test_four_real_hospitals_end_with_the_bits_of_their_simulation(
    medical_data: Path, made: Make, tmp_path: Path
) -> None:
    study = write_study(tmp_path / "heart.toml", "heart_disease", method__rounds=6, aggregation__deadline_s=30.0)
    names = ["Cleveland", "Budapest", "Zurich-Basel", "Long-Beach"]
    data = write_data(tmp_path / "data", study, "heart_disease", names, medical_data / "heart_disease")
    simulate(study, data, tmp_path / "simulated")
    at = made(data, study)
    at.run(study)
    assert weights_of(tmp_path / "simulated") == at.weights("heart")


def test_three_hospitals_train_a_network_to_the_bits_of_their_simulation(made: Make, tmp_path: Path) -> None:
    study = write_study(tmp_path / "digits.toml", "digits_cnn", method__rounds=2, aggregation__deadline_s=120.0)
    data = write_data(tmp_path / "data", study, "digits", NAMES[:3])
    simulate(study, data, tmp_path / "simulated")
    at = made(data, study)
    at.run(study)
    assert weights_of(tmp_path / "simulated") == at.weights("digits")
