"""Which kind of source a path is, and opening it under a contract."""

from __future__ import annotations

from pathlib import Path

from client.data import SOURCES
from client.data.base import DataSource
from shared.errors import DataError
from shared.schema import DataContract


def source_type(path: Path) -> type[DataSource]:
    """Return the kind of source that a path is, by its suffix; a folder is one of images.

    Raises: DataError if there is nothing, it may not be looked at, or no source reads such files.
    """
    try:
        there, folder = path.exists(), path.is_dir()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}.") from None
    if not there:
        raise DataError(f"{path}: no such file or folder.")
    suffix = "" if folder else path.suffix.lower()
    for source in SOURCES.values():
        if suffix in (source.suffixes or ("",)) and folder == (not source.suffixes):
            return source
    known = ", ".join(known for source in SOURCES.values() for known in source.suffixes)
    raise DataError(
        f"{path}: expected a table or images: {known}, or a folder label/*.png. Received: {suffix or 'no suffix'}."
        " Export the data as CSV or Parquet."
    )


def open_source(path: Path, contract: DataContract) -> DataSource:
    """Return the source that reads a path under a contract.

    Raises: DataError if nothing is there, if no source reads such files, or if the contract is about another kind.
    """
    source = source_type(path)
    if source.kind != ("images" if contract.images else "table"):
        raise DataError(
            f'{path}: the study says kind = "{contract.kind}", and this is of kind "{source.kind}".'
            " Give another path, or correct [data] kind."
        )
    return source(path, contract)
