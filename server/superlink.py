"""Flower's own processes at the aggregator, and its Control API: register nodes, start, stop and list runs.

SuperLink and SuperExec (flwr 1.41.0) are reachable on 127.0.0.1 only. Whoever reaches the Control API may do anything,
so hospitals come through the gateway, which knows the Fleet API alone. The bundle that a run ships is two small files
whose digest never changes: the aggregator runs the installed ``server.app``, and hospitals do not even fetch it.
"""

from __future__ import annotations

import hashlib
import os
import socket
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared import files
from shared.errors import DeploymentError
from shared.supervisor import Program

FOLDER_VARIABLE = "CONSILIUM_AGGREGATOR"
"""Environment variable that tells the ServerApp the coordinator's folder."""

RUN_KEY = "run"
"""Key of Flower's run configuration that names the run's folder."""

_BUNDLE = b"""[project]
name = "consilium"
version = "1.0.0"
description = "Runs the installed Consilium; contains no code"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "consilium"

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.none:app"

[tool.flwr.app.config]
run = ""
"""

_QUIET = {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1", "FLWR_SUPEREXEC_TASK_POLL_INTERVAL": "0.5"}
_CONTROL_TIMEOUT_S = 10.0


def environment(folder: Path) -> dict[str, str]:
    """Return what Flower's processes get: a home of their own, no telemetry, our commands first."""
    home = folder / "flower"
    scripts = str(Path(sys.executable).parent)
    return {
        **_QUIET,
        "FLWR_HOME": str(home.resolve()),
        FOLDER_VARIABLE: str(folder.resolve()),
        "PATH": os.pathsep.join([scripts, os.environ.get("PATH", os.defpath)]),
        # Only installed code: neither the working folder nor what a shell happens to have set.
        "PYTHONPATH": "",
        "PYTHONSAFEPATH": "1",
    }


def programs(folder: Path, port: int) -> tuple[Program, Program]:
    """Return SuperLink and SuperExec.

    folder: the coordinator's.
    port: of SuperLink on 127.0.0.1.
    """
    folder = folder.resolve()
    home, certificates = folder / "flower", folder / "certificates"
    files.make_folder(home, files.FOLDER_MODE)
    secret = ("--superexec-auth-secret-file", str(folder / "secrets" / "superexec.secret"))
    authority = str(certificates / "loopback-ca.crt")
    superlink = Program(
        "superlink",
        (
            *(sys.executable, "-P", "-m", "server.superlink", "--host", "127.0.0.1", "--port", str(port)),
            *("--ssl-ca-certfile", authority, "--ssl-certfile", str(certificates / "loopback.crt")),
            *("--ssl-keyfile", str(folder / "secrets" / "loopback.key"), "--enable-supernode-auth"),
            *("--isolation", "process", *secret, "--disable-runtime-dependency-installation"),
            *("--database", str(folder / "state.db")),
        ),
        folder / "processes" / "superlink.log",
        environment(folder),
        ready=lambda: _answers(port),
        min_delay_s=0.5,
        max_delay_s=15.0,
        folder=home,
    )
    superexec = Program(
        "superexec",
        (
            *(_script("flower-superexec"), "--runtime-api-address", f"127.0.0.1:{port}"),
            *("--root-certificates", authority, *secret),
        ),
        folder / "processes" / "superexec.log",
        environment(folder),
        min_delay_s=0.5,
        max_delay_s=15.0,
        folder=home,
    )
    return superlink, superexec


def _script(name: str) -> str:
    return str(Path(sys.executable).parent / name)


def _answers(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=1.0):
        return True


@dataclass(frozen=True)
class FlowerRun:
    """One run as Flower sees it.

    over: whether it has ended, in whatever way; how: Flower's words for it.
    """

    id: int
    over: bool
    how: str


class Control:
    """SuperLink's Control API. Every method raises DeploymentError if it does not answer, or says no."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def nodes(self) -> Mapping[str, int]:
        """Return the ids of the registered nodes by their public keys, PEM."""
        from flwr.proto.control_pb2 import ListNodesRequest

        answer = self._call("ListNodes", ListNodesRequest())
        return {info.public_key.decode(): int(info.node_id) for info in answer.nodes_info if not info.unregistered_at}

    def register(self, flower_key: str, name: str) -> int:
        """Register a hospital's node by its public key, PEM, and return its id."""
        from flwr.proto.control_pb2 import RegisterNodeRequest

        answer = self._call("RegisterNode", RegisterNodeRequest(public_key=flower_key.encode(), name=name))
        return int(answer.node_id)

    def unregister(self, node_id: int) -> None:
        """Take a node's registration back; its key can never be registered again."""
        from flwr.proto.control_pb2 import UnregisterNodeRequest

        self._call("UnregisterNode", UnregisterNodeRequest(node_id=node_id))

    def start(self, run: str) -> int:
        """Start our ServerApp for the run in this folder, and return Flower's id of it."""
        from flwr.common.serde import fab_to_proto, user_config_to_proto
        from flwr.proto.control_pb2 import StartRunRequest
        from flwr.supercore.fab import Fab

        content = bundle()
        fab = Fab(hashlib.sha256(content).hexdigest(), content, {})
        request = StartRunRequest(fab=fab_to_proto(fab), override_config=user_config_to_proto({RUN_KEY: run}))
        return int(self._call("StartRun", request).run_id)

    def stop(self, run_id: int) -> None:
        """Stop a run."""
        from flwr.proto.control_pb2 import StopRunRequest

        self._call("StopRun", StopRunRequest(run_id=run_id))

    def runs(self) -> Mapping[int, FlowerRun]:
        """Return Flower's runs by id. Asking also lets SuperLink clean up after runs that are over."""
        from flwr.proto.control_pb2 import ListRunsRequest

        answer = self._call("ListRuns", ListRunsRequest())
        found = {}
        for run_id, run in answer.run_dict.items():
            status = run.status
            how = ":".join(part for part in (status.status, status.sub_status, status.details) if part)
            found[int(run_id)] = FlowerRun(int(run_id), status.status == "finished", how)
        return found

    def _call(self, name: str, request: Any) -> Any:
        import httpx

        try:
            return getattr(self._client, name)(request)
        except httpx.HTTPStatusError as error:
            raise DeploymentError(f"SuperLink refuses {name}: {error.response.status_code}.") from None
        except httpx.HTTPError as error:
            raise DeploymentError(f"SuperLink does not answer {name}: {type(error).__name__}. Is it running?") from None


def control(folder: Path, port: int) -> Control:
    """Return SuperLink's Control API; it connects when it is asked something.

    Raises: DeploymentError if the folder's certificates cannot be used.
    """
    from flwr.supercore.control.control_http_client import ControlHttpClient
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

    path = folder / "certificates" / "loopback-ca.crt"
    try:
        context = ssl.create_default_context(cafile=path)
    except OSError as error:
        raise DeploymentError(f"{path}: cannot be used: {error}. Was this folder made by init?") from None
    version = RuntimeVersionHttpInterceptor(component_name="flwr CLI")
    return Control(
        ControlHttpClient(
            f"https://127.0.0.1:{port}", interceptors=[version], verify=context, timeout=_CONTROL_TIMEOUT_S
        )
    )


def bundle() -> bytes:
    """Return the bundle (FAB) of every run: no code, the same bytes always."""
    from flwr.cli.build import build_fab_from_files

    content, _ = build_fab_from_files({"pyproject.toml": _BUNDLE})
    return content


def wait_longer() -> None:
    """Let SuperLink's requests wait a minute for each other at its database, where Flower gives them five seconds.

    Where hundreds of megabytes go through a slow disk, that is too short: SuperExec then ends on the first request that
    fails, and takes its runs along (measured; they begin anew, from their last round).
    """
    from flwr.supercore import constant

    pragmas = {**dict(constant.SQLITE_PRAGMAS), "busy_timeout": "60000"}
    constant.SQLITE_PRAGMAS = tuple(pragmas.items())  # type: ignore[assignment]  # as many pairs as before


def main() -> None:
    """Run SuperLink in this process; the arguments are its own."""
    wait_longer()
    # Not before: what it imports reads the settings.
    from flwr.superlink.cli import flower_superlink

    flower_superlink()


if __name__ == "__main__":
    main()
