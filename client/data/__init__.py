"""Where a hospital's data come from: one file for each kind of source, and ``SOURCES`` that lists them."""

from client.data.base import DataSource
from client.data.images import ImageArchive, ImageFolder
from client.data.table import CsvTable, ParquetTable

SOURCES: dict[str, type[DataSource]] = {
    "csv": CsvTable,
    "parquet": ParquetTable,
    "image-folder": ImageFolder,
    "npz": ImageArchive,
}
