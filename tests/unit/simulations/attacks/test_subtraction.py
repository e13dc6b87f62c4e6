"""What a network's sums with and without one hospital give away: the page that says so is not too kind."""

from __future__ import annotations

import pytest

from simulations.attacks import subtraction


@pytest.mark.slow
def test_a_hospital_that_is_left_out_again_and_again_gives_its_update_and_its_classes_away() -> None:
    first, chosen = subtraction.measure((2, 20)), subtraction.measure((2, 20), chosen=True)
    assert first.errors[20] < 0.5 * first.errors[2] < 0.5
    assert chosen.errors[20] < 0.5 * chosen.errors[2] < 0.25
    counted, true = chosen.rows_of_the_second_class
    assert 0 < true < subtraction.PATIENTS
    assert counted == pytest.approx(true, abs=1e-6)
