"""The supervisor: real processes that end, refuse to end, are killed, and leave others behind."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from shared.errors import DeploymentError
from shared.process_status import status, supervisor_pid
from shared.processes import Process, RotatingLog, born, stop_orphans
from shared.supervisor import Program, Supervisor, delays

FOREVER = "while :; do sleep 0.02; done"


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    with Supervisor(tmp_path / "processes", grace_s=5) as entered:
        yield entered


def shell(name: str, folder: Path, script: str, ready: Callable[[], bool] | None = None) -> Program:
    return Program(name, ("/bin/sh", "-c", script, name), folder / f"{name}.log", ready=ready)


def until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(2000):
        if condition():
            return
        time.sleep(0.01)
    pytest.fail(f"never: {what}")


def until_said(log: Path) -> None:
    until(lambda: log.exists() and log.read_text().endswith("\n"), "a line in the log")


def pid_of(folder: Path, name: str) -> int:
    pid = json.loads((folder / "processes" / f"{name}.json").read_text())["pid"]
    assert isinstance(pid, int)
    return pid


def until_dead(pid: int) -> None:
    until(lambda: born(pid) is None, f"process {pid} ends")


def group_of(pid: int) -> list[int]:
    """All processes of a group, found as ``ps`` finds them."""
    listed = subprocess.run(["ps", "-eo", "pid=,pgid=,state="], capture_output=True, text=True, check=True).stdout
    rows = [line.split() for line in listed.splitlines()]
    return [int(member) for member, group, state in rows if int(group) == pid and state[0] != "Z"]


# Running and restarting.


def test_a_program_runs_in_its_folder_and_environment_and_its_output_is_for_the_owner_only(
    tmp_path: Path, supervisor: Supervisor
) -> None:
    log = tmp_path / "logs" / "a.log"
    script = 'echo "$NAME in $PWD"; echo fault >&2; read line || echo no input; exec sleep 1000'
    supervisor.start(Program("a", ("/bin/sh", "-c", script), log, {"NAME": "superlink"}, folder=tmp_path))
    supervisor.step()
    until(lambda: log.exists() and log.read_text().count("\n") == 3, "three lines")

    assert (f"superlink in {tmp_path.resolve()}\nfault\nno input\n", 0o600) == (
        log.read_text(),
        log.stat().st_mode & 0o777,
    )


@pytest.mark.parametrize(
    ("script", "how"),
    [("exit 0", "exit code 0"), ("exit 3", "exit code 3"), ("kill -KILL $$", "signal 9 (SIGKILL)")],
)
def test_whatever_ends_unasked_is_started_again(tmp_path: Path, supervisor: Supervisor, script: str, how: str) -> None:
    supervisor.start(shell("a", tmp_path, script))
    supervisor.step(now=0)
    until_dead(pid_of(tmp_path, "a"))
    supervisor.step(now=1)
    (ended,) = status(tmp_path / "processes")
    supervisor.step(now=2)
    (again,) = status(tmp_path / "processes")

    assert (False, 0, how, 1, how) == (ended.running, ended.restarts, ended.last_exit, again.restarts, again.last_exit)


def test_the_last_words_of_a_program_are_in_its_log(tmp_path: Path, supervisor: Supervisor) -> None:
    script = "import sys; print('a' * 100_000); sys.exit('fault')"
    supervisor.start(Program("a", (sys.executable, "-c", script), tmp_path / "a.log"))
    supervisor.step()
    until_dead(pid_of(tmp_path, "a"))
    supervisor.step()

    assert "a" * 100_000 + "\nfault\n" == (tmp_path / "a.log").read_text()


def restart_waits(tmp_path: Path, supervisor: Supervisor, program: Program, ups: list[float]) -> list[float]:
    """Let the program end after each of ``ups`` seconds of our clock, and find how long it then stands still."""
    supervisor.start(program)
    now, waits = 0.0, []
    supervisor.step(now)
    for up_s in ups:
        pid = pid_of(tmp_path, program.name)
        os.killpg(pid, signal.SIGKILL)
        until_dead(pid)
        now += up_s
        supervisor.step(now)
        waits.append(next(wait for wait in itertools.count(0, 0.5) if _runs_at(supervisor, tmp_path, now + wait)))
        now += waits[-1]
    return waits


def _runs_at(supervisor: Supervisor, tmp_path: Path, now: float) -> bool:
    supervisor.step(now)
    return status(tmp_path / "processes")[0].running


def test_the_wait_doubles_and_begins_anew_after_a_minute_up(tmp_path: Path, supervisor: Supervisor) -> None:
    program = shell("a", tmp_path, FOREVER)

    assert [1, 2, 4, 1, 2] == restart_waits(tmp_path, supervisor, program, [0, 0, 59, 60, 0])


def test_a_program_has_its_own_smallest_and_largest_wait(tmp_path: Path, supervisor: Supervisor) -> None:
    program = Program("a", ("sleep", "1000"), tmp_path / "a.log", min_delay_s=2.5, max_delay_s=6)

    assert [2.5, 5, 6] == restart_waits(tmp_path, supervisor, program, [0, 0, 0])


def test_the_wait_is_at_most_a_minute(tmp_path: Path) -> None:
    program = shell("a", tmp_path, FOREVER)

    assert [1, 2, 4, 8, 16, 32, 60, 60] == list(itertools.islice(delays(program), 8))


def test_a_program_that_cannot_be_started_is_tried_again(tmp_path: Path, supervisor: Supervisor) -> None:
    folder = tmp_path / "later"
    program = Program("a", ("sleep", "1000"), tmp_path / "a.log", folder=folder)
    supervisor.start(program)
    supervisor.step(now=0)
    (before,) = status(tmp_path / "processes")
    folder.mkdir()
    supervisor.step(now=1)

    assert ("not started: No such file or directory", True) == (
        before.last_exit,
        status(tmp_path / "processes")[0].running,
    )


def test_restarts_leave_no_open_files_behind(tmp_path: Path, supervisor: Supervisor) -> None:
    def open_files() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    supervisor.start(shell("a", tmp_path, "exit 0"))
    before = open_files()
    for now in range(0, 1000, 100):
        supervisor.step(now)
        until_dead(pid_of(tmp_path, "a"))
        supervisor.step(now + 1)

    assert before == open_files()


def test_the_first_start_waits_until_those_before_are_ready(tmp_path: Path, supervisor: Supervisor) -> None:
    sign = tmp_path / "sign"
    supervisor.start(shell("a", tmp_path, FOREVER, ready=sign.exists))
    supervisor.start(shell("b", tmp_path, FOREVER))
    supervisor.step()
    before = [(one.running, one.ready) for one in status(tmp_path / "processes")]
    sign.touch()
    supervisor.step()

    assert [(True, False), (False, False)] == before
    assert [(True, True), (True, True)] == [(one.running, one.ready) for one in status(tmp_path / "processes")]
    assert supervisor.ready


def test_a_restart_does_not_wait_for_others(tmp_path: Path, supervisor: Supervisor) -> None:
    sign = tmp_path / "sign"
    sign.touch()
    supervisor.start(shell("a", tmp_path, FOREVER, ready=sign.exists))
    supervisor.start(shell("b", tmp_path, FOREVER))
    supervisor.step(now=0)
    sign.unlink()
    for name in ("a", "b"):
        pid = pid_of(tmp_path, name)
        os.killpg(pid, signal.SIGKILL)
        until_dead(pid)
    supervisor.step(now=10)
    supervisor.step(now=11)

    assert [(True, False), (True, True)] == [(one.running, one.ready) for one in status(tmp_path / "processes")]


def test_a_connection_that_is_refused_means_not_ready(tmp_path: Path, supervisor: Supervisor) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))

        def ready() -> bool:
            socket.create_connection(bound.getsockname()).close()
            return True

        supervisor.start(shell("a", tmp_path, FOREVER, ready=ready))
        supervisor.step()
        before = supervisor.ready
        bound.listen()
        supervisor.step()

    assert (False, True) == (before, supervisor.ready)


# Stopping.


def test_programs_stop_in_the_reverse_order(tmp_path: Path) -> None:
    def stopping(name: str) -> Program:
        script = f"trap 'sleep 0.1; echo {name} >> {tmp_path}/order; exit 0' TERM; : > {tmp_path}/{name}.up; {FOREVER}"
        return shell(name, tmp_path, script, ready=(tmp_path / f"{name}.up").exists)

    with Supervisor(tmp_path / "processes") as supervisor:
        for name in ("a", "b", "c"):
            supervisor.start(stopping(name))
        until(lambda: supervisor.step() or supervisor.ready, "ready")

    assert "c\nb\na\n" == (tmp_path / "order").read_text()
    assert ["stopped: exit code 0"] * 3 == [one.last_exit for one in status(tmp_path / "processes")]


def test_a_program_that_does_not_want_to_end_is_killed_after_the_grace_period(tmp_path: Path) -> None:
    with Supervisor(tmp_path / "processes", grace_s=0.2) as supervisor:
        script = f"trap '' TERM; : > {tmp_path}/up; {FOREVER}"
        supervisor.start(shell("a", tmp_path, script, ready=(tmp_path / "up").exists))
        until(lambda: supervisor.step() or supervisor.ready, "ready")

    assert "stopped: signal 9 (SIGKILL)" == status(tmp_path / "processes")[0].last_exit


def test_what_a_program_started_ends_with_it(tmp_path: Path, supervisor: Supervisor) -> None:
    supervisor.start(shell("a", tmp_path, "sleep 1000 & echo $!; wait"))
    supervisor.step()
    until_said(tmp_path / "a.log")
    grandchild, child = int((tmp_path / "a.log").read_text()), pid_of(tmp_path, "a")
    os.kill(child, signal.SIGKILL)
    until_dead(child)
    alive = born(grandchild) is not None
    supervisor.step()
    until_dead(grandchild)

    assert alive
    until(lambda: group_of(child) == [], "an empty group")


def test_a_program_has_no_child_that_it_did_not_start(tmp_path: Path, supervisor: Supervisor) -> None:
    script = "import os, time\ntry:\n    os.wait()\nexcept ChildProcessError:\n    print('alone')\ntime.sleep(1000)"
    supervisor.start(Program("a", (sys.executable, "-c", script), tmp_path / "a.log"))
    supervisor.step()

    until_said(tmp_path / "a.log")
    assert "alone\n" == (tmp_path / "a.log").read_text()


def test_a_supervisor_that_stops_starts_nothing(tmp_path: Path, supervisor: Supervisor) -> None:
    supervisor.start(shell("a", tmp_path, FOREVER))
    supervisor.stop()
    supervisor.step()

    assert [False] == [one.running for one in status(tmp_path / "processes")]


OWNER = """
import signal, sys, threading
from pathlib import Path
from shared.supervisor import Program, Supervisor
folder = Path(sys.argv[1])
script = "trap 'touch $0.ended; exit 0' TERM; sleep 1000 & echo $!; wait"
# As in a shell's foreground: whoever is started in its background inherits that these are ignored, and keeps to it.
for number in (signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_DFL)
# With a second thread, as an owner has one.
threading.Thread(target=threading.Event().wait, daemon=True).start()
with Supervisor(folder / "processes") as supervisor:
    for name in ("a", "b"):
        log = folder / (name + ".log")
        ready = lambda log=log: log.stat().st_size > 0
        supervisor.start(Program(name, ("/bin/sh", "-c", script, name), log, ready=ready, folder=folder))
    supervisor.run(lambda: (folder / "ready").touch() if supervisor.ready else None, pause_s=0.02)
