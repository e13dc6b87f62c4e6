"""Two studies at once, and a hospital that joins while they run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import command, simulate, weights_of
from tests.e2e.conftest import NAMES, RUNS, Template
from tests.e2e.consortium import Consortium
from tests.e2e.studies import write_study

pytestmark = pytest.mark.e2e


def test_two_studies_at_once_end_as_each_of_them_alone(
    running: Consortium, template: Template, simulated: tuple[dict[str, Any], dict[str, bytes]], tmp_path: Path
) -> None:
    other = write_study(
        tmp_path / "other.toml", "breast_cancer", method__rounds=6, study__seed=7, aggregation__deadline_s=20.0
    )
    simulate(other, template.data, tmp_path / "alone")
    alone = weights_of(tmp_path / "alone")
    running.approve(other)
    names = [running.begin(study) for study in (template.study, other)]
    for name in names:
        running.wait_finished(name)
    assert simulated[1] != alone
    assert [simulated[1], alone] == [running.weights(name) for name in names]


def test_a_hospital_enrolled_during_a_run_takes_part_once_every_hospital_has_approved_it(
    running: Consortium, template: Template
) -> None:
    before = running.begin(template.study)
    running.wait_exchanges(before, 1)
    running.enrol("Espoo", running.init("Espoo", template.newcomer, runs=RUNS))
    running.join("Espoo")
    running.approve(template.study, ["Espoo"])
    running.start_hospital("Espoo")
    running.wait_finished(before)

    unknown = running.begin(template.study)
    running.wait_exchanges(unknown, 1)
    left_out = running.status(unknown).left_out
    command("consilium-server", "stop", running.server, unknown)

    running.approve(template.study, NAMES)
    after = running.begin(template.study)
    running.wait_finished(after)

    assert {"Espoo": "not-pinned"} == left_out
    members = [running.status(name).history[-1].contributors for name in (before, unknown, after)]
    assert [NAMES, NAMES, [*NAMES, "Espoo"]] == [sorted(each) for each in members]
