"""Study files and hospitals' data for the tests of real processes: shipped studies made short, data dealt to files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from client.data.base import RawData
from shared.study import load_study
from simulations.datasets import DATASETS
from simulations.datasets.base import load
from simulations.partition import partition

SHIPPED = Path(__file__).parents[2] / "simulations" / "studies"


NETWORK = """
[method]
name = "neural"
rounds = 8

[method.options]
architecture = "tabular_mlp"
"""


def write_study(path: Path, shipped: str, method: str = "", **changes: str | float) -> Path:
    """Write a shipped study with other values, called after the file and without ``[simulation]``; return the path.

    method: takes the place of the method's sections.
    changes: ``SECTION__KEY=value``, such as ``method__rounds=8``.
    """
    text = (SHIPPED / f"{shipped}.toml").read_text(encoding="utf-8").partition("\n[simulation]")[0]
    if method:
        before, _, rest = text.partition("\n[method]")
        text = "".join([before, method, *rest.partition("\n[aggregation]")[1:]])
    for key, value in {"study__name": path.stem, **changes}.items():
        section, _, name = key.rpartition("__")
        text = _changed(text, section.replace("__", "."), name, f'"{value}"' if isinstance(value, str) else str(value))
    path.write_text(text, encoding="utf-8")
    load_study(path)
    return path


def _changed(text: str, section: str, name: str, value: str) -> str:
    header, line = f"\n[{section}]\n", f"{name} = {value}"
    before, found, rest = text.partition(header)
    body, following, after = rest.partition("\n[")
    body, known = re.subn(rf"(?m)^{name} = .*$", line, body)
    assert found, f"no section [{section}]"
    return "".join([before, header, body if known else f"{line}\n{body}", following, after])


def write_data(
    folder: Path, study: Path, dataset: str, names: Sequence[str], data_dir: Path | None = None
) -> dict[str, Path]:
    """Deal a data set to as many files as there are names, and return each hospital's.

    data_dir: where real data lie; none for those that come with scikit-learn.
    """
    raw = load(DATASETS[dataset], data_dir)
    spec = "column:hospital" if "hospital" in raw.columns else "iid"
    dealt = partition(raw, load_study(study).data, spec, len(names), np.random.default_rng(1))
    folder.mkdir(exist_ok=True)
    return {name: _write(folder / name, rows) for name, rows in zip(names, dealt.values(), strict=True)}


def _write(path: Path, rows: RawData) -> Path:
    """Write rows as a hospital's export: a CSV file or, with images, an archive."""
    if rows.images is not None:
        path = path.with_suffix(".npz")
        np.savez(path, images=rows.images, labels=rows.columns["label"])
        return path
    import pandas as pd

    path = path.with_suffix(".csv")
    columns = {name: cells for name, cells in rows.columns.items() if name != "hospital"}
    pd.DataFrame(columns).to_csv(path, index=False)
    return path
