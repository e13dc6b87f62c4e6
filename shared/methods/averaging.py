"""What every averaging method shares: weights in the state, weighted changes in the contribution.

McMahan, Moore, Ramage, Hampson, Aguera y Arcas, "Communication-Efficient Learning of Deep Networks from Decentralized
Data", AISTATS 2017, arXiv:1602.05629, Algorithm 1: the next weights are sum_k n_k w_k / sum_k n_k over the
contributing sites k with n_k rows each. Sites send n_k (w_k - w), so that the bound of an entry follows from how far
one round may move a weight.

The state holds ``round``, ``weights/...`` and, at the aggregator only, ``server/optimizer/...``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from shared.examples import Arrays, Examples, Part
from shared.interpretation import Interpretation
from shared.layout import Entry
from shared.methods.base import (
    Contribution,
    Forecast,
    Measurements,
    ServerOptimizer,
    Total,
    Traits,
    forecast_of,
    under,
    within,
)

LOSS_BOUND = 100.0
"""Largest loss of one row that is reported; larger ones count as this."""


def start(weights: Arrays, optimizer: ServerOptimizer) -> Arrays:
    """Return the state that round 1 broadcasts."""
    return {
        "round": np.array(0),
        **under("weights", weights),
        **under("server/optimizer", optimizer.init(weights)),
    }


def weights_of(state: Arrays) -> Arrays:
    """Return the weights in a state."""
    return within("weights", state)


def norm(weights: Arrays) -> float:
    """Return the L2 norm over all weights; infinity or NaN if one is, and for weights that are no real numbers."""
    if any(array.dtype.kind != "f" for array in weights.values()):
        return math.nan
    # A sum in float32 is right to some millionths; what overflows it is infinite, and refused.
    return math.sqrt(sum(float(np.vdot(array, array)) for array in weights.values()))


def entries(weights: Arrays, max_rows: int, update_bound: float, precision: float) -> tuple[Entry, ...]:
    """Return the layout of a contribution.

    update_bound: largest change of one weight in one round at one site.
    precision: harmless rounding error of one site's n_k (w_k - w).
    """
    return _entries(tuple((name, array.shape) for name, array in weights.items()), max_rows, update_bound, precision)


def changes(weights: Arrays, max_rows: int, update_bound: float, precision: float) -> tuple[Entry, ...]:
    """Return the same without the loss."""
    return entries(weights, max_rows, update_bound, precision)[:-1]


@lru_cache(maxsize=16)
def _entries(
    shapes: tuple[tuple[str, tuple[int, ...]], ...], max_rows: int, update_bound: float, precision: float
) -> tuple[Entry, ...]:
    """Return the same entries for the same shapes: both halves ask for them in every round."""
    changed = [Entry(f"update/{name}", shape, max_rows * update_bound, precision) for name, shape in shapes]
    # The loss is for people to look at: a sum over rows may be off by one, or by a hundred-thousandth for each row.
    return (*changed, Entry("loss", (), max_rows * LOSS_BOUND, max(1.0, 1e-5 * max_rows)))


def contribution(before: Arrays, after: Arrays, rows: int, loss: float) -> Contribution:
    """Return n_k (w_k - w) and the summed loss.

    before, after: weights as broadcast, and as this site ended.
    loss: sum over rows.
    """
    moved = {name: (np.asarray(after[name], np.float64) - before[name]) * rows for name in before}
    return Contribution({**under("update", moved), "loss": np.array(loss)}, float(rows))


def advance(state: Arrays, total: Total, optimizer: ServerOptimizer) -> tuple[Arrays, Measurements]:
    """Return the next state and the mean loss of the contributing sites' rows, where there is one."""
    weights = weights_of(state)
    moves = within("update", total.arrays)
    mean = {
        name: (array.astype(np.float64) + moves[name] / total.weight).astype(array.dtype)
        for name, array in weights.items()
    }
    moved, weights = optimizer.apply(within("server/optimizer", state), weights, mean)
    state = {"round": state["round"] + 1, **under("weights", weights), **under("server/optimizer", moved)}
    return state, {"loss": float(total.arrays["loss"]) / total.weight} if "loss" in total.arrays else {}


class AveragingMethod(Traits):
    """The half of a method at the aggregator, which is the same for everything that is averaged.

    optimizer: how the weights move with their mean.
    rounds: training rounds.
    """

    def __init__(self, optimizer: ServerOptimizer, rounds: int) -> None:
        self.optimizer = optimizer
        self.rounds = rounds

    @classmethod
    def require(cls) -> None:
        """Raise DependencyMissing unless what the method needs is installed: no more than Consilium itself does."""
        return

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the state moved by the mean."""
        return advance(state, total, self.optimizer)

    def finished(self, state: Arrays) -> bool:
        """Whether all rounds have been made."""
        return bool(state["round"] >= self.rounds)

    def result(self, state: Arrays) -> Arrays:
        """Return the weights."""
        return weights_of(state)

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> None:
        """Nothing stays at the hospital."""
        return

    def forecast(self) -> Forecast:
        """Return what a training sum holds."""
        moved = "how far this hospital's patients would move each number of the model, times rows"
        return forecast_of(self, moved, "the model's error, summed over the rows")  # type: ignore[arg-type]

    def interpretation(self, weights: Arrays) -> Interpretation:
        """Return nothing: averaged weights have no standard errors, and a network's say nothing by themselves."""
        return Interpretation()
