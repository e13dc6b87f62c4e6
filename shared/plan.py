"""A study as one method: prepare, train, evaluate. Both halves make it from the study alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shared.methods import METHODS
from shared.methods.base import ServerOptimizer
from shared.methods.combinators import InTurn, Results, SideBySide, Stage
from shared.methods.evaluation import EvaluationMethod
from shared.methods.preparation import PreparationMethod
from shared.study import Study

PREPARE, TRAIN, EVALUATE = "prepare", "train", "evaluate"
EVERYONE = "everyone"
"""Name of the evaluation over all held-out rows; subgroups are called ``column=level``."""


def plan_of(study: Study, optimizer: ServerOptimizer) -> InTurn:
    """Return the method that a whole study is.

    optimizer: how the aggregator moves weights with their mean; sites never use it.
    """
    kind = METHODS[study.method.name]

    def train(results: Results) -> Any:
        return kind.create(study, results[PREPARE], optimizer)

    def evaluate(results: Results) -> SideBySide:
        method = train(results)
        return SideBySide(
            {
                name: EvaluationMethod(
                    method,
                    results[TRAIN],
                    results[PREPARE],
                    study.evaluation.histogram_bins,
                    study.evaluation.threshold,
                    subgroup,
                )
                for name, subgroup in _groups(study).items()
            }
        )

    return InTurn(
        [
            Stage(PREPARE, lambda _results: PreparationMethod(study.data)),
            Stage(TRAIN, train),
            Stage(EVALUATE, evaluate),
        ]
    )


def exchanges(study: Study) -> int:
    """Return how many sums a run of the study is: preparation, training rounds, evaluation."""
    return study.method.rounds + 2


def _groups(study: Study) -> Mapping[str, tuple[str, int] | None]:
    """Return who is judged: everyone, and each level of each subgroup column."""
    groups: dict[str, tuple[str, int] | None] = {EVERYONE: None}
    for column in study.evaluation.subgroups:
        for index, level in enumerate(study.data.columns[column].levels):
            groups[f"{column}={level}"] = (column, index)
    return groups
