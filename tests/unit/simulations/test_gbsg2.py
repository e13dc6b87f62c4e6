"""Survival after breast cancer surgery, from the file that a Python package brings."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from client.data.conform import conform
from shared.errors import DataError, DatasetMissing
from shared.study import load_study
from simulations.datasets import DATASETS
from simulations.datasets.base import fetch, load, locate

STUDY = Path(__file__).parents[3] / "simulations" / "studies" / "breast_cancer_recurrence.toml"


def test_686_women_of_whom_299_had_the_event_are_within_the_study() -> None:
    result = conform(load_study(STUDY).data, load(DATASETS["gbsg2"], None), "all")
    assert (686, 8) == result.examples.values.shape
    assert 299 == result.examples.events.sum()
    assert ({}, ()) == (result.findings.outside, result.findings.notes)
    assert not np.isnan(result.examples.values).any()


def test_without_the_package_it_is_said_what_to_type(tmp_path: Path) -> None:
    absent = dataclasses.replace(DATASETS["gbsg2"], name="gbsg2_absent", package="no_such_package/datasets")
    with pytest.raises(DatasetMissing, match=r"(?s)gbsg2.csv is not .*-m pip install \"consilium\[survival-data\]\""):
        locate(absent, tmp_path)
    with pytest.raises(DataError, match=r"comes with lifelines: there is nothing to fetch.*consilium\[survival-data\]"):
        fetch(DATASETS["gbsg2"])


def test_a_folder_of_ones_own_comes_before_the_package(tmp_path: Path) -> None:
    (tmp_path / "gbsg2.csv").write_bytes(b"altered")
    with pytest.raises(DataError, match="not the published file"):
        load(DATASETS["gbsg2"], tmp_path)
