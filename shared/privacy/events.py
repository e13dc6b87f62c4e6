"""What a noised release is, as far as one patient pays for it. The neighbouring relation: add or remove one patient.

An event that exists is valid. The accountant (``shared/privacy/accounting.py``) turns events into epsilon; ``to_plain``
and ``from_plain`` are how the hospital's ledger writes them down.

Assumed of each: the noise is secret and drawn anew for each use; the sampler is within ``sampler_error`` of the ideal
one; what one patient adds is within the stated norm, whoever the patient is. Where noise is added in floating point,
the rounding of the sum is not accounted for; Skellam noise is added in integers and has none.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_LEAST_NOISE, _MOST_NOISE = 1e-6, 1e9
_LEAST_RATE = 1e-12
_MOST_STEPS = 2.0**64
_MOST_USES = 2**53


@dataclass(frozen=True)
class Gaussian:
    """A sum over patients with Gaussian noise (C. Dwork, A. Roth 2014, Appendix A, https://doi.org/10.1561/0400000042).

    noise_multiplier: standard deviation over the L2 norm of what one patient adds.
    count: how many such sums.
    sampler_error: total variation distance of one use of the sampler from the ideal one.

    Raises: ValueError if a number is out of its range.
    """

    noise_multiplier: float
    count: int = 1
    sampler_error: float = 0.0

    def __post_init__(self) -> None:
        _require("noise_multiplier", self.noise_multiplier, _LEAST_NOISE, _MOST_NOISE)
        _require_uses(self.count, self.sampler_error)


@dataclass(frozen=True)
class SampledGaussian:
    """A Gaussian sum over a Poisson sample: each patient is in it with the same chance, independently of all others.

    One step of DP-SGD (I. Mironov, K. Talwar, L. Zhang: Rényi Differential Privacy of the Sampled Gaussian Mechanism,
    2019, https://arxiv.org/abs/1908.10530). The cost is not that of shuffled batches, nor of batches of a fixed size.

    noise_multiplier, count, sampler_error: as for Gaussian.
    sampling_rate: that chance, above 0 and at most 1.

    Raises: ValueError if a number is out of its range.
    """

    noise_multiplier: float
    sampling_rate: float
    count: int = 1
    sampler_error: float = 0.0

    def __post_init__(self) -> None:
        _require("noise_multiplier", self.noise_multiplier, _LEAST_NOISE, _MOST_NOISE)
        _require("sampling_rate", self.sampling_rate, _LEAST_RATE, 1.0)
        _require_uses(self.count, self.sampler_error)


@dataclass(frozen=True)
class Skellam:
    """A sum of integer vectors over patients, with Skellam noise on each entry.

    N. Agarwal, P. Kairouz, Z. Liu: The Skellam Mechanism for Differentially Private Federated Learning, NeurIPS 2021,
    https://arxiv.org/abs/2110.04995.

    l1, l2: norms of what one patient adds, in integer steps, rounding included.
    variance: of the honest sites' noise together, on one entry, in steps squared. The noise is the difference of two
        Poisson variables; this is twice the mean of either.
    count, sampler_error: as for Gaussian; one use is one vector.

    Raises: ValueError if a number is out of its range.
    """

    l1: float
    l2: float
    variance: float
    count: int = 1
    sampler_error: float = 0.0

    def __post_init__(self) -> None:
        # What one patient adds is an integer vector: if it is not zero, its norm is 1 at least.
        _require("l2", self.l2, 1.0, _MOST_STEPS)
        # L1 is never below L2: this finds arguments in the wrong order. The last digits are the caller's rounding.
        _require("l1", self.l1, self.l2 * (1 - 1e-9), _MOST_STEPS)
        _require("variance", self.variance, (_LEAST_NOISE * self.l2) ** 2, (_MOST_NOISE * self.l2) ** 2)
        _require_uses(self.count, self.sampler_error)


Event = Gaussian | SampledGaussian | Skellam

_KINDS: dict[str, type[Event]] = {"gaussian": Gaussian, "sampled-gaussian": SampledGaussian, "skellam": Skellam}


def to_plain(event: Event) -> dict[str, Any]:
    """Return an event as a dictionary that JSON can say and ``from_plain`` reads back, to the last bit.

    Raises: ValueError for an event that the accountant does not know.
    """
    for kind, known in _KINDS.items():
        if type(event) is known:
            numbers = dataclasses.asdict(event)
            return {"kind": kind, **{key: value if key == "count" else float(value) for key, value in numbers.items()}}
    raise unknown(event)


def from_plain(value: Mapping[str, Any]) -> Event:
    """Return the event that ``to_plain`` wrote.

    Raises: ValueError for an unknown kind, for a key that is missing or not known, or a number out of its range.
    """
    kind = value.get("kind") if isinstance(value, Mapping) else None
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"an event must have a kind: {', '.join(_KINDS)}. Received: {value!r}")
    keys = [field.name for field in dataclasses.fields(_KINDS[kind])]
    if set(value) != {"kind", *keys}:
        raise ValueError(f"{kind} must have kind, {', '.join(keys)}. Received: {', '.join(map(str, value))}")
    return _KINDS[kind](**{key: value[key] for key in keys})


def unknown(event: object) -> ValueError:
    """Return the error for an event that the accountant does not know: it is refused, not guessed."""
    return ValueError(f"expected an event: {', '.join(_KINDS)}. Received: {event!r}")


def _require(name: str, value: object, least: float, most: float) -> None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    # NaN compares as False.
    if not (is_number and least <= value <= most):  # type: ignore[operator]
        raise ValueError(f"{name} must be a number from {least:.6g} to {most:.6g}. Received: {value!r}")


def _require_uses(count: object, sampler_error: object) -> None:
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= _MOST_USES:
        raise ValueError(f"count must be an integer from 1 to {_MOST_USES}. Received: {count!r}")
    _require("sampler_error", sampler_error, 0.0, 1.0)
