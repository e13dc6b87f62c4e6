"""The ``[aggregation]`` part of a study file: masks, smallest sums, and how the server moves weights."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.schema import CLOSED

Positive = Annotated[float, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class FedAvg:
    """Weighted mean of the sites' weights (McMahan et al. 2017, arXiv:1602.05629, Algorithm 1)."""


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class FedAvgM:
    """Server momentum on the mean update (Hsu et al. 2019, arXiv:1909.06335)."""

    server_learning_rate: Positive = 1.0
    server_momentum: Fraction = 0.9


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class FedAdagrad:
    """Adagrad at the server (Reddi et al. 2021, arXiv:2003.00295, Algorithm 2)."""

    eta: Positive = 0.1
    tau: Positive = 1e-3


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class FedAdam:
    """Adam at the server (Reddi et al. 2021, arXiv:2003.00295, Algorithm 2)."""

    eta: Positive = 0.1
    beta_1: Fraction = 0.9
    beta_2: Fraction = 0.99
    tau: Positive = 1e-3


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class FedYogi:
    """Yogi at the server (Reddi et al. 2021, arXiv:2003.00295, Algorithm 2)."""

    eta: Positive = 0.01
    beta_1: Fraction = 0.9
    beta_2: Fraction = 0.99
    tau: Positive = 1e-3


STRATEGIES: dict[str, type[Any]] = {
    "FedAvg": FedAvg,
    "FedAvgM": FedAvgM,
    "FedAdagrad": FedAdagrad,
    "FedAdam": FedAdam,
    "FedYogi": FedYogi,
}


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Aggregation:
    """The ``[aggregation]`` part.

    secure: whether contributions are masked, so that the aggregator learns their sum only (docs/protocol.md).
    min_sites: a round with fewer contributors is given up.
    threshold: how many sites must be there to remove the masks of a sum; none for floor(2n/3) + 1 of n.
    strategy: how the server moves the weights with the mean; a key of ``STRATEGIES``.
    options: that strategy's own options.
    deadline_s: how long an exchange waits for a site.
    """

    secure: bool = True
    min_sites: Annotated[int, Field(ge=1)] = 2
    threshold: Annotated[int, Field(ge=2, le=100)] | None = None
    strategy: Literal["FedAvg", "FedAvgM", "FedAdagrad", "FedAdam", "FedYogi"] = "FedAvg"
    options: Any = None
    deadline_s: Positive = 600.0
