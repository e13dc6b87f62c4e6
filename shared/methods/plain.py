"""What methods share that need nothing but NumPy, take no optimiser, and leave nothing at the hospital."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Self

from shared.examples import Arrays, Examples, Part
from shared.methods.base import ServerOptimizer, Traits
from shared.preparation import Preparation

if TYPE_CHECKING:
    from shared.study import Study


class PlainMethod(Traits, ABC):
    """The part of ``TrainingMethod`` that is the same for methods whose sums say all there is."""

    @abstractmethod
    def __init__(self, study: Study, preparation: Preparation) -> None: ...

    @classmethod
    def require(cls) -> None:
        """Raise DependencyMissing unless what the method needs is installed: no more than Consilium itself does."""
        return

    @classmethod
    def create(cls, study: Study, preparation: Preparation, optimizer: ServerOptimizer) -> Self:  # noqa: ARG003
        """Return the method for one study whose data have been prepared; the optimiser has no part in it."""
        return cls(study, preparation)

    @classmethod
    def centralised(cls, study: Study) -> Study:
        """Return the study in which no subset is too small, where there are any: in one place, no sum leaves."""
        options: Any = study.method.options
        if not hasattr(options, "min_subset_patients"):
            return study
        options = dataclasses.replace(options, min_subset_patients=1)
        return dataclasses.replace(study, method=dataclasses.replace(study.method, options=options))

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> None:
        """Nothing stays at the hospital."""
        return
