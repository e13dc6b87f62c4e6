"""A lower bound on epsilon from guesses who was in the data, after one training run or several.

Steinke, Nasr and Jagielski 2023, "Privacy Auditing with One (1) Training Run", NeurIPS (arXiv:2305.08846), the theorem
for approximate differential privacy, as its appendix computes it. Each of m canaries is put into the data or left out,
independently, with probability 1/2. From the output of an (epsilon, delta)-private mechanism, where neighbours are data
with and without one canary, somebody guesses for r of them and abstains from the others. With q = 1 / (1 + e^-epsilon),

    P[at least v right] <= P[B >= v] + 2 m delta max_{1 <= i <= v} P[v - i <= B < v] / i,    B ~ Binomial(r, q).

Where that probability is below 1 - confidence, the mechanism is not (epsilon, delta)-private, or chance was that
unlucky. The mechanism need not be known, and guesses may follow from all of its output, but r must be chosen before.

Several runs with fresh coins are one mechanism: each canary is in the data of one run only, so that neighbours differ
in one run, and the bound holds for the guesses of all runs together.
"""

from __future__ import annotations

import math

import numpy as np

LARGEST = 50.0
"""Epsilons are looked for up to here."""


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Return the probability, at most, of so many right guesses against an (epsilon, delta)-private mechanism.

    canaries: m, those that were abstained from included.
    guesses: r <= m.
    right: v <= r.
    """
    from scipy.special import expit
    from scipy.stats import binom

    if not 0 <= right <= guesses <= canaries:
        raise ValueError(f"expected 0 <= right <= guesses <= canaries. Received: {right}, {guesses}, {canaries}")
    law = binom(guesses, expit(epsilon))
    enough = float(law.sf(right - 1))
    fewer = np.arange(1, right + 1)
    nearly = (law.sf(right - fewer - 1) - enough) / fewer
    return min(enough + 2.0 * canaries * delta * float(nearly.max(initial=0.0)), 1.0)


def epsilon_bound(canaries: int, guesses: int, right: int, delta: float, confidence: float = 0.95) -> float:
    """Return the largest epsilon, to 1e-4, that so many right guesses contradict with this confidence; 0 for none."""
    chance = 1.0 - confidence
    if p_value(canaries, guesses, right, 0.0, delta) > chance:
        return 0.0
    low, high = 0.0, LARGEST
    while high - low > 1e-4:
        middle = 0.5 * (low + high)
        if p_value(canaries, guesses, right, middle, delta) > chance:
            high = middle
        else:
            low = middle
    return low


def guesses_of(canaries: int, share: float) -> int:
    """Return for how many canaries is guessed."""
    return math.floor(canaries * share)


def largest_bound(canaries: int, share: float, delta: float, confidence: float = 0.95) -> float:
    """Return the bound if every guess is right: more than this, an audit with so many canaries cannot find."""
    guesses = guesses_of(canaries, share)
    return epsilon_bound(canaries, guesses, guesses, delta, confidence)


def canaries_for(
    epsilon: float, share: float, delta: float, most: int, step: int = 1, confidence: float = 0.95
) -> int | None:
    """Return how many canaries it takes to contradict an epsilon with right guesses; None if ``most`` do not suffice.

    step: canaries of one run; the number is a multiple of it.
    """
    for canaries in range(step, most + 1, step):
        if largest_bound(canaries, share, delta, confidence) > epsilon:
            return canaries
    return None
