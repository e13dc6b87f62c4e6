"""What an aggregator learns of one hospital by leaving it out of every second round of a network's training.

``python -m simulations.attacks.subtraction`` prints the numbers of docs/protocol.md, "Lost sites subtract". Ten
hospitals of 300 patients train a small network; the last one's patients have the opposite label. The aggregator
broadcasts the same weights in every round (a counter makes each state new), and subtracts the mean of the sums without
the last hospital from the mean of those with it. Sums are what secure aggregation gives out, so no masks are made here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from server.strategies import server_optimizer
from shared.examples import Arrays, Examples
from shared.methods.base import NOTHING, Contribution, Total, broadcast
from shared.methods.combinators import InTurn
from shared.plan import plan_of
from shared.randomness import for_site
from shared.study import parse_study

HOSPITALS, PATIENTS, FEATURES = 10, 300, 8
SEED = 7
HUGE = 3000.0
"""The two biases of the chosen weights: their norm, 4243, is within the declared bound of 10000."""

_Sum = tuple[NDArray[np.float64], float]
"""Updates as one vector, and losses."""


@dataclass(frozen=True)
class Found:
    """What was found of the last hospital.

    errors: relative error of its update, by the number of sums that were subtracted.
    rows_of_the_second_class: from the losses of two sums, and the true number.
    """

    errors: Mapping[int, float]
    rows_of_the_second_class: tuple[float, float]


class _Study:
    """The study, its hospitals' patients, and the state at the start of the training."""

    def __init__(self) -> None:
        columns: dict[str, object] = {f"x{i}": {"type": "number", "range": [-10, 10]} for i in range(FEATURES)}
        columns["y"] = {"type": "category", "levels": [0, 1]}
        network = {"name": "neural", "rounds": 25, "options": {"architecture": "tabular_mlp", "batch_size": 32}}
        study = parse_study(
            {
                "study": {
                    "name": "subtraction",
                    "question": "What does a lost hospital give away?",
                    "seed": SEED,
                    "threads": 1,
                },
                "data": {"kind": "table", "label": "y", "columns": columns, "max_rows_per_site": 1000},
                "method": network,
            },
            "subtraction",
        )
        self.plan: InTurn = plan_of(study, server_optimizer(study))
        rng = np.random.default_rng(1)
        weights = rng.normal(size=FEATURES)
        self.patients = [_hospital(rng, weights, -1 if k == HOSPITALS - 1 else 1) for k in range(HOSPITALS)]
        start = self.plan.start()
        ask = self.plan.asks(start)
        parts = [self.contribution(start, hospital, 1) for hospital in range(HOSPITALS)]
        sums = {entry.name: np.sum([part.arrays[entry.name] for part in parts], axis=0) for entry in ask.entries}
        total = Total(sums, sum(part.weight for part in parts), HOSPITALS)
        self.state = broadcast(self.plan.advance(start, total)[0])

    def contribution(self, state: Arrays, hospital: int, round_number: int) -> Contribution:
        """Return one hospital's contribution."""
        drawn = for_site(SEED, f"hospital_{hospital}", round_number)
        return self.plan.contribute(state, self.patients[hospital], NOTHING, drawn)[0]

    def sum(self, state: Arrays, hospitals: range, round_number: int) -> _Sum:
        """Return the sum over some hospitals."""
        parts = [self.contribution(state, hospital, round_number).arrays for hospital in hospitals]
        vectors = [
            np.concatenate([np.ravel(part[name]) for name in sorted(part) if name.startswith("update/")])
            for part in parts
        ]
        return np.sum(vectors, axis=0), float(sum(part["loss"] for part in parts))


def _hospital(rng: np.random.Generator, weights: NDArray[np.float64], sign: int) -> Examples:
    values = np.clip(rng.normal(size=(PATIENTS, FEATURES)), -10, 10)
    labels = (sign * (values @ weights) + rng.normal(size=PATIENTS) > 0).astype(np.float64)
    patients = np.array([f"p{row}" for row in range(PATIENTS)])
    return Examples(values, np.zeros(values.shape, dtype=bool), labels, patients)


def measure(sums: tuple[int, ...] = (2, 6, 20), chosen: bool = False) -> Found:
    """Return what the differences of sums give.

    sums: even numbers of rounds.
    chosen: whether the weights that are broadcast are chosen, and not those with which a training begins.
    """
    study = _Study()
    state, last = study.state, HOSPITALS - 1
    if chosen:
        bias = next(name for name in state if name.startswith("train/weights/head") and name.endswith("bias"))
        kernel = bias.replace("bias", "kernel")
        state = {**state, bias: np.array([HUGE, -HUGE], np.float32), kernel: np.zeros_like(state[kernel])}
    with_it = [study.sum(state, range(HOSPITALS), 2 + 2 * pair) for pair in range(max(sums) // 2)]
    without = [study.sum(state, range(last), 3 + 2 * pair) for pair in range(max(sums) // 2)]
    own = np.mean([study.sum(state, range(last, HOSPITALS), number)[0] for number in range(2, 12)], axis=0)

    def error(pairs: int) -> float:
        guess = sum(one[0] - other[0] for one, other in zip(with_it[:pairs], without[:pairs], strict=True)) / pairs
        return float(np.linalg.norm(guess - own) / np.linalg.norm(own))

    # With the chosen weights every row of one class loses nothing and every row of the other 100, the most there is.
    counted = (with_it[0][1] - without[0][1]) / 100.0
    return Found({number: error(number // 2) for number in sums}, (counted, float(study.patients[last].labels.sum())))


def main() -> None:
    """Print the numbers."""
    for name, chosen in (("first weights", False), ("chosen weights", True)):
        found = measure(chosen=chosen)
        errors = ", ".join(f"{error:.0%} after {number} sums" for number, error in found.errors.items())
        print(f"{name}: relative error of the last hospital's update {errors}")
    counted, true = found.rows_of_the_second_class
    print(f"its rows of the second class, from two sums with the chosen weights: {counted:g} (true: {true:g})")


if __name__ == "__main__":
    main()
