"""Messages as bytes: what is written is read again, bit by bit, and nothing else is read."""

from __future__ import annotations

import dataclasses
import json
import tracemalloc
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

from client import store
from client.policy import Policy
from client.site import Site, SiteState, answer
from client.store import Kept
from server.strategies import server_optimizer
from server.training import Progress, run_study
from server.transport import Arrival, Transport
from shared import packing
from shared.errors import ProtocolError
from shared.messages import (
    Contributed,
    ContributeRequest,
    Counts,
    Ended,
    Heading,
    PreflightRequest,
    Ready,
    Refused,
    Request,
    Shares,
    Shown,
)
from shared.packing import PROTOCOL, Packed
from shared.plan import plan_of
from shared.study import Study
from simulations.local import LocalTransport, local_sites
from tests.builders import random_consortium, table_study, ticking
from tests.vectors import bad
from tests.vectors import packed as vectors
from tests.vectors.packed import ENDED, KINDS, MALFORMED, SAMPLES, STATE, WHERE, WORDS, alike, changed

FILE = json.loads(vectors.FILE.read_text(encoding="utf-8"))


def code_of(packed: Packed, *kinds: type[Any]) -> str:
    """Return the code with which bytes are refused."""
    with pytest.raises(ProtocolError) as caught:
        packing.unpack(packed, *(kinds or KINDS))
    return caught.value.code


def through(value: Any) -> Any:
    """Return what the other side reads."""
    packed = packing.pack(value)
    return packing.unpack(Packed(packed.text, bytes(packed.block)), type(value))


def state_of(*arrays: Any) -> ContributeRequest:
    return ContributeRequest(WHERE, 3, 0, {str(number): array for number, array in enumerate(arrays)})


# What is written is read again


def test_every_message_has_a_sample() -> None:
    assert set(KINDS) == {type(message) for message in SAMPLES.values()}


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_that_was_packed_has_the_same_values(name: str) -> None:
    assert alike(SAMPLES[name], through(SAMPLES[name]))


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_that_was_read_is_packed_as_the_same_bytes(name: str) -> None:
    packed = packing.pack(SAMPLES[name])
    again = packing.pack(packing.unpack(packed, *KINDS))
    assert (packed.text, bytes(packed.block)) == (again.text, bytes(again.block))


def test_the_file_has_the_bytes_that_are_packed_now() -> None:
    """``python -m tests.vectors.messages`` writes it anew; other bytes are another version of the protocol."""
    assert vectors.content() == FILE


@pytest.mark.parametrize("name", FILE["good"])
def test_the_bytes_in_the_file_are_read(name: str) -> None:
    written = FILE["good"][name]
    packed = Packed(written["text"].encode(), bytes.fromhex(written["block"]))
    assert alike(SAMPLES[name], packing.unpack(packed, *KINDS))
    assert written["digest"] == packed.digest.hex()


@pytest.mark.parametrize("name", FILE["bad"])
def test_the_bad_bytes_in_the_file_are_refused(name: str) -> None:
    written = FILE["bad"][name]
    assert written["code"] == code_of(Packed(bytes.fromhex(written["text_hex"]), bytes.fromhex(written["block"])))


def test_a_small_message_is_this_text_and_this_block() -> None:
    expected = (
        '{"protocol":1,"kind":"Contributed","value":{"site":"ü","heading":{"run":"r","study":"s","round":2,"attempt":1},'
        '"words":{"dtype":"<u4","shape":[3]},"receipt":null,"next_keys":null}}'
    )
    packed = packing.pack(Contributed("ü", Heading("r", "s", 2), np.array([1, 2, 258], dtype=np.uint32)))
    assert expected == packed.text.decode()
    assert bytes([1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 0, 0]) + bytes(4) == bytes(packed.block)


def test_arrays_stand_one_after_the_other_each_at_a_multiple_of_eight_bytes() -> None:
    packed = packing.pack(state_of(np.array([True, True]), np.array(1, dtype="<u2"), np.zeros(0), np.array([-1])))
    assert b"\1\1" + bytes(6) + b"\1" + bytes(7) + b"\xff" * 8 == packed.block


def test_the_digest_covers_where_the_text_ends() -> None:
    """Text "ab" with block "c" and text "a" with block "bc" are the same bytes in a row."""
    assert Packed(b"ab", b"c").digest != Packed(b"a", b"bc").digest


def test_an_array_in_another_order_of_bytes_or_memory_is_read_as_its_values() -> None:
    numbers = np.arange(24, dtype=">f8").reshape(2, 3, 4)
    read = through(state_of(numbers, numbers.T, numbers[::-1, :, ::2])).state
    assert [np.dtype("<f8")] * 3 == [array.dtype for array in read.values()]
    assert all(
        np.array_equal(expected, array)
        for expected, array in zip((numbers, numbers.T, numbers[::-1, :, ::2]), read.values(), strict=True)
    )


