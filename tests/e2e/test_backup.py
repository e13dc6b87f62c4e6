"""The drill: a copy of a folder is put back in the middle of a run, as the page on deployment says, and it goes on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Template
from tests.e2e.consortium import Consortium

pytestmark = pytest.mark.e2e

KEPT = [
    "secrets",
    "certificates",
    "consortium.json",
    "enrolment.json",
    "roster.json",
    "audit.jsonl",
    "audit.head",
    "runs",
]
"""What docs/deployment.md tells a coordinator to copy."""

Simulated = tuple[dict[str, Any], dict[str, bytes]]


def test_a_hospital_put_back_from_a_copy_goes_on_in_the_middle_of_a_run(
    running: Consortium, template: Template, simulated: Simulated, tmp_path: Path
) -> None:
    name = running.begin(template.study)
    running.wait_exchanges(name, 3)
    running.stop("Basel")
    shutil.copytree(running.hospital("Basel"), tmp_path / "copy")
    shutil.rmtree(running.hospital("Basel"))
    shutil.copytree(tmp_path / "copy", running.hospital("Basel"))
    running.start_hospital("Basel")
    running.wait_finished(name)
    assert simulated[1] == running.weights(name)


def test_a_coordinator_put_back_from_an_older_copy_without_flowers_state_goes_on(
    running: Consortium, template: Template, simulated: Simulated, tmp_path: Path
) -> None:
    name = running.begin(template.study)
    running.wait_exchanges(name, 2)
    running.stop("start")
    (tmp_path / "copy").mkdir()
    for part in KEPT:
        source = running.server / part
        (shutil.copytree if source.is_dir() else shutil.copy2)(source, tmp_path / "copy" / part)
    copied = len(running.status(name).history)
    running.start_server()
    running.wait_exchanges(name, copied + 2)
    running.stop("start")
    shutil.rmtree(running.server)
    shutil.copytree(tmp_path / "copy", running.server)
    assert copied == len(running.status(name).history)
    running.start_server()
    running.wait_finished(name)
    assert simulated[1] == running.weights(name)
