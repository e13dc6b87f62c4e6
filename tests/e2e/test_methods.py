"""Methods of exact sums, trees and tables between real processes: numbers of the simulation, rules, what is hidden."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.e2e.commands import RUN_S, command, until
from tests.e2e.conftest import NAMES
from tests.e2e.methods import Asked, World

pytestmark = pytest.mark.e2e

CONTRACT = """
[study]
name = "{name}"
question = "Who falls ill?"
seed = 1
[data]
kind = "table"
label = "ill"
positive = ["yes"]
patient_id = "patient"
test_fraction = 0.2
max_rows_per_site = 1000
[data.columns.age]
type = "number"
unit = "years"
range = [0, 120]
[data.columns.dose]
type = "number"
unit = "mg"
range = [0, 10]
[data.columns.rare]
type = "number"
range = [0, 100]
[data.columns.ward]
type = "category"
levels = ["east", "west", "attic"]
[data.columns.ill]
type = "category"
levels = ["no", "yes"]
[aggregation]
min_sites = 3
deadline_s = 20
"""

STUDIES = {
    "regression": """
[method]
name = "glm"
rounds = 8
[method.options]
family = "logistic"
l2 = 10.0
[evaluation]
importance = true
bootstrap_replicates = 100
""",
    "forest": """
[method]
name = "random-forest"
rounds = 4
[method.options]
trees = 5
max_depth = 3
bins = 8
[evaluation]
bootstrap_replicates = 100
""",
    "tuned": """
[method]
name = "logistic-regression"
rounds = 2
[tuning]
grid = { C = [0.001, 1.0] }
folds = 2
[evaluation]
bootstrap_replicates = 100
""",
    "table": """
[method]
name = "describe"
rounds = 1
[evaluation]
bootstrap_replicates = 100
""",
}

KILLED = "forest"
"""Its run goes on after a node was killed."""
PATIENTS = 60
RARE = 61.37
"""Value of ``rare`` in the only patient of each hospital who has one, and who alone was in the attic."""


def table(hospital: int) -> str:
    """Return a hospital's table."""
    draw = np.random.default_rng(hospital)
    age, dose = draw.integers(20, 90, PATIENTS), np.round(draw.uniform(0, 10, PATIENTS), 2)
    ill = draw.random(PATIENTS) < 1 / (1 + np.exp(-(age - 55) / 10 - (dose - 5)))
    rows = ["patient,age,dose,rare,ward,ill"]
    for n in range(PATIENTS):
        rare, ward = (RARE, "attic") if n == 0 else ("", ("east", "west")[n % 2])
        rows.append(f"{hospital}-{n},{age[n]},{dose[n]},{rare},{ward},{'yes' if ill[n] else 'no'}")
    return "\n".join([*rows, ""])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    studies = {name: Asked(CONTRACT.format(name=name) + text) for name, text in STUDIES.items()}
    own = {name: table(number) for number, name in enumerate(NAMES)}
    made = World(tmp_path_factory.mktemp("methods"), studies, {"own": own}, disturbed=(KILLED,))
    try:
        made.consortium.start()
        yield made
    finally:
        made.consortium.close()


@pytest.mark.parametrize(
    ("study", "sentence"),
    [
        ("regression", "the same in 1,000 steps for each of 4 columns, with its values dealt anew among your rows"),
        ("forest", "at each open node of a tree, of each column that it may split on, by its bins"),
        ("tuned", "the same as in training, for each of 2 candidates (C), on all but one of 2 parts of your patients"),
        ("table", "how many patients there are, by class of ill; each counts with its first row"),
    ],
)
def test_check_says_what_would_leave(world: World, study: str, sentence: str) -> None:
    said = command("consilium-client", "check", world.consortium.hospital("Basel"), world.path(study)).stdout

    assert sentence in said


def test_a_regression_and_its_importance_are_those_of_the_simulation(world: World) -> None:
    metrics = world.check_simulated("regression")
    importance = next(each for each in metrics["interpretation"]["tables"] if "importance" in each["title"])

    assert {"age", "dose", "rare", "ward"} == {row[0] for row in importance["rows"]}


def test_a_forest_goes_on_after_a_node_was_killed_and_has_the_trees_of_the_simulation(world: World) -> None:
    world.consortium.wait_exchanges(world.begin(KILLED), 3)
    killed = world.consortium.pid("node Cork")
    world.consortium.kill("node Cork")
    world.check_simulated(KILLED)

    assert killed != world.consortium.last_pid("node Cork"), "nothing was killed"


def test_tuning_chooses_as_the_simulation_does(world: World) -> None:
    assert {"C": 1.0} == world.check_simulated("tuned")["tuning"]["chosen"]


def test_no_file_of_the_run_tells_what_a_table_hides(world: World) -> None:
    world.check_simulated("table")
    folder = world.folder("table")
    # All patients' first, then by column; of the attic there are at most four, who also have all values of `rare`.
    counts = np.load(folder / "model" / "weights.npz")["fit/counts"][:, 0]
    rare, attic = counts[5:7], counts[9]

    assert [-1, -1] == rare.tolist()
    assert -1 == attic
    # As it is, as a share of the range, and squared: alone, or of two to four patients; and as a report rounds it.
    telling = [n * each for n in range(1, 5) for each in (RARE, RARE / 100, (RARE / 100) ** 2)] + [round(RARE, 1)]
    for path in (path for path in folder.rglob("*") if path.is_file()):
        numbers = numbers_in(path)
        assert not np.isclose(numbers[:, None], telling, rtol=1e-4, atol=0).any(), path
    assert len(numbers_in(folder / "metrics.json")) > 20, "the search finds numbers"


def numbers_in(path: Path) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return all numbers in a file: of an archive's arrays, or as they stand in its text."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return np.concatenate([archive[name].ravel().astype(np.float64) for name in archive.files])
    text = path.read_bytes().decode("utf-8", errors="replace")
    return np.array([float(found) for found in re.findall(r"(?<![\w.])\d+(?:\.\d+)?", text)])


def told(message: str) -> bool:
    """Whether a waiting run's message says who refuses, and what that hospital's steward can set."""
    wanted = "`data_dependent_subsets = true` in `[policy]` of its `site.toml` lets it take part."
    return "Delft (data-dependent-subsets)" in message and wanted in message


def test_a_hospital_that_allows_no_subsets_refuses_a_forest_when_asked_and_in_its_round(world: World) -> None:
    with world.forbidden("Delft") as folder:
        approval = (folder, world.path("forest"), "--roster", world.consortium.server / "roster.json", "--yes")
        refused = command("consilium-client", "approve", *approval, check=False)
        run = world.begin("forest")
        until("the run says who refuses, and what to set", lambda: told(world.consortium.status(run).message), RUN_S)
        done = [record.stage for record in world.consortium.status(run).history]
        command("consilium-server", "stop", world.consortium.server, run)

    assert 2 == refused.returncode
    assert "data_dependent_subsets: expected no sums over subsets that the data choose." in refused.stderr
    assert ["prepare"] == done
