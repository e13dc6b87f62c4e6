"""matplotlib figures as SVG elements that stand inside an HTML page.

The same drawing gives the same text: identifiers are salted with the chart's name, which also keeps them unique in a
page.
"""

from __future__ import annotations

import io
import os
import re
import tempfile
from collections.abc import Callable
from functools import cache
from typing import Any

GREY, INK = "#9a9a9a", "#3d3d3d"

_STYLE: dict[str, Any] = {
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelpad": 6.0,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
    "text.parse_math": False,
    "figure.constrained_layout.use": True,
}


def drawn(name: str, title: str, draw: Callable[[Any], None], size: tuple[float, float] = (4.4, 3.9)) -> str:
    """Return the chart as an ``<svg>`` element with a title.

    name: unique in a page; begins every identifier.
    size: width and height in inches of 72 SVG units; the page scales it.
    """
    matplotlib = _matplotlib()
    from matplotlib.figure import Figure

    text = io.StringIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**_STYLE, "svg.hashsalt": name})
        figure = Figure(figsize=size)
        draw(figure.add_subplot())
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(text.getvalue(), name, title)


def _inline(svg: str, name: str, title: str) -> str:
    """Return a matplotlib SVG file as an element of a page: no prologue or global style, own ids, short numbers."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<defs>\s*</defs>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"<[^>]+>", lambda tag: re.sub(r"-?\d+\.\d{3,}", _short, tag[0]), svg)  # never the texts between
    svg = re.sub(r"\s*\n\s*", "\n", svg)
    opening = f'<svg role="img" aria-labelledby="{name}-title"'
    return svg.replace("<svg", opening, 1).replace(">", f'><title id="{name}-title">{title}</title>', 1).strip()


def _short(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


@cache
def _matplotlib() -> Any:
    """Import matplotlib without the user's settings and without writing to the home folder, which may be read-only.

    Only the fonts that come with matplotlib are looked at: the page's own fonts replace them, their widths suffice.
    """
    with tempfile.TemporaryDirectory() as folder:
        own = {"MPLCONFIGDIR": folder, "MATPLOTLIBRC": folder, "MPL_IGNORE_SYSTEM_FONTS": "1", "MPLBACKEND": "svg"}
        before = {name: os.environ.get(name) for name in own}
        os.environ.update(own)
        try:
            import matplotlib
            import matplotlib.font_manager
        finally:
            for name, value in before.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
    return matplotlib
