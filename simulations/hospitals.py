"""Where simulated hospitals' data come from: a named data set, one file dealt out, or one path for each hospital."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from client.data.base import RawData
from shared.errors import DataError, StudyError, nearest
from shared.study import Study

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Hospitals:
    """Simulated hospitals before they have checked anything.

    raw: each hospital's own rows, by site name.
    attributions: texts that the data's licences ask for.
    """

    raw: dict[str, RawData]
    attributions: Sequence[str] = ()


def hospitals_of(
    study: Study, data_dir: Path | None, data: Path | None, site_paths: Sequence[tuple[str, str]]
) -> Hospitals:
    """Return each hospital's rows.

    data_dir: folder of the named data set's files, if not in the usual places.
    data: a file or folder of the researcher's own, dealt out by the study's partition.
    site_paths: (name, path) of each hospital's own file or folder.

    Raises: StudyError or DataError if it is not clear where the data are, or they cannot be read.
    """
    if data is not None and site_paths:
        raise StudyError("--data deals one file out to hospitals, --site names each one's own: give one of the two.")
    if site_paths:
        return Hospitals(_named(study, site_paths))
    if data is not None:
        raw = _open(study, data)
        if not len(raw):
            raise DataError(f"{data}: expected at least one row below the line of column names. Received: none.")
        return Hospitals(_dealt(study, raw))
    return _dataset(study, data_dir)


def check_dealing(study: Study, given: Collection[str], site_paths: Sequence[tuple[str, str]]) -> None:
    """Raise StudyError if an option says how to deal data that are not dealt: it would be ignored.

    given: keys that the command line sets, such as ``simulation.sites``.
    site_paths: (name, path) of each hospital's own file or folder.
    """
    for key in ("simulation.sites", "simulation.partition"):
        if key in given and site_paths:
            raise StudyError(
                f"--{key.removeprefix('simulation.')} says how data are dealt to hospitals, and --site gives each"
                " hospital its own: give one of the two."
            )
    partition = study.simulation.partition
    if "simulation.sites" in given and partition.strip().startswith("column:"):
        raise StudyError(
            f"--sites: partition {partition!r} makes a hospital of each value of that column, however many there are."
            " Leave --sites out, or choose another --partition, such as iid."
        )


def _dataset(study: Study, data_dir: Path | None) -> Hospitals:
    from simulations.datasets import DATASETS
    from simulations.datasets.base import load

    name = study.simulation.dataset
    if name is None:
        raise StudyError(
            f"study {study.name!r} names no data set: say where the data are with --data FILE, or --site NAME=PATH for"
            " each hospital."
        )
    if name not in DATASETS:
        raise StudyError(f"[simulation] dataset: no data set {name!r}. {nearest(name, DATASETS)}")
    dataset = DATASETS[name]
    return Hospitals(_dealt(study, load(dataset, data_dir)), (dataset.attribution,))


def _open(study: Study, path: Path) -> RawData:
    from client.data.source import open_source

    return open_source(path, study.data).load()


def _dealt(study: Study, raw: RawData) -> dict[str, RawData]:
    from shared.randomness import generator
    from simulations.partition import partition

    drawn = generator(study.study.seed, "partition")
    return partition(raw, study.data, study.simulation.partition, study.simulation.sites, drawn)


def _named(study: Study, site_paths: Sequence[tuple[str, str]]) -> dict[str, RawData]:
    sites: dict[str, RawData] = {}
    for name, path in site_paths:
        if not _NAME.fullmatch(name):
            raise StudyError(f"--site: expected a name of letters, digits, '.', '_' and '-'. Received: {name!r}")
        if name in sites:
            raise StudyError(f"--site: expected different names. Received twice: {name!r}")
        try:
            sites[name] = _open(study, Path(path))
        except DataError as error:
            raise DataError(f"site {name}: {error}") from None
    return sites
