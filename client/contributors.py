"""Which hospitals a site's sums were made with: sums that differ by a hospital can be subtracted.

Two Newton steps near the optimum, one with and one without a hospital, differ by that hospital's gradient (measured:
to 4e-8); the same holds for two means, and for logistic regression by averaging, whose local fits are deterministic. So
the contributors of exact sums are frozen at the first one; sums over training patients and sums over held-out patients
are frozen apart, because no patient is in both. Across runs too they stay the same: sets that differ by many hospitals
would not do, because three such sums can be combined so that one hospital is left. Other sums may lose and regain
hospitals within a run, and have the same ones in the same round of another run, in which a network sends the same words
again. docs/protocol.md, "Lost sites subtract".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from shared.errors import Refusal
from shared.examples import Part

_Key = tuple[Part, int]


def kept_for(part: Part, exact: bool, round_number: int) -> tuple[Part, int]:
    """Return which sums keep the same contributors: exact ones over the same rows, others in the same round."""
    return part, 0 if exact else round_number


@dataclass(frozen=True)
class Sums:
    """Contributors of the sums that a site was part of, by ``kept_for``; and its runs' members.

    frozen: of the current run.
    earlier: of earlier runs over the same patients.
    members: of the first run with a sum of any kind; empty before.
    """

    frozen: Mapping[_Key, frozenset[str]] = field(default_factory=dict)
    earlier: Mapping[_Key, frozenset[frozenset[str]]] = field(default_factory=dict)
    members: frozenset[str] = frozenset()

    def next_run(self) -> Sums:
        """Return the same when another run begins."""
        keys = {*self.frozen, *self.earlier}
        earlier = {key: self.earlier.get(key, _NONE) | _one(self.frozen.get(key)) for key in keys}
        return Sums(earlier=earlier, members=self.members)

    def with_members(self, members: Collection[str]) -> Sums:
        """Return the same once a run with these members has been asked for a sum."""
        return replace(self, members=self.members or frozenset(members))

    def with_sum(self, key: _Key, contributors: Collection[str]) -> Sums:
        """Return the same after one more sum."""
        return replace(self, frozen={**self.frozen, key: frozenset(contributors)})


_NONE: frozenset[frozenset[str]] = frozenset()


def _one(names: frozenset[str] | None) -> frozenset[frozenset[str]]:
    return _NONE if names is None else frozenset({names})


def check_members(sums: Sums, members: Collection[str], shrinking: bool) -> None:
    """Refuse a run with other members than those of an earlier run over the same patients.

    shrinking: whether every member's hospital allows sums to lose a member.

    Raises: Refusal ``members-changed``.
    """
    names = frozenset(members)
    if sums.members and names != sums.members and not shrinking:
        raise Refusal(
            "members-changed",
            "an earlier run over the same patients had other members; these come or go:"
            f" {_list(names ^ sums.members)}. Their part could be found by subtraction",
        )


def check_maskers(sums: Sums, part: Part, maskers: Collection[str], shrinking: bool) -> None:
    """Refuse an exact sum that cannot have the frozen contributors any more: before anything is computed.

    Raises: Refusal ``contributors-changed``.
    """
    frozen = sums.frozen.get(kept_for(part, True, 0))
    if frozen is not None and not shrinking and not frozen <= set(maskers):
        raise _changed(frozen - set(maskers))


def check_contributors(sums: Sums, key: _Key, contributors: Collection[str], shrinking: bool) -> None:
    """Refuse a sum over other contributors than those with which it has to be the same.

    key: of ``kept_for``.

    Raises: Refusal ``contributors-changed``.
    """
    names = frozenset(contributors)
    frozen = sums.frozen.get(key)
    if frozen is not None and not (names == frozen or (shrinking and names < frozen)):
        raise _changed(names ^ frozen)
    for earlier in sums.earlier.get(key, _NONE):
        if names != earlier and not shrinking:
            raise _changed(names ^ earlier)


def _changed(who: frozenset[str]) -> Refusal:
    return Refusal(
        "contributors-changed",
        f"an exact method keeps its hospitals, and every method in the same round of another run; these come or go:"
        f" {_list(who)}. What they contributed could be found by subtraction",
    )


def _list(names: Collection[str]) -> str:
    return ", ".join(sorted(names))
