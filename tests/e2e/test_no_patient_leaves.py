"""A patient's name is planted wherever a hospital has one, everything fails that can, and nobody else reads the name.

Every byte that hospitals send is taken down behind the gateway, where it is not encrypted any more, and every file of
the aggregator is searched. Failure by failure at the node's desk: ``tests/unit/client/test_no_patient_leaves.py``.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from typer.testing import CliRunner

from client import cli, cohort
from tests.e2e.commands import command, until
from tests.e2e.consortium import Consortium, free_port
from tests.e2e.installing import installation, using
from tests.e2e.listening import Recorder, disguises, files_below, hits

pytestmark = pytest.mark.e2e

PATIENT, PATIENT_ID = "Zebulon Quartermaine", "ZQ8675309"
IN_A_PATH, IN_A_LOG = "Ottoline Featherstone", "Peregrine Throckmorton"
"""Names that the hospital itself writes into its own logs, too: of a folder, and by a planted line."""
EVERYBODY = (PATIENT, PATIENT_ID, IN_A_PATH, IN_A_LOG)

STUDY = """
[study]
name = "planted"
question = "Who is sick?"
seed = 1
[data]
kind = "table"
label = "sick"
patient_id = "patient"
test_fraction = 0.4
max_rows_per_site = 1000
[data.columns.age]
type = "number"
unit = "years"
range = [0, 120]
[data.columns.sick]
type = "category"
levels = ["no", "yes"]
[method]
name = "logistic-regression"
rounds = 1
[aggregation]
min_sites = 3
deadline_s = 8
[evaluation]
bootstrap_replicates = 100
"""


def table(column: str, planted: bool) -> str:
    """Return a hospital's table: a hundred rows, the column of ages under this name; some rows with planted names."""
    rows = [f"p{row},{30 + row % 50},{'yes' if row % 3 else 'no'},no" for row in range(100)]
    if planted:
        rows += [f"{PATIENT},41,yes,no", f"{PATIENT_ID},42,no,no", f"p200,{PATIENT},yes,no", f"p201,43,{PATIENT},no"]
        rows += [f"p202,44,no,{PATIENT}"]
    return "\n".join([f"patient,{column},sick,out", *rows, ""])


# --- Real processes ---

PLANTED = f'''"""Fails where the file that CONSILIUM_PLANT names says so, with a patient's name in whatever there is."""

import logging
import os
import sys
from pathlib import Path

# Not in the lines that a traceback shows.
LOGGED, PATIENT, PATIENT_ID = "{IN_A_LOG}", "{PATIENT}", "{PATIENT_ID}"


def wanted(what):
    path = Path(os.environ.get("CONSILIUM_PLANT", "/nonexistent"))
    return path.exists() and what in path.read_text().split()


def here(place, *seen):
    if not wanted(place):
        return
    for name in ("consilium.client", "consilium.node", "flwr", "httpx"):
        logging.getLogger(name).error("failed for %s %s", LOGGED, place)
    print(LOGGED, file=sys.stderr)
    if wanted("exit"):
        raise SystemExit(LOGGED)
    error = ValueError(PATIENT, *seen)
    error.add_note(PATIENT)
    raise error from KeyError(PATIENT_ID)


def hint(error):
    return str(error) if wanted("leak") else "see the site's own log"
'''
CHANGES = {
    "shared/planted.py": [("", PLANTED)],
    "client/site.py": [
        ("from shared import fixedpoint,", "from shared import planted, fixedpoint,"),
        (
            "    contribution, memory = site.method.contribute(",
            '    planted.here(f"contribute-{request.heading.round}", site.data.parts[ask.part].patients)\n'
            "    contribution, memory = site.method.contribute(",
        ),
        ('"internal-error", "see the site\'s own log"', '"internal-error", planted.hint(error)'),
    ],
    "client/judgement.py": [
        ("    kept: Any = ", '    from shared import planted\n\n    planted.here("keep", data)\n    kept: Any = '),
    ],
}
"""The same code at the aggregator and at every hospital; at one of them the environment says what fails."""


