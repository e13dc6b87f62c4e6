"""How one table becomes several simulated hospitals.

    iid           every hospital gets an equal random share of the patients
    dirichlet:A   the patients of each class are dealt in shares drawn from a Dirichlet distribution: sizes and class
                  shares differ, the more the smaller A (label skew of Hsu, Qi, Brown 2019, "Measuring the effects of
                  non-identical data distribution", arXiv:1909.06335; shares by class as in Yurochkin et al. 2019,
                  arXiv:1905.12022). A label that is a number is cut into ten groups of equal size.
    quantity:A    sizes are drawn from a Dirichlet distribution, patients are dealt at random
    column:NAME   one hospital for each value of a column

The first three deal patients: rows of one patient stay together. Afterwards the largest hospitals hand patients, drawn
at random, to the smallest until each has ``SMALLEST_SITE``, or an equal share where there are too few, so that no
hospital is empty. With a column the data decide alone: patients are not linked across hospitals, so the same id at two
of them is two patients.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np
from numpy.typing import NDArray

from client.data.base import RawData
from client.data.conform import absent_column, labels_of, patients_of
from shared.cells import text_of
from shared.errors import DataError, StudyError
from shared.schema import DataContract

SMALLEST_SITE = 10
"""Patients that every simulated hospital gets at least, where there are enough."""

_MOST_SITES = 1000
_LABEL_GROUPS = 10
_FORMS = "iid, dirichlet:A, quantity:A with a number A > 0, or column:NAME"


def partition(
    raw: RawData, contract: DataContract, spec: str, sites: int, generator: np.random.Generator
) -> dict[str, RawData]:
    """Return each simulated hospital's rows, by name: ``hospital_1`` and on, or the column's values.

    spec: one of the four forms above.
    sites: number of hospitals; a column brings its own.
    generator: the only source of chance.

    Raises: StudyError if the form is unknown or cannot be had with these data; DataError if a row has no hospital.
    """
    kind, _, argument = spec.strip().partition(":")
    if kind == "column" and argument:
        site_of_row = _by_column(raw, contract, argument.strip())
    elif kind in ("iid", "dirichlet", "quantity"):
        site_of_row = _dealt(raw, contract, _shares(kind, argument, spec), sites, generator)
    else:
        raise StudyError(f"[simulation] partition: expected {_FORMS}. Received: {spec!r}.")
    return {site: raw.take(rows) for site, rows in site_of_row.items()}


def _shares(kind: str, argument: str, spec: str) -> tuple[str, float]:
    """Return the kind and its number."""
    try:
        number = 0.0 if kind == "iid" and not argument else float(argument)
    except ValueError:
        number = np.nan
    if (kind == "iid" and argument) or (kind != "iid" and not 0 < number < np.inf):
        raise StudyError(f"[simulation] partition: expected {_FORMS}. Received: {spec!r}.")
    return kind, number


def _by_column(raw: RawData, contract: DataContract, name: str) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each value of a column, in the order in which the values first appear."""
    if name not in raw.columns:
        raise StudyError(absent_column("[simulation] partition", name, "one value a hospital", contract, raw.columns))
    values = text_of(raw.columns[name])
    blank = int((values == "").sum())
    if blank:
        raise DataError(
            f"column {name!r}: expected a hospital in every row. Received: {blank} empty cell(s). Fill them."
        )
    unique, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    if len(unique) > _MOST_SITES:
        raise StudyError(
            f"[simulation] partition: column {name!r}: expected at most {_MOST_SITES} hospitals. Received:"
            f" {len(unique)}. Is this the right column?"
        )
    rows: dict[str, NDArray[np.int64]] = {}
    for value in np.argsort(first):
        site = site_name(str(unique[value]))
        if site.casefold() in {known.casefold() for known in rows}:
            raise StudyError(
                f"[simulation] partition: column {name!r}: two values become the same site name {site!r}. Site names"
                " hold letters, digits, '.', '_' and '-': rename one value."
            )
        rows[site] = np.flatnonzero(inverse == value)
    return rows


def site_name(value: str) -> str:
    """Return a value as a name that is safe in files: ``Zürich/Basel`` becomes ``Zurich-Basel``."""
    plain = unicodedata.normalize("NFKD", value).encode("ascii", "ignore").decode()
    return re.sub(r"[^A-Za-z0-9._-]+", "-", plain).strip("-._")[:64] or "site"


def _dealt(
    raw: RawData, contract: DataContract, shares: tuple[str, float], sites: int, generator: np.random.Generator
) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each hospital after dealing out patients."""
    _, first, patient_of_row = np.unique(
        patients_of(contract, raw, "simulated data"), return_index=True, return_inverse=True
    )
    patients = len(first)
    if sites > patients:
        raise StudyError(
            f"[simulation] sites: expected at most one for each of the {patients} patients. Received: {sites}."
        )
    kind, number = shares
    groups = _classes(contract, raw)[first] if kind == "dirichlet" else np.zeros(patients, dtype=np.int64)
    site_of_patient = np.empty(patients, dtype=np.int64)
    for group in np.unique(groups):
        members = generator.permutation(np.flatnonzero(groups == group))
        weights = np.full(sites, 1 / sites) if kind == "iid" else generator.dirichlet(np.full(sites, number))
        ends = np.round(np.cumsum(weights) * len(members)).astype(np.int64)
        site_of_patient[members] = np.searchsorted(ends[:-1], np.arange(len(members)), side="right")
    _fill_up(site_of_patient, sites, min(SMALLEST_SITE, patients // sites), generator)
    site_of_row = site_of_patient[patient_of_row]
    return {f"hospital_{site + 1}": np.flatnonzero(site_of_row == site) for site in range(sites)}


def _classes(contract: DataContract, raw: RawData) -> NDArray[np.int64]:
    """Return the class of each row, or the tenth of a number, shape (n,); -1 without a usable label."""
    if contract.label not in raw.columns and contract.kind == "table":
        raise DataError(absent_column("simulated data", contract.label, "label", contract, raw.columns))
    labels = labels_of(contract, raw)
    usable = np.isfinite(labels)
    if contract.task == "number" and usable.any():
        cuts = np.quantile(labels[usable], np.arange(1, _LABEL_GROUPS) / _LABEL_GROUPS)
        labels[usable] = np.searchsorted(cuts, labels[usable], side="right")
    return np.where(usable, labels, -1).astype(np.int64)


def _fill_up(site_of_patient: NDArray[np.int64], sites: int, smallest: int, generator: np.random.Generator) -> None:
    """Move patients from the largest site to the smallest until each has ``smallest``."""
    sizes = np.bincount(site_of_patient, minlength=sites)
    while sizes.min() < smallest:
        giver, taker = int(sizes.argmax()), int(sizes.argmin())
        moved = generator.choice(np.flatnonzero(site_of_patient == giver))
        site_of_patient[moved] = taker
        sizes[giver] -= 1
        sizes[taker] += 1
