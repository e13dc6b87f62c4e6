"""Every key of a study file is documented."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from shared import aggregation, schema, study
from shared.methods import METHODS
from shared.models import MODELS
from shared.models.pseudo_labels import PseudoLabels

PAGE = (Path(__file__).parents[3] / "docs" / "study-file.md").read_text(encoding="utf-8")
PARTS = [
    study.About,
    study.MethodChoice,
    aggregation.Aggregation,
    study.Privacy,
    study.Tuning,
    study.Evaluation,
    study.Simulation,
    schema.DataContract,
    schema.Column,
    schema.Images,
    schema.Text,
    schema.Steps,
    *aggregation.STRATEGIES.values(),
    *(method.Options for method in METHODS.values()),
    *MODELS.values(),
    PseudoLabels,
]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.__name__)
def test_every_key_is_in_the_page(part: type) -> None:
    missing = [field.name for field in dataclasses.fields(part) if f"`{field.name}`" not in PAGE]
    assert missing == []


def test_every_method_and_strategy_is_in_the_page() -> None:
    assert [
        name for name in [*METHODS, *aggregation.STRATEGIES] if f"`{name}`" not in PAGE and f'`"{name}"`' not in PAGE
    ] == []
