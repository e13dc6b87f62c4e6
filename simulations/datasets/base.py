"""Named public data sets: what they are, where their files lie, and how to fetch them.

A data set's files are looked up in ``--data-dir``, then ``$CONSILIUM_DATA/NAME``, then the user's cache folder, then in
the Python package that brings them, if one does. What is read is checked: a file with another digest is refused,
because altered copies of public data are common, and give other numbers under the same name.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import importlib.util
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from client.data.base import RawData
from shared.errors import DataError, DatasetMissing

Opener = Callable[[str], contextlib.AbstractContextManager[IO[bytes]]]
"""Opens an address for reading."""

Progress = Callable[[str, int, int], None]
"""Called with a file's name, the bytes received so far, and the bytes expected."""

_CHUNK_BYTES = 1 << 16
_TIMEOUT_S = 60.0


@dataclass(frozen=True)
class DataFile:
    """One file of a data set.

    name: as it is stored here.
    url: of the data set's public home; https.
    sha256: in hex, of the file at that home.
    bytes: its size.
    other_names: names under which a re-packed copy with the same content is read too.
    """

    name: str
    url: str
    sha256: str
    bytes: int
    other_names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """A named data set.

    name: for commands and study files.
    title: one line for people.
    licence: its name.
    attribution: what the licence, or good manners, asks to be shown with results.
    files: none for data that come with scikit-learn, or are simulated.
    read: from the folder in which the files lie to the rows; checks the files' content.
    package: installed Python package that brings the files, and its folder, such as ``lifelines/datasets``; or empty.
    extra: of ours, that installs the package.
    simulated: whether ``read`` makes the rows: no such patients exist.
    """

    name: str
    title: str
    licence: str
    attribution: str
    files: tuple[DataFile, ...]
    read: Callable[[Path], RawData]
    package: str = ""
    extra: str = ""
    simulated: bool = False

    @property
    def embedded(self) -> bool:
        """Whether there is nothing to fetch: the data are simulated, or come with a Python package."""
        return not self.files or bool(self.package)

    @property
    def origin(self) -> str:
        """Where data that need no fetching come from, for people."""
        if self.simulated:
            return "is simulated when it is read (no such patients exist)"
        return f"comes with {self.package.partition('/')[0] or 'scikit-learn'}"

    @property
    def to_have_it(self) -> str:
        """What to type to have the files."""
        if self.package:
            return f'{sys.executable} -m pip install "consilium[{self.extra}]"'
        return f"consilium-simulate fetch {self.name}"


def load(dataset: Dataset, data_dir: Path | None) -> RawData:
    """Return a data set's rows.

    Raises: DatasetMissing if it is not on this machine; DataError if a file is not the published one.
    """
    return dataset.read(locate(dataset, data_dir))


def locate(dataset: Dataset, data_dir: Path | None) -> Path:
    """Return the folder that holds all files of a data set; for embedded data the cache folder, which need not exist.

    data_dir: looked into first, itself and its subfolder of the data set's name.

    Raises: DatasetMissing naming the file, its home, and what to type.
    """
    places = _places(dataset, data_dir)
    for place in places:
        if all(find(place, file) for file in dataset.files):
            return place
    seen = {file.name: sum(find(place, file) is not None for place in places) for file in dataset.files}
    absent = min(dataset.files, key=lambda file: seen[file.name])
    raise DatasetMissing(
        f"data set {dataset.name}: the file {absent.name} is not on this machine. It comes from {absent.url}\n"
        f"Type `{dataset.to_have_it}`, or give the folder where it lies with --data-dir.\n"
        f"Looked into: {', '.join(str(place) for place in places)}"
    )


def _places(dataset: Dataset, data_dir: Path | None) -> list[Path]:
    places = [] if data_dir is None else [data_dir, data_dir / dataset.name]
    shelf = os.environ.get("CONSILIUM_DATA")
    if shelf:
        places.append(Path(shelf) / dataset.name)
    return [*places, cache_folder(dataset), *_package_folders(dataset)]