(folder / "left").touch()
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", OWNER, tmp_path])
    try:
        until((tmp_path / "ready").exists, "both programs run")
        yield process
    finally:
        process.kill()
        process.wait()


def family(folder: Path) -> list[int]:
    return [member for name in ("a", "b") for member in group_of(pid_of(folder, name))]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_the_supervisor_in_order(
    tmp_path: Path, owner: subprocess.Popen[bytes], number: signal.Signals
) -> None:
    members = family(tmp_path)
    owner.send_signal(number)

    assert (0, True) == (owner.wait(timeout=30), (tmp_path / "left").exists())
    assert all((tmp_path / f"{name}.ended").exists() for name in ("a", "b"))
    assert ["stopped: exit code 0"] * 2 == [one.last_exit for one in status(tmp_path / "processes")]
    for pid in members:
        until_dead(pid)


def test_children_and_grandchildren_die_with_a_supervisor_that_is_killed(
    tmp_path: Path, owner: subprocess.Popen[bytes]
) -> None:
    members = family(tmp_path)
    owner.kill()
    owner.wait()

    # A shell, its `sleep 1000` and the watcher, for each of two programs.
    assert 6 == len(members)
    for pid in members:
        until_dead(pid)
    assert [False, False] == [one.running for one in status(tmp_path / "processes")]


