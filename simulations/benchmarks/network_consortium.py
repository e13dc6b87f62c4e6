"""A consortium of real processes on this machine for the benchmark of the network part, by the real commands."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from client.data.base import RawData
from shared.study import load_study

_COMMAND_S, _READY_S, _STOP_S = 300.0, 90.0, 30.0
_WIDE = """
[method]
name = "neural"
rounds = 1

[method.options]
architecture = "tabular_mlp"
batch_size = 1024

[method.options.model]
units = [{units}, {units}]

[aggregation]
secure = false
min_sites = 2
deadline_s = 900.0
"""
_STUDIES = Path(__file__).parents[1] / "studies"


def free_port() -> int:
    """Return a port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def command(name: str, *arguments: str | Path, environment: Mapping[str, str] | None = None) -> str:
    """Run an installed command to its end, and return its standard output.

    Raises: RuntimeError with what it wrote if it fails.
    """
    process = subprocess.run(
        [str(Path(sys.executable).with_name(name)), *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_COMMAND_S,
        check=False,
        env={**os.environ, **(environment or {})},
    )
    if process.returncode:
        raise RuntimeError(f"{name} {' '.join(map(str, arguments))}\n{process.stdout[-2000:]}{process.stderr[-2000:]}")
    return process.stdout


def until(what: str, condition: Callable[[], object], seconds: float = _READY_S) -> None:
    """Wait until something holds.

    Raises: TimeoutError.
    """
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds:g} s for this: {what}")
        time.sleep(0.02)


def write_study(path: Path, shipped: str, **changes: str | float) -> Path:
    """Write a shipped study without ``[simulation]``, with other values.

    changes: lines by key; the key must be in the file.
    """
    text = (_STUDIES / f"{shipped}.toml").read_text(encoding="utf-8").partition("\n[simulation]")[0]
    lines = text.splitlines()
    for key, value in {"name": path.stem, **changes}.items():
        number = next(at for at, line in enumerate(lines) if line.startswith(f"{key} ="))
        lines[number] = f"{key} = {json.dumps(value)}"
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    load_study(path)
    return path


def write_wide_study(path: Path, units: int) -> Path:
    """Write a study of one round of a network with two wide layers, ``units`` squared weights and some more.

    Two hospitals cannot add under masks, so it is in the clear.
    """
    data = (_STUDIES / "breast_cancer.toml").read_text(encoding="utf-8").partition("\n[method]")[0]
    path.write_text(data.replace('name = "breast_cancer"', f'name = "{path.stem}"') + _WIDE.format(units=units))
    load_study(path)
    return path


def write_data(folder: Path, rows: Mapping[str, RawData]) -> dict[str, Path]:
    """Write each hospital's rows as its export would be, a table or an archive of images; return the files."""
    import numpy as np
    import pandas as pd

    folder.mkdir()
    files = {}
    for name, raw in rows.items():
        if raw.images is None:
            files[name] = folder / f"{name}.csv"
            pd.DataFrame(dict(raw.columns)).to_csv(files[name], index=False)
        else:
            files[name] = folder / f"{name}.npz"
            np.savez(files[name], images=raw.images, labels=raw.columns["label"])
    return files


@dataclass(eq=False)
class Consortium:
    """A coordinator's folder, one for each hospital, and the processes that were started.

    root: everything is below it.
    hospitals: names.
    """

    root: Path
    hospitals: tuple[str, ...]
    _started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def make(cls, root: Path, data: Mapping[str, Path], study: Path, **policy: str | float) -> Consortium:
        """Return a consortium whose hospitals have approved a study; nothing runs.

        data: each hospital's file.
        policy: lines of ``[policy]`` that are not the template's.
        """
        made = cls(root, tuple(data))
        address = ("--address", f"localhost:{free_port()}", "--host", "127.0.0.1", "--name", "Benchmark")
        command("consilium-server", "init", made.server, *address)
        for name, path in data.items():
            made._enrol(name, path, policy)
        for name in data:
            roster = ("--roster", made.server / "roster.json")
            command("consilium-client", "approve", made.hospital(name), study, *roster, "--yes")
        return made

    def _enrol(self, name: str, data: Path, policy: Mapping[str, str | float]) -> None:
        folder, welcome = self.hospital(name), self.root / f"{name}.json"
        command("consilium-client", "init", folder, "--name", name)
        settings = folder / "site.toml"
        lines = settings.read_text(encoding="utf-8").splitlines()
        for key, value in {"runs": 100, **policy}.items():
            number = next(at for at, line in enumerate(lines) if line.startswith(f"{key} ="))
            lines[number] = f"{key} = {json.dumps(value)}"
        settings.write_text("\n".join([*lines, "[data.own]", f'path = "{data}"', ""]), encoding="utf-8")
        command("consilium-server", "enrol", self.server, folder / "request.json", "--output", welcome, "--yes")
        command("consilium-client", "join", folder, welcome, "--yes")

    @property
    def server(self) -> Path:
        """The coordinator's folder."""
        return self.root / "server"

    def hospital(self, name: str) -> Path:
        """Return a hospital's folder."""
        return self.root / name

    def begin(self) -> None:
        """Start everything, and wait for nothing."""
        self._start("start", "consilium-server", self.server)
        for name in self.hospitals:
            self._start(name, "consilium-client", self.hospital(name))

    def wait_connected(self) -> None:
        """Wait until every hospital is connected."""
        for name in self.hospitals:
            until(f"{name} is connected", lambda name=name: "\nconnected: " in self._said(name))  # type: ignore[misc]

    def ask(self, study: Path) -> Path:
        """Ask for a run, and return its folder; the aggregator need not be there yet."""
        return self.server / "runs" / command("consilium-server", "run", self.server, study, "--detach").strip()

    def run(self, study: Path) -> dict[str, Any]:
        """Run a study to its end, and return its metrics."""
        metrics: dict[str, Any] = json.loads(command("consilium-server", "run", self.server, study, "--json"))
        return metrics

    def node(self, name: str) -> tuple[int, int]:
        """Return the ids of a hospital's processes: the supervisor, and the node."""
        state = json.loads((self.hospital(name) / "processes" / "node.json").read_text(encoding="utf-8"))
        return self._started[name].pid, int(state["pid"])

    def close(self) -> None:
        """End everything that was started."""
        processes = [self._started.pop(what) for what in list(self._started)]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_STOP_S)

    def _start(self, what: str, name: str, folder: Path) -> None:
        with (self.root / f"{what}.out").open("wb") as output:
            self._started[what] = subprocess.Popen(
                [str(Path(sys.executable).with_name(name)), "start", str(folder)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _said(self, what: str) -> str:
        process, said = self._started[what], (self.root / f"{what}.out").read_text(encoding="utf-8")
        if process.poll() is not None:
            raise RuntimeError(f"{what} ended: {said}")
        return said
