"""What is decided for each patient by a keyed hash: held out or not, which fold, how often in a bag.

The hash is BLAKE2b (RFC 7693, https://www.rfc-editor.org/rfc/rfc7693) with a key from the study's seed and the purpose,
so the answer depends on nothing but these and the patient's id: not on other rows, their order, or the hospital. Rows
of one patient never part.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray


def words_of(patients: NDArray[np.str_], seed: int, purpose: str) -> NDArray[np.uint64]:
    """Return a word for each row, the same for all rows of a patient: uniform over patients.

    patients: array of shape (n,), text.
    purpose: at most six letters; words for two purposes have nothing to do with each other.

    Returns: array of shape (n,).
    """
    person = f"consilium-{purpose}".encode()
    key = hashlib.blake2b(str(seed).encode(), digest_size=32, person=person).digest()
    unique, inverse = np.unique(patients, return_inverse=True)
    words = [hashlib.blake2b(patient.encode(), digest_size=8, key=key).digest() for patient in unique.tolist()]
    return np.frombuffer(b"".join(words), dtype=">u8").astype(np.uint64)[inverse]
