"""What can be computed from what a cheating aggregator heard: secrets, sums, and one hospital's part of them.

Nothing here depends on the trick: every share that was given is used, every box that some known key opens is opened,
every set of contributions whose masks are known or cancel is added up, and sums are combined as linear equations. So
"nothing was gained" means that no combination of all that was ever heard gives the part of one hospital.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from client.secagg_state import RoundKeys
from shared import fixedpoint, layout
from shared.errors import ProtocolError
from shared.examples import Arrays
from shared.fixedpoint import WordPlan, Words
from shared.messages import Heading
from shared.secagg import keys as crypto
from shared.secagg import masks, roster, shares
from shared.secagg.keys import ExchangeKey
from shared.secagg.roster import Roster
from shared.secagg.transcript import statement

SEED, SCALAR = 0, 1
"""Which of a site's two secrets a share is of; both fit into one box, in this order."""


@dataclass(frozen=True, eq=False)
class Sent:
    """Words that one site sent.

    holders: as this site was told; None for bare words.
    maskers: with whom it masked, itself among them.
    """

    site: str
    heading: Heading
    plan: WordPlan
    words: Words = field(repr=False)
    holders: Roster | None = None
    maskers: frozenset[str] = frozenset()

    @cached_property
    def digest(self) -> bytes:
        """Digest of the maskers."""
        assert self.holders is not None
        return roster.maskers_digest(self.holders, self.maskers)


@dataclass(frozen=True)
class Box:
    """Sealed shares, on the way from one holder to another.

    holders: as the sender was told.
    """

    sender: str
    receiver: str
    holders: Roster
    sealed: bytes


@dataclass(frozen=True, eq=False)
class Sum:
    """A sum that could be unmasked: whose contributions it is of, and what it says."""

    sites: tuple[str, ...]
    arrays: Arrays


Term = tuple[bytes, ...]
"""One mask: what it is derived from. Two sites that share a mask name the same term."""


