"""Everything that reaches the aggregator, and whether a name is in it, however it is written."""

from __future__ import annotations

import base64
import contextlib
import select
import socket
import ssl
import threading
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote


def disguises(name: str) -> set[bytes]:
    """Return a name as bytes in the ways in which software writes text; letters are lower case where case can differ.

    The whole name and each of its words; forwards and backwards; UTF-8, UTF-16, UTF-32; hex, base64, percent signs.
    """
    found: set[bytes] = set()
    for text in {name, *name.split()}:
        for case in (text, text.lower(), text.upper(), text.swapcase()):
            for spelled in (case, case[::-1]):
                for coding in ("utf-8", "utf-16-le", "utf-16-be", "utf-32-le"):
                    data = spelled.encode(coding)
                    found |= {data.lower(), data.hex().encode(), *_base64(data)}
                found.add(quote(spelled).lower().encode())
    return found


def _base64(data: bytes) -> Iterator[bytes]:
    """Yield base64 as it looks at each of the three places at which data may begin; in full, case counts."""
    for before in range(3):
        coded = base64.b64encode(bytes(before) + data)
        first, last = -(-8 * before // 6), 8 * (before + len(data)) // 6
        yield coded[first:last]


def hits(names: Iterable[str], evidence: Mapping[str, bytes]) -> list[tuple[str, str]]:
    """Return which name is where.

    evidence: bytes by where they were found.
    """
    found = []
    wanted = {name: disguises(name) for name in names}
    for where, data in evidence.items():
        folded = data.lower()
        found += [
            (name, where) for name, forms in wanted.items() if any(form in folded or form in data for form in forms)
        ]
    return found


def files_below(folder: Path) -> dict[str, bytes]:
    """Return every file of a folder by its name; what is in archives, too."""
    found = {}
    for path in sorted(folder.rglob("*")):
        with contextlib.suppress(FileNotFoundError):  # SQLite and processes come and go
            if not path.is_file():
                continue
            name = str(path.relative_to(folder))
            found[name] = name.encode() + b"\n" + path.read_bytes()
            if zipfile.is_zipfile(path):
                with zipfile.ZipFile(path) as archive:
                    found |= {f"{name}/{member}": archive.read(member) for member in archive.namelist()}
    return found


@dataclass(eq=False)
class Recorder:
    """Stands between the gateway and SuperLink, and takes down every byte that hospitals send, without TLS.

    server: the coordinator's folder.
    upstream: SuperLink's port.
    """

    server: Path
    upstream: int
    port: int = 0
    sent: list[bytearray] = field(default_factory=list)

    def __enter__(self) -> Recorder:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.server / "certificates" / "loopback.crt", self.server / "secrets" / "loopback.key")
        self._towards = ssl.create_default_context(cafile=self.server / "certificates" / "loopback-ca.crt")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(context,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    @property
    def evidence(self) -> dict[str, bytes]:
        """What was taken down, by connection."""
        return {f"connection {number}": bytes(data) for number, data in enumerate(self.sent)}

    def _accept(self, context: ssl.SSLContext) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(context, plain), daemon=True).start()

    def _serve(self, context: ssl.SSLContext, plain: socket.socket) -> None:
        taken = bytearray()
        self.sent.append(taken)
        with contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as near:
            onward = socket.create_connection(("127.0.0.1", self.upstream))
            with self._towards.wrap_socket(onward, server_hostname="localhost") as far:
                # One thread for both directions: an SSL object is not for two.
                while _pass_on(near, far, taken) and _pass_on(far, near, bytearray()):
                    if not (near.pending() or far.pending()):
                        select.select([near, far], [], [])


def _pass_on(source: ssl.SSLSocket, target: ssl.SSLSocket, taken: bytearray) -> bool:
    """Pass on what is there, and return whether more may follow."""
    source.setblocking(False)
    try:
        while part := source.recv(65536):
            taken += part
            target.setblocking(True)
            target.sendall(part)
    except ssl.SSLWantReadError:
        return True
    return False
