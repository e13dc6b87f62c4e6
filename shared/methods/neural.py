"""Neural networks by federated averaging: being written."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.schema import CLOSED


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class Options:
    """``[method.options]`` of ``neural``."""

    architecture: Literal["image_cnn", "tabular_mlp"]
    local_epochs: Annotated[int, Field(ge=1)] = 1


class Neural:
    """Skeleton."""

    Options: ClassVar[type[Any]] = Options
    state_norm_bound: ClassVar[float] = 1e6

    def __init__(self, options: Options) -> None:
        self.options = options

    @classmethod
    def check(cls, study: Any) -> None:
        """Skeleton."""
