"""The frozen cohort: a hospital's checked and split rows as they were when it approved a study.

Sums over a cohort that changes between two runs can be subtracted, and what is left is the patients who came or went.
So an approval freezes a snapshot, every run of the study reads it, and its digest stands in the record. The file is a
NumPy archive without pickle; only its owner can read it.

The digest is the SHA-256 of all arrays: names, types, shapes and values (``shared.secagg.transcript.state_digest``).
"""

from __future__ import annotations

import dataclasses
import json
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data.conform import Findings
from client.data.split import SiteData
from shared import files
from shared.errors import ApprovalError
from shared.examples import Examples, Part
from shared.secagg.transcript import state_digest

FILE = "cohort.npz"
_FORMAT = 1
_ABOUT = "about.json"
_DAMAGED = (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error)


def freeze(path: Path, data: SiteData) -> str:
    """Write a snapshot, mode 0600, in one step; return its digest, in hex.

    Raises: ApprovalError if it cannot be written.
    """
    arrays = _arrays(data)
    try:
        files.replace(path, lambda file: np.savez(file, allow_pickle=False, **arrays), files.SECRET_MODE)
    except OSError as error:
        raise ApprovalError(f"{path}: the snapshot cannot be written: {error.strerror}.") from None
    return state_digest(arrays).hex()


def digest(data: SiteData) -> str:
    """Return the digest that a snapshot of these data has, in hex."""
    return state_digest(_arrays(data)).hex()


def load(path: Path, expected_digest: str) -> SiteData:
    """Return the data of a snapshot.

    Raises: ApprovalError if the file is not there, not readable, or not the one that was approved.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        changed = state_digest(arrays).hex() != expected_digest
        data = None if changed else _data(arrays)
    except _DAMAGED as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise ApprovalError(f"{path}: the snapshot cannot be read: {reason}. Approve the study again.") from None
    if data is None:
        raise ApprovalError(f"{path}: the snapshot is not the one that was approved. Approve the study again.")
    return data


def _arrays(data: SiteData) -> dict[str, NDArray[Any]]:
    about = {
        "format": _FORMAT,
        "name": data.name,
        "findings": dataclasses.asdict(data.findings),
        "parts": [str(part) for part in data.parts],
    }
    text = json.dumps(about, sort_keys=True, allow_nan=False)
    arrays: dict[str, NDArray[Any]] = {_ABOUT: np.frombuffer(text.encode(), dtype=np.uint8)}
    for part, rows in data.parts.items():
        arrays |= _arrays_of(str(part), rows)
        if rows.unlabelled is not None:
            arrays |= _arrays_of(f"{part}/unlabelled", rows.unlabelled)
    return arrays


def _arrays_of(part: str, rows: Examples) -> dict[str, NDArray[Any]]:
    values, labels = rows.values.astype(np.float64), rows.labels.astype(np.float64)
    for numbers in (values, labels):
        numbers[np.isnan(numbers)] = np.nan  # one bit pattern
    arrays: dict[str, NDArray[Any]] = {
        f"{part}/values": values,
        f"{part}/outside": rows.outside,
        f"{part}/labels": labels,
        # As narrow as the longest id: how wide the array was before says how long other patients' ids were.
        f"{part}/patients": np.array(rows.patients.tolist(), dtype=np.str_),
    }
    others = {f"{part}/images": rows.images, f"{part}/events": rows.events}
    return {**arrays, **{name: array for name, array in others.items() if array is not None}}


def _data(arrays: dict[str, NDArray[Any]]) -> SiteData:
    about = json.loads(arrays[_ABOUT].tobytes())
    if about["format"] != _FORMAT:
        raise ValueError("another format")
    parts = {}
    for part in map(Part, about["parts"]):
        kept = f"{part}/unlabelled"
        unlabelled = _rows(arrays, kept) if f"{kept}/labels" in arrays else None
        parts[part] = dataclasses.replace(_rows(arrays, str(part)), unlabelled=unlabelled)
    findings = about["findings"]
    return SiteData(about["name"], parts, Findings(**{**findings, "wholly_outside": tuple(findings["wholly_outside"])}))


def _rows(arrays: dict[str, NDArray[Any]], part: str) -> Examples:
    values, outside, labels, patients = (
        arrays[f"{part}/{name}"] for name in ("values", "outside", "labels", "patients")
    )
    return Examples(values, outside, labels, patients, arrays.get(f"{part}/images"), arrays.get(f"{part}/events"))
