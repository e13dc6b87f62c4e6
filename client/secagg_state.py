"""What a site holds in a run under secure aggregation: who it is, and the secrets of the round in progress.

A value stands for a step that was made; the next step takes it and leaves another, and what was used up is no longer
held. Python cannot wipe memory: forgotten means that nothing refers to it and no file has it. Secrets are hidden from
``repr``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from client.policy import Policy
from shared.examples import Part
from shared.messages import Contributed, Joined, Keys, Revealed, RevealRequest
from shared.secagg import roster
from shared.secagg.keys import Entropy, ExchangeKey, SigningKey
from shared.secagg.roster import Roster
from shared.study import Study


@dataclass(frozen=True, eq=False)
class Member:
    """Who this site is, whom it trusts to be who they are, and what it draws secrets from.

    pinned: identities (Ed25519 public keys, 32 bytes) of all members that the hospital approved, its own included.
    entropy: ``secrets.token_bytes``.
    """

    name: str
    signing: SigningKey
    pinned: Mapping[str, bytes]
    policy: Policy
    study: Study
    entropy: Entropy

    @property
    def min_sites(self) -> int:
        """Fewest members of a sum, by this hospital's policy and by the study."""
        return max(roster.SMALLEST, self.policy.min_sites, self.study.aggregation.min_sites)


@dataclass(frozen=True, eq=False)
class RoundKeys:
    """What a site drew for one round, and what it said of it."""

    said: Keys
    mask: ExchangeKey
    seal: ExchangeKey
    seed: bytes = field(repr=False)


@dataclass(frozen=True, eq=False)
class Sharing:
    """A site's secrets of one round, shared among the holders.

    kept: its own shares of its own secrets.
    agreed: secret shared with each other holder's seal key.
    sealed: what it sent, by receiver.
    """

    own: RoundKeys
    roster: Roster
    kept: bytes = field(repr=False)
    agreed: Mapping[str, bytes] = field(repr=False)
    sealed: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Opened:
    """A sharing of which everybody's shares have come.

    held: shares of every masker's seed and scalar, its own included.
    digest: of the maskers.
    """

    sharing: Sharing
    digest: bytes
    held: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Masked:
    """A contribution that was sent and not yet revealed.

    asked: fingerprint of the request.
    part, exact: whose rows the sum is over, and whether its contributors are frozen.
    next: keys for the next round, announced with the reply.
    """

    opened: Opened
    asked: bytes
    part: Part
    exact: bool
    reply: Contributed = field(repr=False)
    next: RoundKeys | None = None


@dataclass(frozen=True, eq=False)
class State:
    """Where a site is in a run. What a step has used up is no longer there.

    joined: said in answer to a join; its nonce makes the next run new.
    members: of the run.
    min_sites: fewest members of a sum: the most that the study or any member's hospital asks for.
    shrinking: whether every member's hospital allows exact sums to lose a member.
    last: the last round contributed to.
    states: digests of the states answered in this run.
    revealed: the last reveal and its answer.
    """

    joined: Joined | None = None
    run: str = ""
    members: tuple[str, ...] = ()
    min_sites: int = roster.SMALLEST
    shrinking: bool = False
    keys: RoundKeys | None = None
    sharing: Sharing | None = None
    masked: Masked | None = None
    revealed: tuple[RevealRequest, Revealed] | None = None
    last: int = 0
    states: frozenset[bytes] = frozenset()
