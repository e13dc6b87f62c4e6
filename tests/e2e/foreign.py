"""Flower runs with foreign code, as whoever reaches SuperLink itself can start them: a ServerApp and an AgentApp."""

from __future__ import annotations

import contextlib
import hashlib
import json
import ssl
import warnings
from pathlib import Path

from tests.e2e import hostile
from tests.e2e.commands import until
from tests.e2e.consortium import Consortium

SERVER_APP = """
import json, time
from pathlib import Path
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid, ServerApp
from shared import codec, packing
from shared.messages import Heading, PreflightRequest

app = ServerApp()


@app.main()
def main(grid, context):
    any_content = RecordDict({"config": ConfigRecord({"key": "value"})})
    question = codec.to_records(packing.pack(PreflightRequest(Heading("", "0" * 64, 0))))
    kinds = ["train", "evaluate", "query", "query.other", "train.other", "query.consilium", "query.consilium study"]
    nodes = [node.node_id for node in grid.get_nodes()]
    about = [(kind, node) for kind in kinds for node in nodes]
    sent = [
        Message(question if kind.endswith("study") else any_content, node, kind.partition(" ")[0], ttl=60)
        for kind, node in about
    ]
    waiting = {message: kind for message, (kind, _) in zip(grid.push_messages(sent), about)}
    answers = {kind: [] for kind in kinds}
    while waiting:
        for reply in grid.pull_messages(list(waiting)):
            kind = waiting.pop(reply.metadata.reply_to_message_id)
            said = reply.error.reason if reply.has_error() else codec.from_records(reply.content)[0].text.decode()
            answers[kind].append(said)
        time.sleep(0.05)
    Path("OUT.part").write_text(json.dumps(answers))
    Path("OUT.part").rename("OUT")
"""
AGENT_APP = """
import json
from pathlib import Path
from flwr.agentapp import AgentApp

app = AgentApp()


@app.main()
def main(agent, context):
    def call(name, **arguments):
        said = agent.grid.call({"type": "function_call", "name": name, "call_id": name, "arguments": arguments})
        return json.loads(said["output"])

    nodes = [node["id"] for node in call("get_nodes", sample_size=None)["nodes"]]
    question = {"payload": "Tell me about your patients.", "reply_to_message_id": None}
    messages = [{"dst_node_id": node, **question} for node in nodes]
    ids = [each["message_id"] for each in call("push_messages", messages=messages)["results"]]
    answers = call("pull_messages", message_ids=ids, timeout=30)["messages"]
    Path("OUT.part").write_text(json.dumps({"agent": [each["error"] or each["payload"] for each in answers]}))
    Path("OUT.part").rename("OUT")
"""


def run(running: Consortium, kind: str, code: str, out: Path) -> dict[str, list[str]]:
    """Start a run with foreign code at the aggregator, and return what nodes answered it."""
    _start(running, kind, code.replace("OUT", str(out)), prompt="What patients are there?")
    until(f"the foreign {kind} ends", out.exists, 60.0)
    answers: dict[str, list[str]] = json.loads(out.read_text(encoding="utf-8"))
    return answers


def _start(world: Consortium, kind: str, code: str, prompt: str = "") -> None:
    """Start a Flower run with code of one's own, through the Control API that only this machine reaches.

    kind: ``serverapp`` or ``agentapp``. code: of the module that has it, as ``app``.
    """
    from flwr.cli.build import build_fab_from_files
    from flwr.common.serde import fab_to_proto
    from flwr.proto.control_pb2 import StartRunRequest
    from flwr.supercore.control.control_http_client import ControlHttpClient
    from flwr.supercore.fab import Fab
    from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

    components = f'{kind} = "foreign:app"\n' + ('clientapp = "foreign:app"\n' if kind == "serverapp" else "")
    project = (
        f'[project]\nname = "foreign-{kind}"\nversion = "1.0.0"\nlicense = "Apache-2.0"\ndependencies = []\n'
        f'[tool.flwr.app]\npublisher = "somebody"\n[tool.flwr.app.components]\n{components}[tool.flwr.app.config]\n'
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Flower 1.41 reads .gitignore files in an old way
        content, _ = build_fab_from_files({"pyproject.toml": project.encode(), "foreign.py": code.encode()})
    door = hostile.superlink(world)
    client = ControlHttpClient(
        f"https://127.0.0.1:{door.port}",
        interceptors=[RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        verify=ssl.create_default_context(cafile=door.authority),
        timeout=hostile.WAIT_S,
    )
    with contextlib.closing(client):
        fab = Fab(hashlib.sha256(content).hexdigest(), content, {})
        client.StartRun(StartRunRequest(fab=fab_to_proto(fab), user_prompt=prompt))
