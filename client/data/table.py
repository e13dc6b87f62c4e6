"""Tables: CSV and Parquet.

CSV (RFC 4180; comma, semicolon or tab, found in the header line) keeps every cell as the text that it is: guessed types
would turn one column into numbers at one hospital and into text at the next. Rows of uneven length are an error rather
than missing cells. Parquet keeps its types.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from client.data.base import DAMAGED, RawData
from shared.errors import DataError
from shared.schema import DataContract

_DELIMITERS = (",", ";", "\t")


@dataclass(frozen=True)
class CsvTable:
    """A text table whose first line names the columns; UTF-8, with or without a byte order mark."""

    path: Path
    contract: DataContract | None = None
    kind: ClassVar[str] = "table"
    suffixes: ClassVar[tuple[str, ...]] = (".csv", ".tsv", ".txt")

    def load(self) -> RawData:
        """Read the table; every cell is text, as it stands.

        Raises: DataError naming the line where reading failed.
        """
        try:
            with self.path.open(encoding="utf-8-sig", newline="") as file:
                delimiter = _delimiter(file.readline())
                file.seek(0)
                header, rows = self._rows(csv.reader(file, delimiter=delimiter, strict=True))
        except UnicodeDecodeError:
            raise DataError(f"{self.path}: expected UTF-8 text. Save or export the table as UTF-8.") from None
        except OSError as error:
            raise DataError(f"{self.path}: cannot be read: {error.strerror}.") from None
        cells = zip(*rows, strict=True) if rows else ((),) * len(header)
        return RawData({name: np.array(column, dtype=object) for name, column in zip(header, cells, strict=True)})

    def _rows(self, reader: Any) -> tuple[list[str], list[list[str]]]:
        """Return the column names and the rows that are not blank."""
        try:
            header = self._header(next(reader, []))
            rows = []
            for row in reader:
                if len(row) == len(header):
                    rows.append(row)
                elif row:
                    raise DataError(
                        f"{self.path}: line {reader.line_num}: expected {len(header)} cells, as in the first line."
                        f" Received: {len(row)}."
                    )
        except csv.Error as error:
            raise DataError(f"{self.path}: line {reader.line_num}: not readable as CSV: {error}.") from None
        return header, rows

    def _header(self, cells: list[str]) -> list[str]:
        names = [cell.strip() or f"column {number}" for number, cell in enumerate(cells, start=1)]
        if not names:
            raise DataError(f"{self.path}: expected a first line with column names. Received: an empty file.")
        again = [number for number, name in enumerate(names, start=1) if name in names[: number - 1]]
        if again:
            # The name itself is not shown: without a header line it would be a patient's value.
            raise DataError(
                f"{self.path}: column {again[0]} has the same name as an earlier one. The first line must name the"
                " columns, each differently: is there a header line?"
            )
        return names


@dataclass(frozen=True)
class ParquetTable:
    """An Apache Parquet file."""

    path: Path
    contract: DataContract | None = None
    kind: ClassVar[str] = "table"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")

    def load(self) -> RawData:
        """Read the table; numbers stay numbers, a null is None or NaN.

        Raises: DataError if it is not a Parquet file.
        """
        import pandas
        import pyarrow

        try:
            frame = pandas.read_parquet(self.path)
            names = [str(name).strip() for name in frame.columns]
            columns = {name: _plain(frame.iloc[:, index]) for index, name in enumerate(names)}
        except (*DAMAGED, pyarrow.ArrowException) as error:
            raise DataError(f"{self.path}: not readable as Parquet: {type(error).__name__}.") from None
        if len(columns) < len(names):
            raise DataError(f"{self.path}: two columns have the same name. Rename one.")
        return RawData(columns)


def _plain(series: Any) -> NDArray[Any]:
    """Return a pandas column as numbers where it is numeric; else as objects: None, numbers, text for the rest."""
    if isinstance(series.dtype, np.dtype) and series.dtype.kind in "iuf":
        return np.asarray(series)
    cells = [
        None if null else cell if isinstance(cell, (str, int, float)) else str(cell)
        for cell, null in zip(series.astype(object), series.isna(), strict=True)
    ]
    return np.array(cells, dtype=object)


def _delimiter(header: str) -> str:
    """Return the delimiter that splits the header line into most cells."""

    def cells(delimiter: str) -> int:
        try:
            return len(next(csv.reader([header], delimiter=delimiter), []))
        except csv.Error:
            return 0

    return max(_DELIMITERS, key=cells)
