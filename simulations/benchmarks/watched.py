"""Runs a command and measures what it and all its descendants take. Reads ``/proc``: Linux only.

Memory is sampled twice, because summed resident sizes count a page once for every process that shares it: ``rss`` is
that sum, ``pss`` divides shared pages among their users and is the fairer number for many processes.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_INTERVAL_S = 0.2


@dataclass(frozen=True)
class Usage:
    """What a command took.

    output: what it wrote to standard output.
    seconds: wall clock.
    cpu_seconds: user and system time of the command and of all its descendants, up to the last sample of each.
    rss_mib: largest sum of resident sizes over the process tree.
    pss_mib: the same with shared pages divided among their users.
    processes: largest number of processes at once.
    """

    output: str
    seconds: float
    cpu_seconds: float
    rss_mib: float
    pss_mib: float
    processes: int


def run(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end and return what it took.

    Raises: RuntimeError with the end of its standard error if it fails.
    """
    if not Path("/proc/self/smaps_rollup").exists():
        raise RuntimeError("memory is read from /proc/PID/smaps_rollup, so benchmarks need Linux")
    started = time.perf_counter()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})}
    ) as process:
        sampler = _Sampler(process.pid)
        sampler.start()
        errors: list[str] = []
        reader = threading.Thread(target=lambda: errors.append(process.stderr.read() if process.stderr else ""))
        reader.start()
        output = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        sampler.stop()
        reader.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{''.join(errors)[-2000:]}")
    # The kernel's own record is exact for the first process; only the samples see those that nobody waited for.
    rss = max(sampler.rss_mib, usage.ru_maxrss / 1024)
    cpu = max(sampler.cpu_s, usage.ru_utime + usage.ru_stime)
    return Usage(output, seconds, cpu, rss, sampler.pss_mib or rss, sampler.processes)


class _Sampler(threading.Thread):
    """Samples a process and its descendants until it is stopped."""

    def __init__(self, root: int) -> None:
        super().__init__(daemon=True)
        self._ended = threading.Event()
        self._tree = {root}
        self._cpu_s: dict[int, float] = {}
        self.rss_mib = self.pss_mib = 0.0
        self.processes = 0

    def run(self) -> None:
        while not self._ended.wait(_INTERVAL_S):
            self._grow()
            sizes = [size for pid in self._tree if (size := _sizes_kib(pid))]
            self.rss_mib = max(self.rss_mib, sum(rss for rss, _ in sizes) / 1024)
            self.pss_mib = max(self.pss_mib, sum(pss for _, pss in sizes) / 1024)
            self.processes = max(self.processes, len(sizes))

    @property
    def cpu_s(self) -> float:
        """Processor time of every process that was ever seen."""
        return sum(self._cpu_s.values())

    def stop(self) -> None:
        self._ended.set()
        self.join()

    def _grow(self) -> None:
        """Add the descendants of known processes; who was in the tree stays in it when its parent ends."""
        running = _running()
        parents = {pid: parent for pid, (parent, _) in running.items()}
        grown = True
        while grown:
            children = {pid for pid, parent in parents.items() if parent in self._tree} - self._tree
            grown = bool(children)
            self._tree |= children
        self._tree &= parents.keys()
        self._cpu_s.update({pid: running[pid][1] for pid in self._tree})


def _running() -> dict[int, tuple[int, float]]:
    """Return (parent, processor time in seconds) of every process."""
    ticks_s = os.sysconf("SC_CLK_TCK")
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                # The name, in parentheses, may contain anything; what follows are numbers (proc(5)).
                words = (folder / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            found[int(folder.name)] = (int(words[1]), (int(words[11]) + int(words[12])) / ticks_s)
    return found


def _sizes_kib(pid: int) -> tuple[int, int] | None:
    """Return (resident, proportional) size of a process."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return None
    fields = {line.partition(":")[0]: line.split() for line in text.splitlines()[1:]}
    return int(fields["Rss"][1]), int(fields["Pss"][1])


def python(module: str, *arguments: str) -> list[str]:
    """Return the command that runs a module with this Python."""
    return [sys.executable, "-m", module, *arguments]
