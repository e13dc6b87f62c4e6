"""Aggregators that cheat on small hospitals: site k of a, b, c, ... contributes 2**k, so that a's part is 1."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np
import pytest

from shared.examples import Arrays
from shared.study import Study
from simulations.attacks.aggregator import VICTIM, CheatingAggregator
from tests.secure import Hospitals, powers

FIVE = tuple("abcde")
"""Four of five rebuild a secret."""
HOSPITALS = frozenset(FIVE[1:])
"""All but the victim."""


def cheating(
    count: int = 5, study: Study | None = None, colluders: Collection[str] = (), **method: Any
) -> CheatingAggregator:
    """An aggregator that cheats on ``powers``."""
    return cheat_on(powers(count, study, **method), colluders)


def cheat_on(made: Hospitals, colluders: Collection[str] = ()) -> CheatingAggregator:
    return CheatingAggregator(made.sites, made.study, colluders)


def state(round_number: int = 1) -> Arrays:
    """What an honest aggregator would broadcast in a round of ``powers``."""
    return {"stage": np.array(0), "sum/round": np.array(round_number - 1)}


def part(cheat: CheatingAggregator, site: str = VICTIM) -> float | None:
    """A site's part, to six digits, if what the aggregator holds gives it away."""
    found = cheat.part(site)
    return None if found is None else round(float(found["row"][0]), 6)


def sums_with_victim(cheat: CheatingAggregator) -> list[float]:
    """What every sum says that the aggregator can unmask and that the victim is part of."""
    return sorted(float(found.arrays["row"][0]) for found in cheat.knowledge.sums() if VICTIM in found.sites)


def without(monkeypatch: pytest.MonkeyPatch, *checks: str, result: Any = None) -> None:
    """Take checks away: what they are called with passes."""
    for check in checks:
        monkeypatch.setattr(check, lambda *_args, **_kwargs: result)
