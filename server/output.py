"""The output folder of a run.

    metrics.json   every number, written last but one
    report.html    for people
    model/         the released bundle
    checkpoint/    run.json (which run this is) and last.npz (how far it is)
    run.log        one line an event

A folder belongs to one run: one study, one set of data. Files that people read are replaced in one step.
"""

from __future__ import annotations

import json
import logging
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from server.checkpoint import check_identity
from shared import files
from shared.errors import CheckpointError, NotWritten, OutputError
from shared.study import Study

if TYPE_CHECKING:
    from server.outcome import Outcome

CHECKPOINT = "checkpoint"
METRICS = "metrics.json"
REPORT = "report.html"
MODEL = "model"
LOG = "run.log"
_IDENTITY = "run.json"
_LOCK = "lock"
_UNFINISHED = f".{CHECKPOINT}.part"
"""What a process killed while it took an empty folder leaves there."""


def choose(study: Study, output: Path | None, resume: bool) -> Path:
    """Return a run's folder: ``output``, or ``runs/NAME``, ``runs/NAME-2``, ...; to resume, the newest of these.

    Raises: OutputError if the folder ``runs`` cannot be read.
    """
    if output is not None:
        return output
    number = 1
    try:
        while (following := _numbered(study.name, number)).exists():
            number += 1
    except OSError as error:
        raise OutputError(f"{following}: cannot be read: {error.strerror}. Choose another --output.") from None
    return _numbered(study.name, number - 1) if resume and number > 1 else following


def _numbered(name: str, number: int) -> Path:
    return Path("runs") / (name if number == 1 else f"{name}-{number}")


def claim(folder: Path, identity: Mapping[str, Any], resume: bool) -> None:
    """Make the folder, or check that it is this run's.

    Raises: OutputError if it holds something and ``resume`` is not asked, or cannot be written; CheckpointError if it
        belongs to another run.
    """
    mark = folder / CHECKPOINT / _IDENTITY
    try:
        if mark.exists() and resume:
            check_identity(mark, _read_identity(mark), identity)
            return
        if folder.is_symlink() and not folder.exists():
            raise OutputError(f"{folder}: is a link to nothing. Choose another --output.")
        if folder.exists() and (not folder.is_dir() or any(path.name != _UNFINISHED for path in folder.iterdir())):
            what = (
                "holds a run already: go on with --resume, or" if mark.exists() else "exists and is not a run's folder:"
            )
            raise OutputError(f"{folder}: {what} choose another --output.")
        _make(folder, json.dumps(dict(identity), indent=2))
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}. Choose another --output.") from None


def _read_identity(mark: Path) -> dict[str, Any]:
    try:
        identity = json.loads(mark.read_text(encoding="utf-8"))
    except ValueError:
        identity = None
    if not isinstance(identity, dict):
        raise CheckpointError(f"{mark}: does not say whose run this is: it is damaged. Choose another --output.")
    return identity


def _make(folder: Path, identity: str) -> None:
    """Make the folder with the mark of its run in it.

    Made beside and renamed into place, so that a folder with anything in it always says whose it is. A folder that is
    there stays the same: it may be a link, a mounted disk or the current folder.
    """
    folder = folder.resolve()
    if folder.exists():
        made, place = folder / _UNFINISHED, folder / CHECKPOINT
        checkpoint = made
    else:
        made, place = folder.with_name(f".{folder.name}.part"), folder
        checkpoint = made / CHECKPOINT
    shutil.rmtree(made, ignore_errors=True)
    try:
        checkpoint.mkdir(parents=True)
        (checkpoint / _IDENTITY).write_text(identity, encoding="utf-8")
        made.replace(place)
    except OSError:
        shutil.rmtree(made, ignore_errors=True)
        raise


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, so that no second process works in it; the lock goes when this process ends, however it ends.

    Raises: OutputError if another process holds it, or it cannot be locked.
    """
    try:
        file = (folder / CHECKPOINT / _LOCK).open("wb")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be locked: {error.strerror}. Choose another --output.") from None
    with file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows has no flock: two runs in one folder are then the user's own care
            pass
        except BlockingIOError:
            raise OutputError(
                f"{folder}: another process is running here. Wait for it, or choose another --output."
            ) from None
        except OSError as error:
            raise OutputError(
                f"{folder}: cannot be locked: {error.strerror}. Choose another --output, on a local disk."
            ) from None
        yield


def write(outcome: Outcome, folder: Path) -> None:
    """Write what a finished run leaves: model, report and, last, the numbers.

    Raises: NotWritten.
    """
    from server.outcome import metrics_of
    from server.report import model_card, write_report
    from shared.bundle import write_bundle

    candidate = outcome.choice.chosen if outcome.choice else None
    write_bundle(folder / MODEL, outcome.study, outcome.preparation, outcome.weights, model_card(outcome), candidate)
    write_report(outcome, folder / REPORT)
    try:
        files.replace_json(folder / METRICS, metrics_of(outcome))
    except OSError as error:
        raise NotWritten(folder / METRICS, error) from None


@contextmanager
def logged(folder: Path) -> Iterator[None]:
    """Write the log of this run into its folder while the block runs."""
    try:
        handler = logging.FileHandler(folder / LOG, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{folder / LOG}: cannot be written: {error.strerror}.") from None
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s %(message)s"))
    logger = logging.getLogger("consilium")
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        handler.close()


def peak_memory_bytes() -> int:
    """Return the largest resident size of this process so far; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
