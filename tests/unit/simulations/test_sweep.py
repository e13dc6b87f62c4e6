"""Utility against epsilon: the same splits at every epsilon, exact metrics, and a reference without noise."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from client.data.base import RawData
from shared.errors import StudyError
from shared.study import Study
from simulations import sweep_page
from simulations.hospitals import Hospitals
from simulations.sweep import Spread, Sweep, check, epsilons_of, sweep, sweep_of
from tests.builders import table_study
from tests.unit.simulations.attacks.audited import FEATURES, private_study


def hospitals(study: Study) -> Hospitals:
    """Three hospitals of 200 patients; which of them are held out is the study's seed's choice."""
    raw = {}
    for number, name in enumerate("abc"):
        rng = np.random.default_rng(number)
        x = rng.normal(size=(200, FEATURES)).clip(-9, 9)
        y = (x[:, 0] + 0.3 * rng.normal(size=200) > 0).astype(int)
        raw[name] = RawData({**{f"x{index}": column for index, column in enumerate(x.T)}, "y": y})
    return Hospitals(raw)


@pytest.fixture(scope="module")
def swept() -> Sweep:
    return sweep(private_study(), hospitals, epsilons_of("20, 0.05"), 2, lambda _what: None)


def test_epsilons_rise_and_the_reference_comes_last(swept: Sweep) -> None:
    assert [0.05, 20.0, None] == [point.epsilon for point in swept.points]


def test_less_epsilon_is_more_noise_and_a_worse_model_and_no_noise_is_best(swept: Sweep) -> None:
    little, much, without = swept.points

    assert little.noise_multiplier is not None
    assert much.noise_multiplier is not None
    assert little.noise_multiplier > 10 * much.noise_multiplier
    assert without.noise_multiplier is None
    assert little.metrics["auroc"].mean < much.metrics["auroc"].mean - 0.1
    assert much.metrics["auroc"].mean < without.metrics["auroc"].mean + 0.01


def test_there_is_one_value_for_each_seed_and_seeds_differ(swept: Sweep) -> None:
    values = swept.points[-1].metrics["auroc"].values

    assert 2 == len(set(values))


def test_mean_and_spread_are_over_the_seeds() -> None:
    spread = Spread((0.7, 0.9))

    assert spread.mean == pytest.approx(0.8)
    assert spread.deviation == pytest.approx(0.1414, abs=1e-4)
    assert Spread((0.7,)).deviation == 0.0


def test_a_study_without_privacy_is_refused_with_what_to_write() -> None:
    with pytest.raises(StudyError, match=r"needs a study with \[privacy\].*epsilon = 1.0 and delta = 1e-5"):
        check(table_study())


@pytest.mark.parametrize("text", ["", "0", "1,two", "-1", "101", "nan"])
def test_epsilons_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(StudyError, match="--epsilon: expected numbers above 0 and at most 100"):
        epsilons_of(text)


def test_the_page_and_the_numbers_are_written_and_need_nothing_else(swept: Sweep, tmp_path: Path) -> None:
    sweep_page.write(swept, tmp_path)

    page = (tmp_path / "sweep.html").read_text(encoding="utf-8")
    assert "without noise" in page
    assert "<script" not in page
    assert sweep_of(swept) == json.loads((tmp_path / "sweep.json").read_text(encoding="utf-8"))
