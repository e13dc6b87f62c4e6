"""The report's tables, number by number."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from server import calls, tables
from server.outcome import shown_judgement
from server.scale import scale
from server.tables import Cell
from shared.messages import Shown
from shared.wording import UNDEFINED
from tests.unit.server.outcomes import (
    deployed_outcome,
    judgement,
    noised_judgement,
    outcome_of,
    private_outcome,
    study_of,
)

STUDY = study_of()


def test_each_hospital_alone_comes_before_together_and_pooled() -> None:
    rows = tables.comparison_table(outcome_of()).rows
    assert [row.name for row in rows] == ["north alone", "south alone", "Together", "Pooled"]
    assert [row.kind for row in rows] == ["alone", "alone", "together", "pooled"]


def test_a_row_has_value_interval_and_gain() -> None:
    outcome = outcome_of(
        federated=judgement(STUDY, auroc=(0.9, 0.86, 0.93)), local={"north": judgement(STUDY, auroc=(0.8, 0.77, 0.83))}
    )
    row = tables.comparison_table(outcome).rows[0]
    assert row.cells[0] == Cell("0.800", "0.770 to 0.830")
    assert row.gain == Cell("+0.100", "+0.050 to +0.142")


def test_a_loss_carries_a_minus_sign() -> None:
    outcome = outcome_of(
        federated=judgement(STUDY, auroc=(0.7, 0.7, 0.7)), local={"north": judgement(STUDY, auroc=(0.8, 0.8, 0.8))}
    )
    assert tables.comparison_table(outcome).rows[0].gain.value == "\N{MINUS SIGN}0.100"


def test_an_undefined_value_is_a_dash_without_interval_or_mark() -> None:
    undefined = judgement(STUDY, auroc=(math.nan, math.nan, math.nan))
    table = tables.comparison_table(outcome_of(federated=undefined))
    together = next(row for row in table.rows if row.kind == "together")
    assert (together.cells[0], together.mark) == (Cell("\N{EN DASH}"), None)
    assert table.reference is None


def test_marks_lie_on_the_scale_between_its_ticks() -> None:
    """Ends 0.77 and 0.93 give ticks 0.75, 0.80, 0.85, 0.90, 0.95: 0.9 is three quarters along."""
    outcome = outcome_of(
        federated=judgement(STUDY, auroc=(0.9, 0.86, 0.93)),
        local={"north": judgement(STUDY, auroc=(0.8, 0.77, 0.83))},
        pooled=None,
    )
    table = tables.comparison_table(outcome)
    assert [text for _, text in table.ticks] == ["0.75", "0.80", "0.85", "0.90", "0.95"]
    assert [place for place, _ in table.ticks] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert table.reference == pytest.approx(0.75)


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 0.0), (1.0, 1.0), (-3.0, 250.0), (1e-9, 2e-9), (12345.0, 12346.0), (0.0, 0.95)]
)
def test_every_scale_holds_its_values_and_has_a_few_ticks(low: float, high: float) -> None:
    start, end, ticks = scale(low, high)
    assert start <= low + 1e-12
    assert high <= end + 1e-12
    assert start < end
    assert 2 <= len(ticks) <= 7
    assert len({text for _, text in ticks}) == len(ticks)


def test_directions_say_what_is_better() -> None:
    heads = dict(tables.comparison_table(outcome_of("number")).heads)
    assert heads["Mean absolute error"] == "mmHg, lower is better"
    assert heads["R²"] == "higher is better"


def test_another_number_of_rows_is_shown() -> None:
    assert tables.comparison_table(outcome_of()).same_n
    assert not tables.comparison_table(outcome_of(pooled=judgement(STUDY, 50))).same_n


@pytest.mark.parametrize(
    ("own", "reading"),
    [
        ((0.5, 0.45, 0.55), "clearly better together"),
        ((0.99, 0.98, 1.0), "clearly worse together"),
        ((0.88, 0.8, 0.94), "may be chance"),
        ((math.nan, math.nan, math.nan), "one class only: not defined"),
    ],
)
def test_what_a_difference_at_home_means(own: tuple[float, float, float], reading: str) -> None:
    outcome = outcome_of(
        per_site={"north": judgement(STUDY, auroc=(0.9, 0.86, 0.93))},
        local_at_home={"north": judgement(STUDY, auroc=own)},
    )
    assert [row.reading for row in tables.home_rows(outcome)] == [reading]


def test_a_handful_of_patients_at_home_is_too_few_to_tell() -> None:
    homes = {"north": judgement(STUDY, 6, auroc=(1.0, 1.0, 1.0))}
    alone = {"north": judgement(STUDY, 6, auroc=(0.5, 0.4, 0.6))}
    assert tables.home_rows(outcome_of(per_site=homes, local_at_home=alone))[0].reading == "too few to tell"


def test_a_confusion_table_makes_the_values_of_a_test() -> None:
    """Of 20 ill, 15 are called ill; of 30 healthy, 27 are called healthy; 18 are called ill."""
    judged = dataclasses.replace(judgement(STUDY), confusion=np.array([[27.0, 3.0], [5.0, 15.0]]))
    found = {name: cell.value for name, _, cell in calls.diagnostic_values(judged)}
    assert found == {
        "Sensitivity": "0.750",
        "Specificity": "0.900",
        "Positive predictive value": "0.833",
        "Negative predictive value": "0.844",
    }
    assert calls.confusion_rows(judged)[1].cells == (("5", 0.25), ("15", 0.75))


def test_values_of_a_test_from_noised_counts_have_intervals_that_know_the_noise() -> None:
    noised = noised_judgement(STUDY, noise=2.0)
    _, _, sensitivity = calls.diagnostic_values(noised)[0]
    interval = noised.diagnostics["sensitivity"]
    assert Cell(f"{interval.value:.3f}", f"{interval.low:.3f} to {interval.high:.3f}") == sensitivity


def test_many_classes_have_no_confusion_table_where_counts_are_noised() -> None:
    assert () == calls.confusion_rows(noised_judgement(study_of("multiclass")))


def test_a_private_simulation_compares_exact_values_and_shows_the_released_ones() -> None:
    outcome = private_outcome(federated_exact=judgement(STUDY, auroc=(0.9, 0.86, 0.93)), pooled=None)
    table = tables.comparison_table(outcome)
    assert ["0.900", f"{outcome.federated.metrics['auroc'].value:.3f}"] == [
        row.cells[0].value for row in table.rows[-2:]
    ]
    assert ["together", "released"] == [row.kind for row in table.rows[-2:]]
    assert ["Together", "As released, noised"] == [item.name for item in tables.headlines(outcome)][-2:]


def test_nobody_called_ill_leaves_the_positive_predictive_value_undefined() -> None:
    judged = dataclasses.replace(judgement(STUDY), confusion=np.array([[30.0, 0.0], [20.0, 0.0]]))
    assert calls.diagnostic_values(judged)[2][2] == Cell("\N{EN DASH}")


def test_headlines_are_median_alone_together_and_pooled() -> None:
    outcome = outcome_of(
        federated=judgement(STUDY, auroc=(0.9, 0.86, 0.93)),
        local={
            "north": judgement(STUDY, auroc=(0.8, 0.7, 0.9)),
            "south": judgement(STUDY, auroc=(0.7, 0.6, 0.8)),
        },
        pooled=judgement(STUDY, auroc=(0.91, 0.87, 0.94)),
    )
    assert [(item.name, item.value) for item in tables.headlines(outcome)] == [
        ("Alone, median of 2", "0.750"),
        ("Together", "0.900"),
        ("Pooled", "0.910"),
    ]


def test_a_metric_that_a_hospital_does_not_show_is_a_dash() -> None:
    shown = shown_judgement(7, {"accuracy": Shown(0.5, 0.4, 0.6)})
    (north,) = tables.home_rows(deployed_outcome(per_site={"north": shown}))
    assert ("north", "7", UNDEFINED) == (north.name, north.n, north.together.value)