def _package_folders(dataset: Dataset) -> list[Path]:
    """Return where the package's files lie, if it is installed; the package itself is not imported."""
    package, _, folder = dataset.package.partition("/")
    found = importlib.util.find_spec(package) if package else None
    return [Path(place) / folder for place in (found and found.submodule_search_locations) or ()]


def cache_folder(dataset: Dataset) -> Path:
    """Return the folder of a data set in the user's cache."""
    from platformdirs import user_cache_path

    return user_cache_path("consilium", appauthor=False) / "datasets" / dataset.name


def find(folder: Path, file: DataFile) -> Path | None:
    """Return where a file lies in a folder, under any of its names."""
    return next((path for name in (file.name, *file.other_names) if (path := folder / name).is_file()), None)


def read_checked(folder: Path, file: DataFile) -> bytes:
    """Return the bytes of a file after comparing their SHA-256 with the published one.

    Raises: DataError if they differ.
    """
    path = folder / file.name
    content = path.read_bytes()
    received = hashlib.sha256(content).hexdigest()
    if received != file.sha256:
        raise altered(path, file.sha256, received)
    return content


def altered(path: Path, expected: str, received: str) -> DataError:
    """Return the error that a file is not what was published."""
    return DataError(
        f"{path}: not the published file: expected SHA-256 {expected}. Received: {received}."
        " Remove it and fetch it anew: altered copies of public data give other results."
    )


def open_url(url: str) -> IO[bytes]:
    """Open an https address."""
    response: IO[bytes] = urllib.request.urlopen(url, timeout=_TIMEOUT_S)  # noqa: S310  # https is checked by fetch
    return response


def fetch(
    dataset: Dataset,
    destination: Path | None = None,
    opener: Opener = open_url,
    progress: Progress = lambda _name, _received, _expected: None,
) -> Path:
    """Download a data set from its public home, and return the folder.

    destination: folder to put the files in; the user's cache without it. Files that are right already are kept.

    Raises: DataError if a file cannot be had, is not the published one, or cannot be written; nothing is kept of it.
    """
    if dataset.embedded:
        needed = f" If it is missing, type: {dataset.to_have_it}" if dataset.package else ""
        raise DataError(f"{dataset.name} {dataset.origin}: there is nothing to fetch.{needed}")
    folder = cache_folder(dataset) if destination is None else destination
    for file in dataset.files:
        target = folder / file.name
        if not (target.is_file() and hashlib.sha256(target.read_bytes()).hexdigest() == file.sha256):
            _download(file, target, opener, progress)
    return folder


def _download(file: DataFile, target: Path, opener: Opener, progress: Progress) -> None:
    if not file.url.startswith("https://"):
        raise DataError(f"{file.name}: expected an https address. Received: {file.url}")
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        received = _copy(file, temporary, opener, progress)
        if received != file.sha256:
            raise DataError(
                f"{file.url}: expected SHA-256 {file.sha256}. Received: {received}. Nothing was kept: the download was"
                " damaged, or the file has changed. Try again; if it persists, report it."
            )
        temporary.replace(target)
    except urllib.error.URLError as error:
        raise DataError(
            f"{file.url}: cannot be reached: {error.reason}. Check the network, or fetch the file by other means and"
            " give its folder with --data-dir."
        ) from None
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "strerror", None) or type(error).__name__
        raise DataError(f"{target}: cannot be fetched: {reason}. Check network and disk.") from None
    finally:
        temporary.unlink(missing_ok=True)


def _copy(file: DataFile, temporary: Path, opener: Opener, progress: Progress) -> str:
    """Copy an address into a temporary file, and return the SHA-256 of what came."""
    digest, received = hashlib.sha256(), 0
    with opener(file.url) as source, temporary.open("wb") as sink:
        # One byte more than expected is enough to fail the digest: no endless answer fills the disk.
        while received <= file.bytes and (chunk := source.read(_CHUNK_BYTES)):
            sink.write(chunk)
            digest.update(chunk)
            received += len(chunk)
            progress(file.name, received, file.bytes)
    return digest.hexdigest()
