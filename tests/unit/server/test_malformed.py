"""Whatever one hospital sends, the aggregator goes on or gives the run up with a reason: it never breaks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared.errors import RunAbandoned
from tests.secure import FaultyTransport, Step, powers

ODD = "\ud800"
"""A text that no encoding has."""


@pytest.mark.parametrize(
    ("step", "round_number", "spoil"),
    [
        pytest.param("join", 0, lambda r: replace(r, nonce=5), id="nonce is a number"),
        pytest.param("join", 0, lambda r: replace(r, min_sites=-1), id="rules below nothing"),
        pytest.param("join", 0, lambda r: replace(r, heading=None), id="no heading"),
        pytest.param("keys", 1, lambda r: replace(r, mask=-1), id="key is a number"),
        pytest.param("keys", 1, lambda r: replace(r, signature=None), id="no signature"),
        pytest.param("shares", 1, lambda r: replace(r, sealed=None), id="no shares"),
        pytest.param("shares", 1, lambda r: replace(r, sealed={**r.sealed, ODD: b""}), id="shares for no name"),
        pytest.param("contribute", 1, lambda r: replace(r, words=None), id="no words"),
        pytest.param("contribute", 1, lambda r: replace(r, words=[1, 2]), id="words are a list"),
        pytest.param("contribute", 1, lambda r: replace(r, words=np.array(["x", "y"])), id="words are texts"),
        pytest.param("contribute", 1, lambda r: replace(r, site=ODD), id="from no name"),
        pytest.param("contribute", 1, lambda r: replace(r, receipt=5), id="receipt is a number"),
        pytest.param(
            "contribute", 1, lambda r: replace(r, next_keys=replace(r.next_keys, seed_digest=-1)), id="digest"
        ),
        pytest.param("contribute", 1, lambda r: replace(r, heading=np.zeros(2)), id="heading is a vector"),
        pytest.param("reveal", 1, lambda r: replace(r, seeds=None), id="no seeds"),
        pytest.param("reveal", 1, lambda r: replace(r, seeds=dict.fromkeys(r.seeds)), id="seeds of nothing"),
        pytest.param("reveal", 1, lambda r: replace(r, next_sealed={ODD: b""}), id="next shares for no name"),
    ],
)
def test_one_unreadable_answer_leaves_its_site_out_and_the_sum_right(step: Step, round_number: int, spoil: Any) -> None:
    made = powers(5)
    progress = made.run(FaultyTransport(made.local, "b", step, round_number, spoil))
    for record in progress.history:
        expected = sum(2.0 ** "abcde".index(name) for name in record.contributors)
        assert record.measurements["first"] == expected
        assert set("acde") <= set(record.contributors)


def test_words_that_encode_nothing_end_the_run_with_a_reason() -> None:
    made = powers(5)

    def noise(reply: Any) -> Any:
        return replace(reply, words=np.random.default_rng(0).integers(0, 2**64, len(reply.words), dtype=np.uint64))

    with pytest.raises(RunAbandoned, match=r"exchange 2: .* exceeds what 5 contributions can add up to.*One of those"):
        made.run(FaultyTransport(made.local, "b", "contribute", 2, noise))
