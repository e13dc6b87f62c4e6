"""Every shipped study ends with the same bits with secure aggregation and without: words are the only path."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.study import load_study
from simulations.datasets import DATASETS
from tests.integration.cli import simulate

STUDIES = sorted(
    path
    for path in (Path(__file__).parents[2] / "simulations" / "studies").glob("*.toml")
    if load_study(path).privacy is None  # noise is not the same twice
)

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_ends_with_the_same_bits_with_masks_and_without(
    path: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    study = load_study(path)
    if not DATASETS[str(study.simulation.dataset)].embedded:
        request.getfixturevalue("medical_data")
    assert study.aggregation.secure
    masked, bare = (run(path, tmp_path / name, name) for name in ("true", "false"))
    assert masked.keys() == bare.keys()
    for name, array in masked.items():
        assert array.tobytes() == bare[name].tobytes(), name


def run(path: Path, folder: Path, secure: str) -> dict[str, np.ndarray[Any, Any]]:
    """Return what the run ended with: the weights, and every number about them in the metrics file."""
    process = simulate(
        *("run", path, "--json", "--output", folder),
        *("--set", "simulation.compare=[]", "--set", f"aggregation.secure={secure}"),
        cwd=path.parent,
    )
    assert process.returncode == 0, process.stderr
    metrics = json.loads(process.stdout)
    with np.load(folder / "model" / "weights.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    judged = {"federated": metrics["federated"], "losses": [entry["loss"] for entry in metrics["history"]]}
    return {**arrays, "metrics": np.array(json.dumps(judged))}
