"""Whose patients were behind the sums of all studies: sums over nearly the same ones can be subtracted.

A sum with a patient and one without differ by exactly that patient, and masks do not help: both are sums. So a hospital
remembers the patients behind every sum that it released, whatever the study and the run, and takes part in no sum over
nearly the same ones. Two cohorts are nearly the same if they have patients in common, and fewer than ``min_difference``
of the hospital's policy are in one and not in the other. Each part of one (to train on, held out) is held against each
part of the other, and all of one against all of the other: a study with another split adds up to the same whole.

Who a patient is, the study's column of patient ids says; without one, the row's number, and then two tables of other
patients but nearly the same length look alike: to tell them apart by what rows say would miss a patient who left, in a
study with other columns, and a refusal too many harms nobody. Where exactly the same patients
are in both, and the columns are declared alike, their rows are compared, too: a record that was corrected is as good as
a patient who left and another who came, and row numbers stay as they are when one row goes and another comes.

What is remembered are keyed hashes (HMAC-SHA256, RFC 2104, cut to 8 bytes), never sent: without the hospital's key they
say nothing about whether somebody was a patient, and they stay when the snapshot of a withdrawn study is deleted. Among
100,000 patients two share a hash with probability 3e-10. ``patients/DIGEST.bin`` is one cohort, written before the
first of its sums leaves; there is one file however many sums and studies are over it.

Where a study keeps rows without a label, its training sums are over all patients and its preparation over those with
a label: both cohorts are remembered, and only those of other approvals are held against them.

This compares two cohorts at a time, and only who is in them. Three that are far from each other can still be combined
so that a few patients are left, and a study file with other ranges chooses who counts as missing in a column
(docs/protocol.md, "Nearly the same patients"). Only noise helps against everything.
"""

from __future__ import annotations

import contextlib
import fcntl
import hmac
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from client import store
from client.data.split import SiteData
from shared import files, packing
from shared.errors import ProtocolError, Refusal
from shared.examples import Examples, Part
from shared.schema import DataContract
from shared.secagg.keys import SigningKey
from shared.study import Study

FOLDER = "patients"
NEAR = "nearly-the-same-patients"
"""Code of the refusal."""
_MAGIC = b"consilium patients behind sums 1\n"
_HASH_BYTES = 8
_KEY_BYTES = 32


@dataclass(frozen=True, eq=False)
class Hashes:
    """Keyed hashes of the n patients behind a sum, in no order but their own.

    patients: of who they are, shape (n,), uint64, ascending.
    rows: of what their rows say, under the study's declaration of columns; the same.
    """

    patients: NDArray[np.uint64]
    rows: NDArray[np.uint64]


@dataclass(frozen=True, eq=False)
class Cohort:
    """The patients of one approval, by part."""

    training: Hashes
    held_out: Hashes


def is_compared(study: Study) -> bool:
    """Return whether a study's patients are held against those behind earlier sums: noise hides each of them anyway."""
    return study.privacy is None


def key_of(signing: SigningKey) -> bytes:
    """Return the key of a hospital's hashes, 32 bytes, derived from its signing key, which lies in its secrets.

    It serves nothing else, stays the same as long as the hospital does, and is lost only with the hospital's identity.
    """
    derived = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=b"consilium patients behind sums")
    return derived.derive(signing.secret)


def cohorts_of(data: SiteData, contract: DataContract, key: bytes) -> tuple[Cohort, ...]:
    """Return the patients behind the sums of one approval: with rows that have no label those of all, too."""
    whole = {part: rows.whole() for part, rows in data.parts.items()}
    each = [data] if whole[Part.TRAINING] is data.parts[Part.TRAINING] else [data, replace(data, parts=whole)]
    return tuple(cohort_of(one, contract, key) for one in each)


def cohort_of(data: SiteData, contract: DataContract, key: bytes) -> Cohort:
    """Return the hashes of a frozen cohort; 100,000 patients take half a second."""
    about = sha256(repr((contract.kind, contract.label, contract.positive, contract.columns, contract.images)).encode())
    training, held_out = (_hashes(data.parts[part], key, about.digest()) for part in (Part.TRAINING, Part.HELD_OUT))
    return Cohort(training, held_out)


def _hashes(rows: Examples, key: bytes, about: bytes) -> Hashes:
    order = np.argsort(rows.patients, kind="stable")
    patients, starts = np.unique(rows.patients[order], return_index=True)
    content = _content(rows.take(order))
    of_rows = [
        # In whichever order a patient's rows stand in the file.
        _hash(key, b"rows" + about + b"".join(sorted(content[first:last])))
        for first, last in pairwise([*starts.tolist(), len(rows)])
    ]
    return Hashes(_ascending(_hash(key, b"patient" + each.encode()) for each in patients.tolist()), _ascending(of_rows))


