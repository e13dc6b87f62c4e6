"""The shape of DESIGN section 3 holds: arrows, confined libraries, light start, documents, samples, lock and wheel."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from shared import study
from tests.architecture import ARROWS, ROOT, RULES, Module, our_modules

STUDIES = sorted((ROOT / "simulations" / "studies").glob("*.toml"))


@pytest.mark.parametrize("rule", RULES)
def test_every_module_keeps_the_rule(rule: str) -> None:
    found = [f"{module.path} {complaint}" for module in our_modules() for complaint in RULES[rule](module)]

    assert [] == found


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        ("arrows", "shared/a.py", "from server.round import run_round"),
        ("arrows", "shared/a.py", "import client"),
        ("arrows", "server/a.py", "def f():\n    import client.site"),
        ("arrows", "client/a.py", "from simulations import local"),
        ("arrows", "client/a.py", "if TYPE_CHECKING:\n    from server.round import Round"),
        ("arrows", "server/a.py", "importlib.import_module('client.site')"),
        ("arrows", "server/a.py", "from . import round"),
        ("arrows", "simulations/a.py", "from tests.builders import site_of"),
        ("confined", "server/round.py", "def f():\n    from flwr.app import Message"),
        ("confined", "client/site.py", "if TYPE_CHECKING:\n    import tensorflow as tf"),
        ("confined", "shared/methods/averaging.py", "def f():\n    import keras"),
        ("confined", "simulations/local.py", "def f():\n    import ray"),
        ("light_start", "shared/models/a.py", "import tensorflow as tf"),
        ("light_start", "server/a.py", "from matplotlib.figure import Figure"),
        ("light_start", "server/a.py", "try:\n    import pandas\nexcept ImportError:\n    pandas = None"),
        ("light_start", "server/a.py", "class A:\n    from sklearn import metrics"),
        ("no_pickle", "shared/a.py", "def f():\n    import pickle"),
        ("no_pickle", "shared/a.py", "from joblib import dump"),
        ("no_pickle", "shared/a.py", "np.load(path, allow_pickle=True)"),
        ("no_pickle", "client/a.py", "frame = pd.read_pickle(path)"),
        ("randomness_is_an_argument", "shared/a.py", "x = np.random.normal(size=3)"),
        ("randomness_is_an_argument", "shared/a.py", "numpy.random.seed(0)"),
        ("randomness_is_an_argument", "shared/a.py", "from numpy.random import shuffle"),
        ("randomness_is_an_argument", "shared/a.py", "import random"),
        ("randomness_is_an_argument", "shared/a.py", "rng = np.random.default_rng()"),
        ("documented", "shared/a.py", "X = 1"),
        ("documented", "shared/a.py", '"""A."""\ndef public():\n    return 1'),
        ("documented", "shared/a.py", '"""A."""\nclass A:\n    """A."""\n    def method(self):\n        return 1'),
        ("bare_package", "server/__init__.py", '"""Server."""\nfrom server.round import run_round'),
        ("bare_package", "shared/__init__.py", '"""Shared."""\nTABLE = {"a": 1}'),
        ("bare_package", "shared/methods/__init__.py", '"""Methods."""\ndef find(name):\n    return METHODS[name]'),
        ("short", "shared/a.py", "x = 1\n" * 401),
    ],
)
def test_the_rule_finds_a_planted_violation(rule: str, path: str, source: str) -> None:
    assert 1 == len(RULES[rule](Module(path, source)))


@pytest.mark.parametrize(
    ("rule", "path", "source"),
    [
        ("arrows", "simulations/a.py", "from client.site import answer\nfrom server import round\nimport shared.study"),
        ("arrows", "server/a.py", "import serverless"),
        ("confined", "server/strategies.py", "def f():\n    from flwr.serverapp import strategy"),
        ("confined", "shared/models/image_cnn.py", "def f():\n    import keras"),
        ("light_start", "server/a.py", "def f():\n    import pandas"),
        ("light_start", "server/a.py", "if TYPE_CHECKING:\n    import pandas\nimport numpy as np"),
        ("no_pickle", "shared/a.py", "np.load(path, allow_pickle=False)"),
        ("randomness_is_an_argument", "shared/a.py", "def f(rng: np.random.Generator):\n    return rng.normal()"),
        ("randomness_is_an_argument", "shared/a.py", "np.random.default_rng(7)"),
        ("documented", "shared/a.py", '"""A."""\ndef _private():\n    def inner():\n        return 1'),
        ("bare_package", "shared/methods/__init__.py", '"""M."""\nfrom a import B\nMETHODS: dict[str, B] = {"b": B}'),
        ("bare_package", "shared/a.py", "X = 1"),
        ("short", "shared/a.py", "x = 1\n" * 400),
    ],
)
def test_the_rule_lets_what_is_allowed_pass(rule: str, path: str, source: str) -> None:
    assert [] == RULES[rule](Module(path, source))


def test_the_walk_sees_all_four_packages() -> None:
    assert set(ARROWS) == {module.package for module in our_modules()}


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_shipped_study_parses_under_its_own_name(path: Path) -> None:
    assert path.stem == study.load_study(path).name


def test_the_four_studies_are_shipped() -> None:
    assert {"breast_cancer", "digits_cnn", "heart_disease", "pneumonia_cnn"} <= {path.stem for path in STUDIES}


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda path: path.name
)
def test_toml_samples_in_documents_parse(path: Path) -> None:
    for sample in re.findall(r"^ *```toml\n(.*?)^ *```", path.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE):
        parsed = tomllib.loads(sample)
        if "study" in parsed:
            study.parse_study(parsed, path.name)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-bench.lock"])
def test_a_lock_has_versions_and_hashes_and_no_address(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    requirements = [entry for entry in re.split(r"\n(?=\S)", text) if not entry.startswith("#")]

    assert [] == [entry.splitlines()[0] for entry in requirements if "==" not in entry or "--hash=sha256:" not in entry]
    assert [] == [
        word for word in ("://", "-i ", "--index", "--extra-index", "--find-links", "file:", " @ ") if word in text
    ]


def test_the_lock_has_every_dependency_that_the_project_names() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    named = [
        *project["project"]["dependencies"],
        *project["project"]["optional-dependencies"]["keras-cpu"],
        *project["dependency-groups"]["dev"],
        *project["build-system"]["requires"],
    ]
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements.lock").read_text(encoding="utf-8"), re.MULTILINE))

    assert set() == {re.split(r"[^A-Za-z0-9-]", name)[0] for name in named} - locked


def test_the_wheel_holds_the_four_packages_with_templates_and_studies_and_nothing_else(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for package in ARROWS:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", tmp_path, source], check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        packed = {name for name in wheel.namelist() if ".dist-info/" not in name}

    wanted = {path for package in ARROWS for path in (source / package).rglob("*") if path.is_file()}
    assert {path.relative_to(source).as_posix() for path in wanted} == packed