def test_orphans_of_a_killed_supervisor_are_stopped_by_the_next_one(
    tmp_path: Path, owner: subprocess.Popen[bytes]
) -> None:
    programs = [pid_of(tmp_path, name) for name in ("a", "b")]
    sleeps = [int((tmp_path / f"{name}.log").read_text()) for name in ("a", "b")]
    # The supervisor and the two watchers are killed together: nobody is left to stop the programs.
    for pid in [*(set(family(tmp_path)) - {*programs, *sleeps}), owner.pid]:
        os.kill(pid, signal.SIGKILL)
    owner.wait()
    before = [one.running for one in status(tmp_path / "processes")]
    with Supervisor(tmp_path / "processes", grace_s=5):
        after = [pid for pid in programs if born(pid) is not None]

    assert ([True, True], []) == (before, after)
    assert all((tmp_path / f"{name}.ended").exists() for name in ("a", "b"))
    for pid in sleeps:
        until_dead(pid)


def test_a_process_that_only_has_the_number_of_an_orphan_is_left_alone(tmp_path: Path) -> None:
    stranger = subprocess.Popen(["sleep", "1000"], process_group=0)
    try:
        stop_orphans({stranger.pid: "another boot 17"}, grace_s=0.1)

        assert None is stranger.poll()
    finally:
        stranger.kill()
        stranger.wait()


