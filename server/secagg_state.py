"""What the aggregator holds of a run under secure aggregation; all of it is public to every site, or masked."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from shared.fixedpoint import Words
from shared.messages import Heading, Joined, Keys, Masking, Receipt
from shared.secagg import roster
from shared.secagg.roster import Roster


@dataclass(frozen=True, eq=False)
class Session:
    """One run under secure aggregation.

    run: its id.
    roll: what every member said when it joined.
    identities: Ed25519 public keys of the members.
    min_sites: fewest members of a sum: the most that the study or any member's hospital asks for.
    threshold: of the study.
    """

    run: str
    roll: tuple[Joined, ...]
    identities: Mapping[str, bytes]
    min_sites: int
    threshold: int | None

    @property
    def members(self) -> tuple[str, ...]:
        """Names of those who joined."""
        return tuple(said.site for said in self.roll)

    def roster(self, heading: Heading, said: Collection[Keys]) -> Roster:
        """Return the roster of these share-holders.

        Raises: ProtocolError if there are too few.
        """
        return roster.roster_of(tuple(said), heading, self.identities, self.min_sites, self.threshold)


@dataclass(frozen=True, eq=False)
class Ready:
    """A round that can be masked.

    sealed: shares by sender and receiver; the senders mask.
    """

    roster: Roster
    sealed: Mapping[str, Mapping[str, bytes]] = field(repr=False)

    @cached_property
    def digest(self) -> bytes:
        """Digest of those who mask."""
        return roster.maskers_digest(self.roster, self.sealed)

    def masking(self, site: str) -> Masking:
        """Return what one site needs."""
        return Masking({sender: boxes[site] for sender, boxes in self.sealed.items() if sender != site})


@dataclass(frozen=True, eq=False)
class MaskedTotal:
    """A sum of masked words, whose contributors are decided: what must be durable before the reveal is asked for.

    receipts: of the contributors.
    next_keys: what the contributors announced for the next round; empty in the last.
    """

    ready: Ready
    words: Words = field(repr=False)
    receipts: tuple[Receipt, ...]
    next_keys: tuple[Keys, ...] = ()

    @property
    def dropped(self) -> tuple[str, ...]:
        """Those who masked and whose words are not in the sum."""
        contributors = {receipt.site for receipt in self.receipts}
        return tuple(sorted(set(self.ready.sealed) - contributors))


@dataclass(frozen=True, eq=False)
class Secured:
    """Where secure aggregation stands between two exchanges; all that a restarted aggregator needs to go on.

    ready: the round to come, or the one in progress; None before the first.
    asked: whether contributions to ``ready`` were asked for: from then on nobody else may be in that round.
    total: of the round in progress, once its contributors are decided.
    """

    session: Session
    ready: Ready | None = None
    asked: bool = False
    total: MaskedTotal | None = None
