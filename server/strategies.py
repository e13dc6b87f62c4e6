"""Server optimisation by Flower's own strategies, through one adapter.

A Flower strategy turns replies into the next weights. It is handed the mean as its only reply (weight one), the
weights that were broadcast as its current arrays, and its own moments from the state; what it keeps afterwards goes
back into the state, and so into the checkpoint. Only strategies that need nothing but the mean can be served: FedAvg,
FedAvgM, FedAdagrad, FedAdam, FedYogi.
"""

from __future__ import annotations

import dataclasses
import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays
from shared.methods.base import ServerOptimizer
from shared.study import Study

if TYPE_CHECKING:
    from flwr.app import RecordDict

_MOMENTS = ("m_t", "v_t")
_ALL = "weights"
"""Strategies work by element, so all weights go through as one vector: each array costs Flower a serialisation."""


def server_optimizer(study: Study) -> ServerOptimizer:
    """Return the optimiser that the study asks for."""
    return FlowerOptimizer(study.aggregation.strategy, dataclasses.asdict(study.aggregation.options))


@dataclass(frozen=True, eq=False)
class _Reply:
    """The mean, in the form in which a strategy reads a reply (a Flower Message exists only inside a running app)."""

    content: RecordDict

    def has_error(self) -> bool:
        """Whether the reply is an error: the mean never is."""
        return False


class FlowerOptimizer:
    """One Flower strategy as a ``ServerOptimizer``; its state holds ``step`` and the strategy's moments.

    name: class name in ``flwr.serverapp.strategy``.
    options: its keyword arguments.
    """

    def __init__(self, name: str, options: dict[str, float]) -> None:
        # No telemetry, no look-up of newer versions: Flower reads these when it is imported.
        os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
        os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
        from flwr.serverapp import strategy

        logging.getLogger("flwr").setLevel(logging.WARNING)
        self._kind = getattr(strategy, name)
        self._options = options

    def init(self, weights: Arrays) -> Arrays:
        """Return the state before the first step: no moments."""
        return {"step": np.array(0)}

    def apply(self, state: Arrays, weights: Arrays, mean: Arrays) -> tuple[Arrays, Arrays]:
        """Return (state, weights) after the strategy has seen the mean; weights keep their types."""
        from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict

        step = int(state["step"]) + 1
        before, after = _as_one(weights, weights), _as_one(weights, mean)
        strategy: Any = self._kind(**self._options)
        if hasattr(strategy, "momentum_vector"):
            strategy.current_arrays = ArrayRecord({_ALL: Array(before)})
            strategy.momentum_vector = [state["momentum"]] if "momentum" in state else None
        elif hasattr(strategy, "m_t"):
            strategy.current_arrays = {_ALL: before}
            for moment in _MOMENTS:
                setattr(strategy, moment, {_ALL: state[moment]} if moment in state else None)
        content = RecordDict(
            {"arrays": ArrayRecord({_ALL: Array(after)}), "metrics": MetricRecord({"num-examples": 1})}
        )
        following, _ = strategy.aggregate_train(step, [_Reply(content)])
        kept: dict[str, Any] = {"step": np.array(step)}
        if getattr(strategy, "momentum_vector", None) is not None:
            kept["momentum"] = strategy.momentum_vector[0]
        kept |= {moment: getattr(strategy, moment)[_ALL] for moment in _MOMENTS if getattr(strategy, moment, None)}
        return kept, _apart(weights, following[_ALL].numpy())


def _as_one(weights: Arrays, arrays: Arrays) -> NDArray[Any]:
    """Return the arrays as one vector, in the order of ``weights``."""
    return np.concatenate([np.ravel(arrays[name]) for name in weights])


def _apart(weights: Arrays, vector: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Return the arrays that ``_as_one`` joined, in the shapes and types of ``weights``."""
    arrays: dict[str, NDArray[Any]] = {}
    start = 0
    for name, array in weights.items():
        arrays[name] = vector[start : start + array.size].reshape(array.shape).astype(array.dtype)
        start += array.size
    return arrays
