"""Units: known numbers of the clinic, and no guess."""

from __future__ import annotations

import pytest

from client.data.units import conversion


def converted(value: float, hospital: str, study: str) -> float:
    factor, offset = conversion(hospital, study)
    return factor * value + offset


@pytest.mark.parametrize(
    ("expected", "value", "hospital", "study"),
    [
        (193.35, 5.0, "mmol/l of cholesterol", "mg/dl"),
        (5.0, 193.35, "mg/dL of cholesterol", "mmol/L"),
        (99.088, 5.5, "mmol/L of glucose", "mg/dl"),
        (1.0, 88.42, "µmol/l of creatinine", "mg/dl"),
        (176.84, 2.0, "mg/dl of creatinine", "umol/l"),
        (16.114, 10.0, "mmol/l of haemoglobin", "g/dl"),
        (14.0, 140.0, "g/l of hemoglobin", "g/dl"),
        (98.6, 37.0, "°C", "F"),
        (37.0, 98.6, "Fahrenheit", "celsius"),
        (-40.0, -40.0, "F", "C"),
        (45.359237, 100.0, "lb", "kg"),
        (180.0, 1.8, "m", "cm"),
        (1.778, 70.0, "in", "m"),
        (120.009872, 16.0, "kPa", "mm Hg"),
    ],
)
def test_a_value_becomes_what_the_studys_unit_says(expected: float, value: float, hospital: str, study: str) -> None:
    assert expected == pytest.approx(converted(value, hospital, study), rel=1e-12)


def test_the_same_unit_is_no_conversion_whatever_it_is() -> None:
    assert (1.0, 0.0) == conversion("beats/min", "Beats/min")


def test_a_substance_may_stand_in_the_studys_unit() -> None:
    assert 38.67 == conversion("mmol/l", "mg/dl of cholesterol")[0]


@pytest.mark.parametrize(
    ("hospital", "study", "expected"),
    [
        ("mmol/l", "mg/dl", "say of which substance: 'mmol/l' with ' of ' and one of cholesterol, glucose"),
        ("mmol/l of cholesterin", "mg/dl", "Did you mean 'cholesterol'?"),
        ("mmol/l of glucose", "mg/dl of cholesterol", "another substance"),
        ("kPa", "", "names no unit"),
        ("kPa", "kg", "no way from 'kPa' to 'kg'"),
        ("stone", "kg", "no way from 'stone' to 'kg'"),
    ],
)
def test_what_is_not_in_the_table_is_said(hospital: str, study: str, expected: str) -> None:
    with pytest.raises(ValueError, match=r".") as raised:
        conversion(hospital, study)
    assert expected in str(raised.value)