class Knowledge:
    """Everything that was heard, and what follows from it."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.boxes: list[Box] = []
        self.opened: set[tuple[str, str, bytes]] = set()
        """Boxes that some known key opened: sender, receiver and digest of the holders."""
        self.scalars: dict[bytes, ExchangeKey] = {}
        """Secret keys by public key."""
        self.seeds: dict[bytes, bytes] = {}
        """Seeds of self masks by announced digest."""
        self._holders: dict[bytes, Roster] = {}
        self._shares: dict[tuple[bytes, str, int], dict[int, int]] = {}

    def learn_keys(self, own: RoundKeys) -> None:
        """Take the secrets of one round from a site that gives them away."""
        for key in (own.mask, own.seal):
            self.scalars[key.public] = key
        self.seeds[own.said.seed_digest] = own.seed

    def learn_share(self, holders: Roster, owner: str, kind: int, holder: str, share: bytes) -> None:
        """Take one holder's share of one of an owner's secrets."""
        self._holders[holders.digest] = holders
        points = self._shares.setdefault((holders.digest, owner, kind), {})
        points[holders.points[holder]] = int.from_bytes(share, "big")

    def secrets(self) -> None:
        """Open every box and rebuild every secret, until nothing more is found."""
        before = -1
        while before != (now := len(self.opened) + len(self.scalars) + len(self.seeds)):
            before = now
            for box in self.boxes:
                self._open(box)
            for (digest, owner, kind), points in self._shares.items():
                self._rebuild(self._holders[digest], owner, kind, points)

    def _open(self, box: Box) -> None:
        """Try both keys of the receiver: a seal that its mask key opened would be a seal in vain."""
        holders, heading = box.holders, box.holders.heading
        sender, receiver = holders.by_name[box.sender], holders.by_name[box.receiver]
        for public in (receiver.seal, receiver.mask):
            if public not in self.scalars:
                continue
            try:
                agreed = self.scalars[public].agree(sender.seal, box.sender)
                key = crypto.seal_key(agreed, heading, holders.digest, box.sender, box.receiver)
                about = statement("shares", heading, box.sender, box.receiver)
                packed = crypto.unseal(key, box.sealed, about, box.sender)
            except ProtocolError:
                continue
            self.opened.add((box.sender, box.receiver, holders.digest))
            size = shares.SHARE_BYTES
            self.learn_share(holders, box.sender, SEED, box.receiver, packed[:size])
            self.learn_share(holders, box.sender, SCALAR, box.receiver, packed[size:])

    def _rebuild(self, holders: Roster, owner: str, kind: int, points: Mapping[int, int]) -> None:
        """Rebuild a secret of which enough shares are known, if it is what its owner announced."""
        if len(points) < holders.threshold:
            return
        weight = shares.weights(sorted(points)[: holders.threshold])
        secret = (shares.rebuild(points, weight) % 2**256).to_bytes(crypto.KEY_BYTES, "big")
        announced = holders.by_name[owner]
        if kind == SEED and roster.seed_digest(owner, holders.heading, secret) == announced.seed_digest:
            self.seeds[announced.seed_digest] = secret
        if kind == SCALAR and ExchangeKey(secret).public == announced.mask:
            self.scalars[announced.mask] = ExchangeKey(secret)

    def sums(self) -> list[Sum]:
        """Return every sum that can be unmasked; contributions to different rounds have no mask in common."""
        self.secrets()
        by_round: dict[tuple[str, int, int], list[Sent]] = {}
        for sent in self.sent:
            heading = sent.heading
            by_round.setdefault((heading.run, heading.round, heading.attempt), []).append(sent)
        return [found for group in by_round.values() for found in self._sums(group)]

    def part(self, site: str) -> Arrays | None:
        """Return one site's part, if all sums together determine it; None if they leave it open.

        A site's part counts as the same in every round and run, as it is for the tests' methods, and nearly so for
        exact methods near the optimum.
        """
        found = self.sums()
        names = sorted({name for each in found for name in each.sites})
        if site not in names:
            return None
        equations = np.array([[each.sites.count(name) for name in names] for each in found], dtype=np.float64)
        wanted = np.array([name == site for name in names], dtype=np.float64)
        combination = np.linalg.lstsq(equations.T, wanted, rcond=None)[0]
        if np.abs(equations.T @ combination - wanted).max() > 1e-9:
            return None
        return {
            name: np.asarray(sum(factor * each.arrays[name] for factor, each in zip(combination, found, strict=True)))
            for name in found[0].arrays
        }

    def _sums(self, group: Sequence[Sent]) -> Iterator[Sum]:
        bare: list[Words] = []
        left: list[Mapping[Term, int]] = []
        for sent in group:
            words, unknown = self._without_known_masks(sent)
            bare.append(words)
            left.append(unknown)
        terms = sorted({term for unknown in left for term in unknown})
        signs: NDArray[np.int64] = np.array([[unknown.get(term, 0) for term in terms] for unknown in left], np.int64)
        for chosen in itertools.product((0, 1), repeat=len(group)):
            places = [place for place, taken in enumerate(chosen) if taken]
            if places and not signs[places].sum(axis=0).any():
                yield _sum([group[place] for place in places], [bare[place] for place in places])

    def _without_known_masks(self, sent: Sent) -> tuple[Words, Mapping[Term, int]]:
        """Return a site's words without the masks that are known, and the signs of those that are left."""
        words = sent.words.copy()
        unknown: dict[Term, int] = {}
        if sent.holders is None:
            return words, unknown
        heading, keys = sent.holders.heading, sent.holders.by_name
        own = keys[sent.site]
        plus: list[bytes] = []
        minus: list[bytes] = []
        if own.seed_digest in self.seeds:
            plus.append(crypto.self_mask_key(self.seeds[own.seed_digest], heading, sent.digest, sent.site))
        else:
            unknown[(sent.digest, own.seed_digest)] = 1
        for other in sorted(sent.maskers - {sent.site}):
            pair = (min(sent.site, other), max(sent.site, other))
            known = self._agreed(own.mask, keys[other].mask)
            sign = 1 if sent.site < other else -1
            if known is None:
                unknown[(sent.digest, keys[pair[0]].mask, keys[pair[1]].mask)] = sign
            else:
                key = crypto.pair_mask_key(known, heading, sent.digest, pair)
                (plus if sign > 0 else minus).append(key)
        masks.apply(words, minus, plus)
        return words, unknown

    def _agreed(self, one: bytes, other: bytes) -> bytes | None:
        """Return what two public keys agree on, if one of the secret keys is known."""
        for known, public in ((one, other), (other, one)):
            if known in self.scalars:
                return self.scalars[known].agree(public, "the other")
        return None


def _sum(sent: Sequence[Sent], bare: Sequence[Words]) -> Sum:
    total = bare[0].copy()
    for words in bare[1:]:
        total += words
    plan = sent[0].plan
    return Sum(tuple(each.site for each in sent), layout.from_vector(plan.entries, fixedpoint.decode(plan, total)))
