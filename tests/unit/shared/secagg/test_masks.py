"""Masks are keystreams of AES-256 in counter mode: they cancel in pairs, and masked words look like random ones."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from shared.messages import Heading
from shared.secagg import keys, masks
from shared.secagg.keys import ExchangeKey
from tests.secure import InsecureEntropy
from tests.unit.shared.secagg.independent import cases

A, B, C = (bytes([number]) * 32 for number in (1, 2, 3))
SIZES = pytest.mark.parametrize("dtype", [np.uint32, np.uint64])


SEGMENT = 2**22
"""Bytes of a stream under one number."""


def keystream(key: bytes, words: int, dtype: Any) -> NDArray[Any]:
    """Return a keystream made block by block, without counter mode."""
    itemsize = np.dtype(dtype).itemsize
    blocks = -(-words * itemsize // 16)
    counters = b"".join(
        segment.to_bytes(12, "big") + (number + 2).to_bytes(4, "big")
        for segment in range(-(-blocks * 16 // SEGMENT))
        for number in range(min(SEGMENT // 16, blocks - segment * (SEGMENT // 16)))
    )
    stream = Cipher(algorithms.AES256(key), modes.ECB()).encryptor().update(counters)
    return np.frombuffer(stream[: words * itemsize], dtype=np.dtype(dtype).newbyteorder("<")).astype(dtype)


def test_a_keystream_is_that_of_counter_mode_which_is_that_of_nist_sp_800_38a() -> None:
    (case,) = cases("aes_256_ctr")
    known = Cipher(algorithms.AES256(case["key"]), modes.CTR(case["counter"])).encryptor().update(case["plain"])
    assert case["cipher"] == known
    words = np.zeros(1000, dtype=np.uint32)
    masks.apply(words, [A], [])
    counted = Cipher(algorithms.AES256(A), modes.CTR(bytes(15) + b"\x02")).encryptor().update(bytes(4000))
    assert counted == words.astype("<u4").tobytes()


@SIZES
def test_a_keystream_is_what_gcm_makes_of_zeros(dtype: Any) -> None:
    """Test case 14 of McGrew and Viega, "The Galois/Counter Mode of Operation"."""
    words = np.zeros(16 // np.dtype(dtype).itemsize, dtype=dtype)
    masks.apply(words, [bytes(32)], [])
    assert bytes.fromhex("cea7403d4d606b6e074ec5d3baf39d18") == words.astype(words.dtype.newbyteorder("<")).tobytes()


@SIZES
@given(data=st.data())
def test_streams_are_added_and_subtracted_modulo_the_word_size(dtype: Any, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, np.iinfo(dtype).max), max_size=9))
    words = np.array(numbers, dtype=dtype)
    masks.apply(words, [A, B], [C])
    streams = [keystream(key, len(numbers), dtype).tolist() for key in (A, B, C)]
    modulus = int(np.iinfo(dtype).max) + 1
    assert [(x + a + b - c) % modulus for x, a, b, c in zip(numbers, *streams, strict=True)] == words.tolist()


@SIZES
def test_what_one_site_adds_the_other_subtracts(dtype: Any) -> None:
    one, other = np.arange(1000, dtype=dtype), np.full(1000, 7, dtype=dtype)
    masks.apply(one, [A], [])
    masks.apply(other, [], [A])
    assert (np.arange(1000) + 7).tolist() == (one + other).tolist()


@SIZES
def test_the_pair_masks_of_all_sites_cancel(dtype: Any) -> None:
    sites = {name: ExchangeKey(bytes([number]) * 32) for number, name in enumerate("abcde", start=1)}
    heading = Heading("run", "study", 1)
    total = np.zeros(100, dtype=dtype)
    for name, key in sites.items():
        shared = {
            other: keys.pair_mask_key(key.agree(theirs.public, other), heading, A, (min(name, other), max(name, other)))
            for other, theirs in sites.items()
            if other != name
        }
        words = np.ones(100, dtype=dtype)
        later = [shared[other] for other in shared if other > name]
        masks.apply(words, later, [shared[other] for other in shared if other < name])
        assert 1 not in words
        total += words
    assert [5] * 100 == total.tolist()


@SIZES
@pytest.mark.parametrize("threads", [2, 3, 7, None])
@pytest.mark.parametrize("count", [64, SEGMENT + 1003])
def test_the_number_of_threads_makes_no_difference(
    monkeypatch: pytest.MonkeyPatch, dtype: Any, threads: int | None, count: int
) -> None:
    expected, words = np.arange(count, dtype=dtype), np.arange(count, dtype=dtype)
    masks.apply(expected, [A, B], [C], threads=1)
    monkeypatch.setattr(masks, "_WORTH_A_THREAD", 16)
    masks.apply(words, [A, B], [C], threads)
    assert np.array_equal(expected, words)


@SIZES
@pytest.mark.parametrize("size", [8, 24, 4096])
def test_the_size_of_a_chunk_makes_no_difference(monkeypatch: pytest.MonkeyPatch, dtype: Any, size: int) -> None:
    words = np.zeros(1003, dtype=dtype)
    monkeypatch.setattr(masks, "_CHUNK", size)
    monkeypatch.setattr(masks, "_ZEROS", bytes(size))
    masks.apply(words, [A], [])
    assert keystream(A, 1003, dtype).tolist() == words.tolist()


@SIZES
@pytest.mark.parametrize("bytes_before", [2**17, SEGMENT])
def test_a_mask_goes_on_beyond_its_first_chunk_and_segment(dtype: Any, bytes_before: int) -> None:
    words = np.zeros(bytes_before // np.dtype(dtype).itemsize + 5, dtype=dtype)
    masks.apply(words, [A], [])
    assert np.array_equal(keystream(A, len(words), dtype), words)


@SIZES
def test_no_words_and_no_streams_are_no_error(dtype: Any) -> None:
    words = np.array([1, 2], dtype=dtype)
    masks.apply(words, [], [])
    masks.apply(words[:0], [A], [B])
    assert [1, 2] == words.tolist()


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(np.zeros(4, dtype=np.int64), id="signed"),
        pytest.param(np.zeros(4), id="real"),
        pytest.param(np.zeros((2, 2), dtype=np.uint32), id="matrix"),
        pytest.param(np.zeros(4, dtype=np.uint32)[::2], id="not contiguous"),
        pytest.param(np.zeros(4, dtype=">u4"), id="big-endian"),
    ],
)
def test_only_a_contiguous_vector_of_words_is_masked(words: Any) -> None:
    with pytest.raises(ValueError, match="expected a contiguous vector"):
        masks.apply(words, [A], [])


FALSE_ALARM = 1e-6
"""Chance with which ``even`` is wrong about words that are uniform."""
COUNT = 2**16


def even(words: NDArray[Any]) -> bool:
    """Whether every byte and every bit of the words takes each value about as often as uniform words would.

    Chi-square of the bytes' values and of the bits, by place in the word; too even is as odd as too uneven. Words that
    repeat double the statistic, so a stream that is used twice shows, too.
    """
    from scipy.stats import chi2

    octets = words.view(np.uint8).reshape(len(words), -1)
    places = octets.shape[1]
    counts = np.stack([np.bincount(octets[:, place], minlength=256) for place in range(places)])
    expected = len(words) / 256
    ones = np.unpackbits(octets, axis=1).sum(axis=0, dtype=np.int64)
    statistics = {
        255 * places: float(((counts - expected) ** 2 / expected).sum()),
        8 * places: float(((2 * ones - len(words)) ** 2 / len(words)).sum()),
    }
    tail = FALSE_ALARM / 4
    return all(chi2.ppf(tail, freedom) <= found <= chi2.isf(tail, freedom) for freedom, found in statistics.items())


def masked(dtype: Any, value: int = 12345, run: str = "run", count: int = COUNT) -> NDArray[Any]:
    """Return a constant vector under the masks of a site between two others."""
    where, words = Heading(run, "study", 1), np.full(count, value, dtype=dtype)
    own = keys.self_mask_key(A, where, B, "b")
    before, after = (keys.pair_mask_key(C, where, B, pair) for pair in (("a", "b"), ("b", "c")))
    masks.apply(words, [own, after], [before])
    return words


def repeated(words: NDArray[Any]) -> NDArray[Any]:
    half = len(words) // 2
    return np.concatenate([words[:half], words[:half]])


def bare_now_and_then(words: NDArray[Any]) -> NDArray[Any]:
    spoiled = words.copy()
    spoiled[::100] = 12345
    return spoiled


@SIZES
@pytest.mark.parametrize("value", [0, 1, 12345, 2**32 - 1])
def test_masked_words_of_a_constant_are_uniform(dtype: Any, value: int) -> None:
    assert even(masked(dtype, value))


@SIZES
def test_the_difference_between_two_runs_of_the_same_sites_is_uniform(dtype: Any) -> None:
    assert even(masked(dtype, run="one") - masked(dtype, run="other"))


@SIZES
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda words: np.full_like(words, 12345), id="unmasked"),
        pytest.param(repeated, id="stream used twice"),
        pytest.param(lambda words: words & ~words.dtype.type(1), id="lowest bit constant"),
        pytest.param(lambda words: words >> words.dtype.type(1), id="highest bit constant"),
        pytest.param(lambda words: words % words.dtype.type(2**31 - 2**24), id="modulo a smaller number"),
        pytest.param(bare_now_and_then, id="one word in a hundred unmasked"),
        pytest.param(lambda words: np.arange(len(words), dtype=words.dtype), id="a counter"),
        pytest.param(lambda words: words - masked(words.dtype), id="removed"),
    ],
)
def test_the_check_for_uniform_words_finds_a_spoiled_mask(
    dtype: Any, spoil: Callable[[NDArray[Any]], NDArray[Any]]
) -> None:
    assert not even(spoil(masked(dtype)))


def test_two_runs_of_the_same_sites_share_no_word_of_a_mask() -> None:
    """Of 3 vectors with 10**5 words of 64 bits, two are equal with a chance of 3e-9."""
    runs = [masked(np.uint64, 0, run, 10**5) for run in ("one", "two", "three")]
    assert not any(np.intersect1d(one, other).size for one, other in combinations(runs, 2))


def test_every_key_makes_another_mask() -> None:
    entropy = InsecureEntropy(0)
    made = [np.zeros(1000, dtype=np.uint64) for _ in range(20)]
    for words in made:
        masks.apply(words, [entropy(32)], [])
    assert 20_000 == np.unique(np.concatenate(made)).size