@dataclass
class World:
    """A consortium whose hospital Delft has the names, and what was seen of it.

    failed: reason codes in the order of the failures.
    reached: everything that reached the aggregator, by where it was found; what leaks on purpose came later.
    """

    consortium: Consortium
    recorder: Recorder
    study: Path
    failed: list[str] = field(default_factory=list)
    reached: dict[str, bytes] = field(default_factory=dict)

    @property
    def own(self) -> Path:
        return self.consortium.hospital("Delft")

    def plant(self, *what: str) -> None:
        (self.consortium.root / "plant.txt").write_text(" ".join(what), encoding="utf-8")

    def refused(self, sign: str, after: Callable[[str], object] = lambda _run: None) -> None:
        """Begin a run, wait until its log has this sign of Delft's failure, and stop it."""
        run = self.consortium.begin(self.study)
        log = self.consortium.server / "runs" / run / "run.log"
        until(f"the run's log says {sign!r}", lambda: log.exists() and sign in log.read_text("utf-8"), 60.0)
        after(run)
        self.failed.append(sign)
        if self.consortium.status(run).state != "finished":
            command("consilium-server", "stop", self.consortium.server, run)

    def seen(self) -> dict[str, bytes]:
        return {**self.recorder.evidence, **files_below(self.consortium.server)}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    root = tmp_path_factory.mktemp("world")
    with using(installation(root / "installed", CHANGES)), contextlib.ExitStack() as ending:
        made = _consortium(root)
        ending.callback(made.close)
        found = World(made, ending.enter_context(_start(made)), root / "planted.toml")
        _fail(found)
        found.reached = found.seen()
        yield found


def _consortium(root: Path) -> Consortium:
    """Make four hospitals; Delft's folder, data file, columns, patients and opt-out list have names in them."""
    private = root / IN_A_PATH
    private.mkdir()
    data = {}
    for name in ("Aarhus", "Basel", "Cork", "Delft"):
        data[name] = (private if name == "Delft" else root) / f"{name}.csv"
        data[name].write_text(table(PATIENT if name == "Delft" else "age", name == "Delft"), encoding="utf-8")
    made = Consortium.make(root / "consortium", data, runs=60, show_counts=True, show_metrics=True, shrinking=True)
    own = made.hospital("Delft")
    shutil.move(own, private / "folder")
    own.symlink_to(private / "folder")
    with (own / "site.toml").open("a", encoding="utf-8") as file:
        file.write(f'columns = {{ age = "{PATIENT}" }}\nopt_out = {{ column = "out", values = ["{PATIENT}"] }}\n')
    (root / "planted.toml").write_text(STUDY, encoding="utf-8")
    made.approve(root / "planted.toml")
    return made


@contextlib.contextmanager
def _start(made: Consortium) -> Iterator[Recorder]:
    """Start everything, with a recorder between the gateway and SuperLink."""
    port = free_port()
    own_gateway = ("--no-gateway", "--superlink-port", str(port))
    made._start("start", "consilium-server", "start", made.server, *own_gateway)
    made._wait_said("start", "ready: hospitals can connect")
    with Recorder(made.server, port) as recorder:
        made._start(
            "gateway", "python", "-P", "-m", "server.gateway", made.server, "--upstream-port", str(recorder.port)
        )
        made._wait_said("gateway", "gateway ready")
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("CONSILIUM_PLANT", str(made.root / "plant.txt"))
            made.start_hospital("Delft", wait=False)
        for name in ("Aarhus", "Basel", "Cork"):
            made.start_hospital(name, wait=False)
        for name in made.names:
            made.wait_connected(name)
        yield recorder


