"""What a run between hospitals leaves: whole, whatever the hospitals show."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from client.judgement import counts_of
from server import output, release
from server.preflight import Cohort
from shared.messages import Ended, Heading, Shown
from tests.builders import random_consortium, table_study, ticking


@pytest.mark.parametrize("shows", [(), ("a",), ("a", "b", "c")], ids=["nobody", "one", "everybody"])
def test_a_run_between_hospitals_leaves_numbers_report_and_model(tmp_path: Path, shows: tuple[str, ...]) -> None:
    """Each hospital holds out the rows that it trains on, so that it has twice as many."""
    consortium = random_consortium(table_study(), {"a": 30, "b": 40, "c": 50})
    plan, progress = consortium.run(ticking())
    counts = {name: counts_of(consortium.data[name], 2) for name in shows}
    heading = Heading("r", consortium.study.digest, 5)
    ended = {name: Ended(name, heading, 30, {"accuracy": Shown(0.5, 0.4, 0.6)}) for name in shows}
    cohort = Cohort(dict.fromkeys("abc", b"k" * 32), {"d": "not-approved"}, counts)
    outcome = release.outcome_of(consortium.study, plan, progress, cohort, ended, 12.0)
    output.write(outcome, tmp_path)
    found = json.loads((tmp_path / output.METRICS).read_text())
    rows = {"a": 60, "b": 80, "c": 100}
    assert {name: rows[name] if name in shows else None for name in rows} == {
        name: site["rows"] for name, site in found["sites"].items()
    }
    assert (list(shows), 120, True) == (list(found["per_site"]), found["federated"]["n"], found["deployed"])
    assert {output.METRICS, output.REPORT, output.MODEL} == {path.name for path in tmp_path.iterdir()}
