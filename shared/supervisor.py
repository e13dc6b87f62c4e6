"""Keeps child processes running: what ends without being asked is started again, later and later.

The wait before a restart doubles from a program's smallest to its largest and begins anew once the program was up for a
minute. An exit code of 0 is a failure like any other: some programs say "terminated gracefully" when they were refused.
Programs start in the order in which they were given, each for the first time when those before it are ready; they stop
in the reverse order. Children die with the supervisor, however it dies (``shared/processes.py``).

``DIR/NAME.json`` says where each program stands (``shared/process_status.py``). One supervisor works in a folder at a
time; its first act is to stop what an earlier one that was killed may have left. Linux and macOS.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Self

from shared import files
from shared.errors import DeploymentError
from shared.process_status import FORMAT, LOCK, runs, states, supervisor_pid
from shared.processes import Process, RotatingLog, born, stop_orphans

log = logging.getLogger("consilium.supervisor")

RESET_S = 60.0
"""A program that was up for so long begins with its smallest delay again."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True)
class Program:
    """What is kept running.

    name: also of its file in the folder, so letters, digits, ``.``, ``_`` and ``-``.
    command: program and arguments; no shell reads it.
    log: where its output goes; mode 0600, three files of 10 MB.
    environment: added to the supervisor's own.
    ready: says whether programs after this one can start; asked in every step until it is true, an OSError being a no.
        None: once it runs.
    min_delay_s, max_delay_s: bounds of the wait before a restart.
    folder: where it runs; None: where the supervisor does.
    """

    name: str
    command: tuple[str, ...]
    log: Path
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    ready: Callable[[], bool] | None = None
    min_delay_s: float = 1.0
    max_delay_s: float = 60.0
    folder: Path | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise DeploymentError(
                f"expected a program's name of letters, digits, '.', '_', '-'. Received: {self.name!r}"
            )
        if not 0 < self.min_delay_s <= self.max_delay_s:
            raise DeploymentError(f"{self.name}: expected 0 < min_delay_s <= max_delay_s.")
        search = self.environment.get("PATH", os.environ.get("PATH"))
        if not self.command or shutil.which(self.command[0], path=search) is None:
            raise DeploymentError(f"{self.name}: no such program: {' '.join(self.command[:1])!r}. Is it installed?")


def delays(program: Program) -> Iterator[float]:
    """Return the waits before one restart after another, in seconds, without end."""
    delay_s = program.min_delay_s
    while True:
        yield delay_s
        delay_s = min(2 * delay_s, program.max_delay_s)


