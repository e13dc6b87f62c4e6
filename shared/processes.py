"""One child process: started, its output in a file of bounded size, and dead at the latest when its parent is dead.

A child gets a process group of its own, so that what it starts itself is stopped with it. In the group waits a watcher,
a POSIX shell that holds the reading end of a pipe. The writing end is open in the parent alone; when the kernel closes
it, because the parent ended in whatever way, SIGKILL included, the watcher kills the group. Unlike Linux's
``PR_SET_PDEATHSIG`` this works on macOS, for grandchildren, and in a parent with threads. As a member of the group the
watcher also keeps its number from being given to somebody else.

A parent that forks without ``exec`` copies the writing end, and the group then lives as long as the copy.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

log = logging.getLogger("consilium.supervisor")

# Standard input is the pipe; the program gets an empty one. Two pairs of parentheses: else the watcher would be a child
# of the program, which does not know it and might wait for it.
_LAUNCH = """exec 3<&0 </dev/null
( ( trap '' TERM INT HUP QUIT; exec >/dev/null 2>&1; read -r line <&3; kill -KILL 0 ) & )
exec "$@" 3<&-"""
_CHUNK = 65536
_LAST_WORDS_S = 2.0
_POLL_S = 0.02


class RotatingLog:
    """A file of mode 0600 that output is added to; when it is full it becomes ``NAME.1``, and that ``NAME.2``.

    limit: bytes of one file, about: it is changed at a line's end. kept: how many files there are.
    """

    def __init__(self, path: Path, limit: int = 10_000_000, kept: int = 3) -> None:
        self._path, self._limit, self._kept = path, limit, kept
        self._lost = False
        self._lock = threading.Lock()

    def write(self, data: bytes) -> None:
        """Add output. What cannot be written is dropped, and said once: a full disk must not stop the program."""
        with self._lock:
            try:
                self._write(data)
                self._lost = False
            except OSError as error:
                if not self._lost:
                    log.warning("event=output-lost file=%s reason=%s", self._path.name, error.strerror)
                self._lost = True

    def _write(self, data: bytes) -> None:
        while data:
            descriptor = os.open(self._path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
            with os.fdopen(descriptor, "ab") as file:
                os.fchmod(descriptor, 0o600)
                size = os.fstat(descriptor).st_size
                room = max(0, self._limit - size)
                end = len(data) if len(data) <= room else data.rfind(b"\n", 0, room) + 1
                if not end and not size:
                    # One line that is longer than a file.
                    end = data.find(b"\n") + 1 or len(data)
                file.write(data[:end])
            data = data[end:]
            if data:
                self._rotate()

    def _rotate(self) -> None:
        for number in range(self._kept - 1, 0, -1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            newer = self._path if number == 1 else self._path.with_name(f"{self._path.name}.{number - 1}")
            with contextlib.suppress(FileNotFoundError):
                newer.replace(older)


class Process:
    """A running child, see the module. Its number is the number of its process group, too.

    command: program and arguments; environment: all of it; folder: where it runs.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], folder: Path | None, output: RotatingLog
    ) -> None:
        life, self._life = os.pipe()
        reading, writing = os.pipe()
        try:
            self._process = subprocess.Popen(  # noqa: S603 the command is the caller's, and no shell reads it
                ["/bin/sh", "-c", _LAUNCH, "consilium", *command],
                stdin=life,
                stdout=writing,
                stderr=writing,
                env=dict(environment),
                cwd=folder,
                process_group=0,
            )
        except BaseException:
            os.close(self._life)
            os.close(reading)
            raise
        finally:
            os.close(life)
            os.close(writing)
        self.pid = self._process.pid
        self.born = born(self.pid)
        self._pump = threading.Thread(target=_pump, args=(reading, output), daemon=True)
        self._pump.start()

    def ended(self) -> str | None:
        """Return how it ended, such as ``exit code 1`` or ``signal 9 (SIGKILL)``, and None while it runs.

        What is left of its group is killed then, and its last output is in the file.
        """
        code = self._process.poll()
        if code is None:
            return None
        if self._life >= 0:
            signal_group(self.pid, signal.SIGKILL)
            os.close(self._life)
            self._life = -1
            self._pump.join(_LAST_WORDS_S)
        return f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.Signals(-code).name})"

    def stop(self, grace_s: float) -> str:
        """Ask the group to end, kill it after the grace period, and return how it ended."""
        signal_group(self.pid, signal.SIGTERM)
        try:
            self._process.wait(grace_s)
        except subprocess.TimeoutExpired:
            signal_group(self.pid, signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(grace_s)
        return self.ended() or "does not end"


def _pump(descriptor: int, output: RotatingLog) -> None:
    try:
        while data := os.read(descriptor, _CHUNK):
            output.write(data)
    finally:
        os.close(descriptor)


def signal_group(pid: int, number: signal.Signals) -> None:
    """Send a signal to a process group, if it is still there."""
    # macOS says EPERM of a group in which only a zombie is left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def born(pid: int) -> str | None:
    """Return when a process began, None where it does not run: with the number it names one process, for ever.

    Linux: the boot and the clock tick, from ``/proc``; elsewhere the second, from ``ps``.
    """
    boot = Path("/proc/sys/kernel/random/boot_id")
    if boot.exists():
        try:
            # The name, in parentheses, may hold anything; state and start time are fields 3 and 22 of proc(5).
            fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else f"{boot.read_text().strip()} {fields[19]}"
    command = ["/bin/ps", "-o", "state=,lstart=", "-p", str(pid)]
    answer = subprocess.run(  # noqa: S603 a constant and a number
        command, capture_output=True, text=True, check=False, env={"LC_ALL": "C"}
    ).stdout.split()
    return None if not answer or answer[0].startswith("Z") else " ".join(answer[1:])


def stop_orphans(orphans: Mapping[int, str], grace_s: float) -> None:
    """Stop the groups of processes that an earlier parent left: ask, wait for the grace period, kill.

    orphans: ``born`` by number; one that is not the process it was is left alone.
    """
    alive = {pid for pid, began in orphans.items() if born(pid) == began}
    for number, wait_s in ((signal.SIGTERM, grace_s), (signal.SIGKILL, grace_s)):
        for pid in alive:
            signal_group(pid, number)
        end = time.monotonic() + wait_s
        while any(born(pid) == orphans[pid] for pid in alive) and time.monotonic() < end:
            time.sleep(_POLL_S)
