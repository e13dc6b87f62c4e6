"""What a command leaves beside a table: one page and its numbers. A page needs no network and runs no script."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shared import files
from shared.errors import NotWritten
from shared.pages import environment

_TEMPLATES = Path(__file__).parent / "templates"


def render(page: str, about: Mapping[str, Any]) -> str:
    """Return the template of a page, filled in."""
    return environment(_TEMPLATES).get_template(page).render(about)


def write(folder: Path, page: tuple[str, str], numbers: tuple[str, Mapping[str, Any]]) -> None:
    """Write a page and its numbers into a folder that exists.

    page: name and text; numbers: name and content.

    Raises: NotWritten.
    """
    path = folder / page[0]
    try:
        files.replace_text(path, page[1])
        path = folder / numbers[0]
        files.replace_json(path, numbers[1])
    except OSError as error:
        raise NotWritten(path, error) from None
