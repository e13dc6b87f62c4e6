"""Requests as JSON, and the files ``bad_*.json`` and ``good_*.json``: what a site must refuse, and what it must answer.

``python -m tests.vectors.messages`` writes the files anew, and ``packed.json`` (``packed.py``). Secrets and nonces are
drawn by ``InsecureEntropy``, so the same files come out again. Bytes are in hex. A file that holds anything else than
its message is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ConfigDict, TypeAdapter

from shared.messages import ContributeRequest, Heading, Masking, Request
from tests.secure import STEPS, Step
from tests.vectors import bad, packed

FOLDER = Path(__file__).parent
WRITTEN = (
    *(
        "roll_with_an_old_nonce",
        "run_that_is_not_the_digest",
        "member_not_pinned",
        "join_wrongly_signed",
        "roll_of_two",
    ),
    *("keys_of_another_attempt", "keys_wrongly_signed", "key_of_low_order", "key_of_another_site", "own_keys_missing"),
    *("shares_for_other_holders", "bare_words", "box_changed", "three_maskers", "another_scale"),
    *("another_state_in_the_same_round", "survivor_and_dropped", "listed_as_dropped", "three_survivors"),
    *("receipt_for_another_state", "receipt_wrongly_signed"),
    *("second_reveal_with_another_list", "state_of_an_earlier_round", "round_again"),
)
"""Which bad messages have a file."""


@dataclass(frozen=True)
class _Array:
    dtype: str
    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True)
class _Contribute:
    """A ``ContributeRequest`` whose state is bytes."""

    heading: Heading
    sites: int
    counted: int
    state: Mapping[str, _Array]
    masking: Masking | None


_EXACT = ConfigDict(extra="forbid", strict=True, ser_json_bytes="hex", val_json_bytes="hex")
_WIRE: Mapping[Step, TypeAdapter[Any]] = {
    # A dataclass takes no configuration from outside: a tuple of one does.
    step: TypeAdapter(tuple[_Contribute if kind is ContributeRequest else kind], config=_EXACT)  # type: ignore[arg-type, misc]
    for kind, step in STEPS.items()
}


def to_json(request: Request) -> dict[str, Any]:
    """Return a request as JSON values."""
    wire: Any = request
    if isinstance(request, ContributeRequest):
        state = {name: _to_bytes(array) for name, array in request.state.items()}
        wire = _Contribute(request.heading, request.sites, request.counted, state, request.masking)
    content: dict[str, Any] = json.loads(_WIRE[STEPS[type(request)]].dump_json((wire,)))[0]
    return content


def _to_bytes(array: np.ndarray[Any, Any]) -> _Array:
    little = array.astype(array.dtype.newbyteorder("<"))
    return _Array(little.dtype.str, array.shape, little.tobytes())


def from_json(step: Step, content: Mapping[str, Any]) -> Request:
    """Return the request that JSON values are.

    Raises: ValueError for anything else than what ``to_json`` returns.
    """
    wire = _WIRE[step].validate_json(json.dumps([content]))[0]
    if isinstance(wire, _Contribute):
        state = {
            name: np.frombuffer(array.data, dtype=np.dtype(array.dtype)).reshape(array.shape)
            for name, array in wire.state.items()
        }
        wire = ContributeRequest(wire.heading, wire.sites, wire.counted, state, wire.masking)
    if to_json(wire) != content:
        raise ValueError("expected the one way in which this message is written")
    request: Request = wire
    return request


def files() -> dict[str, dict[str, Any]]:
    """Return the content of every file, by its name."""
    made: dict[str, dict[str, Any]] = {}
    for state, (step, _) in bad.ASKED.items():
        made[f"good_{state}.json"] = {
            "about": f"the honest request where the site stands so: {state}",
            "site_state": state,
            "step": step,
            "request": to_json(bad.talk().request(state)),
        }
    for name in WRITTEN:
        message = bad.messages()[name]
        made[f"bad_{name}.json"] = {
            "about": message.about,
            "site_state": message.state,
            "step": STEPS[type(message.request)],
            "request": to_json(message.request),
            "code": message.code,
        }
    return made


def main() -> None:
    """Write the files anew."""
    for name, content in files().items():
        (FOLDER / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    packed.write()


if __name__ == "__main__":
    main()
