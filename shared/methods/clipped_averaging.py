"""Averaging with differential privacy for whole sites: privacy unit ``site``.

DP-FedAvg of McMahan, Ramage, Talwar and Zhang 2018, "Learning Differentially Private Recurrent Language Models", ICLR,
arXiv:1710.06963, Algorithm 1, without sampling of sites: a site trains as it would without privacy, the whole change of
its weights is clipped to L2 norm ``privacy.clipping_norm``, C, and the sites' noise is in the sum of these. Every site
counts alike: how many rows it has is a number about its patients. No loss and no count of clipped values leaves.

The site's vector is at most C long, which is what changes when its contribution becomes zero. Whatever one patient does
to the training, both vectors, with and without it, are at most C long, so that they are at most 2 C apart: that is what
a hospital's ledger, which is in patients' units, is charged.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays, Examples
from shared.layout import size_of
from shared.methods import averaging
from shared.methods.base import NOTHING, ROOM, Ask, Contribution, Influence, under, within
from shared.randomness import Randomness

if TYPE_CHECKING:
    from shared.preparation import Prepared

_PRECISION = 1e-6
"""Rounding of one weight's change, far below the noise."""


class ClippedAveraging(averaging.AveragingMethod):
    """An averaging method whose sites send clipped changes with noise in their sum.

    method: what a site trains by: its contribution's ``update/...`` over its weight is how the site moved the weights.
    clipping_norm: C.
    noise_multiplier: standard deviation of the honest sites' noise over C, in each round.
    """

    def __init__(self, method: Any, clipping_norm: float, noise_multiplier: float) -> None:
        super().__init__(method.optimizer, method.rounds)
        self.method = method
        self.clipping_norm = clipping_norm
        self.noise_multiplier = noise_multiplier
        self.state_norm_bound: float = method.state_norm_bound

    def start(self) -> Arrays:
        """Return the state that round 1 broadcasts."""
        state: Arrays = self.method.start()
        return state

    def asks(self, state: Arrays) -> Ask:
        """Return the layout of the clipped changes, a site's influence and one patient's, and the noise."""
        entries = averaging.changes(averaging.weights_of(state), 1, self.clipping_norm * ROOM, _PRECISION)
        spread = math.sqrt(size_of(entries))
        asked: Ask = self.method.asks(state)
        return dataclasses.replace(
            asked,
            entries=entries,
            weight_bound=1.0,
            word_bits=64,
            stochastic_rounding=False,
            exact=False,
            influence=Influence(spread * self.clipping_norm, self.clipping_norm),
            patient_influence=Influence(2.0 * spread * self.clipping_norm, 2.0 * self.clipping_norm),
            noise_multiplier=self.noise_multiplier,
        )

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return how this site would move the weights, clipped; without noise."""
        if not len(examples):
            moved: Arrays = {name: np.zeros(array.shape) for name, array in averaging.weights_of(state).items()}
        else:
            # What diverges is clipped like everything else.
            with np.errstate(over="ignore", invalid="ignore"):
                whole, _ = self.method.contribute(state, examples, memory, randomness)
            moved = {name: array / whole.weight for name, array in within("update", whole.arrays).items()}
        return Contribution(under("update", clipped(moved, self.clipping_norm)), 1.0), NOTHING

    def scores(self, weights: Arrays, prepared: Prepared) -> NDArray[np.float64]:
        """Return what the model says of each row, as the method does."""
        found: NDArray[np.float64] = self.method.scores(weights, prepared)
        return found

    def saliency(self, weights: Arrays, prepared: Prepared, classes: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return which pixels speak for a class, as the method does, which reads images."""
        found: NDArray[np.float64] = self.method.saliency(weights, prepared, classes)
        return found

    def description(self) -> str:
        """Return two or three sentences for the model card."""
        return (
            f"{self.method.description()} Each hospital's change of the weights was clipped to L2 norm"
            f" {self.clipping_norm:g} in every round; all hospitals count alike, and noise is in their sum (DP-FedAvg)."
        )


def clipped(arrays: Arrays, norm: float) -> dict[str, NDArray[np.float64]]:
    """Return arrays scaled down to an L2 norm over all of them of at most ``norm``; what is not finite becomes zero."""
    finite = {name: np.where(np.isfinite(array), array, 0.0) for name, array in arrays.items()}
    # By the largest number first, so that no square overflows.
    largest = max((float(np.abs(array).max(initial=0.0)) for array in finite.values()), default=0.0)
    if largest == 0.0:
        return finite
    length = math.sqrt(sum(float(np.vdot(array / largest, array / largest)) for array in finite.values()))
    if largest * length <= norm:
        return finite
    return {name: array / largest * (norm / length) for name, array in finite.items()}
