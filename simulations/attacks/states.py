"""Tricks with states: another model for one site, models made to single somebody out, words of another kind."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from shared.examples import Arrays
from shared.messages import ContributeRequest
from simulations.attacks.aggregator import VICTIM, CheatingAggregator, others


def states_apart(cheat: CheatingAggregator, mine: Arrays, theirs: Arrays, names: Collection[str]) -> None:
    """Send the victim one model and everybody else another, whose contributions are known beforehand."""
    cheat.join(names)
    cheat.set_up(names, 1)
    heading = cheat.heading(1)
    cheat.contribute(heading, mine, [VICTIM], names)
    cheat.contribute(heading, theirs, others(names), names)
    cheat.reveal(heading, names)


def rounds(cheat: CheatingAggregator, states: Sequence[Arrays], names: Collection[str], first: int = 1) -> None:
    """Make honest rounds of chosen states."""
    cheat.join(names)
    for number, state in enumerate(states, start=first):
        cheat.sum(number, state, names)


def bare_words(cheat: CheatingAggregator, state: Arrays, names: Collection[str]) -> None:
    """Ask for words without masks."""
    cheat.join(names)
    cheat.set_up(names, 1)
    cheat.ask(VICTIM, ContributeRequest(cheat.heading(1), len(names), 0, state))


def other_scale(cheat: CheatingAggregator, state: Arrays, names: Collection[str], sites: int) -> None:
    """Ask all but the victim for words as for many more sites: so coarse that they vanish among the victim's."""
    cheat.join(names)
    cheat.set_up(names, 1)
    heading = cheat.heading(1)
    cheat.contribute(heading, state, [VICTIM], names)
    cheat.contribute(heading, state, others(names), names, scale=sites)
    cheat.reveal(heading, names)
