"""What releases tell about one patient, in epsilon and delta. The neighbouring relation: add or remove one patient.

Each noised release is an event. Events are composed in Rényi differential privacy, where they add up order by order
(I. Mironov: Rényi Differential Privacy, CSF 2017, Proposition 1, https://arxiv.org/abs/1702.07476); the sum is turned
into epsilon at a given delta last (C. Canonne, G. Kamath, T. Steinke: The Discrete Gaussian for Differential Privacy,
NeurIPS 2020, Proposition 12, https://arxiv.org/abs/2004.00010). This one accountant chooses the noise and charges for
it.

The Gaussians' divergences and the conversion are those of ``dp-accounting``; Skellam's are computed here (N. Agarwal,
P. Kairouz, Z. Liu: The Skellam Mechanism for Differentially Private Federated Learning, NeurIPS 2021, its
multi-dimensional Rényi bound, https://arxiv.org/abs/2110.04995). An event that the accountant does not know is refused.
What is assumed of each event stands with it (``shared/privacy/events.py``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from shared.privacy.events import Event, Gaussian, SampledGaussian, Skellam, from_plain, to_plain, unknown

__all__ = [
    "ORDERS",
    "Event",
    "EventsAt",
    "Gaussian",
    "SampledGaussian",
    "Skellam",
    "best_order",
    "calibrate",
    "epsilon",
    "epsilon_of",
    "fits",
    "from_plain",
    "parallel",
    "pld_epsilon",
    "rdp",
    "sampler_error_of",
    "to_plain",
]

EventsAt = Callable[[float], Sequence[Event]]
"""The events of a plan at a noise multiplier."""

ORDERS: tuple[int, ...] = (*range(2, 65), 72, 80, 96, 112, 128, 160, 192, 256, 320, 384, 512, 768, 1024)
"""Orders of the divergences. Integers, because Skellam's bound is a theorem for integers only and a sum needs one order
for all events; the sampled Gaussian's divergence is then a finite sum, exact and fast. Against orders 0.01 apart this
costs less than 1 % of epsilon up to 8, and up to 5 % between 9 and 12, where the best order is between 2 and 3."""

_RELATIVE, _ABSOLUTE = 1e-12, 1e-14
"""More than the sampled Gaussian's divergence is rounded by (measured: 2e-14 relative, 3e-16 absolute below 0.01)."""

_CALIBRATION_RANGE = (2.0**-10, 2.0**16)
_CALIBRATION_RATIO = 1 + 1e-5


def rdp(events: Iterable[Event]) -> NDArray[np.float64]:
    """Return the Rényi divergence that all events together may reach, array of shape (len(ORDERS),), float64.

    What an event is about may depend on what earlier ones released, its noise may not: see ``fits`` for that.

    Raises: ValueError for an event that the accountant does not know.
    """
    total = np.zeros(len(ORDERS))
    for event in events:
        total += _divergences(event) * event.count
    return total


def sampler_error_of(events: Iterable[Event]) -> float:
    """Return the total variation distance of all uses of the samplers together from ideal ones, at most."""
    return math.fsum(event.count * event.sampler_error for event in events)


def epsilon_of(rdp: NDArray[np.float64], delta: float, sampler_error: float = 0.0, order: int | None = None) -> float:
    """Return the smallest epsilon that divergences prove at a delta, infinity where they prove none.

    rdp: array of shape (len(ORDERS),), float64, as ``rdp`` returns.
    delta: above 0 and below 1.
    sampler_error: of all uses together, as ``sampler_error_of`` returns; (1 + e**epsilon) times it comes off delta.
    order: the one order to look at; None for the best.

    Raises: ValueError if an argument is out of its range.
    """
    if order is not None and order not in ORDERS:
        raise ValueError(f"order must be one of ORDERS. Received: {order}")
    _require_divergences(rdp)
    chosen = [place for place, known in enumerate(ORDERS) if order in (None, known)]
    orders, divergences = [ORDERS[place] for place in chosen], [float(rdp[place]) for place in chosen]

    def ideal(delta: float) -> float:
        from dp_accounting.rdp import compute_epsilon

        return float(compute_epsilon(orders, divergences, delta)[0])

    return _with_sampler_error(ideal, delta, sampler_error)


