"""Consortia of three hospitals under secure aggregation, for methods that must equal a fit of their pooled rows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays, Examples
from shared.methods.base import Total
from shared.methods.preparation import PreparationMethod
from shared.plan import PREPARE, TRAIN
from shared.preparation import Preparation
from shared.randomness import for_site
from shared.study import Study
from tests.builders import Consortium, examples_of, site_of, table_study, ticking

NUMBER = {"type": "number", "range": [-100.0, 100.0]}
COUNT = {"type": "number", "range": [0.0, 50.0]}
THREE = {"type": "category", "levels": [0, 1, 2]}


def secure_study(name: str, features: int = 3, rounds: int = 25, **changes: Any) -> Study:
    """A study by that method whose sums are masked; ``changes`` are ``section__key=value``."""
    secure = {"aggregation__secure": True, "aggregation__min_sites": 3}
    return table_study(features, **{**secure, "method__name": name, "method__rounds": rounds, **changes})


@dataclass(frozen=True, eq=False)
class Fit:
    """What a run gave.

    x: the prepared columns of the pooled rows.
    rounds: training exchanges.
    """

    method: Any
    weights: Arrays
    preparation: Preparation
    x: NDArray[np.float64]
    rounds: int

    @property
    def table(self) -> dict[str, tuple[Any, ...]]:
        """Rows of the coefficient table by column name."""
        return {str(row[0]): row[1:] for row in self.method.interpretation(self.weights).tables[0].rows}

    @property
    def said(self) -> dict[str, Any]:
        """The fit's statistics by name."""
        return dict(self.method.interpretation(self.weights).tables[1].rows)


def fit(study: Study, x: Any, y: NDArray[np.float64], sites: int = 3, patients: NDArray[Any] | None = None) -> Fit:
    """Deal rows to hospitals in order, and run the study.

    patients: whose row it is; each row another patient's if not given.
    """
    x = np.asarray(x, dtype=np.float64)
    whose = np.arange(len(y)) if patients is None else patients
    data = {
        f"s{k}": site_of(f"s{k}", replace(examples_of(x[rows], y[rows]), patients=whose[rows].astype(np.str_)))
        for k, rows in enumerate(np.array_split(np.arange(len(y)), sites))
    }
    plan, progress = Consortium(study, data).run(ticking())
    results = plan.result(progress.state)
    prepared = results[PREPARE].transform(examples_of(x, y)).x
    rounds = sum(record.stage == TRAIN for record in progress.history)
    return Fit(plan.method(progress.state, TRAIN), results[TRAIN], results[PREPARE], prepared, rounds)


def prepared_by(study: Study, examples: Examples) -> Preparation:
    """The preparation that one hospital's rows give."""
    method = PreparationMethod(study.data)
    contribution, _ = method.contribute(method.start(), examples, {}, for_site(7, "a", 1))
    state, _ = method.advance(method.start(), Total(contribution.arrays, contribution.weight, 1))
    return method.result(state)
