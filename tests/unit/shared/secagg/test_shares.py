"""Any t shares rebuild a secret, and fewer say nothing about it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import combinations, product

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.errors import ProtocolError
from shared.secagg import shares
from shared.secagg.shares import PRIME
from tests.secure import InsecureEntropy

FIRST_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37)


def probably_prime(number: int) -> bool:
    """Miller and Rabin's test with 12 bases: a random composite passes with a chance below 4**-12."""
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in FIRST_PRIMES:
        if number in FIRST_PRIMES:
            return True
        power = pow(base, odd, number)
        if power in {1, number - 1}:
            continue
        if not any((power := power * power % number) == number - 1 for _ in range(twos - 1)):
            return False
    return True


class InsecureNumbers:
    """A source of given "random" numbers, which are the polynomial's coefficients."""

    def __init__(self, *numbers: int) -> None:
        self._numbers = iter(numbers)
        self.asked: list[int] = []

    def __call__(self, size: int) -> bytes:
        self.asked.append(size)
        return next(self._numbers).to_bytes(size, "big")


def test_the_test_for_primes_knows_primes_from_carmichael_numbers() -> None:
    assert [True, True, False, False] == [probably_prime(number) for number in (41, 2**61 - 1, 41041, 825265)]


def test_the_fields_order_is_the_least_prime_that_holds_every_secret_of_32_bytes() -> None:
    assert [297] == [above for above in range(1, 298) if probably_prime(2**256 + above)]
    assert 2**256 + 297 == PRIME


def test_shares_are_the_values_of_the_polynomial() -> None:
    """Of 5 + 2x + 3xx modulo 7, at 1, 2, 3, 4: 10, 21, 38, 61."""
    assert (3, 0, 3, 5) == shares.split(5, 3, 4, InsecureNumbers(2, 3), prime=7)


def test_weights_are_lagranges() -> None:
    """At 0, the parabola through (1, a), (2, b), (3, c) is 3a - 3b + c."""
    assert {1: 3, 2: PRIME - 3, 3: 1} == shares.weights((1, 2, 3))
    assert 5 == shares.rebuild({1: 3, 2: 0, 3: 3}, shares.weights((1, 2, 3), prime=7), prime=7)


secrets = st.integers(0, 2**256 - 1) | st.integers(0, PRIME - 1)


@given(st.data(), secrets, st.integers(1, 12), st.integers(0, 2**32))
def test_any_shares_from_the_threshold_on_rebuild_the_secret(
    data: st.DataObject, secret: int, holders: int, seed: int
) -> None:
    threshold = data.draw(st.integers(1, holders))
    made = dict(enumerate(shares.split(secret, threshold, holders, InsecureEntropy(seed)), start=1))
    points = data.draw(st.sets(st.integers(1, holders), min_size=threshold))
    assert secret == shares.rebuild(made, shares.weights(points))


def test_a_hundred_holders_rebuild_what_they_share() -> None:
    made = dict(enumerate(shares.split(2**256 - 1, 67, 100, InsecureEntropy(0)), start=1))
    assert 2**256 - 1 == shares.rebuild(made, shares.weights(range(34, 101)))


def polynomials(prime: int, threshold: int, holders: int) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Yield every secret of a small field with the shares of every polynomial that hides it."""
    for secret in range(prime):
        for coefficients in product(range(prime), repeat=threshold - 1):
            yield secret, shares.split(secret, threshold, holders, InsecureNumbers(*coefficients), prime)


@pytest.mark.parametrize(("prime", "threshold", "holders"), [(5, 2, 4), (7, 3, 5), (5, 4, 4)])
def test_fewer_shares_than_the_threshold_fit_every_secret_equally_often(
    prime: int, threshold: int, holders: int
) -> None:
    """Shannon 1949: what is seen has the same chance whatever the secret. Here each view fits each secret once."""
    every = list(polynomials(prime, threshold, holders))
    for places in combinations(range(holders), threshold - 1):
        seen = Counter((secret, *(made[at] for at in places)) for secret, made in every)
        assert dict.fromkeys(product(range(prime), repeat=threshold), 1) == seen


def test_as_many_shares_as_the_threshold_fit_one_secret_alone() -> None:
    for places in combinations(range(5), 3):
        fits: dict[tuple[int, ...], set[int]] = {}
        for secret, made in polynomials(7, 3, 5):
            fits.setdefault(tuple(made[at] for at in places), set()).add(secret)
        assert {1} == {len(secret) for secret in fits.values()}


def test_every_coefficient_is_drawn_from_128_bits_more_than_the_prime_has() -> None:
    entropy = InsecureNumbers(1, 2, 3, 4)
    shares.split(0, 5, 7, entropy)
    assert [33 + 16] * 4 == entropy.asked


def test_the_shares_of_one_secret_differ_from_split_to_split() -> None:
    entropy = InsecureEntropy(0)
    assert not set(shares.split(1, 3, 5, entropy)) & set(shares.split(1, 3, 5, entropy))


@pytest.mark.parametrize(
    ("secret", "threshold", "holders"),
    [
        pytest.param(0, 0, 3, id="no threshold"),
        pytest.param(0, 4, 3, id="more than all"),
        pytest.param(7, 2, 3, id="secret outside the field"),
        pytest.param(-1, 2, 3, id="negative secret"),
        pytest.param(0, 2, 7, id="a holder at 0"),
    ],
)
def test_what_cannot_be_shared_is_an_error(secret: int, threshold: int, holders: int) -> None:
    with pytest.raises(ValueError, match="threshold must be"):
        shares.split(secret, threshold, holders, InsecureEntropy(0), prime=7)


@given(st.integers(0, PRIME - 1))
@example(PRIME - 1)
def test_a_share_survives_its_bytes(share: int) -> None:
    assert share == shares.from_bytes(shares.to_bytes(share), "a")
    assert 33 == len(shares.to_bytes(share))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PRIME.to_bytes(33, "big"), id="the prime"),
        pytest.param(b"\xff" * 33, id="more than the prime"),
        pytest.param(bytes(32), id="too short"),
        pytest.param(bytes(34), id="too long"),
        pytest.param(b"", id="empty"),
    ],
)
def test_what_is_no_number_of_the_field_is_no_share(data: bytes) -> None:
    with pytest.raises(ProtocolError) as refused:
        shares.from_bytes(data, "a")
    assert "bad-share" == refused.value.code


@pytest.mark.parametrize("points", [(1, 1, 2), (0, 1, 2), (1, shares.PRIME + 1)])
def test_a_point_twice_or_at_the_secret_has_no_weight(points: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="distinct and not 0"):
        shares.weights(points)
