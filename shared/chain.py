"""The hash-chained record: who took part in what, when, with which digests, so that it can be proved later.

Both sides keep one, ``audit.jsonl``: a JSON object a line, only ever appended to. A line has its number ``n`` from 1,
the ``time`` (RFC 3339, UTC), the ``event``, the event's own fields, and ``previous``: the SHA-256 of the bytes of the
line before, without its line end; the first line has the digest of a fixed label. So a line that is changed, missing,
inserted or moved does not fit its neighbours (S. Haber, W. S. Stornetta: How to time-stamp a digital document, Journal
of Cryptology 3, 1991, https://doi.org/10.1007/BF00196791). An end that was cut off fits: it is found by ``audit.head``
beside the record, which has the number of lines and the digest of the last one.

What this assumes: whoever rewrites all lines and the head, too, is not found by this file alone; the digest of the last
line, noted elsewhere, finds it. The fields are the caller's: names of sites and studies, counts, sizes and digests,
never a patient's value.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared import files
from shared.chain_faults import Line, Verdict, find_fault, parse_line
from shared.errors import AuditError, NotWritten

_FORMAT = 1
_BEGINNING = hashlib.sha256(f"consilium audit record, format {_FORMAT}".encode()).hexdigest()
"""What the first line has for ``previous``."""

_OURS = frozenset({"n", "time", "event", "previous"})
_VERIFY = "Run the command `audit verify`: it names the line."


@dataclass(frozen=True)
class _Head:
    """Where the record ends: the number of its lines, the digest of the last one, and the file's length in bytes."""

    count: int = 0
    digest: str = _BEGINNING
    size: int = 0


def append(path: Path, event: str, now: datetime, /, **fields: Any) -> None:
    """Add one line, and return once it is on the disk.

    Several processes and threads may append to one record. What a crash left unfinished is mended first: a line that
    was not written to its end is cut off, and the event ``recovered`` says so.

    path: the record, mode 0600; ``.head`` and ``.lock`` files stand beside it.
    event: one word, such as ``approved``.
    now: timezone-aware.
    fields: anything that JSON can say; numbers are finite; never a patient's value.

    Raises: AuditError if the fields are not JSON, or if the record does not end as its head says; NotWritten.
    """
    if taken := _OURS & set(fields):
        raise AuditError(f"{path}: the record itself writes {', '.join(sorted(taken))}: name the field otherwise.")
    if now.tzinfo is None:
        raise AuditError(f"{path}: expected a time with its time zone. Received: {now.isoformat()}.")
    try:
        with _locked(path, fcntl.LOCK_EX), _opened(path) as descriptor:
            head = _mended(path, descriptor, now)
            _add(path, descriptor, head, event, now, fields)
    except OSError as error:
        raise NotWritten(path, error) from None


def verify(path: Path) -> Verdict:
    """Check every line, and name the first one that was changed, is missing, was inserted or moved.

    Nothing is written. A record whose last append was interrupted by a crash is intact.

    Raises: AuditError if there is no record, or if it cannot be read.
    """
    try:
        with _locked(path, fcntl.LOCK_SH):
            head = _read_head(path)
            data = path.read_bytes() if path.exists() or head is None else b""
    except FileNotFoundError:
        raise AuditError(f"{path}: no such record.") from None
    except OSError as error:
        raise AuditError(f"{path}: the record cannot be read: {error.strerror}.") from None
    *complete, torn = data.split(b"\n")
    lines = [Line(0, "", _BEGINNING), *(parse_line(line) for line in complete)]
    return find_fault(lines, torn, None if head is None else Line(head.count, "", head.digest))


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Return the lines as dictionaries, in order; one that a crash left unfinished is left out. Checks no digest.

    Raises: AuditError if there is no record, or a line is not a JSON object.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise AuditError(f"{path}: the record cannot be read: {error.strerror}.") from None
    with file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                return
            try:
                value = json.loads(line)
            except ValueError:
                value = None
            if not isinstance(value, dict):
                raise AuditError(f"{path}: line {number} is not a JSON object. {_VERIFY}")
            yield value


def _mended(path: Path, descriptor: int, now: datetime) -> _Head:
    """Return the head of a record that ends as it says, after a crash too."""
    size = os.fstat(descriptor).st_size
    head = _read_head(path)
    if head is None:
        if size:
            raise AuditError(f"{path}: {_beside(path, 'head').name} is missing beside it. {_VERIFY}")
        # Before the first line: from now on a record without a head is one that somebody took it from.
        head = _Head()
        _write_head(path, head)
    if size == head.size:
        return head
    tail = os.pread(descriptor, size - head.size, head.size) if size > head.size else b""
    line, end, more = tail.partition(b"\n")
    found = parse_line(line)
    if end and not more and (found.n, found.previous) == (head.count + 1, head.digest):
        # The line was written, its head was not.
        head = _Head(found.n, found.digest, size)
        _write_head(path, head)
        return head
    if tail and not end and hashlib.sha256(tail).hexdigest() != head.digest:
        os.ftruncate(descriptor, head.size)
        return _add(path, descriptor, head, "recovered", now, {"cut_bytes": len(tail)})
    raise AuditError(f"{path}: the record does not end as its head says, so nothing is added to it. {_VERIFY}")


def _add(path: Path, descriptor: int, head: _Head, event: str, now: datetime, fields: dict[str, Any]) -> _Head:
    time = now.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    record = {"n": head.count + 1, "time": time, "event": event, **fields, "previous": head.digest}
    try:
        line = json.dumps(record, allow_nan=False).encode()
    except (TypeError, ValueError) as error:
        raise AuditError(f"{path}: expected fields that JSON can say ({type(error).__name__}).") from None
    _write_all(descriptor, line + b"\n", head.size)
    os.fsync(descriptor)
    head = _Head(head.count + 1, hashlib.sha256(line).hexdigest(), head.size + len(line) + 1)
    _write_head(path, head)
    return head


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    """Write all or, where the disk is full, nothing."""
    written = 0
    try:
        while written < len(data):
            written += os.pwrite(descriptor, data[written:], offset + written)
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, offset)
        raise


def _read_head(path: Path) -> _Head | None:
    """Return what the head file says, None where there is none."""
    where = _beside(path, "head")
    if not where.exists():
        return None
    value = files.read_json(where, AuditError, "It has the end of the record: bring it back from a backup.")
    if set(value) != {"format", "count", "digest", "size"} or value["format"] != _FORMAT:
        raise AuditError(f"{where}: expected the head of a record in format {_FORMAT}.")
    head = _Head(value["count"], value["digest"], value["size"])
    if not (_is_count(head.count) and isinstance(head.digest, str) and _is_count(head.size)):
        raise AuditError(f"{where}: expected a count, a digest and a size.")
    return head


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _write_head(path: Path, head: _Head) -> None:
    value = {"format": _FORMAT, "count": head.count, "digest": head.digest, "size": head.size}
    files.replace_text(_beside(path, "head"), json.dumps(value) + "\n", files.SECRET_MODE)


def _beside(path: Path, suffix: str) -> Path:
    return path.with_suffix(f".{suffix}")


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, files.SECRET_MODE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    """Keep others from appending meanwhile. A copy of a record, without a lock beside it, is read without one."""
    where = _beside(path, "lock")
    try:
        writing = os.O_CREAT | os.O_RDWR if kind == fcntl.LOCK_EX else os.O_RDONLY
        descriptor = os.open(where, writing, files.SECRET_MODE)
    except FileNotFoundError:
        if kind == fcntl.LOCK_EX:
            raise
        yield
        return
    try:
        # Each call opens the file itself, so that the lock holds between threads, too.
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)
