"""What a site keeps on its disk of each approved study: where it stands, and the last thing that it said.

A site answers a question once. So its new state and its reply are written, in one file and one step, before the reply
leaves: a node that is killed after that says the same bytes again when it is asked the same again, and one that is
killed before has not answered. Secrets of the round in progress are not in the file; a node that lost them says so, and
the aggregator begins the round anew.

The file is the digest of a packed text and block (``shared/packing.py``), the text's length, and both; only its owner
can read it. ``client/differencing.py`` keeps what it has to remember in the same form.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from client.site import SiteState
from shared import files, packing
from shared.errors import ProtocolError, Refusal
from shared.packing import Packed

FILE = "state.bin"
_MAGIC = b"consilium site state 1\n"
_DIGEST_BYTES, _LENGTH_BYTES = 32, 8


@dataclass(frozen=True, eq=False)
class Kept:
    """Where a site stands in one approved study.

    state: see ``SiteState``.
    asked: digest of the last request that was answered; empty before the first.
    said: the answer's text; block: its arrays as bytes, shape (n,), uint8.
    released: how often each exchange's sum was released, by the exchange's number.
    """

    state: SiteState = field(default_factory=SiteState)
    asked: bytes = b""
    said: str = field(repr=False, default="")
    block: NDArray[np.uint8] = field(repr=False, default_factory=lambda: np.zeros(0, np.uint8))
    released: Mapping[str, int] = field(default_factory=dict)

    @property
    def reply(self) -> Packed:
        """The last answer."""
        return Packed(self.said.encode(), self.block.data if len(self.block) else b"")


def write(folder: Path, kept: Kept) -> None:
    """Replace what is kept in ``folder``; secrets of the round in progress are left out.

    Raises: Refusal ``disk`` if it cannot be written: what is not kept is not said.
    """
    secure = dataclasses.replace(kept.state.secure, keys=None, sharing=None, masked=None, revealed=None)
    packed = packing.pack(dataclasses.replace(kept, state=dataclasses.replace(kept.state, secure=secure)))
    write_file(folder / FILE, _MAGIC, packed)


def read(folder: Path) -> Kept:
    """Return what is kept in ``folder``; a fresh start where there is nothing.

    Raises: Refusal ``state-damaged``: going on from nothing could answer a question twice.
    """
    damaged = Refusal("state-damaged", "what the hospital's node kept of the study cannot be read: approve it anew")
    packed = read_file(folder / FILE, _MAGIC, damaged)
    if packed is None:
        return Kept()
    try:
        kept: Kept = packing.unpack(packed, Kept)
    except ProtocolError:
        raise damaged from None
    return kept


def write_file(path: Path, magic: bytes, packed: Packed) -> None:
    """Replace a file, mode 0600, in one step; its folder is made.

    magic: the file's first bytes: what it is.

    Raises: Refusal ``disk`` if it cannot be written.
    """

    def fill(file: BinaryIO) -> None:
        file.write(magic + packed.digest + len(packed.text).to_bytes(_LENGTH_BYTES, "big"))
        file.write(packed.text)
        file.write(packed.block)

    try:
        files.make_folder(path.parent, files.FOLDER_MODE)
        files.replace(path, fill, files.SECRET_MODE)
    except OSError as error:
        raise Refusal("disk", f"the hospital's node cannot write its state: {_why(error)}") from None


def read_file(path: Path, magic: bytes, damaged: Refusal) -> Packed | None:
    """Return what ``write_file`` wrote; None where there is no file.

    damaged: raised if it is anything else.

    Raises: Refusal ``disk`` if it cannot be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Refusal("disk", f"the hospital's node cannot read its state: {_why(error)}") from None
    length_at = len(magic) + _DIGEST_BYTES
    text_at = length_at + _LENGTH_BYTES
    text_end = text_at + int.from_bytes(content[length_at:text_at], "big")
    packed = Packed(content[text_at:text_end], memoryview(content)[text_end:])
    if not content.startswith(magic) or packed.digest != content[len(magic) : length_at]:
        raise damaged
    return packed


def _why(error: OSError) -> str:
    # The system's words for the number: what else an error says may be a path, or what a library put there.
    return os.strerror(error.errno) if error.errno else "no reason is given"
