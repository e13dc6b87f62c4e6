"""Which patients train and which are held out, and one hospital's data ready for a study.

By default a patient is held out when a keyed hash of the patient id (``shared/patients.py``), read as a fraction of its
range, lies below ``test_fraction``. The share held out is therefore ``test_fraction`` on average, not exactly.

A study may name a column that says ``train`` or ``test`` instead; validation rows count as ``train``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from client.data.base import RawData
from client.data.conform import Findings, conform
from shared.errors import DataError
from shared.examples import Examples, Part
from shared.patients import words_of
from shared.schema import DataContract

TRAIN_WORDS = ("train", "training", "val", "valid", "validation")
TEST_WORDS = ("test", "testing")
"""What a split column may say, in small letters."""


@dataclass(frozen=True, eq=False)
class SiteData:
    """One hospital's checked and split data.

    parts: the rows of each part; the held-out part may be empty. Rows without a label stand beside those to train on.
    findings: what the check found.
    """

    name: str
    parts: Mapping[Part, Examples]
    findings: Findings = field(default_factory=Findings)

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences for the report."""
        notes, unlabelled = self.findings.notes, self.parts[Part.TRAINING].unlabelled
        if unlabelled:
            notes = (*notes, f"Without a label, kept to train on: {len(unlabelled):,} row(s).")
        if len(self.parts[Part.HELD_OUT]):
            return notes
        return (*notes, "No patient was held out here, so nothing is evaluated on this hospital.")


def site_data(contract: DataContract, raw: RawData, name: str, seed: int) -> SiteData:
    """Check and split one hospital's data.

    A hospital may have no held-out patient: with few patients that is chance, and evaluation is over all hospitals. It
    must have one to train on.

    name: of the hospital.
    seed: of the study.

    Raises: DataError saying why the hospital cannot take part.
    """
    conformed = conform(contract, raw, name)
    examples = conformed.examples
    if conformed.marks is None or contract.split_column is None:
        held_out = is_held_out(examples.patients, contract.test_fraction, seed)
        advice = f"With test_fraction = {contract.test_fraction:g} chance held everybody out: bring more patients."
    else:
        held_out = marked_held_out(conformed.marks, examples.patients, contract.split_column, name)
        advice = f"Column {contract.split_column!r} says test in every row: leave the site out."
    if held_out.all():
        raise DataError(
            f"{name}: expected a patient to train on. Received: {examples.patient_count} patient(s), all held out."
            f" {advice}"
        )
    labelled, findings = ~np.isnan(examples.labels), conformed.findings
    if not (labelled & ~held_out).any():
        raise DataError(f"{name}: label missing: column {contract.label!r} is empty in all rows to train on.")
    training = examples.take(labelled & ~held_out)
    if contract.unlabelled:
        training = replace(training, unlabelled=examples.take(~labelled & ~held_out))
        # Nobody can be judged by them.
        findings = replace(findings, no_label=int((~labelled & held_out).sum()))
    return SiteData(name, {Part.TRAINING: training, Part.HELD_OUT: examples.take(labelled & held_out)}, findings)


def is_held_out(patients: NDArray[np.str_], test_fraction: float, seed: int) -> NDArray[np.bool_]:
    """Return which rows are held out by keyed hash of their patient, shape (n,).

    patients: array of shape (n,), text.
    """
    limit = np.uint64(round(test_fraction * 2**64))
    return np.asarray(words_of(patients, seed, "split") < limit)


def marked_held_out(marks: NDArray[np.str_], patients: NDArray[np.str_], column: str, source: str) -> NDArray[np.bool_]:
    """Return which rows the split column marks as held out, shape (n,).

    marks, patients: arrays of shape (n,), text.

    Raises: DataError if a mark is neither train nor test, or a patient stands in both parts.
    """
    words = np.char.lower(marks)
    held_out = np.isin(words, TEST_WORDS)
    unclear = int((~held_out & ~np.isin(words, TRAIN_WORDS)).sum())
    if unclear:
        raise DataError(
            f"{source}: column {column!r}: expected train or test (val counts as train). Received: {unclear} row(s)"
            " that say neither. Mend the column, or take split_column out of the study to split by keyed hash."
        )
    both = len(np.intersect1d(patients[held_out], patients[~held_out]))
    if both:
        raise DataError(
            f"{source}: column {column!r}: expected each patient in one part. Received: {both} patient(s) in both train"
            " and test. Mend the column, or take split_column out of the study to split by keyed hash."
        )
    return held_out
