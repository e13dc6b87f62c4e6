"""Run the researcher's command in real processes that import nothing again.

They are forked from one that has imported what a run of a table imports, which takes longer than such a run; TensorFlow
is not in it. Whether the command also starts on its own is for ``cli.simulate`` to show.
"""

from __future__ import annotations

import importlib.util
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.integration.preloaded"])

Prepare = Callable[[], None]
"""What is called in the process before the command; can be pickled."""


def forked(
    *arguments: str | Path, cwd: Path, prepare: Prepare | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Return the finished process; nothing is checked."""
    with tempfile.TemporaryDirectory() as folder:
        process = started(*arguments, cwd=cwd, streams=Path(folder), prepare=prepare, **environment)
        process.join(300)
        if process.exitcode is None:
            process.kill()
            raise TimeoutError(f"{arguments} did not end")
        out, err = (Path(folder, name).read_text(encoding="utf-8") for name in ("out", "err"))
    return subprocess.CompletedProcess([*map(str, arguments)], process.exitcode, out, err)


def started(
    *arguments: str | Path, cwd: Path, streams: Path, prepare: Prepare | None = None, **environment: str
) -> BaseProcess:
    """Return the process just started, which writes to ``streams/out`` and ``streams/err``."""
    words = [*map(str, arguments)]
    process = PROCESSES.Process(target=_command, args=(words, cwd, streams, {**os.environ, **environment}, prepare))
    process.start()
    return process


def without_keras() -> None:
    """Hide Keras, as on a machine without it."""
    found = importlib.util.find_spec
    hidden = ("keras", "tensorflow")
    importlib.util.find_spec = lambda name, *rest: None if name.split(".")[0] in hidden else found(name, *rest)


def refuse_tensorflow() -> None:
    """Let the process end with exit code 70 where it imports TensorFlow; nobody can catch that."""
    assert "tensorflow" not in sys.modules
    sys.addaudithook(lambda event, args: os._exit(70) if (event, args[:1]) == ("import", ("tensorflow",)) else None)


def limit_files(size: int) -> None:
    """Let the operating system refuse larger files, so that writing one really fails."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def _command(words: list[str], cwd: Path, streams: Path, environment: dict[str, str], prepare: Prepare | None) -> None:
    from simulations.cli import main

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for name, number in (("out", 1), ("err", 2)):
        file = os.open(streams / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(file, number)
        os.close(file)
    if prepare:
        prepare()
    sys.argv = ["consilium-simulate", *words]
    main()
