"""Units: how a hospital's number becomes the study's, from a closed table. What is not in it needs a factor.

Between amount (mmol/l) and mass (mg/dl) lies the substance, so these are written ``mmol/l of cholesterol``. Factors are
those of the molar masses in use: cholesterol 386.7 g/mol, glucose 180.16, creatinine 113.1, haemoglobin 16114 for one
chain (AMA Manual of Style, 11th edition, "SI conversion factors"); pounds, inches and Fahrenheit are exact by
definition, and 1 kPa is 7.500617 mmHg (NIST SP 811, appendix B).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from shared.errors import nearest

Linear: TypeAlias = tuple[float, float]
"""Factor and offset: y = factor * x + offset."""

_SUBSTANCES: Mapping[str, Mapping[str, Linear]] = {
    "cholesterol": {"mg/dl": (1.0, 0.0), "mmol/l": (38.67, 0.0)},
    "creatinine": {"mg/dl": (1.0, 0.0), "umol/l": (1 / 88.42, 0.0)},
    "glucose": {"mg/dl": (1.0, 0.0), "mmol/l": (18.016, 0.0)},
    "hemoglobin": {"g/dl": (1.0, 0.0), "g/l": (0.1, 0.0), "mmol/l": (1.6114, 0.0)},
}
"""By substance: each unit's conversion into the first one."""

_QUANTITIES: Mapping[str, Mapping[str, Linear]] = {
    "length": {"cm": (1.0, 0.0), "m": (100.0, 0.0), "in": (2.54, 0.0)},
    "mass": {"kg": (1.0, 0.0), "lb": (0.45359237, 0.0)},
    "pressure": {"mmhg": (1.0, 0.0), "kpa": (7.500617, 0.0)},
    "temperature": {"c": (1.0, 0.0), "f": (5 / 9, -160 / 9)},
}
"""The same for what needs no substance."""

_SPELLINGS = {
    **{"celsius": "c", "degc": "c", "fahrenheit": "f", "degf": "f"},
    **{"inch": "in", "inches": "in", "lbs": "lb", "haemoglobin": "hemoglobin"},
}


def conversion(hospital: str, study: str) -> Linear:
    """Return factor and offset that make the study's number of the hospital's.

    hospital: the unit, with its substance where that matters: ``mmol/l of cholesterol``.
    study: the contract's unit.

    Raises: ValueError saying what is not known.
    """
    unit, substance = _parts(hospital)
    wanted, other = _parts(study)
    if substance and other and substance != other:
        raise ValueError(f"the study's unit is of another substance: {study!r}")
    substance = substance or other
    if unit == wanted:
        return 1.0, 0.0
    if not wanted:
        raise ValueError("the study names no unit for this column: give a conversion with a factor")
    if substance and substance not in _SUBSTANCES:
        raise ValueError(f"no substance {substance!r}. {nearest(substance, _SUBSTANCES)} Or give a conversion")
    tables = {substance: _SUBSTANCES[substance]} if substance else _QUANTITIES
    for table in tables.values():
        if unit in table and wanted in table:
            return _between(table[unit], table[wanted])
    fitting = [name for name, table in _SUBSTANCES.items() if unit in table and wanted in table]
    if fitting and not substance:
        raise ValueError(f"say of which substance: {hospital.strip()!r} with ' of ' and one of {', '.join(fitting)}")
    raise ValueError(f"no way from {hospital.strip()!r} to {study.strip()!r} is known: give a conversion with a factor")


def _between(first: Linear, second: Linear) -> Linear:
    """Return the conversion from the first unit into the second; both are given into one common unit."""
    return first[0] / second[0], (first[1] - second[1]) / second[0]


def _parts(text: str) -> tuple[str, str]:
    """Return unit and substance in the table's spelling; ``""`` for no substance."""
    unit, _, substance = text.casefold().replace("µ", "u").replace("μ", "u").partition(" of ")
    return _spelt(unit.replace("°", "").replace(" ", "")), _spelt(substance.strip())


def _spelt(word: str) -> str:
    return _SPELLINGS.get(word, word)
