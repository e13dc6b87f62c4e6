"""The other side of the network benchmark: stock Flower between processes, set up as its documentation says.

One SuperLink with TLS, node authentication and a database on the disk, and stock SuperNodes, each of which starts a
process for every message. The round is FedAvg's, with no evaluation. Nodes do nothing, or train the network that our
hospitals train beside them: the same class, with as many rows. Certificates are those of a consortium's folder.
``server_app`` and ``client_app`` are found here by Flower, by name.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.methods import averaging
from simulations.benchmarks.network_consortium import free_port, until

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from flwr.serverapp import Grid

_SMALL = (1600,)
"""Shape of the one array that is sent where nothing is trained."""
_FEATURES, _ROWS = 30, 32
"""What each of our two hospitals trains on: its share of 80 rows, without those that are held out."""
_RUN_S, _ASK_S, _STOP_S = 900.0, 2.0, 30.0
_BUNDLE = """[project]
name = "peer"
version = "1.0.0"
description = "The other side of a benchmark"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "consilium"

[tool.flwr.app.components]
serverapp = "simulations.benchmarks.network_peer:server_app"
clientapp = "simulations.benchmarks.network_peer:client_app"

[tool.flwr.app.config]
width = {width}
rounds = {rounds}
nodes = {nodes}
output = "{output}"
"""


def rounds(folder: Path, nodes: int, count: int, width: int = 0) -> list[float]:
    """Return the seconds that each round took, from the first thing that the strategy does to the mean.

    folder: a new one.
    width: units of both hidden layers of the network that nodes train; 0 for nothing to do, and a small array.

    Raises: RuntimeError with the end of SuperLink's log.
    """
    from server import consortium

    consortium.init(folder, "Benchmark", "localhost:1", (), datetime.now(UTC))
    (folder / "flower").mkdir()
    output = folder / "seconds.json"
    config = {"width": width, "rounds": count, "nodes": nodes, "output": str(output)}
    with _started(folder, nodes) as control:
        run = _start(control, _BUNDLE.format(**config))

        # SuperLink answers questions about runs with an error while it is busy with large arrays: it is asked seldom.
        end = time.monotonic() + _RUN_S
        while not output.exists():
            how = _ended(control, run)
            if how or time.monotonic() > end:
                log = (folder / "superlink.log").read_text(encoding="utf-8", errors="replace")
                raise RuntimeError(f"Flower's run came to nothing: {how}\n{log[-2000:]}")
            time.sleep(_ASK_S)
        seconds: list[float] = json.loads(output.read_text(encoding="utf-8"))
        return seconds


def __getattr__(name: str) -> Any:
    """Make the apps when Flower asks for them; nothing else imports Flower by importing this module."""
    if name in ("server_app", "client_app"):
        return {"server_app": _server_app, "client_app": _client_app}[name]()
    raise AttributeError(name)


def _server_app() -> Any:
    import numpy as np
    from flwr.app import ArrayRecord
    from flwr.serverapp import ServerApp
    from flwr.serverapp.strategy import FedAvg

    from shared.models import network

    took: list[float] = []

    class Timed(FedAvg):
        def configure_train(self, *arguments: Any, **more: Any) -> Any:
            self.began = time.perf_counter()
            return super().configure_train(*arguments, **more)

        def aggregate_train(self, *arguments: Any, **more: Any) -> Any:
            result = super().aggregate_train(*arguments, **more)
            took.append(time.perf_counter() - self.began)
            return result

    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        config: Any = context.run_config
        if config["width"]:
            start = list(network.initial_weights(_trainer(config["width"]).model, seed=1).values())
        else:
            start = [np.zeros(_SMALL, np.float32)]
        strategy = Timed(fraction_evaluate=0.0, min_train_nodes=config["nodes"], min_available_nodes=config["nodes"])
        strategy.start(grid=grid, initial_arrays=ArrayRecord(start), num_rounds=config["rounds"])
        part = Path(config["output"]).with_suffix(".part")
        part.write_text(json.dumps(took), encoding="utf-8")
        part.replace(config["output"])

    return app


def _client_app() -> Any:
    from flwr.app import ArrayRecord, MetricRecord, RecordDict
    from flwr.app import Message as FlowerMessage
    from flwr.clientapp import ClientApp

    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        arrays, config = message.content.array_records["arrays"], context.run_config
        if config["width"]:
            arrays = ArrayRecord(_trained(arrays.to_numpy_ndarrays(), int(config["width"]), context.node_id))
        content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": 1})})
        return FlowerMessage(content=content, reply_to=message)

    return app


def _trainer(width: int) -> Any:
    from shared.models.tabular_mlp import TabularMlp
    from shared.models.training import trainer

    return trainer("tabular_mlp", TabularMlp(units=(width, width)), (_FEATURES,), 2, 1)


def _trained(arrays: list[Any], width: int, node: int) -> list[Any]:
    """Return the weights after one pass over rows of this node's own."""
    import numpy as np

    from shared.models import network
    from shared.models.training import Descent

    made, drawn = _trainer(width), np.random.default_rng(node)
    descent = Descent(
        epochs=1, batch_size=1024, learning_rate=0.02, momentum=0.9, proximal_mu=0.0, loss_bound=averaging.LOSS_BOUND
    )
    before = dict(zip(network.variables(made.model), arrays, strict=True))
    x, y = drawn.standard_normal((_ROWS, _FEATURES)), drawn.integers(0, 2, _ROWS)
    after, _ = made.train(before, x, y, descent, drawn)
    return list(after.values())


