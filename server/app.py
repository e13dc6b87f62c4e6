"""The aggregator's Flower ServerApp: SuperExec starts a process for each run, and this is what it does there.

Flower loads ``app`` by name from the installed package: the bundle that it ships holds no code of ours.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from server import deployment, enrolment, jobs, keeper, superlink
from server.transport import FlowerTransport, Node
from shared.provenance import code_digest, require_one_root

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Do the run that Flower's run configuration names."""
    require_one_root()
    folder = Path(os.environ[superlink.FOLDER_VARIABLE])
    run = folder / jobs.RUNS / str(context.run_config[superlink.RUN_KEY])
    keeper.write_process(run, int(context.run_id))

    def nodes() -> Mapping[str, Node]:
        by_key = enrolment.read(folder).nodes
        found = {}
        for info in grid.get_nodes():
            name = by_key.get(info.public_key.decode())
            if name is not None:
                found[name] = Node(int(info.node_id), str(info.last_activated_at))
        return found

    def enrolled() -> Mapping[str, bytes]:
        return {site.name: site.identity for site in enrolment.read(folder).active}

    transport = FlowerTransport(grid, enrolled, nodes)
    deployment.serve(run, deployment.Aggregator(folder, code_digest(), transport, enrolled, lambda: set(nodes())))