def test_two_supervisors_do_not_work_in_one_folder(tmp_path: Path, supervisor: Supervisor) -> None:
    with pytest.raises(DeploymentError, match=f"another process works here already, number {os.getpid()}"):
        Supervisor(tmp_path / "processes").__enter__()


def test_the_folder_is_free_after_a_supervisor_has_left(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        with Supervisor(tmp_path / "processes"):
            seen.append(supervisor_pid(tmp_path / "processes"))
        seen.append(supervisor_pid(tmp_path / "processes"))

    assert [os.getpid(), None] * 2 == seen


def test_signal_handlers_are_put_back(tmp_path: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with Supervisor(tmp_path / "processes"):
        pass

    assert before == signal.getsignal(signal.SIGTERM)


# Status, names, logs.


def test_a_folder_without_programs_has_an_empty_status(tmp_path: Path) -> None:
    assert [] == status(tmp_path / "nothing")


def test_a_damaged_state_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"format": 1}')
    with pytest.raises(DeploymentError, match=r"a\.json: expected a program's state"):
        status(tmp_path)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"name": "../a"}, "letters, digits"),
        ({"command": ()}, "no such program"),
        ({"command": ("consilium-nothing",)}, "no such program: 'consilium-nothing'"),
        ({"min_delay_s": 0}, "min_delay_s"),
        ({"max_delay_s": 0.5}, "min_delay_s"),
    ],
)
def test_a_program_that_cannot_be_is_refused(tmp_path: Path, changes: Mapping[str, object], complaint: str) -> None:
    with pytest.raises(DeploymentError, match=complaint):
        Program(**{"name": "a", "command": ("sleep", "1"), "log": tmp_path / "a.log", **changes})  # type: ignore[arg-type]


def test_a_name_is_taken_once(tmp_path: Path, supervisor: Supervisor) -> None:
    supervisor.start(shell("a", tmp_path, FOREVER))
    with pytest.raises(DeploymentError, match="without a program of this name"):
        supervisor.start(shell("a", tmp_path, FOREVER))


def test_a_programs_environment_is_not_printed(tmp_path: Path) -> None:
    assert "hidden" not in repr(Program("a", ("sleep", "1"), tmp_path / "a.log", {"TOKEN": "hidden"}))


def test_a_full_log_becomes_an_older_one_and_the_oldest_goes(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "a.log", limit=6, kept=3)
    for line in (b"1\n2\n", b"3\n4\n", b"5\n6\n7\n8\n", b"9\na\nb\n"):
        log.write(line)

    assert {"a.log": "a\nb\n", "a.log.1": "7\n8\n9\n", "a.log.2": "4\n5\n6\n"} == {
        path.name: path.read_text() for path in tmp_path.iterdir()
    }


def test_a_line_that_is_longer_than_a_log_is_not_lost(tmp_path: Path) -> None:
    log = RotatingLog(tmp_path / "a.log", limit=6, kept=3)
    for line in (b"1\n", b"123456789\n2\n", b"3\n"):
        log.write(line)

    assert {"a.log": "2\n3\n", "a.log.1": "123456789\n", "a.log.2": "1\n"} == {
        path.name: path.read_text() for path in tmp_path.iterdir()
    }


def test_no_line_of_a_talkative_program_is_lost_when_its_log_is_full(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    process = Process(("seq", "10000"), os.environ, None, RotatingLog(log, limit=20_000, kept=3))
    until(lambda: process.ended() is not None, "seq ends")

    # 48894 bytes: two full files and the rest.
    files = [log.with_name("a.log.2"), log.with_name("a.log.1"), log]
    assert [str(number) for number in range(1, 10_001)] == "".join(path.read_text() for path in files).splitlines()
    assert all(path.stat().st_size <= 20_000 for path in files)


def test_a_log_that_cannot_be_written_does_not_stop_the_program(
    tmp_path: Path, supervisor: Supervisor, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.log").mkdir()
    supervisor.start(shell("a", tmp_path, f"seq 100000; : > {tmp_path}/done; {FOREVER}"))
    supervisor.step()
    until((tmp_path / "done").exists, "more output than a pipe holds")

    assert ["event=output-lost file=a.log reason=Is a directory"] == [
        record.getMessage() for record in caplog.records if "output-lost" in record.getMessage()
    ]