def epsilon(events: Sequence[Event], delta: float) -> float:
    """Return the epsilon of events at a delta, with their samplers' errors.

    Raises: ValueError if delta is not between 0 and 1, or for an event that the accountant does not know.
    """
    return epsilon_of(rdp(events), delta, sampler_error_of(events))


def pld_epsilon(events: Sequence[Event], delta: float) -> float | None:
    """Return the smaller epsilon that the privacy loss distribution proves; None where a Skellam event is among them.

    To be shown beside ``epsilon``, not charged: Skellam noise has no such distribution here, and no filter is known for
    it. An upper bound, about 1e-4 of itself above the exact value for 100 uses, 1e-3 for 10000 (V. Doroshenko et al.:
    Connect the Dots: Tighter Discrete Approximations of Privacy Loss Distributions, PETS 2022,
    https://arxiv.org/abs/2207.04380).

    Raises: ValueError if delta is not between 0 and 1, or for an event that the accountant does not know.
    """
    above = epsilon(events, delta)
    if any(isinstance(event, Skellam) for event in events):
        return None
    if above == 0.0 or math.isinf(above):
        return above
    from dp_accounting.pld import PLDAccountant

    # Work and memory grow with epsilon over this interval.
    accountant = PLDAccountant(value_discretization_interval=above / 1e4)
    for event in events:
        accountant.compose(_dp_event(event), event.count)
    return _with_sampler_error(lambda delta: float(accountant.get_epsilon(delta)), delta, sampler_error_of(events))