@contextmanager
def _started(folder: Path, nodes: int) -> Iterator[Any]:
    """Start SuperLink, register and start the nodes, and yield SuperLink's control; end them all."""
    from server import superlink

    port, started = free_port(), []
    certificates, secrets = folder / "certificates", folder / "secrets"
    authority = str(certificates / "loopback-ca.crt")
    try:
        started.append(
            _process(
                folder,
                "superlink",
                *("flower-superlink", "--host", "127.0.0.1", "--port", str(port), "--ssl-ca-certfile", authority),
                *("--ssl-certfile", str(certificates / "loopback.crt"), "--ssl-keyfile", str(secrets / "loopback.key")),
                *("--enable-supernode-auth", "--disable-runtime-dependency-installation"),
                *("--database", str(folder / "state.db")),
            )
        )
        control = superlink.control(folder, port)
        until("SuperLink answers", lambda: _answers(control))
        for number in range(nodes):
            key = _node_key(folder / f"node-{number}")
            control.register(key, f"node-{number}")
            started.append(
                _process(
                    folder,
                    f"supernode-{number}",
                    *("flower-supernode", "--superlink", f"127.0.0.1:{port}", "--root-certificates", authority),
                    *("--auth-supernode-private-key", str(folder / f"node-{number}"), "--port", str(free_port())),
                )
            )
        yield control
        control.close()
    finally:
        for process in reversed(started):
            process.terminate()
        for process in started:
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(_STOP_S)


def _process(folder: Path, name: str, script: str, *arguments: str) -> subprocess.Popen[bytes]:
    scripts = Path(sys.executable).parent
    environment = {
        **os.environ,
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "FLWR_HOME": str(folder / "flower"),
        "PATH": os.pathsep.join([str(scripts), os.environ.get("PATH", os.defpath)]),
    }
    with (folder / f"{name}.log").open("wb") as log:
        return subprocess.Popen(
            [str(scripts / script), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder / "flower",
            env=environment,
        )


def _answers(control: Any) -> bool:
    from shared.errors import DeploymentError

    try:
        control.nodes()
    except DeploymentError:
        return False
    return True


def _ended(control: Any, run: int) -> str:
    """Return how a run ended, nothing while it goes on, as far as SuperLink says."""
    from shared.errors import DeploymentError

    try:
        found = control.runs()[run]
    except DeploymentError:
        return ""
    return str(found.how) if found.over else ""


def _node_key(path: Path) -> str:
    """Write a node's key as ``ssh-keygen`` does, and return the public one as Flower knows it."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP384R1())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    path.touch(mode=0o600)
    path.write_bytes(private)
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo).decode()


def _start(control: Any, pyproject: str) -> int:
    """Start a run of the bundle that holds nothing but this file, and return Flower's id of it."""
    from flwr.cli.build import build_fab_from_files
    from flwr.common.serde import fab_to_proto
    from flwr.proto.control_pb2 import StartRunRequest
    from flwr.supercore.fab import Fab

    content, _ = build_fab_from_files({"pyproject.toml": pyproject.encode()})
    fab = Fab(hashlib.sha256(content).hexdigest(), content, {})
    return int(control._call("StartRun", StartRunRequest(fab=fab_to_proto(fab))).run_id)
