"""Who takes part: the members of a run, the share-holders of a round, and the sites that mask in it.

Everything here is checked by every site for itself, and by the aggregator, so that one faulty site is left out instead
of spoiling the round. Nothing is taken on the aggregator's word: identities are the ones that the caller pinned.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from shared.errors import ProtocolError
from shared.messages import Heading, Joined, Keys, Receipt
from shared.secagg import keys as crypto
from shared.secagg.keys import ExchangeKey, SigningKey
from shared.secagg.transcript import digest, statement

SMALLEST, LARGEST = 3, 100
"""Members of a run, share-holders of a round. Two would learn each other's part by subtracting their own."""

NONCE_BYTES = 32


def default_threshold(holders: int) -> int:
    """Return floor(2n/3) + 1: sound against the aggregator with fewer than n/3 colluding sites."""
    return 2 * holders // 3 + 1


def lowest_threshold(holders: int) -> int:
    """Return the least t with 2t > n + c, for c = ceil(n/3) - 1 colluding sites: the most that are fewer than a third.

    With fewer shares, some honest sites could be asked for one secret of a site and the others for the other.
    """
    return (holders + (holders - 1) // 3) // 2 + 1


def threshold_of(holders: int, stated: int | None) -> int:
    """Return how many shares rebuild a secret.

    stated: ``[aggregation] threshold`` of the study; None for the default.

    Raises: ProtocolError ``bad-threshold`` below ``lowest_threshold`` or above the number of holders.
    """
    threshold = default_threshold(holders) if stated is None else stated
    lowest = lowest_threshold(holders)
    if not lowest <= threshold <= holders:
        raise ProtocolError(
            "bad-threshold",
            f"expected {lowest} to {holders} for {holders} sites, so that masks hold while fewer than a third collude."
            f" Received: {threshold}",
        )
    return threshold


def check_size(names: Collection[str], min_sites: int) -> None:
    """Raise ProtocolError ``too-few-members``, ``too-many-members`` or ``repeated-member``."""
    if len(set(names)) != len(names):
        raise ProtocolError("repeated-member", "a site is named twice")
    if len(names) < max(SMALLEST, min_sites):
        raise ProtocolError(
            "too-few-members", f"expected at least {max(SMALLEST, min_sites)} sites. Received: {len(names)}"
        )
    if len(names) > LARGEST:
        raise ProtocolError("too-many-members", f"expected at most {LARGEST} sites. Received: {len(names)}")


def pinned_key(site: str, pinned: Mapping[str, bytes]) -> bytes:
    """Return a site's identity, 32 bytes.

    Raises: ProtocolError ``not-pinned`` for a site that is not among those that were pinned.
    """
    if site not in pinned:
        raise ProtocolError("not-pinned", f"{site!r} is not one of the members that were approved here")
    return pinned[site]


def joined(site: str, heading: Heading, nonce: bytes, rules: tuple[int, bool], signing: SigningKey) -> Joined:
    """Return the signed statement that a site takes part.

    rules: ``Joined.min_sites`` and ``Joined.shrinking``.
    """
    return Joined(site, heading, nonce, *rules, signing.sign(statement("join", heading, site, nonce, *rules)))


def check_joined(said: Joined, pinned: Mapping[str, bytes]) -> None:
    """Raise ProtocolError ``not-pinned``, ``bad-nonce`` or ``bad-signature``."""
    if len(said.nonce) != NONCE_BYTES:
        raise ProtocolError("bad-nonce", f"expected {NONCE_BYTES} bytes of {said.site}. Received: {len(said.nonce)}")
    signed = statement("join", said.heading, said.site, said.nonce, said.min_sites, said.shrinking)
    crypto.verify(pinned_key(said.site, pinned), said.signature, signed, said.site)


def run_id(study: str, roll: Sequence[Joined], pinned: Mapping[str, bytes]) -> str:
    """Return the run's id: SHA-256, in hex, of the study, and of every member's name, identity, nonce and rules.

    roll: what every member said when it joined; signatures are checked.

    Raises: ProtocolError as ``check_joined``; ``another-study``; ``repeated-member``.
    """
    for said in roll:
        if said.heading.study != study:
            raise ProtocolError("another-study", f"{said.site} joined another study")
        check_joined(said, pinned)
    if len({said.site for said in roll}) != len(roll):
        raise ProtocolError("repeated-member", "a site is named twice")
    if len({pinned[said.site] for said in roll}) != len(roll):
        raise ProtocolError("repeated-member", "one identity is pinned under two names")
    ordered = sorted(roll, key=lambda said: said.site)
    members = tuple((said.site, pinned[said.site], said.nonce, said.min_sites, said.shrinking) for said in ordered)
    return digest("run", Heading("", study, 0), members).hex()


def keys_of(
    site: str, heading: Heading, pair: tuple[ExchangeKey, ExchangeKey], seed: bytes, signing: SigningKey
) -> Keys:
    """Return a site's signed public keys.

    pair: the mask key and the seal key.
    """
    mask, seal = pair
    digested = seed_digest(site, heading, seed)
    said = statement("keys", heading, site, mask.public, seal.public, digested)
    return Keys(site, heading, mask.public, seal.public, digested, signing.sign(said))


def check_keys(said: Keys, heading: Heading, pinned: Mapping[str, bytes]) -> None:
    """Check one site's keys: for this round, signed by who it says, points of large order.

    Raises: ProtocolError ``stale-keys``, ``not-pinned``, ``bad-signature``, ``bad-key`` or ``repeated-key``.
    """
    if said.heading != heading:
        raise ProtocolError("stale-keys", f"the keys of {said.site} are for another run, round or attempt")
    signed = statement("keys", heading, said.site, said.mask, said.seal, said.seed_digest)
    crypto.verify(pinned_key(said.site, pinned), said.signature, signed, said.site)
    if said.mask == said.seal:
        raise ProtocolError("repeated-key", f"{said.site} has one key for two purposes")
    for public in (said.mask, said.seal):
        crypto.check_point(public, said.site)


def seed_digest(site: str, heading: Heading, seed: bytes) -> bytes:
    """Return the commitment to a self-mask seed, 32 bytes; the seed's 256 random bits hide it."""
    return digest("seed", heading, site, seed)


@dataclass(frozen=True)
class Roster:
    """The share-holders of one round, in the order of their names; their places are their points of the polynomials.

    threshold: how many shares rebuild a secret.
    """

    heading: Heading
    keys: tuple[Keys, ...]
    threshold: int

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The holders' names, in order."""
        return tuple(said.site for said in self.keys)

    @cached_property
    def by_name(self) -> Mapping[str, Keys]:
        """Each holder's keys."""
        return {said.site: said for said in self.keys}

    @cached_property
    def points(self) -> Mapping[str, int]:
        """Where each holder's shares are taken, from 1."""
        return {name: place for place, name in enumerate(self.names, start=1)}

    @cached_property
    def digest(self) -> bytes:
        """SHA-256 of the heading, the threshold and all keys, 32 bytes."""
        said = tuple((each.site, each.mask, each.seal, each.seed_digest) for each in self.keys)
        return digest("roster", self.heading, self.threshold, said)


def roster_of(
    said: Sequence[Keys],
    heading: Heading,
    pinned: Mapping[str, bytes],
    min_sites: int,
    stated: int | None,
    own: Keys | None = None,
) -> Roster:
    """Check the keys of a round's share-holders and return the roster.

    min_sites: fewer holders are refused.
    stated: the study's threshold, or None.
    own: keys that the caller announced itself, which need no check.

    Raises: ProtocolError as ``check_size``, ``check_keys`` and ``threshold_of``, or ``repeated-key``.
    """
    check_size([each.site for each in said], min_sites)
    for each in said:
        if each != own:
            check_keys(each, heading, pinned)
    if len({public for each in said for public in (each.mask, each.seal)}) != 2 * len(said):
        raise ProtocolError("repeated-key", "two sites have the same public key")
    ordered = tuple(sorted(said, key=lambda each: each.site))
    return Roster(heading, ordered, threshold_of(len(said), stated))


def maskers_digest(roster: Roster, maskers: Collection[str]) -> bytes:
    """Return the digest of the roster and of those of it who mask, 32 bytes: in every mask and every receipt."""
    return digest("maskers", roster.heading, roster.digest, tuple(sorted(maskers)))


def receipt_of(site: str, heading: Heading, maskers: bytes, state: bytes, signing: SigningKey) -> Receipt:
    """Return what a site signs of its contribution.

    maskers, state: digests, see ``Receipt``.
    """
    signature = signing.sign(statement("contribute", heading, site, maskers, state))
    return Receipt(site, heading, maskers, state, signature)


def check_receipt(receipt: Receipt, expected: Receipt, pinned: Mapping[str, bytes]) -> None:
    """Check that a site masked with the same sites, from the same state, in the same round.

    expected: any receipt with the digests that it should have; its own site and signature do not matter.

    Raises: ProtocolError ``another-state``, ``other-maskers``, ``stale-receipt``, ``not-pinned`` or ``bad-signature``.
    """
    if receipt.heading != expected.heading:
        raise ProtocolError("stale-receipt", f"the receipt of {receipt.site} is for another run, round or attempt")
    if receipt.maskers != expected.maskers:
        raise ProtocolError("other-maskers", f"{receipt.site} masked with other sites than this one")
    if receipt.state != expected.state:
        raise ProtocolError("another-state", f"{receipt.site} was sent another state than this one")
    signed = statement("contribute", receipt.heading, receipt.site, receipt.maskers, receipt.state)
    crypto.verify(pinned_key(receipt.site, pinned), receipt.signature, signed, receipt.site)
