"""Tables are read as they stand: no cell is guessed, and no error shows one."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from client.data.base import RawData
from client.data.images import ImageArchive, ImageFolder
from client.data.source import open_source, source_type
from client.data.table import CsvTable, ParquetTable
from shared.errors import DataError
from shared.schema import Column, DataContract, Text
from tests.builders import table_study


def csv(tmp_path: Path, text: str, encoding: str = "utf-8") -> CsvTable:
    path = tmp_path / "table.csv"
    path.write_bytes(text.encode(encoding))
    return CsvTable(path)


def columns(table: CsvTable) -> dict[str, list[str]]:
    return {name: cells.tolist() for name, cells in table.load().columns.items()}


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_every_cell_of_a_csv_file_is_the_text_that_it_is(tmp_path: Path, delimiter: str) -> None:
    lines = [["age", "code", "note"], ["63.0", "01", "?"], [" 5 ", "", "NA"]]
    table = csv(tmp_path, "\r\n".join(delimiter.join(line) for line in lines))
    assert columns(table) == {"age": ["63.0", " 5 "], "code": ["01", ""], "note": ["?", "NA"]}


def test_a_byte_order_mark_quotes_blank_lines_and_padded_names_are_no_obstacle(tmp_path: Path) -> None:
    table = csv(tmp_path, '\ufeff" a, b ", c \n"1;2",3\n\n4,"x\ny"\n')
    assert columns(table) == {"a, b": ["1;2", "4"], "c": ["3", "x\ny"]}


def test_a_column_without_a_name_is_known_by_its_place(tmp_path: Path) -> None:
    assert columns(csv(tmp_path, ",a\n0,5\n")) == {"column 1": ["0"], "a": ["5"]}


def test_a_table_with_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    raw = csv(tmp_path, "a,b\n").load()
    assert (len(raw), list(raw.columns)) == (0, ["a", "b"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2\nAlice,2,3\n", r"line 3: expected 2 cells, as in the first line. Received: 3"),
        ("a,b\n1,2\nAlice\n", r"line 3: expected 2 cells, as in the first line. Received: 1"),
        ('a,b\n1,"Alice\n', r"line 2: not readable as CSV: unexpected end of data"),
        ("a,Alice,Alice\n1,2,3\n", r"column 3 has the same name as an earlier one. .*is there a header line\?"),
        ("", r"expected a first line with column names. Received: an empty file"),
    ],
)
def test_an_error_names_file_and_line_but_no_cell(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        csv(tmp_path, text).load()
    assert "table.csv" in str(caught.value)
    assert "Alice" not in str(caught.value)


def test_a_table_that_is_not_utf_8_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected UTF-8 text. Save or export the table as UTF-8"):
        csv(tmp_path, "name\nZürich\n", "latin-1").load()


def test_parquet_keeps_numbers_and_texts_apart(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "table.parquet"
    frame = pandas.DataFrame({"age": [63, 5], "chol": [233.0, None], "sex": ["f", None], " sick ": [True, False]})
    frame.astype({"sex": "category"}).to_parquet(path)
    raw = ParquetTable(path).load()
    assert raw.columns["age"].dtype == np.int64
    assert np.array_equal(raw.columns["chol"], [233.0, np.nan], equal_nan=True)
    assert raw.columns["sex"].tolist() == ["f", None]
    assert raw.columns["sick"].tolist() == [True, False]


def test_a_file_that_is_no_parquet_says_so(tmp_path: Path) -> None:
    path = tmp_path / "table.parquet"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"table.parquet: not readable as Parquet"):
        ParquetTable(path).load()


def test_any_changed_bytes_of_a_parquet_file_are_read_or_refused_by_its_name(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas")
    path = tmp_path / "table.parquet"
    pandas.DataFrame({"age": [63, 5], "name": ["Alice", "Bob"]}).to_parquet(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 11):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :])
        try:
            ParquetTable(path).load()
        except DataError as error:
            assert "table.parquet: " in str(error)
            assert "Alice" not in str(error)


@pytest.mark.parametrize(
    "error", [KeyError("Alice"), NotImplementedError("Alice"), UnicodeDecodeError("u", b"", 0, 1, "Alice")]
)
def test_whatever_a_damaged_parquet_file_raises_is_told_by_its_type(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    pandas = pytest.importorskip("pandas")

    def damaged(_path: Path) -> None:
        raise error

    monkeypatch.setattr(pandas, "read_parquet", damaged)
    with pytest.raises(DataError, match=rf"table.parquet: not readable as Parquet: {type(error).__name__}\.$"):
        ParquetTable(tmp_path / "table.parquet").load()


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("a.csv", CsvTable),
        ("a.TSV", CsvTable),
        ("a.parquet", ParquetTable),
        ("a.npz", ImageArchive),
        ("a", ImageFolder),
    ],
)
def test_the_suffix_chooses_the_source(tmp_path: Path, name: str, source: type) -> None:
    path = tmp_path / name
    path.touch() if "." in name else path.mkdir()
    assert source_type(path) is source


def test_a_file_that_no_source_reads_names_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "table.xlsx"
    path.touch()
    with pytest.raises(DataError, match=r"\.csv, .*\.parquet, .*\.npz, or a folder.* Received: \.xlsx"):
        open_source(path, table_study().data)


def test_a_path_with_nothing_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv: no such file or folder"):
        open_source(tmp_path / "none.csv", table_study().data)


def test_a_path_that_may_not_be_looked_at_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_self: Path) -> bool:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "exists", forbidden)
    with pytest.raises(DataError, match=r"far/a\.csv: cannot be read: Permission denied"):
        source_type(Path("far/a.csv"))


def test_a_table_serves_a_study_about_sequences(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("gene,y\nAC,1\n")
    sequences = DataContract(
        kind="sequences",
        label="y",
        columns={"y": Column(type="category", levels=(0, 1))},
        texts={"gene": Text(letters="ACGT", length=2)},
    )
    assert ["AC"] == open_source(path, sequences).load().columns["gene"].tolist()


def test_images_do_not_serve_a_study_about_a_table(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r'the study says kind = "table", and this is of kind "images"'):
        open_source(tmp_path, table_study().data)


def test_a_part_of_the_rows_keeps_their_names() -> None:
    raw = RawData({"a": np.array([5, 6, 7])}, images=np.zeros((3, 4, 4, 1)))
    part = raw.take(np.array([2, 0])).take(np.array([0]))
    assert (part.names.tolist(), part.columns["a"].tolist(), len(part.images)) == (["2"], [7], 1)


def test_columns_of_different_length_are_no_table() -> None:
    with pytest.raises(ValueError, match=r"one length. Received: \[2, 3\]"):
        RawData({"a": np.zeros(2), "b": np.zeros(3)})


def test_raw_data_do_not_print_their_cells() -> None:
    assert "Alice" not in repr(RawData({"name": np.array(["Alice"])}))
