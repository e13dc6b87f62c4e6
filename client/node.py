"""The hospital's node: one process that asks the consortium for messages, answers them, and connects to nobody else.

It runs the code that is installed here. What the server ships is not even fetched, and a message of another kind gets
an error. TensorFlow is imported once in the life of the process. ``consilium-client start`` keeps it running.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared import console, files
from shared.errors import DeploymentError

if TYPE_CHECKING:
    from flwr.app import Message
    from flwr.clientapp import ClientApp

    from client.connection import Fleet

log = logging.getLogger("consilium.node")

_EAGER_S, _PATIENT_S = 0.1, 1.0
"""Between two questions to the server: while a study is at work, and otherwise."""
_AT_WORK_S = 60.0
_FIRST_RETRY_S, _LONGEST_RETRY_S = 0.5, 15.0

NODE_FILE = "node.json"
_UNAUTHORIZED, _CLIENT_ERRORS = 401, range(400, 500)


@dataclass(frozen=True, eq=False)
class Node:
    """What the loop works with.

    app: the hospital's Flower ClientApp.
    stopped: set when the process is asked to end.
    clock: seconds, from any zero.
    """

    fleet: Fleet
    app: ClientApp
    stopped: threading.Event
    clock: Callable[[], float] = time.monotonic

    def serve(self, node_id: int) -> None:
        """Answer messages until stopped. A server that is away is asked again, ever less often.

        A message may have been lost with an answer that broke off: the node then comes online anew, by which the
        aggregator sees that it has to ask again.

        Raises: DeploymentError if the consortium does not know this node.
        """
        retry, at_work, broken = _FIRST_RETRY_S, float("-inf"), False
        while not self.stopped.is_set():
            try:
                if broken:
                    self.fleet.deactivate(node_id)
                    self.fleet.activate()
                    broken = False
                message = self.fleet.receive()
            except Exception as error:
                check_known(error)
                broken = True
                log.warning("no answer from the consortium: %s; asking again in %.1f s", type(error).__name__, retry)
                self.stopped.wait(retry)
                retry = min(2 * retry, _LONGEST_RETRY_S)
                continue
            retry = _FIRST_RETRY_S
            if message is None:
                self.stopped.wait(_EAGER_S if self.clock() - at_work < _AT_WORK_S else _PATIENT_S)
                continue
            started = self.clock()
            # A reply whose header came and whose parts did not is waited for in vain: it is asked for anew then.
            broken = not self._send(self._reply(message, node_id), started)
            at_work = self.clock()

    def _reply(self, message: Message, node_id: int) -> Message:
        from flwr.app import Context, Error, RecordDict
        from flwr.app import Message as FlowerMessage
        from flwr.common.constant import ErrorCode

        context = Context(message.metadata.run_id, node_id, {}, RecordDict(), {})
        try:
            return self.app(message, context)
        except Exception as error:
            # Its text would travel. Messages of another kind, such as those of Flower's agents, end here too.
            log.warning(
                "a message of type %r was not answered: %s", message.metadata.message_type, type(error).__name__
            )
        hint = "this node answers Consilium's messages only"
        return FlowerMessage(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, hint), reply_to=message)

    def _send(self, reply: Message, started: float) -> bool:
        """Send a reply, and return whether it arrived whole; one that the server does not want any more is dropped."""
        try:
            self.fleet.send(reply, self.clock() - started)
        except Exception as error:
            check_known(error)
            if status_of(error) in _CLIENT_ERRORS:
                log.info("the server does not want the reply any more: its run is over")
                return True
            log.warning("a reply could not be sent: %s", type(error).__name__)
            return False
        return True


def status_of(error: Exception) -> int:
    """Return the HTTP status that an error is about; 0 for none."""
    return int(getattr(getattr(error, "response", None), "status_code", 0))


def check_known(error: Exception) -> None:
    """Raise DeploymentError if the server said that it does not know this node."""
    if status_of(error) == _UNAUTHORIZED:
        raise DeploymentError(
            "the consortium does not know this hospital's node, or not any more. Ask the coordinator whether this"
            " hospital is enrolled."
        ) from None


def run(folder: Path, stopped: threading.Event) -> None:
    """Connect, and answer until stopped.

    folder: the hospital's own.

    Raises: ConsiliumError saying what is wrong.
    """
    from client.app import client_app
    from client.connection import Fleet
    from client.deployment import address_of, desk_of
    from client.identity import load

    identity = load(folder)
    desk = desk_of(folder, identity)
    fleet = Fleet(address_of(folder, identity), identity.flower_key())
    try:
        node_id = _activate(folder, fleet, stopped)
        if node_id is None:
            return
        log.info("node=%d site=%s online", node_id, identity.name)
        app = client_app(lambda asked, message, _context: desk.answer(asked, message))
        with fleet.heartbeats():
            Node(fleet, app, stopped).serve(node_id)
        with contextlib.suppress(Exception):
            fleet.deactivate(node_id)
    finally:
        fleet.close()


def _activate(folder: Path, fleet: Fleet, stopped: threading.Event) -> int | None:
    """Bring the node online, however long the server is away; None if stopped before."""
    path, retry = folder / NODE_FILE, _FIRST_RETRY_S
    while not stopped.is_set():
        try:
            if path.exists():
                # A node that was killed counts as online for a minute, and could not come online again.
                with contextlib.suppress(Exception):
                    fleet.deactivate(int(files.read_json(path, DeploymentError, "Remove it.")["node_id"]))
            node_id = fleet.activate()
        except Exception as error:
            check_known(error)
            reason = f"{type(error).__name__} {status_of(error) or ''}".strip()
            log.warning("not online yet: %s; trying again in %.1f s", reason, retry)
            stopped.wait(retry)
            retry = min(2 * retry, _LONGEST_RETRY_S)
        else:
            files.replace_json(path, {"node_id": node_id}, files.SECRET_MODE)
            return node_id
    return None


def main(arguments: list[str] | None = None) -> None:
    """Run the node of the folder that is named: ``python -m client.node DIR``."""
    folder = Path((arguments or sys.argv[1:])[0])
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    for noisy in ("httpx", "httpcore", "flwr"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    stopped = threading.Event()

    def stop(_number: int, _frame: Any) -> None:
        stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    console.run(lambda: run(folder, stopped))


if __name__ == "__main__":
    main()
