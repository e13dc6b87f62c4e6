"""The released model: one folder that a later reader can check and use, without pickle and without the study's data.

    weights.npz        named arrays (NumPy's archive)
    preparation.json   imputation, scaling and encoding (``Preparation.as_plain``)
    schema.json        the study without [simulation]: data contract, method and its options
    model_card.md      what the model is for, how good it is, where it ends
    manifest.json      format, digest of the study, SHA-256 of every other file

Digests detect damage and mix-ups; they do not prove who wrote the folder. A reader refuses what it does not know.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared import scores
from shared.cells import read_column, text_of
from shared.errors import DataError, NotWritten, OutputError, StudyError, nearest
from shared.examples import Arrays, Examples
from shared.methods import METHODS
from shared.methods.base import ModelMethod
from shared.preparation import Preparation
from shared.schema import Cell, DataContract
from shared.sequences import histories, spelt
from shared.study import Study, approved_parts, digest_of, parse_study
from shared.tuning import tuned

FORMAT = 1
MANIFEST = "manifest.json"
WEIGHTS, PREPARATION, SCHEMA, CARD = "weights.npz", "preparation.json", "schema.json", "model_card.md"


class _NoOptimizer:
    """Stands where a method expects the aggregator's optimiser: a released model is used, not trained."""

    def init(self, weights: Arrays) -> Arrays:
        raise NotImplementedError("a released model is not trained further")

    def apply(self, state: Arrays, weights: Arrays, mean: Arrays) -> tuple[Arrays, Arrays]:
        raise NotImplementedError("a released model is not trained further")


@dataclass(frozen=True, eq=False)
class Bundle:
    """A released model.

    study: without its ``[simulation]`` part.
    digest: of the study, as the hospitals approved it.
    card: Markdown.
    """

    study: Study
    digest: str
    preparation: Preparation
    weights: Arrays
    card: str
    trained: Study

    @cached_property
    def _method(self) -> ModelMethod:
        return METHODS[self.study.method.name].create(self.trained, self.preparation, _NoOptimizer())

    def examples(self, rows: Sequence[Mapping[str, Cell | None]]) -> Examples:
        """Return patients of a table as the model takes them: see ``examples_of``."""
        return examples_of(self.study.data, rows)

    def predict(self, examples: Examples) -> NDArray[np.float64]:
        """Return what the model says of each row.

        Returns: array of shape (n, classes) with probabilities, in the order of ``study.data.classes``; or (n, 1) with
            numbers in the label's unit; or what a method says that does not predict the label (docs/methods.md).
        Raises: DataError if the rows have other columns, or images of another shape, than the contract says.
        """
        contract = self.study.data
        images = contract.images
        expected: tuple[int, ...] = (len(contract.features),)
        if images:
            expected = images.height, images.width, images.channels
        elif contract.histories:
            expected = contract.histories, *expected
        received = (examples.images.shape if examples.images is not None else examples.values.shape)[1:]
        if expected != received:
            raise DataError(f"one row must have the shape {expected}, as the data contract says. Received: {received}")
        said = self._method.scores(self.weights, self.preparation.transform(examples))
        predicts_class = contract.classes and not METHODS[self.study.method.name].outputs
        return scores.probabilities(said) if predicts_class else said


def examples_of(contract: DataContract, rows: Sequence[Mapping[str, Cell | None]]) -> Examples:
    """Return rows of cells as examples without labels (all zero).

    rows: by column name, cells in the contract's units and levels; None or a missing code where nothing was measured.
        What lies outside the contract becomes missing, as it did in training, and is marked in ``outside``. Where a
        row is read with those before it, it has its patient id, too.

    Raises: DataError if a row lacks a column, or has an unknown one, or a patient's rows have no order.
    """
    steps = contract.steps if contract.histories else None
    patient_id = contract.patient_id if steps else None
    names = [name for name in (*contract.written, patient_id) if name not in (None, contract.label, contract.event)]
    for index, row in enumerate(rows):
        unknown = [name for name in row if name not in names]
        if unknown:
            raise DataError(f"row {index}: unknown column {unknown[0]!r}. {nearest(unknown[0], names)}")
        absent = [name for name in names if name not in row]
        if absent:
            raise DataError(f"row {index}: expected a cell for {', '.join(absent)}; None says that it was not measured")
    cells = spelt(contract, {name: np.array([row[name] for row in rows], dtype=object) for name in names})
    values = np.column_stack([read_column(contract.columns[name], cells[name]) for name in contract.features])
    outside = np.isinf(values)
    values[outside] = np.nan
    if steps is None or patient_id is None:
        patients = np.array([str(index) for index in range(len(rows))], dtype=np.str_)
        return Examples(values, outside, np.zeros(len(rows)), patients)
    patients, order = text_of(cells[patient_id]), values[:, contract.features.index(steps.order)]
    if np.isnan(order).any() or (patients == "").any():
        raise DataError(f"expected {patient_id} and {steps.order} in every row. Received: rows without.")
    past = histories(patients, order, values, steps.count)
    return Examples(values, outside, np.zeros(len(rows)), patients, past)


