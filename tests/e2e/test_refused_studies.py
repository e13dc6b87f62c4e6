"""Studies, code and messages that hospitals at work refuse by name, and what both sides read of it."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e import foreign
from tests.e2e.commands import command, until
from tests.e2e.conftest import Template
from tests.e2e.consortium import Consortium
from tests.e2e.foreign import AGENT_APP, SERVER_APP
from tests.e2e.installing import installation, using
from tests.e2e.studies import write_study

pytestmark = pytest.mark.e2e


class Study:
    """A short study that all hospitals but Delft have approved, and its runs."""

    def __init__(self, running: Consortium, template: Template, root: Path) -> None:
        self.running, self.root = running, root
        self.path = self.named("second")
        running.approve(self.path, ["Aarhus", "Basel", "Cork"])

    def named(self, name: str) -> Path:
        """Write a study of one round that nobody approved yet."""
        return write_study(self.root / f"{name}.toml", "breast_cancer", method__rounds=1, aggregation__deadline_s=20.0)

    def begin(self, path: Path | None = None) -> str:
        """Begin a run and return its name once it is known who takes part, or that too few do."""
        name = self.running.begin(path or self.path)

        def known() -> bool:
            status = self.running.status(name)
            return bool(status.left_out) or status.state in ("waiting", "finished", "failed")

        until(f"{name} has begun", known, 60.0)
        return name

    def left_out(self) -> tuple[dict[str, str], str]:
        """Begin a run; return who is left out, by code, and what ``status`` says; stop it."""
        name = self.begin()
        codes = self.running.status(name).left_out
        shown = command("consilium-server", "status", self.running.server).stdout
        self.stop(name)
        return codes, shown

    def stop(self, name: str) -> None:
        """Stop a run: for hospitals that is no trouble with the connection."""
        command("consilium-server", "stop", self.running.server, name)
        assert not any("HTTP status" in self.running.said(each) for each in self.running.names)


@pytest.fixture(scope="module")
def second(running: Consortium, template: Template, tmp_path_factory: pytest.TempPathFactory) -> Study:
    return Study(running, template, tmp_path_factory.mktemp("second"))


def refusals(running: Consortium, name: str) -> list[str]:
    """Return the codes of what a hospital refused, from its own record, the last one last."""
    return [str(line["code"]) for line in running.record(running.hospital(name)) if line.get("said") == "Refused"]


def test_a_hospital_that_did_not_approve(running: Consortium, second: Study) -> None:
    codes, shown = second.left_out()

    assert {"Delft": "not-approved"} == codes
    assert "left out of second: Delft (not-approved): the hospital has not approved this study." in shown
    assert "not-approved" == refusals(running, "Delft")[-1]


def test_a_study_with_one_byte_changed_is_approved_by_nobody(running: Consortium, second: Study) -> None:
    other = second.root / "other.toml"
    other.write_text(second.path.read_text(encoding="utf-8").replace("five hospitals", "fife hospitals"), "utf-8")
    run = second.begin(other)
    said = running.status(run)
    second.stop(run)

    assert "waiting" == said.state
    assert said.message.startswith(
        "0 of 4 enrolled hospitals can take part, and 3 are needed. Left out: Aarhus (not-app"
    )
    assert {"not-approved"} == {refusals(running, name)[-1] for name in running.names}


def test_an_approval_that_was_withdrawn(running: Consortium, second: Study) -> None:
    running.approve(second.path, ["Delft"])
    command("consilium-client", "withdraw", running.hospital("Delft"), "second")
    codes, shown = second.left_out()

    assert {"Delft": "withdrawn"} == codes
    assert "Delft (withdrawn): the hospital has taken back its approval of this study." in shown
    assert "withdrawn" == refusals(running, "Delft")[-1]


@contextlib.contextmanager
def installed(running: Consortium, name: str, commands: Path) -> Iterator[None]:
    """Let a hospital work with another installation for a while."""
    running.stop(name)
    try:
        with using(commands):
            running.start_hospital(name)
        yield
    finally:
        running.stop(name)
        running.start_hospital(name)


def test_code_of_which_one_byte_was_changed(running: Consortium, second: Study, tmp_path: Path) -> None:
    running.approve(second.path, ["Delft"])
    changed = installation(tmp_path, {"client/site.py": [('"see the site\'s own log"', '"see the site\'s own lag"')]})
    with installed(running, "Delft", changed):
        codes, shown = second.left_out()
        assert {"Delft": "code-changed"} == codes
        assert "Delft (code-changed): the hospital refused: its code is not the one under which it approved" in shown
        assert "code-changed" == refusals(running, "Delft")[-1]

        # Approved anew at the hospital, it is still not the aggregator's.
        with using(changed):
            running.approve(second.path, ["Delft"])
        codes, shown = second.left_out()
        assert {"Delft": "another-code"} == codes
        assert "Delft (another-code): the hospital runs other code than the aggregator." in shown


def test_another_version_of_the_protocol(running: Consortium, second: Study, tmp_path: Path) -> None:
    newer = installation(tmp_path, {"shared/packing.py": [("PROTOCOL = 1", "PROTOCOL = 2")]})
    with installed(running, "Delft", newer):
        codes, shown = second.left_out()
        own = command("consilium-client", "status", running.hospital("Delft")).stdout

    assert {"Delft": "protocol-version"} == codes
    assert (
        "Delft (protocol-version): the hospital and the aggregator speak different versions of the protocol." in shown
    )
    assert "refused: the hospital and the aggregator speak different versions of the protocol" in own


def test_runs_that_are_used_up(running: Consortium, second: Study) -> None:
    third = second.named("third")
    settings = running.hospital("Delft") / "site.toml"
    text = settings.read_text(encoding="utf-8")
    settings.write_text(re.sub("(?m)^runs = .*$", "runs = 1", text), encoding="utf-8")
    running.approve(third)
    first = running.begin(third)
    running.wait_finished(first)
    again = second.begin(third)
    shown = command("consilium-server", "status", running.server).stdout
    second.stop(again)

    assert 4 == len(running.status(first).history[0].contributors)
    assert {"Delft": "runs-used-up"} == running.status(again).left_out
    assert "Delft (runs-used-up): the hospital refused: this sum was released as often as it had approved." in shown
    assert "runs-used-up" == refusals(running, "Delft")[-1]


HINT = "this node answers Consilium's messages only"


def test_messages_of_other_types_and_runs_of_agents_get_an_error_and_the_node_goes_on(
    running: Consortium, second: Study, tmp_path: Path
) -> None:
    pids = {name: running.pid(f"node {name}") for name in running.names}
    answers = foreign.run(running, "serverapp", SERVER_APP, tmp_path / "server.json")
    agents = foreign.run(running, "agentapp", AGENT_APP, tmp_path / "agent.json")

    assert {"agent": [HINT] * 4} == agents
    for kind in ("train", "evaluate", "query", "query.other", "train.other"):
        assert [HINT] * 4 == answers[kind], kind
    assert ["malformed"] * 4 == [json.loads(each)["value"]["code"] for each in answers["query.consilium"]]
    assert ["not-approved"] * 4 == [json.loads(each)["value"]["code"] for each in answers["query.consilium study"]]
    running.wait_finished(running.begin(second.path))
    assert pids == {name: running.pid(f"node {name}") for name in running.names}