class _Child:
    """One program: its process or the time of its next start, and its file."""

    def __init__(self, program: Program, folder: Path) -> None:
        program.log.parent.mkdir(parents=True, exist_ok=True)
        self.program = program
        self.file = folder / f"{program.name}.json"
        self.process: Process | None = None
        self.started = False
        self.ready = False
        self._output = RotatingLog(program.log)
        self._delays = delays(program)
        self._due = self._since = -float("inf")
        self._state: dict[str, Any] = {"format": FORMAT, "name": program.name, "restarts": 0, "last_exit": None}
        self._write(started_at=None)

    def step(self, now: float, may_begin: bool) -> None:
        """Notice an end, start when it is due, ask whether it is ready."""
        if self.process is not None and (how := self.process.ended()) is not None:
            self._note_end(now, how)
        if self.process is None and now >= self._due and (self.started or may_begin):
            self._start(now)
        if self.process is not None and not self.ready and self._check():
            self.ready = True
            self._write()
            log.info(
                "event=ready program=%s pid=%d seconds=%.1f", self.program.name, self.process.pid, now - self._since
            )

    def _check(self) -> bool:
        try:
            return self.program.ready is None or self.program.ready()
        except OSError:
            return False

    def stop(self, grace_s: float) -> None:
        """End it on request."""
        if self.process is None:
            return
        how = self.process.stop(grace_s)
        log.info("event=stopped program=%s pid=%d how=%r", self.program.name, self.process.pid, how)
        self.process, self.ready = None, False
        self._write(last_exit=f"stopped: {how}")

    def _start(self, now: float) -> None:
        program = self.program
        # Else a Python program's last lines would be lost with its buffer when it is killed.
        environment = {"PYTHONUNBUFFERED": "1", **os.environ, **program.environment}
        self._since = now
        try:
            self.process = Process(program.command, environment, program.folder, self._output)
        except OSError as error:
            self._note_end(now, f"not started: {error.strerror}")
            return
        self._state["restarts"] += self.started
        self.started = True
        self._write(started_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"))
        log.info("event=started program=%s pid=%d restarts=%d", program.name, self.process.pid, self._state["restarts"])

    def _note_end(self, now: float, how: str) -> None:
        if now - self._since >= RESET_S:
            self._delays = delays(self.program)
        delay_s = next(self._delays)
        self.process, self.ready, self._due = None, False, now + delay_s
        self._write(last_exit=how)
        log.warning("event=ended program=%s how=%r restart_in_s=%g", self.program.name, how, delay_s)

    def _write(self, **changes: Any) -> None:
        process = self.process
        self._state.update(changes)
        self._state.update(pid=process and process.pid, born=process and process.born, ready=self.ready)
        try:
            files.replace_json(self.file, self._state, files.SECRET_MODE)
        except OSError as error:
            # A full disk is no reason to let programs stand still.
            log.warning("event=state-not-written program=%s reason=%s", self.program.name, error.strerror)


class Supervisor:
    """Runs programs until it is told to stop, see the module.

        with Supervisor(folder / "processes") as supervisor:
            supervisor.start(Program("gateway", command, log))
            while not supervisor.stopping:
                supervisor.step()
                own_work()
                time.sleep(0.2)

    Entering takes the folder, stops orphans and, in the main thread, lets SIGTERM, SIGINT and SIGHUP set ``stopping``;
    leaving stops the programs, whatever happened.

    grace_s: from SIGTERM to SIGKILL, for each program.
    """

    def __init__(self, folder: Path, grace_s: float = 10.0) -> None:
        self._folder, self._grace_s = folder, grace_s
        self._children: list[_Child] = []
        self._lock = -1
        self._handlers: dict[signal.Signals, Any] = {}
        self.stopping = False

    def __enter__(self) -> Self:
        files.make_folder(self._folder, files.FOLDER_MODE)
        self._lock = _take(self._folder / LOCK)
        try:
            self._clear()
        except BaseException:
            os.close(self._lock)
            raise
        if threading.current_thread() is threading.main_thread():
            for number in _STOPS:
                # What somebody ignored on purpose, such as nohup SIGHUP, stays ignored.
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.stop()
        finally:
            for number, handler in self._handlers.items():
                signal.signal(number, handler)
            os.ftruncate(self._lock, 0)
            os.close(self._lock)

    def _clear(self) -> None:
        """Stop what an earlier supervisor left, and forget its files."""
        left = [state for state in states(self._folder) if runs(state)]
        for state in left:
            log.warning("event=orphan program=%s pid=%d", state["name"], state["pid"])
        stop_orphans({state["pid"]: state["born"] for state in left}, self._grace_s)
        for path in self._folder.glob("*.json"):
            path.unlink()

    def start(self, program: Program) -> None:
        """Take a program in; the next step starts it, as soon as those before it are ready.

        Raises: DeploymentError if there is one of this name, or before the supervisor was entered.
        """
        if self._lock < 0 or any(child.program.name == program.name for child in self._children):
            raise DeploymentError(f"{program.name}: expected a running supervisor without a program of this name.")
        self._children.append(_Child(program, self._folder))

    def step(self, now: float | None = None) -> None:
        """Look after every program once, without waiting; nothing once it is stopping.

        now: seconds of a clock that only goes forward; None: the system's.
        """
        if self.stopping:
            return
        now = time.monotonic() if now is None else now
        may_begin = True
        for child in self._children:
            child.step(now, may_begin)
            may_begin = may_begin and child.ready

    def run(self, work: Callable[[], None] = lambda: None, pause_s: float = 0.2) -> None:
        """Step until it is told to stop; ``work`` is the owner's part of every step."""
        while not self.stopping:
            self.step()
            work()
            time.sleep(pause_s)

    @property
    def ready(self) -> bool:
        """Whether every program runs and is ready."""
        return all(child.ready for child in self._children)

    def stop(self) -> None:
        """Stop every program, the last one first, and wait for it."""
        self.stopping = True
        for child in reversed(self._children):
            child.stop(self._grace_s)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self.stopping = True


def _take(path: Path) -> int:
    """Lock a folder for this process, and write down which it is."""
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, files.SECRET_MODE)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "born": born(os.getpid())}).encode(), 0)
    except BlockingIOError:
        os.close(descriptor)
        who = supervisor_pid(path.parent) or "unknown"
        raise DeploymentError(f"{path.parent}: another process works here already, number {who}.") from None
    return descriptor
