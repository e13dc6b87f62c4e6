"""What a simulated hospital takes from one of Ray's worker processes to the next; Ray itself is in test_parity.py."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from importlib import import_module

import pytest

from client.contributors import Sums
from client.site import SiteState, answer
from server.transport import Arrival
from shared import packing
from shared.errors import DependencyMissing
from shared.examples import Part
from shared.messages import Request
from shared.secagg.keys import ExchangeKey
from simulations import ray, ray_cluster
from simulations.local import LocalTransport
from tests.secure import Hospitals, Loss, LossyTransport, RecordingTransport, powers, secure_study

LOSSES = [Loss("b", 1, "reveal"), Loss("c", 2, "contribute"), Loss("d", 3, "contribute", after=True)]


class PackingTransport(LocalTransport):
    """A transport whose sites are packed up after every message, as on Ray."""

    def exchange(self, requests: Mapping[str, Request], deadline_s: float) -> Iterator[Arrival]:
        for name, request in requests.items():
            state = ray.remembered(ray.kept(self.states[name]), Sums())
            reply, self.states[name] = answer(request, state, self.sites[name])
            yield Arrival(name, reply)


def five_hospitals() -> Hospitals:
    """Three sums over five hospitals, the first of them before anything is known of the others."""
    return powers(5, secure_study(method__rounds=1))


def test_a_run_with_losses_ends_the_same_with_states_packed_between_messages() -> None:
    unpacked, packed = five_hospitals(), five_hospitals()
    straight = unpacked.run(LossyTransport(unpacked.local, LOSSES))
    through = packed.run(LossyTransport(PackingTransport(packed.sites), LOSSES))

    assert [record.contributors for record in straight.history] == [record.contributors for record in through.history]
    assert [record.dropped for record in straight.history] == [record.dropped for record in through.history]
    assert [record.measurements for record in straight.history] == [record.measurements for record in through.history]


@pytest.mark.parametrize("step", ["keys", "shares", "contribute", "reveal", "end"])
def test_no_secret_of_a_step_is_lost(step: str) -> None:
    """Before each step a site holds other secrets; all of them are the same afterwards."""
    hospitals = five_hospitals()
    recorded = RecordingTransport(hospitals.local, hospitals.local.states)
    hospitals.run(recorded)
    states = [asked.before for asked in recorded.asked if asked.step == step]
    assert states

    for state in states:
        again = ray.remembered(ray.kept(state), Sums())
        assert packing.pack(state).digest == packing.pack(again).digest
        if state.secure.keys is not None:
            assert again.secure.keys is not None
            assert state.secure.keys.mask == again.secure.keys.mask
            assert isinstance(again.secure.keys.seal, ExchangeKey)
            assert state.secure.keys.seed == again.secure.keys.seed


def test_a_hospital_begins_with_what_it_remembers_of_earlier_sums() -> None:
    sums = Sums(earlier={(Part.TRAINING, 0): frozenset({frozenset({"a", "b", "c"})})})
    empty = ray.kept(SiteState())
    empty.clear()

    assert sums == ray.remembered(empty, sums).sums


def test_a_hospital_that_has_answered_goes_by_its_own_memory() -> None:
    state = dataclasses.replace(SiteState(), run="r", round=2)

    assert Sums() == ray.remembered(ray.kept(state), Sums(members=frozenset("abc"))).sums


def test_without_ray_the_error_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)  # as Python marks what cannot be imported
    with pytest.raises(DependencyMissing, match=r'-m pip install "consilium\[bench\]"'):
        ray_cluster.require()


def test_tensorflow_is_hidden_from_what_does_not_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)
    with ray_cluster.without_tensorflow(), pytest.raises(ModuleNotFoundError):
        import_module("tensorflow")
    assert "tensorflow" not in sys.modules
