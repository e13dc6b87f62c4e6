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

from shared.examples import Arrays
from shared.methods.base import ServerOptimizer, under, within
from shared.study import Study

if TYPE_CHECKING:
    from flwr.app import RecordDict

_MOMENTS = ("m_t", "v_t")


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
        names = list(weights)
        strategy: Any = self._kind(**self._options)
        if hasattr(strategy, "momentum_vector"):
            strategy.current_arrays = ArrayRecord({name: Array(weights[name]) for name in names})
            momentum = within("momentum", state)
            strategy.momentum_vector = [momentum[name] for name in names] if momentum else None
        elif hasattr(strategy, "m_t"):
            strategy.current_arrays = dict(weights)
            for moment in _MOMENTS:
                setattr(strategy, moment, within(moment, state) or None)
        arrays = ArrayRecord({name: Array(np.asarray(mean[name])) for name in names})
        reply = _Reply(RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})}))
        following, _ = strategy.aggregate_train(step, [reply])
        moved = {name: following[name].numpy().astype(weights[name].dtype) for name in names}
        kept: dict[str, Any] = {"step": np.array(step)}
        if getattr(strategy, "momentum_vector", None) is not None:
            kept |= under("momentum", dict(zip(names, strategy.momentum_vector, strict=True)))
        for moment in _MOMENTS:
            kept |= under(moment, getattr(strategy, moment, None) or {})
        return kept, moved
