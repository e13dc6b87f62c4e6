"""What the three commands share: how they look, how they answer ``--version``, and how they end.

An error of ours is one message on standard error and its exit code; it is never a traceback.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import version

import typer

from shared.errors import ConsiliumError
from shared.provenance import require_one_root


def application(explanation: str, *, needs_arguments: bool = False) -> typer.Typer:
    """Return an empty command.

    explanation: what ``--help`` begins with.
    needs_arguments: whether the command without any shows its help and ends with exit code 2.
    """
    return typer.Typer(
        help=explanation,
        no_args_is_help=needs_arguments,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        add_completion=False,
    )


def version_printer(command: str) -> Callable[[bool], None]:
    """Return the callback of a ``--version`` option."""

    def show(wanted: bool) -> None:
        if wanted:
            print(f"{command} {version('consilium')}")
            raise typer.Exit

    return show


def run(app: Callable[[], None]) -> None:
    """Run a command, after checking that all packages come from one place."""
    try:
        require_one_root()
        app()
    except ConsiliumError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
