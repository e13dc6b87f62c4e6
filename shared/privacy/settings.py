"""The ``[privacy]`` part of a study file: how much one patient, or one hospital, may change what anybody learns."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.schema import CLOSED

Share = Annotated[float, Field(gt=0, lt=1)]

_SAMPLING_RATE = 0.1


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Privacy:
    """Differential privacy of the whole study, from preparation to evaluation; neighbours differ by one unit.

    unit: whose part is hidden. ``patient``: one patient at one hospital, added or removed; patients are not linked
        across hospitals. ``site``: all patients of one hospital, whose contributions become zero; that it takes part is
        public (Kairouz et al. 2021, arXiv:2103.00039, section 2).
    epsilon, delta: the guarantee. Training patients pay for preparation and training, held-out ones for evaluation; a
        hospital pays for all three together.
    clipping_norm: largest L2 norm of what one patient adds to one training step, or one hospital to one round.
    preparation_share: what preparation alone may spend, as a share of epsilon; training gets what is left beside it.
        With unit ``site`` evaluation alone may spend the same share again.
    sampling_rate: chance of a patient to be in one step of DP-SGD; a pass over the data is 1 / sampling_rate steps. Not
        for unit ``site``: every hospital is in every round.
    patients_per_site: with unit ``patient``, training patients that a hospital is expected to have: DP-SGD divides its
        sums by sampling_rate times this, because the true number is a number about patients. With unit ``site``, for
        how many patients a hospital counts at most in the sums of preparation and evaluation; required.
    colluding_sites: how many hospitals may give their noise away to the aggregator without weakening the guarantee;
        none for ceil(n / 3) - 1 of n, as many as secure aggregation bears.
    """

    epsilon: Annotated[float, Field(gt=0, le=100)]
    delta: Annotated[float, Field(gt=0, le=0.01)]
    unit: Literal["patient", "site"] = "patient"
    clipping_norm: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    preparation_share: Share = 0.25
    sampling_rate: Annotated[float, Field(gt=0, le=1)] = _SAMPLING_RATE
    patients_per_site: Annotated[int, Field(ge=1, le=10**9)] | None = None
    colluding_sites: Annotated[int, Field(ge=0, le=99)] | None = None

    def __post_init__(self) -> None:
        if self.unit == "patient":
            return
        if self.patients_per_site is None:
            raise ValueError(
                'unit = "site" needs patients_per_site, for how many patients a hospital counts at most in sums.'
                " Received: none"
            )
        if self.sampling_rate != _SAMPLING_RATE:
            raise ValueError(
                'unit = "site" has no use for sampling_rate: every hospital is in every round. Received:'
                f" {self.sampling_rate:g}; leave it out"
            )
