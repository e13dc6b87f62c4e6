"""A declared range bounds every sum, so it must be one that numbers can fill."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from shared.schema import Column, Images


@pytest.mark.parametrize("limits", [(0.0, 1e-12), (-1e30, 1e30), (0.0, 120.0)])
def test_a_range_of_usual_width_is_taken(limits: tuple[float, float]) -> None:
    assert Column(type="number", range=limits).range == limits
    assert Images(height=4, width=4, range=limits).range == limits


@pytest.mark.parametrize("limits", [(0.0, 5e-324), (1.0, 1.0 + 2e-16), (0.0, 1e31), (-1e308, 1e308), (1e300, 2e300)])
def test_a_range_too_narrow_or_too_wide_is_refused(limits: tuple[float, float]) -> None:
    message = r"range must be at least 1e-12 wide and lie between -1e\+30 and 1e\+30. Received: \["
    with pytest.raises(ValidationError, match=message):
        Column(type="number", range=limits)
    with pytest.raises(ValidationError, match=message):
        Images(height=4, width=4, range=limits)


@pytest.mark.parametrize("limits", [(2.0, 1.0), (1.0, 1.0)])
def test_a_range_must_grow(limits: tuple[float, float]) -> None:
    with pytest.raises(ValidationError, match=r"range must grow: smallest < largest. Received: \["):
        Column(type="number", range=limits)
