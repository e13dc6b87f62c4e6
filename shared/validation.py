"""Say what is wrong with a file in its author's words: file, key, what was expected and received, the nearest key.

pydantic finds the faults; this module turns its error list into lines such as

    study.toml: [method] rounds: expected a valid integer. Received: 'ten'.
    study.toml: [method] roundz: unknown key. Did you mean 'rounds'?
"""

from __future__ import annotations

import dataclasses
import types
import typing
from typing import Any

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from shared.errors import nearest

_UNION_BRANCHES = {"str", "int", "float", "bool", "constrained-str"}
"""Names that pydantic puts into a location when a value fits no branch of ``str | int | float``."""


_EXPLAINED = "explained"
"""Type of a fault whose sentence was made by ``nested``."""


def explain(error: ValidationError, kind: type[Any], source: str, where: tuple[str, ...] = ()) -> str:
    """Return one line for each fault.

    error: what pydantic raised.
    kind: the dataclass that was being read; known keys come from it.
    source: what the file is called.
    where: the part of the file that ``kind`` stands for.
    """
    lines: dict[tuple[str, ...], str] = {}
    for fault in error.errors(include_url=False):
        inner = _inner(fault)
        lines.setdefault(inner, f"{source}: {_place(where + inner)}{_fault(fault, kind, inner)}")
    return "\n".join(lines.values())


def nested(error: ValidationError, kind: type[Any]) -> ValidationError:
    """Return what a validator raises for a part whose type another key chose: ``explain`` could not know the type.

    error: what pydantic raised while reading the part.
    kind: the dataclass that was chosen.
    """
    faults = [
        InitErrorDetails(
            type=PydanticCustomError(_EXPLAINED, "{sentence}", {"sentence": _fault(fault, kind, _inner(fault))}),
            loc=fault["loc"],
            input=None,
        )
        for fault in error.errors(include_url=False)
    ]
    return ValidationError.from_exception_data(kind.__name__, faults)


def _inner(fault: Any) -> tuple[str, ...]:
    return tuple(str(part) for part in fault["loc"] if str(part) not in _UNION_BRANCHES)


def _fault(fault: Any, kind: type[Any], inner: tuple[str, ...]) -> str:
    if fault["type"] == _EXPLAINED:
        return str(fault["msg"])
    if fault["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"unknown key. {nearest(inner[-1], _known_keys(kind, inner[:-1]))}"
    if fault["type"] in ("missing", "missing_argument", "missing_keyword_only_argument"):
        return "missing. Expected this key to be set."
    if fault["type"] == "too_short":
        return f"expected at least {fault['ctx']['min_length']} of them. Received: {fault['input']!r}."
    message = str(fault["msg"]).removeprefix("Value error, ").replace("Input should be ", "expected ", 1)
    received = "" if fault["type"] == "value_error" else f". Received: {fault['input']!r}"
    sentence = f"{message}{received}"
    return sentence if sentence.endswith((".", "?")) else f"{sentence}."


def _place(location: tuple[str, ...]) -> str:
    """Return ``[data.columns.age] range: `` for ``("data", "columns", "age", "range")``."""
    if not location:
        return ""
    if len(location) == 1:
        return f"[{location[0]}] "
    return f"[{'.'.join(location[:-1])}] {location[-1]}: "


def _known_keys(kind: Any, location: tuple[str, ...]) -> list[str]:
    """Return the field names of the dataclass that stands at ``location`` below ``kind``."""
    for part in location:
        kind = _strip(typing.get_type_hints(kind)[part]) if dataclasses.is_dataclass(kind) else _value_type(kind)
    return [field.name for field in dataclasses.fields(kind)] if dataclasses.is_dataclass(kind) else []


def _strip(hint: Any) -> Any:
    """Return ``X`` for ``X | None``; other hints as they are."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(branch for branch in typing.get_args(hint) if branch is not type(None))
    return hint


def _value_type(hint: Any) -> Any:
    """Return the type of the values of ``dict[str, X]`` or of the items of ``tuple[X, ...]``."""
    arguments = typing.get_args(hint)
    return _strip(arguments[1] if typing.get_origin(hint) is dict else arguments[0]) if arguments else None
