"""Sums over patients in which a whole site counts for no more than a fixed number of patients: privacy unit ``site``.

A site adds the sum of its n patients' vectors times min(1, P / n). With every patient's vector at most b long, in L1 or
L2 norm alike:

- The site's vector is at most n b min(1, P / n) <= P b long, which is what changes when the site's contribution becomes
  zero (Kairouz et al. 2021, "Practical and Private (Deep) Learning without Sampling or Shuffling", ICML,
  arXiv:2103.00039, section 2: neighbours by "zero-out").
- Without one patient, of vector v, it changes by at most 2 b P / (P + 1): for n <= P by v alone, so by b at most; for
  n > P, with S the sum of the other n - 1, by (P / n) v - P / (n (n - 1)) S, so by 2 b P / n at most. This is what a
  hospital's ledger, which is in patients' units, is charged.

Counts stay in units of patients.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from shared.examples import Arrays, Examples, Part
from shared.methods.base import Ask, Contribution, Influence, Measurements, Total
from shared.randomness import Randomness


class CappedSums:
    """A method of noised sums over patients, with the influence of a whole site.

    make: the method, by its noise multiplier in units of one patient's influence.
    patients: P, for how many patients a site counts at most.
    noise_multiplier: standard deviation of the honest sites' noise over the L2 influence of a site.
    """

    def __init__(self, make: Callable[[float], Any], patients: int, noise_multiplier: float) -> None:
        self.method = make(noise_multiplier * patients)
        self.patients = patients
        self.noise_multiplier = noise_multiplier

    def start(self) -> Arrays:
        """Return the method's start."""
        state: Arrays = self.method.start()
        return state

    def asks(self, state: Arrays) -> Ask:
        """Return what the method asks for, with a site's influence and one patient's."""
        ask: Ask = self.method.asks(state)
        assert ask.influence is not None
        return dataclasses.replace(
            ask,
            influence=_times(self.patients, ask.influence),
            patient_influence=_times(2.0 * self.patients / (self.patients + 1.0), ask.influence),
            noise_multiplier=self.noise_multiplier,
        )

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return the site's sums, scaled down where it has more than P patients."""
        contribution, memory = self.method.contribute(state, examples, memory, randomness)
        share = min(1.0, self.patients / max(examples.patient_count, 1))
        arrays = {name: np.asarray(array) * share for name, array in contribution.arrays.items()}
        return dataclasses.replace(contribution, arrays=arrays), memory

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the method's next state."""
        moved: tuple[Arrays, Measurements] = self.method.advance(state, total)
        return moved

    def finished(self, state: Arrays) -> bool:
        """Whether the method is finished."""
        return bool(self.method.finished(state))

    def result(self, state: Arrays) -> Any:
        """Return the method's result."""
        return self.method.result(state)

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> Any:
        """Return what the method leaves at the hospital, exact and unscaled."""
        return self.method.keep(state, examples, memory)


def _times(factor: float, influence: Influence) -> Influence:
    return Influence(factor * influence.l1, factor * influence.l2)
