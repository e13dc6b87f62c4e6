"""The other side: Flower's own Ray simulation of the same work, set up as well as we know how.

One processor for each client and so one actor for each processor (the default is one actor on two processors), no
client-side evaluation, no telemetry, no dashboard, data kept in the actor between messages. Flower imports TensorFlow
in every process where it is installed; for the logistic regression it is hidden, as on a machine that lacks it.

The CNN comes twice: ``cnn`` builds the network for every message, as Flower's TensorFlow examples do, and ``cnn_kept``
keeps the compiled network in the actor, which is the best that we found.

This module is imported by name in the actors, so it must not be run as ``__main__``: Ray would then send its functions
by value, and nothing would be kept between messages.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from simulations.benchmarks import work
from simulations.benchmarks.work import Timing

Weights = list[NDArray[Any]]

QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    "PYTHONWARNINGS": "ignore",
}
"""Environment of the Flower side: nothing is sent anywhere, and the screen stays readable."""


@dataclass
class _Run:
    """What the server thread leaves behind: when the first client began, when the last round ended, the weights."""

    first_client: float = 0.0
    last_round: float = 0.0
    weights: tuple[NDArray[Any], ...] = ()


def logistic(process_started: float) -> Timing:
    """Run the logistic regression through Flower; times are of ``time.time``."""
    os.environ.update(QUIET)
    with _without_tensorflow():
        table = work.breast_cancer()
        start = [np.zeros((1, table.held_out[0].shape[1])), np.zeros(1)]
        entered, run, left = _simulate(_logistic_client(), start, work.LOGISTIC_ROUNDS)
    coef, intercept = run.weights
    x, y = table.held_out
    accuracy = float(np.mean(((x @ coef.T + intercept)[:, 0] > 0) == y))
    return _timing(process_started, entered, run, left, accuracy)


def _logistic_client() -> Any:
    """Return the ClientApp whose local step is one warm-started iteration of scikit-learn's logistic regression."""

    def train(arrays: Weights, site: int) -> tuple[Weights, int]:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import LogisticRegression

        x, y = work.breast_cancer().sites[site]
        model = LogisticRegression(C=1.0, max_iter=1, warm_start=True)
        model.classes_ = np.array([0, 1])
        model.coef_, model.intercept_ = arrays
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, y)
        return [model.coef_, model.intercept_], len(y)

    return _client(train)


def cnn(process_started: float) -> Timing:
    """Run the CNN through Flower, the network built for every message; times are of ``time.time``."""
    return _cnn(process_started, _built)


def cnn_kept(process_started: float) -> Timing:
    """Run the CNN through Flower, the network kept in the actor; times are of ``time.time``."""
    return _cnn(process_started, _kept)


def _cnn(process_started: float, network: Callable[[], Any]) -> Timing:
    os.environ.update(QUIET)
    model = network()
    start = [np.asarray(weight) for weight in model.get_weights()]
    entered, run, left = _simulate(_cnn_client(network), start, work.CNN_ROUNDS)
    model.set_weights(list(run.weights))
    x, y = _images(work.HELD_OUT)
    accuracy = float(np.mean(model.predict_on_batch(x).argmax(axis=1) == y))
    return _timing(process_started, entered, run, left, accuracy)


def _built() -> Any:
    """Return the compiled network, built anew; ``clear_session`` keeps what was built before from piling up."""
    import keras

    keras.backend.clear_session()
    options = work.cnn_study().method.options
    model = options.model.build((28, 28, 1), 10)
    model.compile(
        keras.optimizers.SGD(options.learning_rate, options.momentum),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    model.optimizer.build(model.trainable_variables)
    return model


@cache
def _kept() -> Any:
    """Return the compiled network of this process."""
    return _built()


@cache
def _images(site: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return a site's images, standardised, and their classes."""
    x, y = work.cnn_site(site)
    return (x - x.mean()) / x.std(), y


def _cnn_client(network: Callable[[], Any]) -> Any:
    """Return the ClientApp that fits the network as Keras does: ``fit``, and fresh momentum in every round."""

    def train(weights: Weights, site: int) -> tuple[Weights, int]:
        model, options = network(), work.cnn_study().method.options
        x, y = _images(site)
        model.set_weights(weights)
        for variable in model.optimizer.momentums:
            variable.assign(np.zeros(variable.shape, variable.dtype))
        model.fit(x, y, batch_size=options.batch_size, epochs=options.local_epochs, verbose=0)
        return model.get_weights(), len(y)

    return _client(train)


def _client(train: Callable[[Weights, int], tuple[Weights, int]]) -> Any:
    """Return a ClientApp around ``train(weights, site) -> (weights, examples)``."""
    from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train()
    def handle(message: Message, context: Context) -> Message:
        began = time.time()
        # Flower hands out read-only arrays.
        arrays = [array.copy() for array in message.content.array_records["arrays"].to_numpy_ndarrays()]
        after, examples = train(arrays, int(context.node_config["partition-id"]))
        content = RecordDict(
            {
                "arrays": ArrayRecord(after),
                "metrics": MetricRecord({"num-examples": examples, "began": began}),
            }
        )
        return Message(content=content, reply_to=message)

    return app


def _simulate(client: Any, start: Weights, rounds: int) -> tuple[float, _Run, float]:
    """Run FedAvg; return when the simulation was entered, what the server saw, and when it was left."""
    from flwr.app import ArrayRecord, Context, MetricRecord
    from flwr.serverapp import Grid, ServerApp
    from flwr.serverapp.strategy import FedAvg
    from flwr.simulation import run_simulation

    run = _Run()

    def earliest(contents: list[Any], _weighting: str) -> MetricRecord:
        return MetricRecord({"began": min(content.metric_records["metrics"]["began"] for content in contents)})

    server = ServerApp()

    @server.main()
    def main(grid: Grid, _context: Context) -> None:
        strategy = FedAvg(
            fraction_evaluate=0.0,
            # FedAvg counts the nodes before it waits for them: without this, round 1 has two clients.
            min_train_nodes=work.SITES,
            min_available_nodes=work.SITES,
            train_metrics_aggr_fn=earliest,
        )
        result = strategy.start(grid=grid, initial_arrays=ArrayRecord(start), num_rounds=rounds)
        run.last_round = time.time()
        run.first_client = cast(float, result.train_metrics_clientapp[1]["began"])
        run.weights = tuple(result.arrays.to_numpy_ndarrays())

    entered = time.time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run_simulation(
            server_app=server,
            client_app=client,
            num_supernodes=work.SITES,
            backend_config={
                "init_args": {"num_cpus": os.cpu_count() or 1, "include_dashboard": False, "log_to_driver": False},
                "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
            },
        )
    return entered, run, time.time()


def _timing(process_started: float, entered: float, run: _Run, left: float, quality: float) -> Timing:
    return Timing(
        imports=entered - process_started,
        start_up=run.first_client - entered,
        rounds=run.last_round - run.first_client,
        tear_down=left - run.last_round,
        quality=quality,
    )


@contextmanager
def _without_tensorflow() -> Iterator[None]:
    """Make ``import tensorflow`` fail in this process and in the actors, which inherit its module path."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "tensorflow.py").write_text("raise ModuleNotFoundError('hidden from this benchmark')\n")
        sys.path.insert(0, folder)
        try:
            yield
        finally:
            sys.path.remove(folder)