def _content(rows: Examples) -> list[bytes]:
    """Return what each row says, as bytes of one length; missing values have one bit pattern."""
    values = np.where(np.isnan(rows.values), np.nan, rows.values + 0.0)
    labels = np.where(np.isnan(rows.labels), np.nan, rows.labels + 0.0)
    columns: list[NDArray[Any]] = [values, rows.outside, labels]
    columns += [each for each in (rows.images, rows.events) if each is not None]
    flat = [np.ascontiguousarray(each).reshape(len(rows), -1).view(np.uint8) for each in columns if each.size]
    return [row.tobytes() for row in np.concatenate(flat, axis=1)] if flat else []


def _hash(key: bytes, said: bytes) -> bytes:
    return hmac.digest(key, said, "sha256")[:_HASH_BYTES]


def _ascending(hashes: Any) -> NDArray[np.uint64]:
    return np.sort(np.frombuffer(b"".join(hashes), dtype="<u8").astype(np.uint64))


def nearly_the_same(one: Cohort, other: Cohort, fewest: int) -> bool:
    """Whether sums over two cohorts, or over parts of them, would differ by fewer than ``fewest`` patients."""
    parts = [(a, b) for a in (one.training, one.held_out) for b in (other.training, other.held_out)]
    return any(_near(a, b, fewest) for a, b in [*parts, (_whole(one), _whole(other))])


def _whole(cohort: Cohort) -> Hashes:
    both = (cohort.training, cohort.held_out)
    patients, rows = ([getattr(part, name) for part in both] for name in ("patients", "rows"))
    return Hashes(np.union1d(*patients), np.sort(np.concatenate(rows)))


def _near(a: Hashes, b: Hashes, fewest: int) -> bool:
    if abs(len(a.patients) - len(b.patients)) >= fewest:
        return False
    common = _common(a.patients, b.patients)
    apart = len(a.patients) + len(b.patients) - 2 * common
    if apart:
        return bool(common) and apart < fewest
    same = _common(a.rows, b.rows)
    return bool(same) and 0 < len(a.rows) - same < fewest


def _common(a: NDArray[np.uint64], b: NDArray[np.uint64]) -> int:
    """Return how many hashes two arrays have in common; two patients' rows may be alike, and count twice then."""
    (first, times), (second, others) = (np.unique(each, return_counts=True) for each in (a, b))
    _, at, there = np.intersect1d(first, second, assume_unique=True, return_indices=True)
    return int(np.minimum(times[at], others[there]).sum())


def check(folder: Path, behind: Sequence[Cohort], fewest: int) -> None:
    """Refuse a sum over nearly the patients of an earlier one; nothing is written.

    folder: the hospital's.
    behind: cohorts of one approval (``cohorts_of``).
    fewest: ``min_difference`` of its policy.

    Raises: Refusal ``nearly-the-same-patients``; ``patients-damaged`` if what is remembered cannot be read; ``disk``.
    """
    own = {packing.pack(cohort).digest.hex() for cohort in behind}
    for path in sorted((folder / FOLDER).glob("*.bin")):
        if path.stem not in own and any(nearly_the_same(cohort, _read(path), fewest) for cohort in behind):
            raise Refusal(
                NEAR,
                "an earlier sum was over nearly the same patients of this hospital, and could be subtracted",
            )


def remember(folder: Path, behind: Sequence[Cohort], fewest: int) -> None:
    """Write down the patients behind a sum, before it leaves; once for all sums over the same.

    Both parts are written at the first sum over either, so that no other study comes between a run's first sum and its
    last.

    Raises: Refusal as ``check``; two processes cannot both pass it with cohorts that are near each other.
    """
    with _locked(folder / FOLDER):
        check(folder, behind, fewest)
        for packed in map(packing.pack, behind):
            path = folder / FOLDER / f"{packed.digest.hex()}.bin"
            if not path.exists():
                store.write_file(path, _MAGIC, packed)


def _read(path: Path) -> Cohort:
    damaged = Refusal("patients-damaged", "what the hospital's node keeps of patients behind sums cannot be read")
    packed = store.read_file(path, _MAGIC, damaged)
    if packed is None or packed.digest.hex() != path.stem:
        raise damaged
    try:
        cohort: Cohort = packing.unpack(packed, Cohort)
    except ProtocolError:
        raise damaged from None
    return cohort


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other processes from remembering something at the same time (flock(2))."""
    try:
        files.make_folder(folder, files.FOLDER_MODE)
        descriptor = os.open(folder / ".lock", os.O_CREAT | os.O_RDWR, files.SECRET_MODE)
    except OSError as error:
        raise Refusal("disk", f"the hospital's node cannot write: {os.strerror(error.errno or 0)}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