def test_every_bit_of_a_float_arrives() -> None:
    """Infinities, both zeros, the smallest number, and what a NaN carries."""
    bits = np.array([0x7FF0 << 48, 0xFFF0 << 48, 0, 1 << 63, 1, 0x7FF8DEAD << 32, 0x7FF4 << 48], dtype=np.uint64)
    assert bits.tobytes() == through(state_of(bits.view(np.float64))).state["0"].tobytes()


def test_a_number_of_numpy_in_a_state_is_read_as_an_array_without_sides() -> None:
    read = through(state_of(np.float32(0.1)))
    assert alike(np.array(0.1, dtype=np.float32), read.state["0"])


def test_numbers_of_numpy_in_plain_fields_are_read_as_plain_numbers() -> None:
    said = Ended("a", WHERE, np.int64(3), {"auroc": Shown(np.float64(0.5), np.float32(0.25), 1)})  # type: ignore[arg-type]
    assert alike(Ended("a", WHERE, 3, {"auroc": Shown(0.5, 0.25, 1.0)}), through(said))


def test_an_empty_array_of_many_rows_takes_no_bytes() -> None:
    read = through(state_of(np.zeros((2**40, 0))))
    assert (2**40, 0) == read.state["0"].shape
    assert b"" == packing.pack(state_of(np.zeros((2**40, 0)))).block


def test_every_message_of_an_honest_conversation_is_read_again() -> None:
    """Five sites, three rounds, masked: join, keys, shares, contributions, reveals and the end."""
    said = [each for asked in bad.talk().recorded.asked for each in (asked.request, *asked.replies)]
    assert {"Joined", "Keys", "Shares", "Contributed", "Revealed", "Ended"} <= {type(each).__name__ for each in said}
    assert all(alike(each, through(each)) for each in said if not isinstance(each, ContributeRequest))
    requests = [each for each in said if isinstance(each, ContributeRequest)]
    assert all(alike(replace_state(each), through(each)) for each in requests)


@pytest.mark.parametrize("stands", bad.ASKED)
def test_a_site_in_the_middle_of_a_round_is_read_again_with_its_secrets(stands: Any) -> None:
    """The simulation with processes hands it from one to the next; a hospital never writes secrets down."""
    before = bad.talk().before(stands)
    assert alike(before, through(before))


def replace_state(request: ContributeRequest) -> ContributeRequest:
    """Return a request whose broadcast state is a plain mapping."""
    return dataclasses.replace(request, state=dict(request.state))


# Memory


def test_the_arrays_that_were_read_are_the_block_itself_and_nobody_can_write_into_them() -> None:
    packed = packing.pack(state_of(*STATE.values()))
    block = np.frombuffer(packed.block, np.uint8)
    for array in packing.unpack(packed, ContributeRequest).state.values():
        assert not array.flags.writeable
        assert array.size == 0 or np.shares_memory(array, block)


def test_one_array_is_packed_without_a_copy_and_cannot_be_changed_through_the_block() -> None:
    words = np.arange(4, dtype=np.uint32)
    block = packing.pack(Contributed("a", WHERE, words)).block
    assert np.shares_memory(words, np.frombuffer(block, np.uint8))
    assert isinstance(block, memoryview) and block.readonly


def test_arrays_from_an_odd_place_in_memory_give_the_same_bits_in_every_computation() -> None:
    """NumPy adds up the same numbers in another order where they are not aligned."""
    numbers = np.random.default_rng(0).standard_normal(100_003)
    packed = packing.pack(Contributed("a", WHERE, numbers))  # type: ignore[arg-type]
    odd = np.frombuffer(b"odd" + bytes(packed.block), np.uint8)[3:]
    read = packing.unpack(Packed(packed.text, odd.data), Contributed).words
    assert read.flags.aligned and not read.flags.writeable
    assert numbers.sum() == read.sum()


def test_the_aggregator_adds_what_it_read_to_a_vector_of_its_own() -> None:
    total = np.ones(3, dtype=np.uint32)
    reply = packing.unpack(WORDS, Contributed)
    np.add(total, reply.words, out=total)
    assert [1, 2, 3] == total.tolist()


def test_packing_and_reading_take_the_memory_of_one_copy_at_most() -> None:
    """A single vector is not copied at all; several arrays are written into one block, once."""
    one = Contributed("a", WHERE, np.ones(2**20, dtype=np.uint32))
    many = state_of(*(np.ones(2**17) for _ in range(4)))
    assert peak_of(lambda: packing.pack(one)) < 0.1 * 2**22
    assert peak_of(lambda: packing.pack(many)) < 1.1 * 2**22
    packed = packing.pack(many)
    assert peak_of(lambda: packing.unpack(packed, ContributeRequest)) < 0.1 * 2**22


