"""Generators that depend on nothing but the study's seed and what they are for.

Philox (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") seeded through NumPy's ``SeedSequence``
from a BLAKE2b digest of (seed, labels): the same site in the same round draws the same numbers whoever else takes
part, in whatever order, and after a resumed run.

These numbers are reproducible by design. Keys, masks, private samples and privacy noise never come from them: for
those there is ``Randomness.secret``.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from shared.privacy.noise import Stream


def generator(seed: int, *labels: str | int) -> np.random.Generator:
    """Return the generator for one purpose.

    seed: the study's seed.
    labels: what the numbers are for, for instance ``("site", "Cleveland", 3)``.
    """
    text = "\x1f".join([str(seed), *(f"{type(label).__name__}:{label}" for label in labels)])
    digest = hashlib.blake2b(text.encode(), digest_size=16, person=b"consilium-rng").digest()
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(int.from_bytes(digest, "big"))))


@dataclass(frozen=True)
class Randomness:
    """What a method may draw from at a site.

    seed: of the study.
    site, round: whose numbers, and of which round.
    entropy: returns so many secret bytes, ``secrets.token_bytes``.
    """

    seed: int
    site: str
    round: int
    entropy: Callable[[int], bytes] = field(repr=False)

    @cached_property
    def training(self) -> np.random.Generator:
        """The reproducible generator for batches and stochastic rounding; exact methods never make it."""
        return generator(self.seed, "site", self.site, self.round)

    @cached_property
    def secret(self) -> Stream:
        """The secret stream for samples and noise: never the same again."""
        return Stream(self.entropy(32))


def for_site(
    seed: int, site: str, round_number: int, entropy: Callable[[int], bytes] = secrets.token_bytes
) -> Randomness:
    """Return what one site draws from in one round."""
    return Randomness(seed, site, round_number, entropy)
