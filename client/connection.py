"""The node's one connection: to the consortium's address, with the hospital's certificate, and nothing else.

Flower's Fleet API over HTTP (flwr 1.41.0, ``supernode/fleet_http_client.py``), with a TLS context of our own, because
Flower's has no client certificate. Flower's own loop is not used: it runs the code that the server ships, and ends its
process on an answer that it does not like.
"""

from __future__ import annotations

import contextlib
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flwr.app import Message

HEARTBEAT_S = 30.0
"""What the server is told; it takes a node for offline after missing two."""

_TIMEOUT_S = 60.0
_FIRST_BACKOFF_S, _LONGEST_BACKOFF_S = 0.05, 0.5


@dataclass(frozen=True)
class Address:
    """Where and as whom a node connects.

    server: ``host:port``.
    authority: certificate of the consortium's authority, PEM.
    certificate, key: the hospital's TLS certificate and its key, PEM.
    proxy: the hospital's outgoing proxy, such as ``http://proxy:3128``; None for none.
    """

    server: str
    authority: Path
    certificate: Path
    key: Path
    proxy: str | None = None

    def context(self) -> ssl.SSLContext:
        """Return a TLS 1.3 context that trusts the consortium's authority alone, and shows the hospital's certificate.

        Raises: OSError if a file cannot be read; ssl.SSLError if it holds no such thing.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cafile=self.authority)
        context.load_cert_chain(self.certificate, self.key)
        return context


class Fleet:
    """A node of the consortium.

    flower_key: the hospital's P-384 key, by which Flower knows the node.
    """

    def __init__(self, address: Address, flower_key: Any) -> None:
        import httpx
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
        from flwr.supernode.fleet_http_client import FleetHttpClient
        from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

        self._public = flower_key.public_key()
        context = address.context()
        signing = NodeAuthHttpInterceptor(flower_key, self._public)
        self._client = FleetHttpClient(
            f"https://{address.server}",
            verify=context,
            interceptors=[RuntimeVersionHttpInterceptor(component_name="SuperNode"), signing],
            timeout=_TIMEOUT_S,
        )
        # Flower's client knows no proxy but the environment's: the hospital's own setting decides alone.
        self._client._client.close()
        self._client._client = httpx.Client(verify=context, timeout=_TIMEOUT_S, trust_env=False, proxy=address.proxy)
        self._node: Any = None

    def activate(self) -> int:
        """Bring the node online and return its id.

        Raises: httpx.HTTPError.
        """
        from flwr.proto.fleet_pb2 import ActivateNodeRequest
        from flwr.proto.node_pb2 import Node
        from flwr.supercore.primitives.asymmetric import public_key_to_bytes

        request = ActivateNodeRequest(public_key=public_key_to_bytes(self._public), heartbeat_interval=HEARTBEAT_S)
        self._node = Node(node_id=self._client.ActivateNode(request).node_id)
        return int(self._node.node_id)

    def deactivate(self, node_id: int) -> None:
        """Take a node of this hospital offline: one that was killed counts as online for a minute.

        Raises: httpx.HTTPError.
        """
        from flwr.proto.fleet_pb2 import DeactivateNodeRequest

        self._client.DeactivateNode(DeactivateNodeRequest(node_id=node_id))

    @contextlib.contextmanager
    def heartbeats(self) -> Iterator[None]:
        """Say that the node is there, in a thread of its own, while the block runs."""
        stopped = threading.Event()
        thread = threading.Thread(target=self._beat, args=(stopped,), name="heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            stopped.set()
            thread.join(timeout=1.0)

    def _beat(self, stopped: threading.Event) -> None:
        from flwr.proto.heartbeat_pb2 import SendNodeHeartbeatRequest

        while not stopped.wait(HEARTBEAT_S * 0.6):
            # A server that is away is found by the loop's next request, after which the node may have another number.
            with contextlib.suppress(Exception):
                self._client.SendNodeHeartbeat(
                    SendNodeHeartbeatRequest(node=self._node, heartbeat_interval=HEARTBEAT_S)
                )

    def receive(self) -> Message | None:
        """Return the next message for this node, with its content; None if there is none, or its run is over by now.

        Raises: httpx.HTTPError; ConnectionError if its parts cannot be fetched.
        """
        import httpx
        from flwr.common.serde import message_from_proto
        from flwr.proto.fleet_pb2 import PullMessagesRequest
        from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
        from flwr.supercore.inflatable.inflatable_protobuf_utils import (
            make_confirm_message_received_fn_protobuf,
            make_pull_object_fn_protobuf,
        )
        from flwr.supercore.inflatable.inflatable_utils import (
            ObjectPullError,
            inflate_object_from_contents,
            pull_objects,
        )

        response = self._client.PullMessages(PullMessagesRequest(node=self._node))
        if not response.messages_list:
            return None
        header = message_from_proto(response.messages_list[0]).metadata
        objects = [tree.object_id for tree in iterate_object_tree(response.message_object_trees[0])]
        pull = make_pull_object_fn_protobuf(self._client.PullObject, self._node, header.run_id)
        confirm = make_confirm_message_received_fn_protobuf(
            self._client.ConfirmMessageReceived, self._node, header.run_id
        )
        try:
            contents = pull_objects(objects, pull, initial_backoff=_FIRST_BACKOFF_S, backoff_cap=_LONGEST_BACKOFF_S)
            confirm(header.message_id)
        except ObjectPullError:
            raise ConnectionError("a message's parts could not be fetched") from None
        except httpx.HTTPStatusError as error:
            # So SuperLink says that a run was stopped between the header and its parts.
            if error.response.status_code == HTTPStatus.FORBIDDEN:
                return None
            raise
        message: Any = inflate_object_from_contents(header.message_id, contents)
        message.metadata.__dict__["_message_id"] = header.message_id
        return message  # type: ignore[no-any-return]  # an inflated message

    def send(self, reply: Message, seconds: float) -> None:
        """Send a reply.

        seconds: how long it took to make.

        Raises: httpx.HTTPError.
        """
        from flwr.app.message import remove_content_from_message
        from flwr.common.serde import message_to_proto
        from flwr.proto.fleet_pb2 import PushMessagesRequest
        from flwr.supercore.inflatable.inflatable_object import (
            get_all_nested_objects,
            get_object_tree,
            no_object_id_recompute,
        )
        from flwr.supercore.inflatable.inflatable_protobuf_utils import make_push_object_fn_protobuf
        from flwr.supercore.inflatable.inflatable_utils import push_objects

        with no_object_id_recompute():
            reply.metadata.__dict__["_message_id"] = reply.object_id
            objects = get_all_nested_objects(reply)
            header = remove_content_from_message(reply) if reply.has_content() else reply
            response = self._client.PushMessages(
                PushMessagesRequest(
                    node=self._node,
                    messages_list=[message_to_proto(header)],
                    message_object_trees=[get_object_tree(reply)],
                    clientapp_runtime_list=[seconds],
                )
            )
            push = make_push_object_fn_protobuf(
                self._client.PushObject, self._node, reply.metadata.run_id, response.session_id
            )
            push_objects(objects, push, object_ids_to_push=set(response.objects_to_push))

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
