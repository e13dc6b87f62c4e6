"""How few patients of a hospital a method may sum over, as hospitals hear before they approve."""

from __future__ import annotations

from typing import Any

import pytest

from shared.methods import METHODS
from shared.methods.base import PlainMean
from shared.methods.preparation_private import blank
from tests.builders import table_study


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("glm", {"family": "logistic"}, None),
        ("random-forest", {"max_depth": 2}, 5),
        ("random-forest", {"max_depth": 2, "min_subset_patients": 7}, 7),
        ("k-means", {"clusters": 2}, 5),
        ("gradient-boosting", {"iterations": 2, "max_depth": 2, "min_subset_patients": 7}, 7),
        ("svm", {"min_subset_patients": 7}, 7),
    ],
)
def test_a_method_says_to_how_many_patients_it_keeps(name: str, options: dict[str, Any], expected: int | None) -> None:
    study = table_study(method__name=name, method__rounds=30, method__options=options)
    method = METHODS[name].create(study, blank(study.data), PlainMean())
    assert expected == method.forecast().ask.subset_patients
