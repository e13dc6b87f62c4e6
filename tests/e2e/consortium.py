"""A consortium of real processes on this machine: a coordinator and hospitals, each started by the real commands.

Every wait is bounded, and ``close`` ends by process id whatever was started. A test says what happens to the processes;
what it expects is read from the files that a coordinator and a hospital would read.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from server import jobs
from server.jobs import Job, Status
from shared import chain
from shared.processes import born
from tests.e2e.commands import BIN, RUN_S, command, until, weights_of

READY_S, STOP_S = 120.0, 40.0
SERVER_PARTS = ("superlink", "superexec", "gateway")
KNOWN: list[Consortium] = []
"""Those of the test at work: their logs are shown when it fails."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass(eq=False)
class Consortium:
    """A coordinator's folder ``server``, one folder for each hospital, and the processes that were started.

    root: everything is below it.
    port: of the gateway.
    """

    root: Path
    port: int
    closed: bool = False
    started: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @classmethod
    def make(cls, root: Path, data: Mapping[str, Path], **policy: str | float) -> Consortium:
        """Return a new consortium in which every hospital is enrolled and has joined; nothing runs.

        data: each hospital's file.
        policy: lines of ``[policy]`` in every hospital's ``site.toml`` that are not the template's.
        """
        root.mkdir(parents=True, exist_ok=True)
        made = cls(root, free_port())
        KNOWN.append(made)
        address = ("--address", f"localhost:{made.port}", "--host", "127.0.0.1", "--name", "Test consortium")
        command("consilium-server", "init", made.server, *address)
        with ThreadPoolExecutor(2) as pool:
            fingerprints = list(pool.map(lambda item: made.init(item[0], item[1], **policy), data.items()))
        for name, fingerprint in zip(data, fingerprints, strict=True):
            made.enrol(name, fingerprint)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(made.join, data))
        return made

    @classmethod
    def at(cls, root: Path) -> Consortium:
        """Return the consortium whose folders are below ``root``, such as a copy of another; nothing runs."""
        address = json.loads((root / "server" / "consortium.json").read_text(encoding="utf-8"))["address"]
        found = cls(root, int(address.rpartition(":")[2]))
        KNOWN.append(found)
        return found

    @property
    def server(self) -> Path:
        """The coordinator's folder."""
        return self.root / "server"

    def hospital(self, name: str) -> Path:
        """Return a hospital's folder."""
        return self.root / "hospitals" / name

    @property
    def names(self) -> list[str]:
        """Of all hospitals."""
        return sorted(path.name for path in (self.root / "hospitals").iterdir())

    # --- Before a run ---

    def init(self, name: str, data: Path, **policy: str | float) -> str:
        """Make a hospital's folder, say in its ``site.toml`` where its data are, and return its fingerprint."""
        folder = self.hospital(name)
        folder.parent.mkdir(exist_ok=True)
        said = command("consilium-client", "init", folder, "--name", name).stdout
        lines = (folder / "site.toml").read_text(encoding="utf-8").splitlines()
        for key, value in policy.items():
            number = next(at for at, line in enumerate(lines) if line.startswith(f"{key} ="))
            lines[number] = f"{key} = {str(value).lower()}"
        lines += ["[data.own]", f'path = "{data}"', ""]
        (folder / "site.toml").write_text("\n".join(lines), encoding="utf-8")
        return said.rpartition("fingerprint")[2].strip()

    def enrol(self, name: str, fingerprint: str) -> None:
        """Enrol a hospital that was made; its welcome is ``welcome-NAME.json`` below root."""
        out = ("--output", self.root / f"welcome-{name}.json", "--fingerprint", fingerprint)
        command("consilium-server", "enrol", self.server, self.hospital(name) / "request.json", *out)

    def join(self, name: str) -> None:
        """Let a hospital take in its welcome."""
        command("consilium-client", "join", self.hospital(name), self.root / f"welcome-{name}.json", "--yes")

    def approve(self, study: Path, names: Iterable[str] | None = None, data: str = "own") -> None:
        """Let hospitals approve a study, with the members of the newest roster and the data of that name."""
        how = ("--roster", self.server / "roster.json", "--data", data, "--yes")
        with ThreadPoolExecutor(2) as pool:
            wanted = [self.hospital(name) for name in names or self.names]
            list(pool.map(lambda folder: command("consilium-client", "approve", folder, study, *how), wanted))

    # --- Processes ---

    def start(self, names: Iterable[str] | None = None) -> None:
        """Start the aggregator and hospitals, and wait until all are connected."""
        self.start_server()
        wanted = list(self.names if names is None else names)
        for name in wanted:
            self.start_hospital(name, wait=False)
        for name in wanted:
            self.wait_connected(name)

    def start_server(self) -> None:
        """Start the aggregator, as a coordinator does, and wait until it says that it is ready."""
        self._start("start", "consilium-server", "start", self.server)
        self._wait_said("start", "ready: hospitals can connect")

    def start_hospital(self, name: str, wait: bool = True) -> None:
        """Start a hospital's node under its supervisor, as a hospital does."""
        self._start(name, "consilium-client", "start", self.hospital(name))
        if wait:
            self.wait_connected(name)

    def wait_connected(self, name: str) -> None:
        """Wait until a hospital was told that it is connected, by the process that was started last."""
        self._wait_said(name, "connected: approved studies are answered")

    def stop(self, what: str) -> int:
        """Ask ``start`` or a hospital's supervisor to end, and return its exit code."""
        process = self.started.pop(what)
        process.terminate()
        return process.wait(STOP_S)

    def kill(self, what: str, job: str = "") -> None:
        """SIGKILL one process.

        what: ``superlink``, ``superexec``, ``gateway``; ``serverapp``, of the run ``job``; ``start``, the aggregator's
            supervisor; ``node NAME``; or a hospital's name: its supervisor.
        """
        os.kill(self.pid(what, job), signal.SIGKILL)
        if what in self.started:
            self.started.pop(what).wait(STOP_S)

    def pid(self, what: str, job: str = "") -> int:
        """Return a process's id; see ``kill``. A process that is just being restarted is waited for."""
        if what in self.started:
            return self.started[what].pid
        file = self._file(what, job)
        until(f"{what} runs", lambda: _alive(file), READY_S)
        return _recorded(file)[0]

    def _file(self, what: str, job: str) -> Path:
        if what in SERVER_PARTS:
            return self.server / "processes" / f"{what}.json"
        if what == "serverapp":
            return self.server / "runs" / job / "process.json"
        return self.hospital(what.removeprefix("node ")) / "processes" / "node.json"

    def last_pid(self, what: str, job: str = "") -> int:
        """Return the id of the process that did this last, whether it is there or not."""
        return _recorded(self._file(what, job))[0]

    def said(self, what: str) -> str:
        """Return what the command started last for ``start`` or a hospital has printed."""
        return self._log(what).read_text(encoding="utf-8")

    def close(self) -> None:
        """End everything that was started."""
        self.closed = True
        processes = [self.started.pop(what) for what in list(self.started)]
        for process in processes:
            process.terminate()
        for process in processes:
            try:
                process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(STOP_S)
        # A supervisor that was killed takes its processes with it; the ServerApp's process is Flower's grandchild.
        for file in [*self.root.glob("*/processes/*.json"), *self.root.glob("hospitals/*/processes/*.json")]:
            _kill_recorded(file)
        for file in self.server.glob("runs/*/process.json"):
            _kill_recorded(file)

    def _start(self, what: str, name: str, *arguments: str | Path) -> None:
        with self._log(what).open("wb") as output:
            self.started[what] = subprocess.Popen(
                [str(BIN / name), *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def _wait_said(self, what: str, text: str) -> None:
        process = self.started[what]
        until(f"{what} says {text!r}", lambda: text in self.said(what) or process.poll() is not None, READY_S)
        assert text in self.said(what), f"{what} ended: {self.said(what)}"

    def _log(self, what: str) -> Path:
        return self.root / f"{what}.out"

    # --- Runs ---

    def begin(self, study: Path) -> str:
        """Ask for a run and return its name; nobody waits for it."""
        return command("consilium-server", "run", self.server, study, "--detach").stdout.strip()

    def run(self, study: Path) -> dict[str, Any]:
        """Run a study to its end and return what ``run --json`` prints."""
        said = command("consilium-server", "run", self.server, study, "--json", timeout_s=RUN_S).stdout
        content: dict[str, Any] = json.loads(said)
        return content

    def job(self, name: str) -> Job:
        """Return a run."""
        return jobs.read(self.server / "runs" / name)

    def status(self, name: str) -> Status:
        """Return how far a run is."""
        return jobs.read_status(self.job(name))

    def wait_exchanges(self, name: str, count: int, seconds: float = RUN_S) -> None:
        """Wait until so many exchanges of a run are finished."""
        until(f"{count} exchanges of {name}", lambda: len(self.status(name).history) >= count, seconds)

    def wait_finished(self, name: str, seconds: float = RUN_S) -> None:
        """Wait until a run is over, and check that it is finished."""
        until(f"the end of {name}", lambda: self.status(name).state in jobs.FINAL, seconds)
        assert self.status(name).state == "finished", self.status(name).message

    def status_rows(self, part: str) -> list[dict[str, str]]:
        """Return what ``status --json`` shows of ``processes``, ``hospitals`` or ``runs``."""
        rows: list[dict[str, str]] = json.loads(command("consilium-server", "status", self.server, "--json").stdout)[
            part
        ]
        return rows

    def record(self, folder: Path | None = None) -> list[dict[str, Any]]:
        """Return the lines of a record: the coordinator's, or the one in a hospital's folder."""
        return list(chain.read((folder or self.server) / "audit.jsonl"))

    def digests(self, name: str) -> dict[int, str]:
        """Return the state's digest after each exchange of a run, by number, as the coordinator's record has it."""
        run = self.job(name).id
        return {
            int(line["number"]): str(line["state"])
            for line in self.record()
            if line["event"] == "exchange" and line["id"] == run
        }

    def weights(self, name: str) -> dict[str, bytes]:
        """Return the released model's weights of a run."""
        return weights_of(self.server / "runs" / name)

    def logs(self, lines: int = 40) -> str:
        """Return the ends of all logs, for people who look for what went wrong."""
        found = [path for pattern in ("*.out", "*.log") for path in sorted(self.root.rglob(pattern))]
        tails = []
        for path in found:
            text = path.read_text(encoding="utf-8", errors="replace").splitlines()
            tails.append("\n".join([f"--- {path.relative_to(self.root)}", *text[-lines:]]))
        return "\n".join(tails)


def _recorded(file: Path) -> tuple[int, object]:
    """Return the process that a file names and when it was born; 0 for none."""
    try:
        state = json.loads(file.read_text(encoding="utf-8"))
        return int(state["pid"] or 0), state["born"]
    except (OSError, ValueError, KeyError):
        return 0, None


def _alive(file: Path) -> bool:
    pid, since = _recorded(file)
    return pid > 0 and since is not None and born(pid) == since


def _kill_recorded(file: Path) -> None:
    if _alive(file):
        with contextlib.suppress(ProcessLookupError):
            os.kill(_recorded(file)[0], signal.SIGKILL)
