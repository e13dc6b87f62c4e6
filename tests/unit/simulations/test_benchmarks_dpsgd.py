"""What the benchmark of private training measures is the studies' own step. No speed is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shared.models import runtime
from shared.models.image_cnn import ImageCnn
from shared.study import load_study
from simulations.benchmarks import dpsgd
from simulations.benchmarks.dpsgd import CNN, Case

ROOT = Path(__file__).parents[3]
SMALL = Case("small", ImageCnn(filters=(8,), dense_units=4), 6, 1.1, None)

STAND_IN = """import json, sys
print(json.dumps({{"torch": "0", "opacus": "0"}}), flush=True)
for line in sys.stdin:
    steps = json.loads(line)["steps"]
    print(json.dumps({{"seconds": 0.5 * steps, "weights": {weights}}}), flush=True)
"""


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch, weights: int) -> None:
    """Put a program that speaks as Opacus's side does in its place; that side needs packages which tests have not."""
    script = folder / "stand_in.py"
    script.write_text(STAND_IN.format(weights=weights), encoding="utf-8")
    monkeypatch.setattr(dpsgd.dpsgd_peer, "__file__", str(script))


def test_the_network_is_the_studys() -> None:
    study = load_study(ROOT / "simulations" / "studies" / "pneumonia_cnn.toml")
    assert study.data.images is not None
    assert study.method.options.model == CNN
    assert (study.data.images.height, study.data.images.width, study.data.images.channels) == dpsgd.SHAPE


def test_all_sides_are_run_once_in_every_repeat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.start(1)
    size = dpsgd.count(SMALL.network)
    stand_in(tmp_path, monkeypatch, size)
    with dpsgd.peer(Path(sys.executable)) as other:
        works = {**dpsgd.sides(SMALL, 2), "opacus": other.side(SMALL, 2)}
        took = dpsgd.measured(works, 3)
        assert {"plain": 3, "clipped": 3, "noised": 3, "opacus": 3} == {name: len(each) for name, each in took.items()}
        assert all(each > 0 for samples in took.values() for each in samples)
        assert [1.0] * 3 == took["opacus"]


def test_a_peer_with_another_network_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runtime.start(1)
    stand_in(tmp_path, monkeypatch, 1)
    with dpsgd.peer(Path(sys.executable)) as other, pytest.raises(RuntimeError, match="weights"):
        other.side(SMALL, 1)


def test_a_peer_that_ends_is_no_measurement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "ends.py"
    script.write_text("", encoding="utf-8")
    monkeypatch.setattr(dpsgd.dpsgd_peer, "__file__", str(script))
    with pytest.raises(RuntimeError, match="ended"), dpsgd.peer(Path(sys.executable)):
        pass


def test_the_ratios_are_of_steps_that_were_taken_in_turns() -> None:
    took = {"plain": [1.0, 2.0, 4.0], "clipped": [1.0, 4.0, 4.0], "noised": [2.0, 4.0, 8.0], "opacus": [8.0, 8.0, 8.0]}
    lines = {line.what.strip(): line for line in dpsgd.lines_of(SMALL, took, steps=10)}
    assert (1.0, True) == (lines["clipped / plain"].median, lines["clipped / plain"].met)
    assert (2.0, None) == (lines["clipped and noised / plain"].median, lines["clipped and noised / plain"].met)
    assert 15.0 == lines["ours, noised, samples per second"].median
    assert (2.0, True) == (
        lines["ours / Opacus, samples per second"].median,
        lines["ours / Opacus, samples per second"].met,
    )


def test_the_peer_needs_nothing_of_this_project(tmp_path: Path) -> None:
    """It runs where neither this project nor what it needs is installed; torch is what it asks for first."""
    command = [sys.executable, "-I", "-S", dpsgd.dpsgd_peer.__file__]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, input=json.dumps({}))
    assert "No module named 'torch'" in done.stderr
