"""What the two halves say to each other: one frozen dataclass per message.

Every message names the run, the round and the attempt, so that an answer to another question is never taken for one
to this. A reply carries words, a refusal a code and a hint; nothing that was computed from patients travels beside
the words. docs/protocol.md has the order of the messages and both sides' rules; ``shared/secagg/`` the parts of them.

    preflight    PreflightRequest   -> Ready        between machines: is the study approved, and with whom
    join         JoinRequest        -> Joined       once a run: who takes part, and a nonce of each
    keys         KeysRequest        -> Keys         public keys for a round \
    shares       SharesRequest      -> Shares       sealed shares           / only when somebody was away
    contribute   ContributeRequest  -> Contributed  words, and the keys for the next round
    reveal       RevealRequest      -> Revealed     shares, and sealed shares for the next round
    end          EndRequest         -> Ended        sites forget the run's secrets
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from shared.examples import Arrays
from shared.fixedpoint import Words


@dataclass(frozen=True)
class Heading:
    """Which question a message belongs to.

    run: this run's id.
    study: digest of the study; a site that approved another one refuses.
    round: number of this exchange of sums in the run, from 1; 0 before the first.
    attempt: from 1; keys that were prepared and not used are replaced under the next attempt.
    """

    run: str
    study: str
    round: int
    attempt: int = 1


@dataclass(frozen=True)
class PreflightRequest:
    """The aggregator asks whether a site is ready for a study, before a run."""

    heading: Heading


@dataclass(frozen=True)
class Counts:
    """How much one hospital brings, where its policy lets that be shown.

    class_rows: training rows by class index; empty for a number.
    out_of_contract: values outside the contract, by column.
    """

    patients: int
    rows: int
    training_rows: int
    held_out_rows: int
    class_rows: tuple[int, ...]
    out_of_contract: Mapping[str, int]


@dataclass(frozen=True)
class Ready:
    """A site has approved the study, and its data fit it.

    members: identities (Ed25519 public keys, 32 bytes) that the hospital pinned, by name, its own included.
    code: digest of the code that it runs (``shared.provenance.code_digest``).
    counts: None unless the hospital's policy lets them be shown.
    """

    site: str
    heading: Heading
    members: Mapping[str, bytes]
    code: str
    counts: Counts | None = None


@dataclass(frozen=True)
class JoinRequest:
    """The aggregator asks a site to take part in a run. The run has no id yet."""

    heading: Heading


@dataclass(frozen=True)
class Joined:
    """A site takes part, under its hospital's own rules, which then bind every member.

    nonce: 32 bytes drawn for this run; the run's id is made of everybody's.
    min_sites: fewest members of a sum that the hospital takes part in.
    shrinking: whether it allows exact sums to lose a member.
    signature: of the site's identity.
    """

    site: str
    heading: Heading
    nonce: bytes
    min_sites: int
    shrinking: bool
    signature: bytes


@dataclass(frozen=True)
class KeysRequest:
    """The aggregator asks for keys for one round.

    roll: what every member of the run said when it joined.
    """

    heading: Heading
    roll: tuple[Joined, ...]


@dataclass(frozen=True)
class Keys:
    """A site's public keys for one round.

    mask, seal: X25519 public keys, 32 bytes each.
    seed_digest: SHA-256 of the self-mask seed, against which a rebuilt one is held.
    signature: of the site's identity.
    """

    site: str
    heading: Heading
    mask: bytes
    seal: bytes
    seed_digest: bytes
    signature: bytes


@dataclass(frozen=True)
class SharesRequest:
    """The aggregator asks for shares for these share-holders, the receiver among them."""

    heading: Heading
    keys: tuple[Keys, ...]


@dataclass(frozen=True)
class Shares:
    """A site's shares.

    sealed: by receiver, everyone but the site itself.
    """

    site: str
    heading: Heading
    sealed: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True)
class Masking:
    """What a site needs in order to mask: the shares sealed to it. Their senders and the site itself mask this round.

    sealed: by sender.
    """

    sealed: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True, eq=False)
class ContributeRequest:
    """The aggregator asks one site for its contribution.

    sites: number of sites of the run, for which the words must not wrap; it sets their scale.
    counted: the last round in which this site was in the sum, 0 for none; what it staged then is now its memory.
    state: the broadcast state.
    masking: None asks for bare words.
    """

    heading: Heading
    sites: int
    counted: int
    state: Arrays
    masking: Masking | None = None


@dataclass(frozen=True)
class Receipt:
    """What a site signs of its contribution.

    maskers: digest of the sites that it masked with.
    state: digest of the state that it computed from.
    """

    site: str
    heading: Heading
    maskers: bytes
    state: bytes
    signature: bytes


@dataclass(frozen=True, eq=False)
class Contributed:
    """One site's contribution: the layout's words, the weight as the last one.

    receipt: None for bare words.
    next_keys: for the round that follows; None for bare words, and in the last round.
    """

    site: str
    heading: Heading
    words: Words
    receipt: Receipt | None = None
    next_keys: Keys | None = None


@dataclass(frozen=True)
class RevealRequest:
    """The aggregator asks a contributor for the shares by which the masks of the sum are removed.

    survivors: receipts of those whose words are in the sum.
    dropped: names of those who masked and whose words are not in it.
    next_keys: share-holders of the next round, the receiver among them; or nobody.
    """

    heading: Heading
    survivors: tuple[Receipt, ...]
    dropped: tuple[str, ...]
    next_keys: tuple[Keys, ...] = ()


@dataclass(frozen=True)
class Revealed:
    """One site's shares.

    seeds: shares of the survivors' self-mask seeds, 33 bytes each, by name.
    scalars: shares of the dropped sites' mask scalars, by name.
    next_sealed: sealed shares for the next round by receiver; empty if nobody was named.
    """

    site: str
    heading: Heading
    seeds: Mapping[str, bytes] = field(repr=False)
    scalars: Mapping[str, bytes] = field(repr=False)
    next_sealed: Mapping[str, bytes] = field(repr=False)


@dataclass(frozen=True)
class EndRequest:
    """The run is over, or was given up: sites forget its secrets.

    finished: whether it came to its end.
    """

    heading: Heading
    finished: bool = False


@dataclass(frozen=True)
class Shown:
    """One metric of the released model on one hospital's own held-out rows: its value and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Ended:
    """A site has forgotten the run's secrets.

    rows: held-out rows behind ``metrics``.
    metrics: of the released model on its own held-out rows; empty unless the run is finished and the hospital's policy
        lets them be shown.
    """

    site: str
    heading: Heading
    rows: int = 0
    metrics: Mapping[str, Shown] = field(default_factory=dict)


@dataclass(frozen=True)
class Refused:
    """One site says no.

    code: short stable word.
    hint: one sentence without data.
    """

    site: str
    heading: Heading
    code: str
    hint: str


Request = PreflightRequest | JoinRequest | KeysRequest | SharesRequest | ContributeRequest | RevealRequest | EndRequest
Reply = Ready | Joined | Keys | Shares | Contributed | Revealed | Ended | Refused


def payload_bytes(message: object) -> int:
    """Return the bytes of a message's content: arrays, texts, bytes, names in mappings, and 8 for every number."""
    match message:
        case None:
            size = 0
        case np.ndarray():
            size = message.nbytes
        case bytes():
            size = len(message)
        case str():
            size = len(message.encode())
        case Mapping():
            size = sum(payload_bytes(name) + payload_bytes(value) for name, value in message.items())
        case tuple():
            size = sum(map(payload_bytes, message))
        case _ if hasattr(message, "__dict__"):
            size = sum(map(payload_bytes, vars(message).values()))
        case _:
            size = 8
    return size
