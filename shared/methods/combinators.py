"""Methods made of methods: one after the other, and side by side.

``InTurn`` is a whole study: prepare, train, evaluate; each stage is made from the results of the stages before it.
``SideBySide`` runs several methods over the same patients in one exchange: tuning candidates, folds, subgroups.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from shared.errors import ProtocolError
from shared.examples import Arrays, Examples, Part
from shared.layout import Entry
from shared.methods.base import Ask, Contribution, Measurements, Method, Total, broadcast, under, within
from shared.randomness import Randomness

Results = Mapping[str, Any]
"""Results of finished stages, by stage name."""


@dataclass(frozen=True)
class Stage:
    """One stage of a study.

    name: unique; prefixes the stage's part of the state.
    make: from the results of earlier stages to this stage's method.
    """

    name: str
    make: Callable[[Results], Method[Any]]

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ValueError(f"a stage's name prefixes arrays: expected an identifier. Received: {self.name!r}")


class InTurn:
    """Stages one after the other; the result is the results of all stages by name.

    The state holds ``stage`` (index of the current one; the number of stages when all are done) and every stage's own
    state under its name, so that either half can make any stage again from the state alone.
    """

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.stages = tuple(stages)
        self._made: list[tuple[Arrays, Any]] = []

    def start(self) -> Arrays:
        """Return the first stage's start."""
        first = self.stages[0]
        return {"stage": np.array(0), **under(first.name, first.make({}).start())}

    def stage(self, state: Arrays) -> str:
        """Return the name of the current stage, or of the last one when all are done."""
        return self.stages[min(self._index(state), len(self.stages) - 1)].name

    def asks(self, state: Arrays) -> Ask:
        """Return what the current stage asks."""
        method, name = self._current(state)
        return method.asks(within(name, state))

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return the current stage's contribution; each stage sees its own memory only."""
        method, name = self._current(state)
        contribution, kept = method.contribute(within(name, state), examples, within(name, memory), randomness)
        others = {key: array for key, array in memory.items() if not key.startswith(f"{name}/")}
        return contribution, {**others, **under(name, kept)}

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the current stage advanced; when it is finished, the next one started."""
        method, name = self._current(state)
        moved, measurements = method.advance(within(name, state), total)
        state = {**{key: array for key, array in state.items() if not key.startswith(f"{name}/")}, **under(name, moved)}
        while method.finished(moved):
            state["stage"] = np.array(int(state["stage"]) + 1)
            if self.finished(state):
                break
            # A stage may have nothing to ask.
            method, name = self._current(state)
            moved = method.start()
            state.update(under(name, moved))
        return state, measurements

    def finished(self, state: Arrays) -> bool:
        """Whether all stages are done."""
        return int(state["stage"]) >= len(self.stages)

    def result(self, state: Arrays) -> Results:
        """Return the results of the stages that are done, by name."""
        return self._results(state)

    def settled(self, state: Arrays) -> dict[str, Arrays]:
        """Return the states of the stages that are done, by name: from here on they stay as they are."""
        return {stage.name: within(stage.name, state) for stage in self.stages[: self._index(state)]}

    def method(self, state: Arrays, name: str) -> Method[Any]:
        """Return the method of a stage whose predecessors are done."""
        return self._make(state, [stage.name for stage in self.stages].index(name))

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> dict[str, object]:
        """Return what every stage leaves at the hospital, by stage name."""
        kept = {
            stage.name: self.method(state, stage.name).keep(
                within(stage.name, state), examples, within(stage.name, memory)
            )
            for stage in self.stages
        }
        return {name: value for name, value in kept.items() if value is not None}

    def _current(self, state: Arrays) -> tuple[Method[Any], str]:
        index = self._index(state)
        return self._make(state, index), self.stages[index].name

    def _index(self, state: Arrays) -> int:
        index = int(state["stage"])
        if not 0 <= index <= len(self.stages):
            raise ProtocolError("bad-state", f"expected a stage from 0 to {len(self.stages)}")
        return index

    def _make(self, state: Arrays, index: int) -> Method[Any]:
        return self.stages[index].make(self._results(state, index))

    def _results(self, state: Arrays, upto: int | None = None) -> dict[str, Any]:
        """Return the results of the first ``upto`` stages; one known for the same stage state is not made again.

        The same object for the same state matters: prepared rows are remembered by preparation (``Examples.derived``).
        """
        results: dict[str, Any] = {}
        upto = self._index(state) if upto is None else upto
        for index, stage in enumerate(self.stages[:upto]):
            known = self._made[index] if index < len(self._made) else None
            own = broadcast(within(stage.name, state))
            if known and _same(known[0], own):
                results[stage.name] = known[1]
                continue
            results[stage.name] = stage.make(results).result(own)
            self._made[index:] = [(own, results[stage.name])]
        return results


def _same(a: Arrays, b: Arrays) -> bool:
    """Whether two states hold the same values under the same names."""
    # In one process, broadcast arrays mostly are the same objects: no need to look inside.
    return a.keys() == b.keys() and all(
        a[name] is b[name] or (a[name].dtype == b[name].dtype and np.array_equal(a[name], b[name])) for name in a
    )


class SideBySide:
    """Several methods over the same patients, one exchange a round; the result is the results by name.

    Vectors are concatenated and each method keeps its own weight, so a method ends as it would alone. A method that
    is finished before the others rides along unasked.
    """

    def __init__(self, methods: Mapping[str, Method[Any]]) -> None:
        if not methods:
            raise ValueError("SideBySide needs at least one method")
        self.methods = dict(methods)
        # Names are the caller's words and may hold anything; arrays are named by position.
        self._by_key = {str(number): method for number, method in enumerate(self.methods.values())}
        self._names = dict(zip(self._by_key, self.methods, strict=True))

    def start(self) -> Arrays:
        """Return all starts."""
        return {
            key: array for name, method in self._by_key.items() for key, array in under(name, method.start()).items()
        }

    def asks(self, state: Arrays) -> Ask:
        """Return the unfinished methods' asks as one, in the longest words that one of them asks for.

        Raises: ValueError if they differ in whose rows, or in rounding.
        """
        asks = {name: method.asks(within(name, state)) for name, method in self._unfinished(state).items()}
        first = next(iter(asks.values()))
        entries: list[Entry] = []
        for name, ask in asks.items():
            if (ask.part, ask.stochastic_rounding) != (first.part, first.stochastic_rounding):
                raise ValueError("methods side by side must agree on part and rounding")
            entries += [
                Entry(f"{name}/{entry.name}", entry.shape, entry.bound, entry.precision) for entry in ask.entries
            ]
            entries.append(Entry(f"{name}/weight", (), ask.weight_bound, 0.5))
        # Not a number is farther from its bound than any.
        worst = max(
            asks.values(),
            key=lambda ask: math.inf if math.isnan(ask.state_norm) else ask.state_norm - ask.state_norm_bound,
        )
        return Ask(
            part=first.part,
            entries=tuple(entries),
            weight_bound=max(ask.weight_bound for ask in asks.values()),
            word_bits=max(ask.word_bits for ask in asks.values()),
            stochastic_rounding=first.stochastic_rounding,
            # The one nearest to its bound (or beyond it) speaks for all.
            state_norm=worst.state_norm,
            state_norm_bound=worst.state_norm_bound,
            exact=any(ask.exact for ask in asks.values()),
            subset_patients=min(
                (ask.subset_patients for ask in asks.values() if ask.subset_patients is not None), default=None
            ),
        )

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return all contributions as one; its own weight is the largest."""
        arrays: dict[str, Any] = {}
        kept: dict[str, Any] = dict(memory)
        weights: list[float] = []
        smallest: dict[str, int | None] = {}
        for name, method in self._unfinished(state).items():
            contribution, own = method.contribute(within(name, state), examples, within(name, memory), randomness)
            arrays |= under(name, {**contribution.arrays, "weight": np.array(contribution.weight)})
            kept = {key: array for key, array in kept.items() if not key.startswith(f"{name}/")} | under(name, own)
            weights.append(contribution.weight)
            smallest[name] = contribution.smallest_subset
        return Contribution(arrays, max(weights), self._smallest(smallest, state)), kept

    def _smallest(self, subsets: Mapping[str, int | None], state: Arrays) -> int | None:
        """Return the smallest subset of all; None where there are no subsets, or a method with some does not say."""
        said = [each for each in subsets.values() if each is not None]
        silent = [name for name, each in subsets.items() if each is None]
        if not said or any(self._by_key[name].asks(within(name, state)).data_dependent_subsets for name in silent):
            return None
        return min(said)

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return all methods advanced, each with its own total."""
        moved = dict(state)
        measurements: dict[str, float] = {}
        for name, method in self._unfinished(state).items():
            arrays = within(name, total.arrays)
            own = Total(arrays, float(arrays.pop("weight")), total.contributors)
            following, measured = method.advance(within(name, state), own)
            moved = {key: array for key, array in moved.items() if not key.startswith(f"{name}/")} | under(
                name, following
            )
            measurements |= {f"{self._names[name]}/{key}": value for key, value in measured.items()}
        return moved, measurements

    def finished(self, state: Arrays) -> bool:
        """Whether all methods are finished."""
        return not self._unfinished(state)

    def result(self, state: Arrays) -> dict[str, Any]:
        """Return all results, by name."""
        return {self._names[key]: method.result(within(key, state)) for key, method in self._by_key.items()}

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> dict[str, object] | None:
        """Return what the methods leave at the hospital, by name; None if nothing."""
        kept = {
            self._names[key]: method.keep(within(key, state), examples, within(key, memory))
            for key, method in self._by_key.items()
        }
        return {name: value for name, value in kept.items() if value is not None} or None

    def _unfinished(self, state: Arrays) -> dict[str, Method[Any]]:
        return {key: method for key, method in self._by_key.items() if not method.finished(within(key, state))}
