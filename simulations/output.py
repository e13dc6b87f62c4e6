"""The output folder of a run.

    metrics.json   every number, written last but one
    report.html    for people
    model/         the released bundle
    checkpoint/    run.json (which run this is) and last.npz (how far it is)
    run.log        one line an event

A folder belongs to one run: one study, one set of data. Files that people read are replaced in one step.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from client.data.split import SiteData
from server.checkpoint import check_identity
from shared.errors import OutputError
from shared.study import Study

CHECKPOINT = "checkpoint"
METRICS = "metrics.json"
REPORT = "report.html"
MODEL = "model"
LOG = "run.log"
_IDENTITY = "run.json"
_LOCK = "lock"


def identity_of(study: Study, data: Mapping[str, SiteData]) -> dict[str, str]:
    """Return what makes two runs the same run: the study's name and digest, and a digest of all sites' data."""
    digest = hashlib.sha256()
    for name, site in data.items():
        for part, examples in site.parts.items():
            digest.update(f"{name}\x1f{part}\x1f{len(examples)}\x1f".encode())
            for array in (examples.values, examples.outside, examples.labels, examples.images):
                if array is not None:
                    digest.update(np.ascontiguousarray(array).tobytes())
    return {"study": study.name, "digest": study.digest, "data": digest.hexdigest()}


def choose(study: Study, output: Path | None, resume: bool) -> Path:
    """Return a run's folder: ``output``, or ``runs/NAME``, ``runs/NAME-2``, ...; to resume, the newest of these."""
    if output is not None:
        return output
    number = 1
    while (following := _numbered(study.name, number)).exists():
        number += 1
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
            check_identity(mark, json.loads(mark.read_text(encoding="utf-8")), identity)
            return
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            what = "holds a run already: go on with --resume" if mark.exists() else "exists and is not a run's folder"
            raise OutputError(f"{folder}: {what}, or choose another --output.")
        # Made beside and renamed into place, so that a folder that exists always says whose it is.
        beside = folder.with_name(f".{folder.name}.part")
        shutil.rmtree(beside, ignore_errors=True)
        (beside / CHECKPOINT).mkdir(parents=True)
        (beside / CHECKPOINT / _IDENTITY).write_text(json.dumps(dict(identity), indent=2), encoding="utf-8")
        beside.replace(folder)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}. Choose another --output.") from None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder, so that no second process works in it; the lock goes when this process ends, however it ends.

    Raises: OutputError if another process holds it.
    """
    with (folder / CHECKPOINT / _LOCK).open("wb") as file:
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:  # Windows has no flock: two runs in one folder are then the user's own care
            pass
        except OSError:
            raise OutputError(
                f"{folder}: another process is running here. Wait for it, or choose another --output."
            ) from None
        yield


def replace_text(path: Path, text: str) -> None:
    """Write a text file in one step.

    Raises: OutputError if it cannot be written; what was there before stays.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(
            f"{path}: cannot be written: {error.strerror}. Make room, then go on with --resume."
        ) from None