def _fail(world: World) -> None:
    made, own = world.consortium, world.own
    # Data that cannot be read as the study says: said to the hospital alone.
    for broken in (
        table("another column", planted=True),
        table(PATIENT, planted=True).replace(",yes,", ",,").replace(",no,", ",,"),
        table(PATIENT, planted=True).replace("p7,", f"p7,{PATIENT},"),
        f"{PATIENT},41,yes,no\n{PATIENT_ID},42,no,no\n",
        "",
    ):
        _with_data(world, broken)
    # The whole way, while what stays at the hospital fails: its report, and its own metrics.
    world.plant("keep")
    run = made.begin(world.study)
    made.wait_finished(run)
    world.failed += [line["code"] for line in made.record(own) if line.get("said") == "Refused"]
    # The preparation fails; then the node's process ends in a round, and is started again.
    world.plant("contribute-1")
    world.refused("site=Delft refused=internal-error")
    world.plant("contribute-2", "exit")
    node = made.pid("node Delft")

    def started_again(run: str) -> None:
        until("the node is started again", lambda: made.pid("node Delft") != node, 60.0)
        world.plant()
        made.wait_finished(run)

    world.refused("stage=prepare", started_again)
    # What the node keeps was changed: its record, its snapshot of the patients.
    with _changed(own / "audit.jsonl"):
        world.refused("site=Delft flower_error=")
    [snapshot] = own.glob(f"approvals/*/{cohort.FILE}")
    with _changed(snapshot):
        node = made.pid("node Delft")
        made.kill("node Delft")
        until("the node is started again", lambda: made.pid("node Delft") != node, 60.0)
        world.refused("site=Delft refused=cohort-changed")


def _with_data(world: World, text: str) -> None:
    path = world.consortium.root.parent / IN_A_PATH / "Delft.csv"
    before = path.read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    for name in ("check", "approve"):
        result = CliRunner().invoke(cli.app, [name, str(world.own), str(world.study), *["--yes"][: name == "approve"]])
        assert result.exit_code, result.output
    path.write_text(before, encoding="utf-8")


@contextlib.contextmanager
def _changed(path: Path) -> Iterator[None]:
    before = path.read_bytes()
    path.write_bytes(f'{{"{PATIENT}": "{PATIENT_ID}"}}\n'.encode())
    try:
        yield
    finally:
        path.write_bytes(before)


def test_nothing_that_reached_the_aggregator_has_a_name_of_the_hospitals(world: World) -> None:
    assert [
        "internal-error",
        "site=Delft refused=internal-error",
        "stage=prepare",
        "site=Delft flower_error=",
        "site=Delft refused=cohort-changed",
    ] == world.failed
    # What is searched is not empty: the record, the database, and messages of all hospitals on the wire.
    assert {"audit.jsonl", "state.db", "runs/planted/report.html", "runs/planted-2/run.log"} <= set(world.reached)
    assert 10_000 < sum(len(data) for where, data in world.reached.items() if where.startswith("connection"))
    assert [] == hits(EVERYBODY, world.reached)


def test_the_hospitals_own_log_says_where_in_the_code_and_no_value(world: World) -> None:
    own = {path.name: path.read_bytes() for path in (world.own / "processes").glob("*.log")}
    log = own["node.log"].decode()

    assert "ValueError" in log
    assert "client/site.py" in log
    assert [(IN_A_LOG, "node.log")] == hits([IN_A_LOG], {"node.log": own["node.log"]})
    assert [] == hits([PATIENT, PATIENT_ID], own)


def test_a_text_that_leaks_is_found_on_the_wire_and_on_the_disk(world: World) -> None:
    """Else the search above would show nothing. The text of an exception is sent where the hint should be."""
    world.plant("contribute-1", "leak")
    world.refused("site=Delft refused=internal-error")
    places = {where for _, where in hits([PATIENT], world.seen())}

    assert any(where.startswith("connection") for where in places)
    assert any(where.startswith("state.db") for where in places)
    assert any(where.endswith("run.log") for where in places)


@pytest.mark.parametrize("name", EVERYBODY)
def test_every_disguise_is_found(name: str) -> None:
    forms = disguises(name)
    assert 20 < len(forms)
    for form in forms:
        assert [(name, "there")] == hits([name], {"there": b"\x00x" + form + b"\x80", "not there": b"Zebulo ermaine"})
