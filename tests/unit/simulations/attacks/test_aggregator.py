"""The cheating aggregator is a good adversary: what can be computed from what it heard, it computes."""

from __future__ import annotations

from simulations.attacks.aggregator import others
from tests.unit.simulations.attacks.cheats import FIVE, cheating, part, state, sums_with_victim


def test_an_honest_round_gives_the_sum_and_nobodys_part() -> None:
    cheat = cheating()
    cheat.join(FIVE)
    cheat.sum(1, state(), FIVE)
    assert {} == cheat.codes
    assert [31.0] == sums_with_victim(cheat)
    assert [None] * 5 == [cheat.part(name) for name in FIVE]


def test_an_honest_round_with_a_lost_site_gives_the_sum_of_the_others() -> None:
    cheat = cheating()
    cheat.join(FIVE)
    cheat.sum(1, state(), FIVE, lost=["e"])
    assert [15.0] == sums_with_victim(cheat)
    assert [None] * 5 == [cheat.part(name) for name in FIVE]


def test_two_sums_with_and_without_one_site_are_subtracted() -> None:
    """Sums that are not exact may lose a site: with contributions that never change, it shows that this costs."""
    cheat = cheating()
    cheat.join(FIVE)
    cheat.sum(1, state(1), FIVE)
    cheat.sum(2, state(2), FIVE, lost=["a"])
    assert 1.0 == part(cheat)


def test_three_sums_of_which_none_two_differ_by_one_site_are_combined() -> None:
    cheat = cheating()
    for sites in ("abc", "ade", "bcde"):
        # Hospitals that remember nothing: each run is their first.
        cheat.forget()
        cheat.join(sites)
        cheat.sum(1, state(), sites)
    assert {} == cheat.codes
    assert 1.0 == part(cheat)


def test_what_colluders_send_is_known_and_taken_out() -> None:
    cheat = cheating(colluders=["d", "e"])
    cheat.join(FIVE)
    cheat.sum(1, state(), FIVE)
    assert part(cheat) is None
    assert [8.0, 16.0] == [part(cheat, name) for name in "de"]
    assert 7.0 in sums_with_victim(cheat)


def test_as_many_colluders_as_the_threshold_read_everybody() -> None:
    cheat = cheating(colluders=others(FIVE))
    cheat.join(FIVE)
    cheat.set_up(FIVE, 1)
    cheat.contribute(cheat.heading(1), state(), FIVE)
    assert 1.0 == part(cheat)