def calibrate(events_at: EventsAt, epsilon: float, delta: float) -> float:
    """Return the smallest noise multiplier, to 1e-5 of itself, at which events cost at most epsilon at delta.

    events_at: must cost less at a larger multiplier.

    Raises: ValueError if no noise is enough, or if epsilon or delta is out of its range.
    """
    _require_positive("epsilon", epsilon)
    # The ledger may add the same events up in another order, and its last digits must not be above.
    target = epsilon * (1 - 1e-9)

    def enough(multiplier: float) -> bool:
        events = events_at(multiplier)
        return epsilon_of(rdp(events), delta, sampler_error_of(events)) <= target

    least, most = _CALIBRATION_RANGE
    high = 1.0
    while not enough(high):
        high *= 2
        if high > most:
            raise ValueError(
                f"epsilon {epsilon:g} at delta {delta:g} must be within reach of some noise. Received: events that cost"
                " more by themselves, whatever the noise"
            )
    low = high / 2
    while low > least and enough(low):
        low, high = low / 2, low
    while high > low * _CALIBRATION_RATIO:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def parallel(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the divergences of releases over two parts of the patients, where each patient is in one part only.

    The larger of the two at each order. Proof: take data that differ in patient x. The part of x depends on x alone (a
    keyed hash of the patient's id), so the other part is the same with and without x. Given all releases before it, a
    release over the other part therefore has the same distribution in both cases and adds nothing; the releases over
    the part of x add up to that part's divergence, by adaptive composition. Whichever part x is in, the larger one
    bounds it.

    The samplers' errors follow the same rule. A split that depends on other patients, such as halves of a list, does
    not.

    first, second: arrays of shape (len(ORDERS),), float64, as ``rdp`` returns.
    """
    for divergences in (first, second):
        _require_divergences(divergences)
    return np.maximum(first, second)


def best_order(rdp: NDArray[np.float64], delta: float) -> int:
    """Return the one of ORDERS at which divergences prove the smallest epsilon at delta."""
    return min(ORDERS, key=lambda order: epsilon_of(rdp, delta, order=order))


def fits(
    spent: NDArray[np.float64],
    planned: NDArray[np.float64],
    epsilon: float,
    delta: float,
    *,
    order: int,
    sampler_error: float = 0.0,
) -> bool:
    """Return whether planned releases may follow what was spent: a Rényi filter, for noise that is chosen on the way.

    Releases that were all let through by this filter are (epsilon, delta)-private together, even where each one, its
    noise included, was chosen after all before it were seen (V. Feldman, T. Zrnic: Individual Privacy Accounting via a
    Rényi Filter, NeurIPS 2021, https://arxiv.org/abs/2008.11193). The theorem is for one order, fixed before the first
    release: the ``best_order`` of the first plan, say. At the best order of each moment the order itself would depend
    on what was released, and nothing is proved.

    spent, planned: arrays of shape (len(ORDERS),), float64, as ``rdp`` returns.
    epsilon, delta, order, sampler_error: the same from the first release to the last; sampler_error bounds that of all.

    Raises: ValueError if an argument is out of its range.
    """
    _require_positive("epsilon", epsilon)
    for divergences in (spent, planned):
        _require_divergences(divergences)
    return epsilon_of(spent + planned, delta, sampler_error, order) <= epsilon


def _divergences(event: Event) -> NDArray[np.float64]:
    """Return the divergence of one use at each of ORDERS."""
    match event:
        case Gaussian():
            return _gaussian(event.noise_multiplier, 1.0)
        case SampledGaussian():
            return _gaussian(event.noise_multiplier, event.sampling_rate)
        case Skellam():
            return _skellam(event.l1, event.l2, event.variance)
    raise unknown(event)


@lru_cache(maxsize=256)
def _gaussian(noise_multiplier: float, sampling_rate: float) -> NDArray[np.float64]:
    from dp_accounting.rdp import RdpAccountant

    accountant = RdpAccountant(ORDERS)
    accountant.compose(_dp_event(SampledGaussian(noise_multiplier, sampling_rate)))
    found = cast(NDArray[np.float64], accountant.rdp)
    return found if sampling_rate == 1 else found * (1 + _RELATIVE) + _ABSOLUTE


def _skellam(l1: float, l2: float, variance: float) -> NDArray[np.float64]:
    orders = np.array(ORDERS, dtype=np.float64)
    # Each bound holds on each entry, where L1 and L2 squared are summed; the smaller sum bounds the sum of the smaller.
    for_large_variance = ((2 * orders - 1) * l2**2 + 6 * l1) / (4 * variance**2)
    return orders * l2**2 / (2 * variance) + np.minimum(for_large_variance, 3 * l1 / (2 * variance))


def _dp_event(event: Event) -> Any:
    import dp_accounting

    match event:
        case Gaussian():
            return dp_accounting.GaussianDpEvent(event.noise_multiplier)
        case SampledGaussian():
            gaussian = dp_accounting.GaussianDpEvent(event.noise_multiplier)
            return dp_accounting.PoissonSampledDpEvent(event.sampling_rate, gaussian)
    raise unknown(event)


def _with_sampler_error(ideal: Callable[[float], float], delta: float, sampler_error: float) -> float:
    """Return an epsilon for samplers at a total variation distance T from ideal ones.

    With P and Q the ideal outputs on neighbouring data, P' and Q' the real ones: P'(S) <= P(S) + T <= e**epsilon Q(S) +
    delta + T <= e**epsilon Q'(S) + delta + (1 + e**epsilon) T.
    """
    if not (_is_number(delta) and 0 < delta < 1):
        raise ValueError(f"delta must be a number above 0 and below 1. Received: {delta!r}")
    if not (_is_number(sampler_error) and sampler_error >= 0):
        raise ValueError(f"sampler_error must be a number, not negative. Received: {sampler_error!r}")
    if sampler_error == 0:
        return ideal(delta)
    epsilon = 0.0
    # Beyond e**700 there is nothing left of any delta.
    while epsilon < 700 and (left := delta - (1 + math.exp(epsilon)) * sampler_error) > 0:
        needed = ideal(left)
        if needed <= epsilon:
            return epsilon
        # From below until the inequality holds, with steps that end.
        epsilon = needed * (1 + 1e-11)
    return math.inf


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _require_positive(name: str, value: float) -> None:
    # NaN compares as False.
    if not (_is_number(value) and 0 < value < math.inf):
        raise ValueError(f"{name} must be a number above 0. Received: {value!r}")


def _require_divergences(rdp: NDArray[np.float64]) -> None:
    if np.shape(rdp) != (len(ORDERS),) or not np.all(rdp >= 0):
        raise ValueError(f"expected {len(ORDERS)} divergences, none negative. Received: {rdp!r}")
