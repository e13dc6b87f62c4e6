"""The ``[privacy]`` part of a study file: how much one patient may change what anybody learns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.schema import CLOSED

Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Privacy:
    """Differential privacy of the whole study, from preparation to evaluation; neighbours differ by one patient.

    unit: whose presence is hidden: one patient at one hospital. Patients are not linked across hospitals.
    epsilon, delta: the guarantee. Training patients pay for preparation and
        training, held-out ones for evaluation.
    clipping_norm: largest L2 norm of what one patient adds to one training step.
    preparation_share: what preparation alone may spend, as a share of epsilon; training gets what is left beside it.
    sampling_rate: chance of a patient to be in one step of DP-SGD; a pass over the data is 1 / sampling_rate steps.
    patients_per_site: training patients that a hospital is expected to have: DP-SGD divides its sums by sampling_rate
        times this, because the true number is a number about patients.
    colluding_sites: how many hospitals may give their noise away to the aggregator without weakening the guarantee;
        none for ceil(n / 3) - 1 of n, as many as secure aggregation bears.
    """

    epsilon: Annotated[float, Field(gt=0, le=100)]
    delta: Annotated[float, Field(gt=0, le=0.01)]
    unit: Literal["patient"] = "patient"
    clipping_norm: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    preparation_share: Share = 0.25
    sampling_rate: Annotated[float, Field(gt=0, le=1)] = 0.1
    patients_per_site: Annotated[int, Field(ge=1, le=10**9)] | None = None
    colluding_sites: Annotated[int, Field(ge=0, le=99)] | None = None
