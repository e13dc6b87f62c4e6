"""Sequences, times, treatments, groups, margins and boosted trees between real processes, and a site that is hidden."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from client import ledger
from tests.e2e.commands import command
from tests.e2e.methods import Asked, World

pytestmark = pytest.mark.e2e

NAMES = ("Aarhus", "Basel", "Cork")
HEAD = """
[study]
name = "{name}"
question = "What follows?"
seed = 1
threads = 1
[aggregation]
min_sites = 3
deadline_s = 60
[evaluation]
bootstrap_replicates = 100
"""
ILL = """
[data]
kind = "table"
label = "ill"
positive = ["yes"]
patient_id = "patient"
max_rows_per_site = 1000
[data.columns.age]
type = "number"
range = [0, 120]
[data.columns.dose]
type = "number"
range = [0, 10]
[data.columns.ward]
type = "category"
levels = ["east", "west"]
[data.columns.ill]
type = "category"
levels = ["no", "yes"]
"""
DIED = """
[data]
kind = "table"
label = "days"
event = "died"
patient_id = "patient"
max_rows_per_site = 1000
[data.columns.age]
type = "number"
range = [0, 120]
[data.columns.dose]
type = "number"
range = [0, 10]
[data.columns.days]
type = "number"
range = [0, 365]
[data.columns.died]
type = "category"
levels = ["no", "yes"]
"""
VISITS = """
[data]
kind = "{kind}"
label = "relief"
patient_id = "person"
max_rows_per_site = 1000
[data.steps]
order = "visit"
{count}
[data.columns.visit]
type = "number"
range = [1, 9]
[data.columns.pain]
type = "number"
range = [0, 10]
[data.columns.drug]
type = "category"
levels = ["old", "new"]
[data.columns.relief]
type = "number"
range = [-10, 10]
"""
LETTERS = """
[data]
kind = "sequences"
label = "kind"
max_rows_per_site = 1000
[data.texts.piece]
letters = "ACGT"
unknown = "N"
length = 8
[data.columns.kind]
type = "category"
levels = ["gene", "junk"]
"""
SITE = """
[privacy]
unit = "site"
epsilon = 2.0
delta = 1e-5
patients_per_site = 48
"""


BUDGET = 8.0
"""Enough for one study of three runs, and not for two."""


def method(name: str, rounds: int, options: str = "") -> str:
    """Return the part of a study about its method. options: as an inline table of TOML has them."""
    return f'\n[method]\nname = "{name}"\nrounds = {rounds}\noptions = {{ {options} }}\n'


PARTS = {
    "visits": VISITS.format(kind="sequences", count="count = 3")
    + method("neural", 1, 'architecture = "sequence_rnn", model = { units = [4] }'),
    "letters": LETTERS
    + method("neural", 1, 'architecture = "sequence_cnn", model = { filters = [4], groups = 2, dense_units = 4 }'),
    "survival": DIED + method("cox", 25, "intervals = 8"),
    "treatment": VISITS.format(kind="table", count="")
    + method("treatment-policy", 4, 'action = "drug", iterations = 3'),
    "hidden": ILL + method("logistic-regression", 2) + SITE,
    "directions": ILL + method("pca", 1),
    "boosting": ILL + method("gradient-boosting", 5, "iterations = 2, max_depth = 2, bins = 8"),
    "groups": ILL + method("k-means", 8, "clusters = 3, starts = 2"),
    "margin": ILL + method("svm", 60),
}
STUDIES = {name: HEAD.format(name=name) + part for name, part in PARTS.items()}
DATA = {"visits": "visits", "treatment": "visits", "letters": "letters"}
"""Of studies that are not about the patients."""
KILLED = ("groups", "margin")
"""Their runs go on after a node was killed."""


def patients(hospital: int) -> str:
    """Return a table of patients: who was ill, who died and when."""
    draw = np.random.default_rng(hospital)
    rows = ["patient,age,dose,ward,days,died,ill"]
    for n in range(60):
        age, dose = draw.integers(20, 90), draw.uniform(0, 10)
        risk = (age - 55) / 20 + (dose - 5) / 3
        days = min(365, round(120 * draw.exponential() * np.exp(-risk)))
        ill = ("no", "yes")[int(draw.normal() < risk)]
        rows.append(
            f"{hospital}-{n},{age},{dose:.2f},{('east', 'west')[n % 2]},{days},{('yes', 'no')[days == 365]},{ill}"
        )
    return "\n".join([*rows, ""])


def visits(hospital: int) -> str:
    """Return a table of visits, three a person, the last one first."""
    draw = np.random.default_rng(hospital)
    rows = ["person,visit,pain,drug,relief"]
    for n in range(40):
        for visit in (3, 2, 1):
            pain, drug = draw.uniform(0, 10), draw.integers(2)
            relief = 0.3 * pain * drug + draw.normal()
            rows.append(f"v{hospital}-{n},{visit},{pain:.2f},{('old', 'new')[drug]},{np.clip(relief, -10, 10):.2f}")
    return "\n".join([*rows, ""])


def letters(hospital: int) -> str:
    """Return a table of texts."""
    draw = np.random.default_rng(hospital)
    pieces = ["".join(draw.choice([*"ACGTN"], 8)) for _ in range(60)]
    return "\n".join(["piece,kind", *(f"{each},{('gene', 'junk')['AC' in each]}" for each in pieces), ""])


TABLES = {"own": patients, "visits": visits, "letters": letters}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    studies = {name: Asked(text, DATA.get(name, "own")) for name, text in STUDIES.items()}
    tables = {data: {name: make(number) for number, name in enumerate(NAMES)} for data, make in TABLES.items()}
    more = f"[budget]\nepsilon = {BUDGET}\ndelta = 1e-5\n"
    made = World(tmp_path_factory.mktemp("further"), studies, tables, more, KILLED)
    try:
        made.consortium.start()
        yield made
    finally:
        made.consortium.close()


@pytest.mark.parametrize(
    ("study", "words"),
    [
        ("visits", "GRU layers"),
        ("letters", "Convolutional network along the sequence"),
        ("survival", "Hazard ratio"),
        ("treatment", "This is retrospective"),
        ("directions", "Variance by component"),
        ("boosting", "Gradient boosting"),
    ],
)
def test_a_run_ends_with_the_numbers_of_the_simulation_and_a_report(world: World, study: str, words: str) -> None:
    world.check_simulated(study)

    assert words in (world.folder(study) / "report.html").read_text(encoding="utf-8")


def test_sums_that_hide_a_hospital_are_charged_at_each_and_a_second_study_is_refused(world: World) -> None:
    metrics = world.finished("hidden")
    second = world.root / "second.toml"
    second.write_text(STUDIES["hidden"].replace('name = "hidden"', 'name = "second"'), encoding="utf-8")
    folder, roster = world.consortium.hospital("Basel"), world.consortium.server / "roster.json"
    approval = (folder, second, "--data", "own", "--roster", roster, "--yes")
    refused = command("consilium-client", "approve", *approval, check=False)

    assert ("site", 2.0) == (metrics["privacy"]["unit"], metrics["privacy"]["epsilon"])
    for name in NAMES:
        entries = ledger.read(world.consortium.hospital(name), "own").entries
        assert ["prepare", "train", "train", "evaluate"] == [entry.charge.stage for entry in entries]
    assert 2 == refused.returncode
    assert "that is left of epsilon 8 in the ledger own" in refused.stderr


def test_a_node_that_was_killed_between_two_sums_over_groups_goes_on_from_what_it_summed(world: World) -> None:
    runs = [world.begin(study) for study in KILLED]
    for run in runs:
        world.consortium.wait_exchanges(run, 3)
    killed = world.consortium.pid("node Cork")
    world.consortium.kill("node Cork")
    for study in KILLED:
        world.check_simulated(study)

    assert killed != world.consortium.last_pid("node Cork"), "nothing was killed"


@pytest.mark.parametrize("study", ["survival", "treatment", "boosting", "groups", "margin"])
def test_a_steward_is_told_what_to_write_for_sums_over_groups_that_the_data_choose(world: World, study: str) -> None:
    with world.forbidden("Aarhus") as folder:
        said = command("consilium-client", "check", folder, world.path(study), "--data", DATA.get(study, "own")).stdout

    assert "To allow them, write data_dependent_subsets = true." in said
