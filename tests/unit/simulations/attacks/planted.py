"""Mistakes planted in what makes a study private; only tests can plant them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from client import site
from shared.fixedpoint import Words
from shared.methods import logistic_regression_private
from shared.privacy.noise import Stream

Plant = Callable[[pytest.MonkeyPatch], None]


def nothing_wrong(_monkeypatch: pytest.MonkeyPatch) -> None:
    """Plant nothing."""


def noise_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no hospital add noise to its words."""
    monkeypatch.setattr(site.mechanisms, "add_noise", lambda *_: None)


def a_tenth_of_the_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every hospital add noise of a tenth of the deviation, a hundredth of the variance."""
    real = site.mechanisms.add_noise

    def tenth(words: Words, share: float, stream: Stream) -> None:
        real(words, share / 100, stream)

    monkeypatch.setattr(site.mechanisms, "add_noise", tenth)


def clipping_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let gradients be as long as they are."""
    real: Callable[..., Any] = logistic_regression_private.clipped_sum
    monkeypatch.setattr(logistic_regression_private, "clipped_sum", lambda *given: real(*given[:3], 1e9))
