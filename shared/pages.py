"""What the reports of both halves have in common: one style sheet, and how their templates are filled in.

A page is one HTML file. It needs no network and runs no script; every text is escaped unless it is made as markup.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

_SHARED = Path(__file__).parent / "templates"


@cache
def environment(templates: Path) -> Environment:
    """Return jinja2's environment for a folder's templates, compiled once; ``head.html``, ``style.css`` are there, too.

    Names that a template uses and nobody gave are errors. The filter ``breakable`` lets a name be wrapped, and
    ``marked`` shows what stands between backticks as code.
    """
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader([templates, _SHARED]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"breakable": _breakable, "marked": _marked}
    return made


def _breakable(name: str) -> Markup:
    """Return a name that may be wrapped after an underscore."""
    from markupsafe import Markup, escape

    return Markup("_<wbr>").join(escape(name).split("_"))


def _marked(text: str) -> Markup:
    """Return a text in which what stands between backticks is marked as code."""
    from markupsafe import Markup

    parts = text.split("`")
    pieces = [Markup("<code>{}</code>").format(part) if index % 2 else part for index, part in enumerate(parts)]
    return Markup("").join(pieces)
