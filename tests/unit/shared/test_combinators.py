"""Methods made of methods end where each would end alone."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

import numpy as np
import pytest

from shared.errors import ProtocolError
from shared.examples import Arrays, Examples, Part
from shared.layout import Entry
from shared.methods.base import NOTHING, Ask, Contribution, Method, Total
from shared.methods.combinators import InTurn, SideBySide, Stage
from shared.randomness import for_site
from tests.builders import examples_of


class Adding:
    """Adds up the first feature, times ``factor``, for ``rounds`` rounds; its result is the sum of all rounds."""

    def __init__(self, factor: float, rounds: int, part: Part = Part.TRAINING) -> None:
        self.factor, self.rounds, self.part = factor, rounds, part

    def start(self) -> Arrays:
        return {"round": np.array(0), "sum": np.array(0.0), "server/secret": np.array(1.0)}

    def asks(self, state: Arrays) -> Ask:
        return Ask(self.part, (Entry("x", (), 1e6, 1.0),), 100.0, 64, False, 0.0, 0.0)

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: object
    ) -> tuple[Contribution, Arrays]:
        seen = int(memory.get("seen", 0)) + 1
        return Contribution({"x": np.array(self.factor * examples.values[:, 0].sum())}, len(examples)), {
            "seen": np.array(seen)
        }

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Mapping[str, float]]:
        moved = {**state, "round": state["round"] + 1, "sum": state["sum"] + total.arrays["x"]}
        return moved, {"mean": float(total.arrays["x"]) / total.weight}

    def finished(self, state: Arrays) -> bool:
        return bool(state["round"] >= self.rounds)

    def result(self, state: Arrays) -> float:
        return float(state["sum"])

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> int | None:
        return int(memory["seen"]) if self.factor > 1 else None


SITES = [examples_of([[1.0], [2.0]], [0, 1]), examples_of([[4.0]], [1])]


def run(method: Method[object]) -> tuple[Arrays, Arrays, list[Mapping[str, float]]]:
    """Run a method to its end over two sites whose first features sum to 7; return state, last memory, measurements."""
    state, memories, measured = method.start(), [NOTHING, NOTHING], []
    while not method.finished(state):
        ask = method.asks(state)
        done = [method.contribute(state, s, m, for_site(1, "a", 1)) for s, m in zip(SITES, memories, strict=True)]
        memories = [memory for _, memory in done]
        assert all(set(c.arrays) == {entry.name for entry in ask.entries} for c, _ in done)
        arrays = {entry.name: sum(c.arrays[entry.name] for c, _ in done) for entry in ask.entries}
        state, measurement = method.advance(state, Total(arrays, sum(c.weight for c, _ in done), 2))
        measured.append(measurement)
    return state, memories[0], measured


def test_side_by_side_gives_each_method_its_own_result_and_weight() -> None:
    both = SideBySide({"once": Adding(1.0, 1), "twice": Adding(10.0, 2)})
    state, memory, measured = run(both)
    assert both.result(state) == {"once": 7.0, "twice": 140.0}
    assert measured == [{"once/mean": 7 / 3, "twice/mean": 70 / 3}, {"twice/mean": 70 / 3}]
    # The finished method is not asked again, and keeps what it remembered.
    assert {name: int(value) for name, value in memory.items()} == {"0/seen": 1, "1/seen": 2}


class Choosing(Adding):
    """The same over a subset that the data choose, which has so many patients."""

    def __init__(self, smallest: int | None) -> None:
        super().__init__(1.0, 1)
        self.smallest = smallest

    def asks(self, state: Arrays) -> Ask:
        return dataclasses.replace(super().asks(state), subset_patients=5)

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: object
    ) -> tuple[Contribution, Arrays]:
        contribution, kept = super().contribute(state, examples, memory, randomness)
        return dataclasses.replace(contribution, smallest_subset=self.smallest), kept


@pytest.mark.parametrize(
    ("expected", "methods"),
    [
        (3, [Choosing(7), Choosing(3), Adding(1.0, 1)]),
        (None, [Choosing(7), Choosing(None)]),
        (None, [Adding(1.0, 1), Adding(2.0, 1)]),
    ],
)
def test_the_smallest_subset_of_methods_side_by_side_is_known_if_every_method_says_its_own(
    expected: int | None, methods: list[Method[object]]
) -> None:
    both = SideBySide({str(number): method for number, method in enumerate(methods)})
    contribution, _ = both.contribute(both.start(), SITES[0], NOTHING, for_site(1, "a", 1))

    assert expected == contribution.smallest_subset


def test_side_by_side_refuses_methods_over_different_patients() -> None:
    mixed = SideBySide({"a": Adding(1.0, 1), "b": Adding(1.0, 1, Part.HELD_OUT)})
    with pytest.raises(ValueError, match="must agree on part"):
        mixed.asks(mixed.start())


def test_the_method_nearest_to_its_bound_speaks_for_all() -> None:
    class Huge(Adding):
        def asks(self, state: Arrays) -> Ask:
            return Ask(self.part, (Entry("x", (), 1.0, 1.0),), 1.0, 64, False, state_norm=5.0, state_norm_bound=2.0)

    ask = SideBySide({"a": Adding(1.0, 1), "b": Huge(1.0, 1)}).asks(
        SideBySide({"a": Adding(1.0, 1), "b": Huge(1.0, 1)}).start()
    )
    assert (ask.state_norm, ask.state_norm_bound) == (5.0, 2.0)


def test_a_norm_that_is_no_number_speaks_for_all() -> None:
    class Undefined(Adding):
        def asks(self, state: Arrays) -> Ask:
            return dataclasses.replace(super().asks(state), state_norm=math.nan)

    both = SideBySide({"a": Adding(1.0, 1), "b": Undefined(1.0, 1)})
    assert math.isnan(both.asks(both.start()).state_norm)


def test_in_turn_makes_a_stage_from_the_results_before_it() -> None:
    plan = InTurn(
        [Stage("first", lambda _: Adding(1.0, 2)), Stage("second", lambda results: Adding(results["first"], 1))]
    )
    state, memory, _ = run(plan)
    assert plan.result(state) == {"first": 14.0, "second": 98.0}
    assert {name: int(value) for name, value in memory.items()} == {"first/seen": 2, "second/seen": 1}
    assert plan.keep(state, {}, memory) == {"second": 1}
    assert plan.stage(state) == "second"


def test_in_turn_gives_the_same_object_for_the_same_state() -> None:
    class Listing(Adding):
        def result(self, state: Arrays) -> list[float]:  # type: ignore[override]
            return [float(state["sum"])]

    plan = InTurn([Stage("first", lambda _: Listing(1.0, 1)), Stage("second", lambda _: Adding(1.0, 1))])
    state, _, _ = run(plan)
    assert plan.result(state)["first"] is plan.result(state)["first"]
    other = {**state, "first/sum": np.array(8.0)}
    assert plan.result(other)["first"] == [8.0]


def test_in_turn_does_not_take_a_state_for_one_that_lacks_its_arrays() -> None:
    class Counting(Adding):
        def result(self, state: Arrays) -> int:
            return len(state)

    plan = InTurn([Stage("first", lambda _: Counting(1.0, 1)), Stage("second", lambda _: Adding(1.0, 1))])
    assert plan.result({"stage": np.array(1)}) == {"first": 0}
    assert plan.result({"stage": np.array(1), "first/round": np.array(1)}) == {"first": 1}


@pytest.mark.parametrize("stage", [-1, 3])
def test_in_turn_knows_no_stage_but_its_own(stage: int) -> None:
    plan = InTurn([Stage("first", lambda _: Adding(1.0, 1)), Stage("second", lambda _: Adding(1.0, 1))])
    with pytest.raises(ProtocolError, match="a stage from 0 to 2"):
        plan.asks({**plan.start(), "stage": np.array(stage)})


def test_a_stage_can_be_made_again_from_a_broadcast_state_alone() -> None:
    def stages() -> InTurn:
        return InTurn(
            [Stage("first", lambda _: Adding(1.0, 1)), Stage("second", lambda results: Adding(results["first"], 1))]
        )

    from shared.methods.base import broadcast

    server = stages()
    state = server.start()
    total = Total({"x": np.array(7.0)}, 3.0, 2)
    state, _ = server.advance(state, total)
    public = broadcast(state)
    assert not any("secret" in name for name in public)
    contribution, _ = stages().contribute(public, SITES[0], NOTHING, for_site(1, "a", 2))
    assert float(contribution.arrays["x"]) == 21.0  # (1 + 2) times the first stage's 7
