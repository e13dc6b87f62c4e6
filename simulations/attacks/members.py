"""Tricks with members and keys: who is in a run, and under which public keys."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from shared.examples import Arrays
from shared.secagg.keys import ExchangeKey
from shared.secagg.transcript import statement
from simulations.attacks.aggregator import VICTIM, CheatingAggregator, others


def invented_members(cheat: CheatingAggregator, state: Arrays, inventions: Collection[str]) -> None:
    """Enrol members of the aggregator's own around one real hospital, and make an honest round with them."""
    names = [VICTIM, *inventions]
    cheat.join(names)
    cheat.sum(1, state, names)


def exchanged_keys(cheat: CheatingAggregator, state: Arrays, names: Sequence[str]) -> None:
    """Give each of the last two sites the other's keys, as if they were its own."""
    cheat.join(names)
    said = cheat.announce(names, 1)
    one, other = said[names[-2]], said[names[-1]]
    said[one.site] = replace(one, mask=other.mask, seal=other.seal)
    said[other.site] = replace(other, mask=one.mask, seal=one.seal)
    cheat.share(said.values())
    cheat.contribute(cheat.heading(1), state, names)
    cheat.reveal(cheat.heading(1), names)


def corrupt_keys(
    cheat: CheatingAggregator, state: Arrays, names: Sequence[str], mask: bytes | None = None, seal: bytes | None = None
) -> None:
    """Let a corrupt site, the last one, announce and sign other keys than it drew.

    mask, seal: what it announces; None for what the victim announced.
    """
    cheat.join(names)
    heading = cheat.heading(1)
    said = cheat.announce(names, 1)
    victims, corrupt = said[VICTIM], said[names[-1]]
    corrupt = replace(corrupt, mask=mask or victims.mask, seal=seal or victims.seal)
    signed = statement("keys", heading, corrupt.site, corrupt.mask, corrupt.seal, corrupt.seed_digest)
    corrupt = replace(corrupt, signature=cheat.sites[corrupt.site].member.signing.sign(signed))
    honest = names[:-1]
    cheat.share([*(said[name] for name in honest), corrupt], to=honest)
    cheat.contribute(heading, state, honest)
    cheat.reveal(heading, honest, [corrupt.site])


def victims_key_exchanged(cheat: CheatingAggregator, state: Arrays, names: Sequence[str]) -> None:
    """Give the victim a key of another site in place of its own."""
    cheat.join(names)
    said = cheat.announce(names, 1)
    said[VICTIM] = replace(said[VICTIM], seed_digest=bytes(32))
    cheat.share(said.values(), to=[VICTIM])
    cheat.contribute(cheat.heading(1), state, names)


def keys_in_the_middle(cheat: CheatingAggregator, names: Sequence[str]) -> None:
    """Give the victim keys of the aggregator's own in the place of everybody else's, so that it seals to them."""
    cheat.join(names)
    said = cheat.announce(names, 1)
    for number, name in enumerate(others(names), start=1):
        mask, seal = ExchangeKey(bytes([number] * 32)), ExchangeKey(bytes([100 + number] * 32))
        cheat.knowledge.scalars |= {mask.public: mask, seal.public: seal}
        said[name] = replace(said[name], mask=mask.public, seal=seal.public)
    cheat.share(said.values(), to=[VICTIM])
