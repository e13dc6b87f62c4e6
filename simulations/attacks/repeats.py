"""Tricks with time: the same run, round, state or message again, with one hospital fewer."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from shared.examples import Arrays
from shared.messages import RevealRequest, SharesRequest
from simulations.attacks.aggregator import VICTIM, CheatingAggregator, contributed, others


def secrets_of_another_run(cheat: CheatingAggregator, state: Arrays, names: Collection[str]) -> None:
    """Have the victim's scalar rebuilt in one run, and its seed in the next, where its old keys are shown again."""
    contributed(cheat, state, names)
    old = cheat.said[cheat.heading(1), VICTIM]
    cheat.reveal(cheat.heading(1), others(names), [VICTIM])
    cheat.join(names)
    heading = cheat.heading(1)
    fresh = list(cheat.announce(names, 1).values())
    cheat.share([old, *fresh[1:]], others(names), heading)
    cheat.share(fresh)
    cheat.contribute(heading, state, names)
    cheat.reveal(heading, names)


def seals_of_a_lost_site(
    cheat: CheatingAggregator, state: Arrays, names: Collection[str], lost: Collection[str]
) -> None:
    """Have lost sites' scalars rebuilt, and try them on the shares that were sealed to these sites."""
    cheat.join(names)
    cheat.sum(1, state, names, lost)


def same_round_with_fewer(cheat: CheatingAggregator, state: Arrays, names: Collection[str]) -> None:
    """Ask for the same round without the victim: before the reveal, after it, and under the next attempt."""
    contributed(cheat, state, names)
    rest, heading = others(names), cheat.heading(1)
    cheat.contribute(heading, state, rest)
    cheat.reveal(heading, names)
    cheat.contribute(heading, state, rest)
    cheat.set_up(rest, 1, attempt=2)
    cheat.contribute(cheat.heading(1, 2), state, rest)
    cheat.reveal(cheat.heading(1, 2), rest)


def same_state_later(cheat: CheatingAggregator, state: Arrays, names: Collection[str]) -> None:
    """Sum over all; then send the same state as that of the next round, without the victim."""
    cheat.join(names)
    cheat.sum(1, state, names)
    cheat.sum(2, state, others(names))


def old_round_again(cheat: CheatingAggregator, states: Sequence[Arrays], names: Collection[str]) -> None:
    """Make two rounds, then go back to the first one: keys, shares, words, reveal."""
    cheat.join(names)
    cheat.sum(1, states[0], names)
    cheat.sum(2, states[1], names)
    rest, first = others(names), cheat.heading(1)
    cheat.set_up(rest, 1)
    cheat.set_up(rest, 1, attempt=2)
    for name in rest:
        cheat.ask(name, SharesRequest(first, tuple(cheat.said[first, each] for each in rest)))
    cheat.contribute(first, states[0], rest)
    cheat.reveal(first, rest, [VICTIM])


def old_shares_again(cheat: CheatingAggregator, states: Sequence[Arrays], names: Collection[str]) -> None:
    """Make a round, and in the next one hand the victim the shares of the first."""
    cheat.join(names)
    cheat.sum(1, states[0], names)
    cheat.set_up(names, 2)
    cheat.boxes_of(cheat.heading(2), cheat.heading(1))
    cheat.contribute(cheat.heading(2), states[1], names)


def shares_of_another_run(cheat: CheatingAggregator, state: Arrays, names: Collection[str]) -> None:
    """Set up a run, and hand the victim the shares of it in the next one."""
    cheat.join(names)
    cheat.set_up(names, 1)
    old = cheat.heading(1)
    cheat.join(names)
    cheat.set_up(names, 1)
    cheat.boxes_of(cheat.heading(1), old)
    cheat.contribute(cheat.heading(1), state, names)


def old_receipts_again(cheat: CheatingAggregator, states: Sequence[Arrays], names: Collection[str]) -> None:
    """Pass another site's receipt of the first round off as one of the second."""
    cheat.join(names)
    cheat.sum(1, states[0], names)
    cheat.set_up(names, 2)
    heading = cheat.heading(2)
    cheat.contribute(heading, states[1], names)
    old = {name: cheat.receipts[cheat.heading(1), name] for name in names}
    for name in names:
        mixed = {**old, name: cheat.receipts[heading, name]}
        cheat.ask(name, RevealRequest(heading, tuple(mixed.values()), ()))


def run_with_fewer(cheat: CheatingAggregator, state: Arrays, names: Collection[str]) -> None:
    """Sum over all in one run, and over all but the victim in another run over the same patients."""
    for members in (list(names), others(names)):
        cheat.join(members)
        cheat.sum(1, state, members)


def loss_in_a_second_run(cheat: CheatingAggregator, state: Arrays, names: Collection[str]) -> None:
    """Sum over all in one run, and in another run of the same members lose the victim's words."""
    for lost in ([], [VICTIM]):
        cheat.join(names)
        cheat.sum(1, state, names, lost)


def loss_between_rounds(
    cheat: CheatingAggregator, states: Sequence[Arrays], names: Collection[str], early: bool
) -> None:
    """Make an exact round with the victim, and the next one without it, as after an honest loss.

    early: whether it is lost before the second round is set up; otherwise when its words should come.
    """
    cheat.join(names)
    cheat.sum(1, states[0], names)
    if early:
        cheat.sum(2, states[1], others(names))
    else:
        cheat.sum(2, states[1], names, lost=[VICTIM])