def test_messages_with_the_same_state_share_one_block() -> None:
    state = {"weights": np.ones(2**17), "bias": np.ones(3)}
    requests = {name: ContributeRequest(WHERE, 3, number, state) for number, name in enumerate("abc")}
    packed = packing.pack_all(requests)
    assert 1 == len({id(each.block) for each in packed.values()})
    assert all(alike(request, packing.unpack(packed[name], ContributeRequest)) for name, request in requests.items())


def test_messages_with_other_states_share_nothing() -> None:
    requests = {
        "a": state_of(np.ones(1)),
        "b": state_of(np.ones(1), np.zeros(1)),
        "c": state_of(np.zeros(1)),
        "d": state_of(),
    }
    packed = packing.pack_all(requests)
    assert all(alike(request, packing.unpack(packed[name], ContributeRequest)) for name, request in requests.items())


def peak_of(work: Any) -> int:
    """Return the most bytes that were allocated at a time."""
    tracemalloc.start()
    try:
        kept = work()
        peak = tracemalloc.get_traced_memory()[1]
        del kept
    finally:
        tracemalloc.stop()
    return peak


@pytest.mark.parametrize(
    "shape", [[2**40], [2**62], [2**31, 2**31], [0, 2**62, 2**62], [1] * 64 + [2**62], [2**62] * 64]
)
def test_a_small_text_that_asks_for_a_huge_array_takes_no_memory(shape: list[int]) -> None:
    text = changed(WORDS.text.decode(), "[3]", json.dumps(shape, separators=(",", ":")))
    assert peak_of(lambda: code_of(Packed(text), Contributed)) < 2**20


# Nothing else is read


@pytest.mark.parametrize("name", MALFORMED)
def test_what_nobody_packs_is_malformed(name: str) -> None:
    assert "malformed" == code_of(MALFORMED[name])


@pytest.mark.parametrize("deep", [100, 1_000, 100_000, 1_000_000])
def test_lists_within_lists_are_malformed_however_deep(deep: int) -> None:
    assert "malformed" == code_of(Packed(vectors.nested(deep)))
    assert "malformed" == code_of(Packed(b"[" * deep))
    assert "malformed" == code_of(Packed(b'{"a":' * deep))


@pytest.mark.parametrize("version", [0, PROTOCOL + 1, 2**63 - 1])
def test_another_version_of_the_protocol_is_named_whatever_else_it_says(version: int) -> None:
    texts = (changed(ENDED, '"protocol":1', f'"protocol":{version}'), b'{"protocol":%d,"new":[]}' % version)
    for text in texts:
        with pytest.raises(ProtocolError, match=f"version {PROTOCOL} .* the other {version}: update") as caught:
            packing.unpack(Packed(text), *KINDS)
        assert "protocol-version" == caught.value.code


def test_another_kind_of_message_than_expected_is_malformed() -> None:
    assert "malformed" == code_of(packing.pack(PreflightRequest(WHERE)), Ended)


def test_a_message_is_not_read_as_another_one_with_the_same_fields() -> None:
    assert "malformed" == code_of(packing.pack(Ended("a", WHERE)), Refused)
    assert set(packing.unpack(packing.pack(PreflightRequest(WHERE)), *KINDS).__dict__) == {"heading"}


def test_a_text_beyond_the_limit_is_not_even_parsed() -> None:
    text = b"[" * (16 * 2**20 + 1)
    assert peak_of(lambda: code_of(Packed(text))) < 2**20


