"""What dies in the middle of a run: the run goes on by itself and ends with the weights of an undisturbed one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from server.outcome import RoundRecord
from tests.e2e.commands import RUN_S, until
from tests.e2e.conftest import NAMES, Template
from tests.e2e.consortium import Consortium
from tests.e2e.studies import NETWORK, write_study

pytestmark = pytest.mark.e2e

Simulated = tuple[dict[str, Any], dict[str, bytes]]


@pytest.mark.parametrize(
    ("what", "after"), [("superlink", 1), ("gateway", 2), ("serverapp", 3), ("superexec", 4), ("node Cork", 5)]
)
def test_a_run_goes_on_after_a_supervised_process_was_killed(
    running: Consortium, template: Template, simulated: Simulated, what: str, after: int
) -> None:
    name = running.begin(template.study)
    running.wait_exchanges(name, after)
    killed = running.pid(what, name)
    running.kill(what, name)
    running.wait_finished(name)
    assert killed != running.last_pid(what, name), "nothing was killed"
    assert simulated[1] == running.weights(name)


def test_a_run_goes_on_after_the_aggregator_and_every_hospital_were_killed_at_once(
    running: Consortium, template: Template, simulated: Simulated
) -> None:
    name = running.begin(template.study)
    running.wait_exchanges(name, 4)
    left = [running.pid(what, name) for what in ("superlink", "superexec", "gateway", "serverapp")]
    left += [running.pid(f"node {each}") for each in NAMES]
    for what in ("start", *NAMES):
        running.kill(what)
    until("everything is dead", lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), 20)
    assert len(running.status(name).history) < 8
    running.start()
    running.wait_finished(name)
    assert simulated[1] == running.weights(name)


def test_the_aggregators_supervisor_alone_is_started_again_and_the_run_goes_on(
    running: Consortium, template: Template, simulated: Simulated
) -> None:
    name = running.begin(template.study)
    running.wait_exchanges(name, 5)
    running.kill("start")
    running.start_server()
    running.wait_finished(name)
    assert simulated[1] == running.weights(name)


DEADLINE_S = 10.0


@pytest.fixture
def network(running: Consortium, tmp_path: Path) -> Iterator[Path]:
    """A study that can go on without one of four hospitals."""
    study = write_study(
        tmp_path / "network.toml",
        "breast_cancer",
        NETWORK,
        aggregation__deadline_s=DEADLINE_S,
        aggregation__threshold=3,
    )
    running.approve(study)
    yield study
    if "Delft" not in running.started:
        running.start_hospital("Delft")


def test_a_hospital_that_was_away_for_two_rounds_comes_back(running: Consortium, network: Path) -> None:
    name = running.begin(network)
    running.wait_exchanges(name, 2)
    running.stop("Delft")
    gone = len(running.status(name).history)
    until("two rounds without it", lambda: absent("Delft", running.status(name).history[gone:]) >= 2, RUN_S)
    running.start_hospital("Delft")
    running.wait_finished(name)
    history = running.status(name).history
    missed = [record for record in history[gone:] if "Delft" in record.dropped]
    assert NAMES[:3] == sorted(missed[0].contributors)
    assert NAMES == sorted(history[-2].contributors), "it trained again, in the last round at the latest"
    # It is waited for once in a round, not in each of its steps.
    assert max(record.seconds for record in missed) < 2 * DEADLINE_S


def absent(hospital: str, history: Sequence[RoundRecord]) -> int:
    """In how many exchanges a hospital is not in the sum."""
    return sum(hospital not in record.contributors for record in history)
