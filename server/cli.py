"""``consilium-server``: the coordinator's command.

This release simulates. The aggregator that hospitals connect to is not in it, so this command explains itself and does
nothing else.
"""

from __future__ import annotations

from typing import Annotated

import typer

from shared import console

app = console.application(
    "For the [bold]coordinator[/bold]: enrol hospitals, run a study, hand out a report and a model.\n\n"
    "[bold]Not in this release.[/bold] Version 0.1 simulates hospitals on one machine. Still to come here: enrolling"
    " hospitals and their keys, serving a study over the network, resuming after a crash, the audit file.\n\n"
    "What works today is the same loop with simulated hospitals: [bold]consilium-simulate demo[/bold]",
)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    _show: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=console.version_printer("consilium-server"), is_eager=True
        ),
    ] = False,
) -> None:
    print(context.get_help())


def main() -> None:
    """Run the command: 0 after ``--help`` and ``--version``, 2 for anything that this release does not know."""
    console.run(app)


if __name__ == "__main__":
    main()