def test_an_error_repeats_nothing_of_what_was_sent() -> None:
    with pytest.raises(ProtocolError) as caught:
        packing.unpack(Packed(changed(ENDED, '"rows":1', '"rows":"Jane Doe"')), *KINDS)
    assert "Jane" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["__class__", "__proto__", "site", "", "a/b", "\x00", "\u202e", "🫀", "ﬁ", "é", "e\u0301"]
)
def test_a_mapping_keeps_names_as_they_are(name: str) -> None:
    """Composed and decomposed accents are two names; a field's name within a mapping is nothing special."""
    assert [name] == list(through(Shares("a", WHERE, {name: b"1"})).sealed)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(Ended("a", WHERE, -1), id="a number below 0"),
        pytest.param(Ended("a", WHERE, 2**63), id="a number of 64 bits"),
        pytest.param(Ended("a", WHERE, 1, {"m": Shown(float("nan"), 0.0, 1.0)}), id="not a number"),
        pytest.param(Ended("a", WHERE, 1, {"m": Shown(0.0, float("-inf"), 1.0)}), id="minus infinity"),
        pytest.param(Ended("\ud800", WHERE), id="a lone surrogate"),
        pytest.param(Refused("a", WHERE, "code", "x" * (16 * 2**20)), id="more text than is read"),
        pytest.param(Ready("a", WHERE, {}, "", Counts(1, 1, 1, 0, (), {"x": -1})), id="a number below 0 in a mapping"),
        pytest.param(Refused("a", WHERE, "code", object()), id="an object"),  # type: ignore[arg-type]
        *(
            pytest.param(state_of(array), id=str(array.dtype))
            for array in (
                np.array([None]),
                np.array(["text"]),
                np.array([b"text"]),
                np.array(["2020-01-01"], dtype="M8[s]"),
                np.array([1], dtype="m8[s]"),
                np.array([1j]),
                np.zeros(1, dtype=np.longdouble),
                np.zeros(1, dtype="V4"),
                np.zeros(1, dtype=[("a", "<f8")]),
            )
        ),
    ],
)
def test_what_nobody_could_read_is_not_packed(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        packing.pack(value)


# A whole study


class PackedTransport:
    """Packs whatever goes either way, and keeps each site's state on a disk between two questions.

    The secrets of the round in progress stay in memory, as in a node that was not started anew.
    """

    def __init__(self, inner: LocalTransport, folder: Any) -> None:
        self.inner = inner
        self._folder = folder
        self.refused: list[Refused] = []

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        """Yield each site's answer."""
        for name, request in requests.items():
            reply, state = answer(through(request), self.inner.states[name], self.inner.sites[name])
            store.write(self._folder / name, Kept(state))
            kept = store.read(self._folder / name).state
            self.inner.states[name] = dataclasses.replace(kept, secure=state.secure)
            arrived = through(reply)
            if isinstance(arrived, Refused):
                self.refused.append(arrived)
            yield Arrival(name, arrived)


def runs(study: Study, folder: Any) -> tuple[tuple[Progress, list[Ended]], tuple[Progress, list[Ended]]]:
    """Run a study of three hospitals that show everything, without packing and with it; no site may refuse."""
    plan = plan_of(study, server_optimizer(study))
    made = random_consortium(study, {"a": 40, "b": 25, "c": 33})
    policy = Policy(unmasked=True, show_counts=True, show_metrics=True, min_sites=study.aggregation.min_sites)
    sites = {
        name: dataclasses.replace(site, member=dataclasses.replace(site.member, policy=policy))
        for name, site in local_sites(study, plan, made.data).items()
    }
    packing_all = PackedTransport(LocalTransport(sites), folder)
    plain, packed = (run(study, sites, transport) for transport in (LocalTransport(sites), packing_all))
    assert not packing_all.refused
    return plain, packed


def test_a_hospital_that_is_ready_shows_its_counts_through_bytes() -> None:
    study = table_study(aggregation__min_sites=3)
    plan = plan_of(study, server_optimizer(study))
    sites = local_sites(study, plan, random_consortium(study, {"a": 40, "b": 25, "c": 33}).data)
    shown = dataclasses.replace(sites["b"].member, policy=Policy(show_counts=True))
    ready, _ = answer(
        PreflightRequest(Heading("", study.digest, 0)), SiteState(), dataclasses.replace(sites["b"], member=shown)
    )
    assert isinstance(ready, Ready) and ready.counts and 25 == ready.counts.training_rows
    assert alike(ready, through(ready))


def run(study: Study, sites: Mapping[str, Site], transport: Transport) -> tuple[Progress, list[Ended]]:
    plan = plan_of(study, server_optimizer(study))
    identities = {name: site.member.signing.public for name, site in sites.items()}
    said: list[Ended] = []
    observers = dataclasses.replace(ticking(), ended=said.append)
    return run_study(study, plan, identities, transport, Progress("", plan.start()), observers), said


STUDIES: Mapping[str, Mapping[str, Any]] = {
    "logistic regression": {},
    "logistic regression with Adam at the server": {"aggregation__strategy": "FedAdam"},
    "a network": {
        "method__name": "neural",
        "method__options": {"architecture": "tabular_mlp", "model": {"units": [4]}},
    },
}


@pytest.mark.parametrize("secure", [True, False], ids=["masked", "bare"])
@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * ("net" in name)) for name in STUDIES])
def test_a_study_through_bytes_ends_with_the_same_bits_as_one_without(name: str, secure: bool, tmp_path: Any) -> None:
    study = table_study(**STUDIES[name], aggregation__secure=secure, aggregation__min_sites=3)
    (plain, shown), (packed, shown_packed) = runs(study, tmp_path)
    assert len(packed.history) == len(plain.history) > 3
    assert alike(plain.state, packed.state)
    assert [(each.site, each.rows, each.metrics) for each in shown] == [
        (each.site, each.rows, each.metrics) for each in shown_packed
    ]
    assert ["a", "b", "c"] == [each.site for each in shown_packed if each.metrics and each.rows]
