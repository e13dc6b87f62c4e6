"""Every error that Consilium raises on purpose, in one tree.

    ConsiliumError
    |-- StudyError          a study file, or an option that changes it, says something that cannot be
    |-- DataError           data are not what the study's contract says
    |   `-- DatasetMissing  a named data set is not on this machine
    |-- DependencyMissing   a study needs a package that is not installed
    |-- OutputError         the output folder cannot be used, or cannot be written
    |   |-- CheckpointError a checkpoint cannot be read, or belongs to another study
    |   `-- NotWritten      a file cannot be written, on a full disk say; what was there stays, and a run can go on
    |-- EnrolmentError      a request, a welcome, a roster or a certificate is not what it must be
    |-- SettingsError       a hospital's site.toml says something that cannot be
    |-- ApprovalError       a study cannot be approved, or an approval does not hold any more
    |-- DeploymentError     a process, an address or a connection of the network part is not as it must be
    |-- AuditError          a hash-chained record was changed, or cannot be read
    |-- MixedInstallation   server, client, shared and simulations come from different places
    |-- RunAbandoned        a round had fewer contributors than the study demands
    |   |-- SecretsLost     a site was started anew in mid-round: the round must be begun anew, with all sites
    |   `-- NoEstimate      what the method looks for does not exist in these data: classes that are separated, say
    |-- ProtocolError       the other side sent something that is not what was asked for
    `-- Refusal             a site says no: a code and a hint, never patient data

A message says what was expected, what was received and what to do. No message contains a value from a patient.
``exit_code`` is what a command returns: 2 for input that the user can mend, 3 for a run that was given up.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable
from pathlib import Path


class ConsiliumError(Exception):
    """Base of every error in this package."""

    exit_code = 2


class StudyError(ConsiliumError):
    """A study file, or an option that changes it, says something that cannot be."""


class DataError(ConsiliumError):
    """Data are not what the study's contract says."""


class DatasetMissing(DataError):
    """A named data set is not on this machine."""


class DependencyMissing(ConsiliumError):
    """A study needs a package that is not installed."""


class OutputError(ConsiliumError):
    """The output folder cannot be used, or cannot be written."""


class CheckpointError(OutputError):
    """A checkpoint cannot be read, or belongs to another study."""


class NotWritten(OutputError):
    """A file cannot be written, on a full disk say: what was there before is untouched, and a run can go on from it."""

    def __init__(self, path: Path, error: OSError) -> None:
        remedy = " Make the folder writable." if error.errno in _FORBIDDEN else ""
        remedy = " Make room." if error.errno in _FULL else remedy
        super().__init__(f"{path}: cannot be written: {error.strerror}; what was there before is untouched.{remedy}")


_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


class EnrolmentError(ConsiliumError):
    """A request, a welcome, a roster or a certificate is not what it must be."""


class SettingsError(ConsiliumError):
    """A hospital's ``site.toml`` says something that cannot be."""


class ApprovalError(ConsiliumError):
    """A study cannot be approved, or an approval does not hold any more."""


class DeploymentError(ConsiliumError):
    """A process, an address or a connection of the network part is not as it must be."""


class AuditError(ConsiliumError):
    """A hash-chained record was changed, or cannot be read."""


class MixedInstallation(ConsiliumError):
    """The four packages come from different places, so two versions would be mixed."""


class RunAbandoned(ConsiliumError):
    """A round had fewer contributors than the study demands."""

    exit_code = 3


class SecretsLost(RunAbandoned):
    """A site was started anew in mid-round, and its secrets of the round are gone: all begin the round anew."""


class NoEstimate(RunAbandoned):
    """What a method looks for does not exist in these data, or was not found: separated classes, collinear columns.

    The message names columns, and says what to change in the study. It follows from sums alone.
    """


class ProtocolError(ConsiliumError):
    """The other side sent something that is not what was asked for.

    code: short stable word, such as ``wrong-shape``.
    """

    def __init__(self, code: str, hint: str) -> None:
        super().__init__(f"{code}: {hint}")
        self.code = code
        self.hint = hint


class Refusal(ConsiliumError):
    """A site says no.

    code: short stable word, such as ``not-finite``; it travels to the aggregator.
    hint: one sentence for people; it travels too, so it never contains data.
    """

    def __init__(self, code: str, hint: str) -> None:
        super().__init__(f"{code}: {hint}")
        self.code = code
        self.hint = hint


def nearest(word: str, known: Iterable[str]) -> str:
    """Return the sentence that names the known word closest to ``word``, or all of them when none is close."""
    words = sorted(known)
    if not words:
        return "Nothing is known here: leave it out."
    close = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    return f"Did you mean {close[0]!r}?" if close else f"Known: {', '.join(words)}."
