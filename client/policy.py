"""What a hospital allows, whatever a study proposes: the policy part of its own ``site.toml``.

Simulated hospitals have no ``site.toml``: ``simulated`` makes their policy from the study.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.study import Study


@dataclass(frozen=True)
class Policy:
    """One hospital's own rules.

    min_sites: fewest members of a sum that it takes part in, which binds every member of a run; its guarantee holds
        while fewer than a third collude.
    unmasked: whether it answers without secure aggregation.
    shrinking: whether sums of an exact method may go on without a lost site, or be made again in another run without
        it, if every other member's hospital allows it too; the lost site's part can then be found by subtraction.
    """

    min_sites: int = 3
    unmasked: bool = False
    shrinking: bool = False


def simulated(study: Study) -> Policy:
    """Return the policy of a simulated hospital: the study's own wishes, and what its ``[simulation]`` part allows."""
    return Policy(
        min_sites=study.aggregation.min_sites,
        unmasked=not study.aggregation.secure,
        shrinking=study.simulation.contributors_may_shrink,
    )
