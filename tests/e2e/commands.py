"""The three commands, run to their end as a person would run them, and what a run leaves."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

BIN = Path(sys.executable).parent
COMMAND_S, RUN_S = 120.0, 240.0
"""Bounds of waits, for a machine that has other things to do."""


def until(what: str, condition: Callable[[], object], seconds: float) -> None:
    """Wait until something holds, or fail."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"waited {seconds:g} s for this: {what}"
        time.sleep(0.05)


def command(
    *arguments: str | Path, check: bool = True, timeout_s: float = COMMAND_S
) -> subprocess.CompletedProcess[str]:
    """Run one of the three commands to its end, as ``command("consilium-server", "status", folder)``."""
    name, *rest = map(str, arguments)
    process = subprocess.run(
        [str(BIN / name), *rest],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if check:
        assert process.returncode == 0, f"{name} {' '.join(rest)}\n{process.stdout}\n{process.stderr}"
    return process


def weights_of(run: Path) -> dict[str, bytes]:
    """Return the released model's weights in a run's folder: each array's type, shape and bytes."""
    with np.load(run / "model" / "weights.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    return {name: f"{array.dtype} {array.shape} ".encode() + array.tobytes() for name, array in arrays.items()}


def simulate(study: Path, data: Mapping[str, Path], folder: Path, *more: str) -> dict[str, Any]:
    """Simulate the study with the same hospitals in one process, and return its ``metrics.json``."""
    sites = [word for name, path in data.items() for word in ("--site", f"{name}={path}")]
    bare = ("--set", "simulation.compare=[]")
    process = command(
        *("consilium-simulate", "run", study, "--json", "--output", folder, *sites, *bare, *more), timeout_s=RUN_S
    )
    content: dict[str, Any] = json.loads(process.stdout)
    return content
