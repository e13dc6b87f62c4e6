"""Canaries: invented patients that are as conspicuous as a study's contract lets a patient be.

Values are the ends of the declared ranges, any level, or missing; pixels are black or white. The label is the one that
a model trained on the real patients thinks least likely; of a model that predicts none, any. Of a pool of such patients
those are taken whose rows, as the model reads them and scaled to one length, are least like each other (QR with column
pivoting, Businger and Golub 1965, doi 10.1007/BF01436084): gradients of one direction could not be told apart in a sum.

They come to the hospitals as cells of a file, and go through the same checks as every other patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.data.base import RawData
from client.data.split import SiteData, is_held_out, site_data
from shared.errors import StudyError
from shared.examples import Examples, Part, concatenate
from shared.schema import Cell, Column, DataContract, level_key
from shared.study import Study
from simulations.attacks.observed import Observed

_POOL = 1500
_LEAST_OWN = 0.5
"""A canary has at least this share of its length in directions that no canary before it has."""
_MISSING = 0.5
"""Chance of a value to be missing where it may be, in one that is no extreme."""


@dataclass(frozen=True, eq=False)
class Canaries:
    """k invented patients of one row each.

    each: the patients' rows, one table for each.
    homes: the hospital that each may come to.
    """

    each: tuple[Examples, ...]
    homes: tuple[str, ...]

    def put(self, data: Mapping[str, SiteData], present: NDArray[np.bool_]) -> dict[str, SiteData]:
        """Return the hospitals' data with those canaries that are present among the training patients.

        present: array of shape (k,).
        """
        filled = {}
        for name, site in data.items():
            own = [
                rows for rows, home, there in zip(self.each, self.homes, present, strict=True) if there and home == name
            ]
            parts = {**site.parts, Part.TRAINING: concatenate([site.parts[Part.TRAINING], *own])}
            filled[name] = SiteData(name, parts, site.findings)
        return filled


def canaries_of(
    study: Study, data: Mapping[str, SiteData], trained: Observed, most: int, drawn: np.random.Generator
) -> Canaries:
    """Return the canaries of a study, at most so many.

    data: the hospitals' real patients.
    trained: the study on them.

    Raises: StudyError if the hospitals have no room for them.
    """
    from scipy.linalg import qr

    size = min(_POOL if study.data.kind == "table" else 4 * most, study.data.max_rows_per_site)
    raw = _Pool(study, drawn).draw(size)
    pool = _checked(study, raw)
    rows = trained.method.preparation.transform(pool).x.reshape(size, -1)
    rows = np.column_stack([rows, np.ones(size)])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    own, order = qr(rows.T, mode="r", pivoting=True)
    count = min(most, int((np.abs(np.diag(own)) >= _LEAST_OWN).sum()))
    chosen = raw.take(order[:count])
    if not trained.method.outputs:
        labels = _unlikely(study.data, trained, pool.take(order[:count]))
        chosen = RawData({**chosen.columns, study.data.label: labels}, chosen.images, chosen.names)
    canaries = _checked(study, chosen)
    names = list(data)
    homes = tuple(names[index % len(names)] for index in range(count))
    for name, site in data.items():
        if len(site.parts[Part.TRAINING]) + homes.count(name) > study.data.max_rows_per_site:
            raise StudyError(
                f"[data] max_rows_per_site: expected room for {homes.count(name)} canaries at {name}. Received:"
                f" {study.data.max_rows_per_site}, which its own patients fill. Raise it for the audit with --set."
            )
    return Canaries(tuple(canaries.take(np.array([index])) for index in range(count)), homes)


def _checked(study: Study, raw: RawData) -> Examples:
    """Return rows as a hospital reads them: checked against the contract, and none held out."""
    checked = site_data(study.data, raw, "canaries", study.study.seed).parts[Part.TRAINING]
    if len(checked) != len(raw) or checked.outside.any():
        raise RuntimeError("a canary must be a valid patient to train on")
    return checked


def _unlikely(contract: DataContract, trained: Observed, rows: Examples) -> NDArray[Any]:
    """Return for each row the label, as a cell, that the trained model thinks least likely."""
    said = trained.method.scores(trained.weights, trained.method.preparation.transform(rows))
    column = contract.columns[contract.label]
    if column.range is not None:
        low, high = column.range
        return np.where(said[:, 0] > 0.5 * (low + high), low, high)
    classes = contract.class_of_level()
    level_of = {classes[level_key(level)]: level for level in column.levels}
    return _cells([level_of[int(least)] for least in said.argmin(axis=1)])


def _cells(values: list[Cell]) -> NDArray[Any]:
    cells = np.empty(len(values), dtype=object)
    cells[:] = values
    return cells


class _Pool:
    """Draws invented patients of a study, as a file would hold them."""

    def __init__(self, study: Study, drawn: np.random.Generator) -> None:
        self.study, self.contract, self.drawn = study, study.data, drawn

    def draw(self, count: int) -> RawData:
        """Return so many patients, all of them to train on."""
        contract = self.contract
        # Some differ from the usual in everything, some in a few values only: gradients point elsewhere.
        extreme = self.drawn.random((len(contract.columns), count)) < self.drawn.choice([0.1, 0.4, 1.0], count)
        columns = {
            name: self._column(column, chosen, name != contract.label)
            for (name, column), chosen in zip(contract.columns.items(), extreme, strict=True)
        }
        names = self._names(count)
        for name, cells in (("patient_id", names), ("split_column", np.full(count, "train"))):
            declared = getattr(contract, name)
            if declared:
                columns[declared] = cells
        return RawData(columns, self._images(count), names)

    def _column(self, column: Column, extreme: NDArray[np.bool_], may_miss: bool) -> NDArray[Any]:
        """Return cells: an end of the range or any level where extreme, else missing or in the middle."""
        ends = list(column.levels) if column.range is None else list(column.range)
        middle = ends[0] if column.range is None else 0.5 * (column.range[0] + column.range[1])
        missing = column.missing if may_miss else ()
        usual = [missing[0] if missing and self.drawn.random() < _MISSING else middle for _ in extreme]
        far = self.drawn.integers(len(ends), size=len(extreme)).tolist()
        return _cells([ends[end] if there else cell for end, there, cell in zip(far, extreme, usual, strict=True)])

    def _names(self, count: int) -> NDArray[np.str_]:
        """Return names of patients whom the study's split does not hold out."""
        names = np.array(
            [f"canary-{number}" for number in range(200 + 4 * int(count / (1 - self.contract.test_fraction)))]
        )
        return names[~is_held_out(names, self.contract.test_fraction, self.study.study.seed)][:count]

    def _images(self, count: int) -> NDArray[Any] | None:
        """Return images of black and white squares of one to eight pixels, coarse and fine ones."""
        shape = self.contract.images
        if shape is None:
            return None
        images = np.empty((count, shape.height, shape.width, shape.channels))
        for image in images:
            side = int(self.drawn.choice([1, 2, 4, 8]))
            grid = (-(-shape.height // side), -(-shape.width // side), shape.channels)
            squares = self.drawn.choice(shape.range, size=grid)
            image[:] = squares.repeat(side, axis=0).repeat(side, axis=1)[: shape.height, : shape.width]
        return images
