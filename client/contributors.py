"""Which hospitals a site's sums were made with: sums that differ by a hospital can be subtracted.

Two Newton steps near the optimum, one with and one without a hospital, differ by that hospital's gradient (measured:
to 4e-8); the same holds for two means, and for logistic regression by averaging, whose local fits are deterministic. So
the contributors of exact sums are frozen at the first one; sums over training patients and sums over held-out patients
are frozen apart, because no patient is in both. Across runs, where any state may be sent again and gets the same
contribution even from a network, two sets of contributors must not be a few hospitals apart. docs/protocol.md, "Lost
sites subtract".
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from client.policy import Policy
from shared.errors import Refusal
from shared.examples import Part
from shared.secagg import roster

_Sets = Mapping[Part, frozenset[frozenset[str]]]


@dataclass(frozen=True)
class Sums:
    """Contributors of the sums that a site was part of, by whose rows they were over.

    frozen: of the exact sums of the current run.
    seen: of all sums of the current run.
    earlier: of all sums of earlier runs over the same patients.
    """

    frozen: Mapping[Part, frozenset[str]] = field(default_factory=dict)
    seen: _Sets = field(default_factory=dict)
    earlier: _Sets = field(default_factory=dict)

    def next_run(self) -> Sums:
        """Return the same when another run begins."""
        parts = {*self.seen, *self.earlier}
        return Sums(earlier={part: self.seen.get(part, _NONE) | self.earlier.get(part, _NONE) for part in parts})

    def with_sum(self, part: Part, contributors: Collection[str], exact: bool) -> Sums:
        """Return the same after one more sum."""
        names = frozenset(contributors)
        seen = {**self.seen, part: self.seen.get(part, _NONE) | {names}}
        return replace(self, seen=seen, frozen={**self.frozen, part: names} if exact else self.frozen)


_NONE: frozenset[frozenset[str]] = frozenset()


def check_maskers(sums: Sums, part: Part, maskers: Collection[str], policy: Policy) -> None:
    """Refuse an exact sum that cannot have the frozen contributors any more: before anything is computed.

    Raises: Refusal ``contributors-changed``.
    """
    frozen = sums.frozen.get(part)
    if frozen is None or policy.shrinking or frozen <= set(maskers):
        return
    raise _changed(frozen - set(maskers))


def check_contributors(sums: Sums, part: Part, contributors: Collection[str], exact: bool, policy: Policy) -> None:
    """Refuse an exact sum over other contributors than this run's first, and any too near to those of an earlier run.

    Raises: Refusal ``contributors-changed`` or ``contributors-too-near``.
    """
    names = frozenset(contributors)
    frozen = sums.frozen.get(part) if exact else None
    if frozen is not None and not (names == frozen or (policy.shrinking and names < frozen)):
        raise _changed(names ^ frozen)
    fewest = max(roster.SMALLEST, policy.min_sites)
    for earlier in sums.earlier.get(part, ()):
        apart = names ^ earlier
        if 0 < len(apart) < fewest and not policy.shrinking:
            raise Refusal(
                "contributors-too-near",
                f"an earlier run summed over the same patients, and its hospitals differ by {', '.join(sorted(apart))}:"
                " their part could be found by subtraction",
            )


def _changed(who: frozenset[str]) -> Refusal:
    return Refusal(
        "contributors-changed",
        f"an exact method keeps its hospitals, and these come or go: {', '.join(sorted(who))}. What they contributed"
        " could be found by subtraction",
    )
