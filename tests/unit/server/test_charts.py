"""Charts: deterministic SVG elements that may stand together in one page, and none where nothing can be drawn."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from server import charts
from server.charts import line_style, wilson
from shared import metrics, scores
from shared.metrics import Judgement
from tests.unit.server.outcomes import judgement, outcome_of, record, study_of

BINARY = judgement(study_of())
ROOT = Path(__file__).parents[3]


def all_of(judged: Judgement) -> dict[str, str | None]:
    return {
        "learning": charts.learning_curve(outcome_of().training),
        "roc": charts.roc(judged),
        "precision-recall": charts.precision_recall(judged),
        "calibration": charts.calibration(judged),
    }


def drawn(judged: Judgement) -> Mapping[str, str]:
    return {name: svg for name, svg in all_of(judged).items() if svg}


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_charts_are_well_formed_and_have_a_title(task: str) -> None:
    for name, svg in drawn(judgement(study_of(task))).items():
        element = ElementTree.fromstring(svg)
        title = element.find("{http://www.w3.org/2000/svg}title")
        assert title is not None
        assert element.get("aria-labelledby") == title.get("id") == f"{name}-title"
        assert title.text


def test_no_identifier_is_used_twice_in_a_page_and_every_reference_is_met() -> None:
    page = "".join(drawn(BINARY).values())
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', page)) <= set(ids)


def test_the_same_outcome_gives_the_same_charts() -> None:
    assert all_of(BINARY) == all_of(BINARY)


def test_a_chart_holds_no_style_sheet_script_or_date() -> None:
    for svg in drawn(BINARY).values():
        assert not re.search(r"<style|<script|<metadata|<!DOCTYPE|<\?xml|dc:date", svg)


def test_labels_stay_text_so_that_the_page_sets_the_font() -> None:
    assert ">true positive rate (sensitivity)</text>" in str(charts.roc(BINARY))


def test_a_chart_of_many_rows_stays_small() -> None:
    """20,000 different scores: points closer than a five-hundredth of the width are one."""
    rng = np.random.default_rng(0)
    y = (rng.random(20_000) < 0.3).astype(float)
    odds = rng.normal(size=20_000) + y
    sums = scores.count_classes(np.column_stack([-odds, odds]), y, ("no", "yes"), 16384, 0.5)
    judged = metrics.judge(sums, 100, rng)
    assert max(len(svg) for svg in drawn(judged).values()) < 60_000


def test_one_class_among_the_held_out_rows_gives_no_roc_but_a_calibration() -> None:
    odds = np.linspace(-2, 2, 30)
    sums = scores.count_classes(np.column_stack([-odds, odds]), np.zeros(30), ("no", "yes"), 1000, 0.5)
    judged = metrics.judge(sums, 100, np.random.default_rng(0))
    assert charts.roc(judged) is None
    assert charts.precision_recall(judged) is None
    assert charts.calibration(judged) is not None


def test_no_rows_give_no_chart() -> None:
    none = np.zeros(0)
    sums = scores.count_classes(np.zeros((0, 2)), none, ("no", "yes"), 1000, 0.5)
    judged = metrics.judge(sums, 100, np.random.default_rng(0))
    assert [charts.roc(judged), charts.precision_recall(judged), charts.calibration(judged)] == [None] * 3
    numbers = metrics.judge(scores.count_numbers(none, none, (0.0, 1.0), 1000), 100, np.random.default_rng(0))
    assert charts.predicted_observed(numbers) is None


def test_a_method_without_loss_has_no_learning_curve() -> None:
    assert charts.learning_curve([record("train", 1)]) is None


def test_a_single_round_is_drawn() -> None:
    assert "in 1 rounds" in str(charts.learning_curve([record("train", 1, loss=0.5)]))


def test_coordinates_are_shortened_and_labels_are_not() -> None:
    svg = str(charts.learning_curve([record("train", 1, loss=0.004), record("train", 2, loss=0.001)]))
    assert re.search(r">0\.0010?</text>", svg)
    assert not re.search(r'="[^"]*\d\.\d{3}', svg)


def test_numbers_are_drawn_around_the_diagonal() -> None:
    assert "mean observation" in str(charts.predicted_observed(judgement(study_of("number"))))


def test_the_area_under_the_drawn_curve_is_the_auroc() -> None:
    assert BINARY.metrics["auroc"].value == pytest.approx(charts.area(BINARY.curves[0]))


def test_the_mean_curve_lies_over_the_macro_mean() -> None:
    judged = judgement(study_of("multiclass"))
    x, y = charts._mean_curve(judged.curves, charts._height_of_roc)
    assert judged.metrics["auroc"].value == pytest.approx(np.trapezoid(y, x), abs=2e-3)
    x, y = charts._mean_curve(judged.curves, charts._height_of_precision)
    assert judged.metrics["average_precision"].value == pytest.approx(y[1:].mean(), abs=1e-2)


def test_twenty_eight_classes_look_different_and_more_look_alike() -> None:
    assert len({line_style(index, 28) for index in range(28)}) == 28
    assert len({line_style(index, 29) for index in range(29)}) == 1


@pytest.mark.parametrize(
    ("hits", "rows", "low", "high"), [(0, 0, 0.0, 1.0), (10, 10, 0.722, 1.0), (5, 10, 0.237, 0.763)]
)
def test_wilson_intervals(hits: int, rows: int, low: float, high: float) -> None:
    """Values of the usual tables."""
    assert (low, high) == pytest.approx(wilson(hits, rows), abs=1e-3)


def test_the_home_folder_is_neither_read_nor_written(tmp_path: Path) -> None:
    """A user's matplotlibrc would change the charts, and a home folder may be read-only."""
    settings = tmp_path / ".config" / "matplotlib"
    settings.mkdir(parents=True)
    (settings / "matplotlibrc").write_text("font.size: 40\n")
    code = (
        "from server.charts import learning_curve; from server.outcome import RoundRecord;"
        "print(learning_curve([RoundRecord('train', 1, {'loss': 0.5}, 0.1, (), {}, {}, 0, 0)]))"
    )
    environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert str(charts.learning_curve([record("train", 1, loss=0.5)])) == done.stdout.strip()
    assert [path.name for path in settings.iterdir()] == ["matplotlibrc"]
