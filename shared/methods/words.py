"""How a contribution becomes words, with or without noise: both halves derive it from the ask."""

from __future__ import annotations

from shared.errors import StudyError
from shared.fixedpoint import WordPlan, plan
from shared.layout import Entry, size_of
from shared.methods.base import Ask
from shared.privacy import mechanisms
from shared.privacy.mechanisms import Sharing, SumNoise


def word_plan(ask: Ask, sites: int) -> WordPlan:
    """Return how a contribution becomes words: the ask's entries, and the weight as the last word.

    Noised entries have one scale, because an influence is a norm over all of them.

    Raises: StudyError if the sum of so many sites could wrap.
    """
    weight = Entry("weight", (), ask.weight_bound, 0.5)
    if ask.noise_multiplier is None:
        return plan((*ask.entries, weight), ask.word_bits, sites)
    noise = sum_noise(ask, sites)
    bits = (noise.fraction_bits,) * len(ask.entries)
    return WordPlan((*ask.entries, weight), (*bits, 0), ask.word_bits, sites, noise.reach(sites, size_of(ask.entries)))


def sum_noise(ask: Ask, sites: int, honest: int = 1) -> SumNoise:
    """Return the noise of a sum; its scale and its total variance are the same whatever ``honest`` is.

    sites: whose words may be added.
    honest: fewest honest contributors; the share that each site adds makes so many reach the total variance.

    Raises: StudyError if the words cannot hold it. ValueError for an ask without influence or noise multiplier.
    """
    if ask.influence is None or ask.noise_multiplier is None:
        raise ValueError("expected an influence and a noise multiplier")
    influence = (ask.influence.l1, ask.influence.l2)
    made = [
        mechanisms.sum_noise(ask.noise_multiplier, influence, ask.entries, Sharing(sites, shares, 0), ask.word_bits)
        for shares in {1, honest}
    ]
    if len({noise.fraction_bits for noise in made}) > 1:
        raise StudyError("words are too short for the noise of so many sites. Use words of 64 bits.")
    return min(made, key=lambda noise: noise.share)