def write_bundle(
    folder: Path, study: Study, preparation: Preparation, weights: Arrays, card: str, candidate: int | None = None
) -> None:
    """Write the released model, whole or not at all; an older bundle in the same place is replaced.

    folder: to be made; its parent exists.
    card: Markdown.
    candidate: of a study that tunes, index of the options that the model was trained with.

    Raises: OutputError if ``folder`` holds something that is no bundle; NotWritten.
    """
    if folder.exists() and not (folder / MANIFEST).is_file() and not (folder.is_dir() and not any(folder.iterdir())):
        raise OutputError(
            f"{folder}: expected an older bundle or nothing here. Move it away or choose another --output."
        )
    schema = approved_parts(study)
    archive = io.BytesIO()
    np.savez(archive, allow_pickle=False, **{name: np.asarray(array) for name, array in weights.items()})
    files = {
        WEIGHTS: archive.getvalue(),
        PREPARATION: _json(preparation.as_plain()),
        SCHEMA: _json(schema),
        CARD: card.encode(),
    }
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    chosen = {} if candidate is None else {"candidate": candidate}
    files[MANIFEST] = _json({"format": FORMAT, "study_digest": study.digest, **chosen, "files": digests})
    unfinished, old = (folder.with_name(f".{folder.name}.{what}") for what in ("new", "old"))
    try:
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        for name, content in files.items():
            _write(unfinished / name, content)
        _replace(folder, unfinished, old)
    except OSError as error:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise NotWritten(folder, error) from None


def _replace(folder: Path, unfinished: Path, old: Path) -> None:
    """Move the finished folder into place; the older one stands aside until then, and comes back if that fails."""
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    try:
        unfinished.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _json(value: Any) -> bytes:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def load_bundle(folder: Path) -> Bundle:
    """Read a released model and check it against its manifest.

    Raises: DataError if a file is missing, was changed, or is of a format that this version does not know.
    """
    manifest = _parsed(folder / MANIFEST, _read(folder / MANIFEST))
    if manifest.get("format") != FORMAT:
        raise DataError(
            f"{folder / MANIFEST}: expected format {FORMAT}. Received: {manifest.get('format')!r}. Use the version of"
            " Consilium that wrote the model."
        )
    names = (WEIGHTS, PREPARATION, SCHEMA, CARD)
    digests = manifest.get("files")
    if not isinstance(digests, dict) or set(digests) != set(names):
        raise DataError(f"{folder / MANIFEST}: expected the digests of {', '.join(names)}")
    files = {name: _read(folder / name) for name in names}
    for name, content in files.items():
        if hashlib.sha256(content).hexdigest() != digests[name]:
            raise DataError(
                f"{folder / name}: was changed after release: its SHA-256 is not the manifest's. Get the model again."
            )
    schema = _parsed(folder / SCHEMA, files[SCHEMA])
    if digest_of(schema) != manifest.get("study_digest"):
        raise DataError(f"{folder / SCHEMA}: is of another study than the manifest. Get the model again.")
    try:
        study = parse_study(schema, str(folder / SCHEMA))
        trained = tuned(study, study.tuning.candidates[manifest["candidate"]]) if study.tuning else study
        preparation = Preparation.from_plain(study.data, _parsed(folder / PREPARATION, files[PREPARATION]))
        with np.load(io.BytesIO(files[WEIGHTS]), allow_pickle=False) as archive:
            weights = {name: archive[name] for name in archive.files}
    except (StudyError, TypeError, LookupError, ValueError, OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{folder}: not a model that this version can read: {error}") from None
    return Bundle(study, str(manifest["study_digest"]), preparation, weights, files[CARD].decode(), trained)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read: {error.strerror}. Expected a folder that `consilium-simulate run` wrote as model/"
        ) from None


def _parsed(path: Path, content: bytes) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except ValueError as error:
        raise DataError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object. Received: {type(value).__name__}")
    return value
