"""Tricks with lists: who survived and who was dropped, who holds shares, who masks.

No trick stops at a refusal: it goes on with what it got, and ``Knowledge`` makes the most of it.
"""

from __future__ import annotations

from collections.abc import Collection

from shared.examples import Arrays
from simulations.attacks.aggregator import VICTIM, CheatingAggregator, contributed, others


def both_lists(cheat: CheatingAggregator, state: Arrays, names: Collection[str]) -> None:
    """Ask for both secrets of the victim at once: the seed as a survivor's, the scalar as a dropped one's."""
    contributed(cheat, state, names)
    cheat.reveal(cheat.heading(1), names, dropped=[VICTIM])


def two_reveals(cheat: CheatingAggregator, state: Arrays, names: Collection[str]) -> None:
    """Ask everybody with the victim among the survivors, and then again with the victim among the dropped."""
    contributed(cheat, state, names)
    cheat.reveal(cheat.heading(1), names)
    cheat.reveal(cheat.heading(1), others(names), dropped=[VICTIM])


def lists_for_two_halves(
    cheat: CheatingAggregator, state: Arrays, names: Collection[str], first: Collection[str]
) -> None:
    """Tell some that the victim survived, and the others that it was dropped; colluders give both shares anyway.

    first: to whom the victim is a survivor.
    """
    contributed(cheat, state, names)
    cheat.reveal(cheat.heading(1), names, to=first)
    cheat.reveal(cheat.heading(1), others(names), [VICTIM], to=[name for name in others(names) if name not in first])


def late_site(cheat: CheatingAggregator, state: Arrays, names: Collection[str]) -> None:
    """Declare the victim dropped, so that its scalar is rebuilt, while its words are there; ask it, too."""
    contributed(cheat, state, names)
    cheat.reveal(cheat.heading(1), others(names), [VICTIM], to=names)


def shrunk_holders(
    cheat: CheatingAggregator, state: Arrays, names: Collection[str], colluders: Collection[str]
) -> None:
    """Make the victim share its secrets among itself and colluders alone, and sum these."""
    cheat.join(names)
    few = [VICTIM, *colluders]
    cheat.set_up(few, 1)
    cheat.contribute(cheat.heading(1), state, few)
    cheat.reveal(cheat.heading(1), few)


def shrunk_maskers(
    cheat: CheatingAggregator, state: Arrays, names: Collection[str], colluders: Collection[str]
) -> None:
    """Share among all, and let the victim mask with colluders alone."""
    cheat.join(names)
    cheat.set_up(names, 1)
    few = [VICTIM, *colluders]
    cheat.contribute(cheat.heading(1), state, few)
    cheat.reveal(cheat.heading(1), few)


def shrunk_survivors(
    cheat: CheatingAggregator, state: Arrays, names: Collection[str], colluders: Collection[str]
) -> None:
    """Mask with all, and declare everybody but the victim and colluders dropped."""
    contributed(cheat, state, names)
    few = [VICTIM, *colluders]
    cheat.reveal(cheat.heading(1), few, [name for name in names if name not in few])
