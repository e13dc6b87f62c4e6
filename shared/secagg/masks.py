"""Masks: AES-256-CTR keystreams added to words, modulo the word size, in place.

The keystream of a key is AES-256 in counter mode (NIST SP 800-38A, section 6.5), read as little-endian words. Its
counter blocks are those of GCM (NIST SP 800-38D, section 7.1): the number of a segment of 4 MiB in 12 bytes, then a
counter of 4 bytes from 2. What GCM makes of zeros is this stream, and where a processor has vector instructions for it,
OpenSSL makes it two and a half times as fast as in its counter mode. A key serves one mask, so both may start anew with
it; GCM's tag is never made. Bonawitz et al. 2017 (doi
10.1145/3133956.3133982), section 4: a site adds PRG(own), PRG(pair) for each site whose name comes later, and subtracts
PRG(pair) for each whose name comes earlier.

All streams are added to one chunk before the next chunk is touched: words are read from memory once, whatever the
number of sites. The result does not depend on the number of threads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from shared.fixedpoint import Words

_BLOCK = 16
_IV_BYTES = 12
_SEGMENT = 4 * 1024 * 1024
"""Bytes of a stream under one number: where threads may divide the work."""
_CHUNK = 256 * 1024
"""Bytes of one stream at a time: words, keystream and zeros stay in a core's second-level cache."""
_ZEROS = bytes(_CHUNK)
_WORTH_A_THREAD = 16 * 1024 * 1024
"""Bytes of keystream below which a thread does not pay: it starts slowly where a network has just been trained."""


def apply(words: Words, plus: Sequence[bytes], minus: Sequence[bytes], threads: int | None = None) -> None:
    """Add and subtract keystreams, in place.

    words: contiguous vector of uint32 or uint64.
    plus, minus: keys of 32 bytes; each one's stream is as long as the vector.
    threads: how many may work; None for one a processor.
    """
    if words.dtype not in (np.uint32, np.uint64) or words.ndim != 1 or not words.flags.c_contiguous:
        raise ValueError(f"expected a contiguous vector of uint32 or uint64. Received: {words.dtype}, {words.shape}")
    work = words.nbytes * (len(plus) + len(minus))
    threads = max(1, min(threads or _processors(), work // _WORTH_A_THREAD))
    step = _SEGMENT // words.itemsize
    segments = [(number, words[start : start + step]) for number, start in enumerate(range(0, len(words), step))]
    if threads == 1:
        for number, segment in segments:
            _apply(segment, plus, minus, number)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda part: _apply(part[1], plus, minus, part[0]), segments))


def _apply(words: Words, plus: Sequence[bytes], minus: Sequence[bytes], segment: int) -> None:
    """Apply one segment of the streams to its words."""
    streams: list[tuple[np.ufunc, Any]] = [(np.add, _stream(key, segment)) for key in plus]
    streams += [(np.subtract, _stream(key, segment)) for key in minus]
    buffer = bytearray(_CHUNK + _BLOCK - 1)
    step = _CHUNK // words.itemsize
    keystream = np.frombuffer(buffer, dtype=words.dtype.newbyteorder("<"), count=step)
    for start in range(0, len(words), step):
        chunk = words[start : start + step]
        zeros = _ZEROS if chunk.nbytes == _CHUNK else _ZEROS[: chunk.nbytes]
        for combine, stream in streams:
            stream.update_into(zeros, buffer)
            combine(chunk, keystream[: len(chunk)], out=chunk)


def _stream(key: bytes, segment: int) -> Any:
    return Cipher(algorithms.AES256(key), modes.GCM(segment.to_bytes(_IV_BYTES, "big"))).encryptor()


def _processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
