"""The hospital's Flower ClientApp: one action, which hands every message to the desk and signs what comes back.

The same app serves a real node (``client/node.py``) and Flower's own simulation engine (``simulations/ray.py``). An
exception in it would reach the server with its text: nothing is raised here, whatever the desk is asked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shared import codec
from shared.errors import ProtocolError
from shared.packing import Packed

if TYPE_CHECKING:
    from flwr.app import Context, Message
    from flwr.clientapp import ClientApp

Answer = Callable[[Packed, str, Any], tuple[Packed, bytes]]
"""From a packed request, the id of its message and the Flower context to the packed reply and its signature."""


def client_app(answer: Answer) -> ClientApp:
    """Return the app.

    answer: such as ``client.desk.Desk.answer``.
    """
    from flwr.app import Message as FlowerMessage
    from flwr.clientapp import ClientApp as FlowerClientApp

    app = FlowerClientApp()

    @app.query(codec.MESSAGE_TYPE.partition(".")[2])
    def consilium(message: Message, context: Context) -> Message:
        try:
            asked, _ = codec.from_records(message.content)
        except ProtocolError:
            asked = Packed(b"")
        packed, signature = answer(asked, message.metadata.message_id, context)
        return FlowerMessage(codec.to_records(packed, signature), reply_to=message)

    return app
