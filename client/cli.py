"""``consilium-client``: the hospital's command.

This release simulates. The node that a hospital runs is not in it, so this command explains itself and does
nothing else.
"""

from __future__ import annotations

from typing import Annotated

import typer

from shared import console

app = console.application(
    "For the [bold]hospital[/bold]: see and approve what leaves, keep a budget, be able to prove it later.\n\n"
    "[bold]Not in this release.[/bold] Version 0.1 simulates hospitals on one machine and connects to nobody. Still to"
    " come here: the hospital's key, its own policy file, approving a study, the ledger of what was released, the node"
    " that takes part in a study.\n\n"
    "To see today what a study would compute from your table, on your own machine:"
    " [bold]consilium-simulate run STUDY --data FILE[/bold]",
)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    _show: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=console.version_printer("consilium-client"), is_eager=True
        ),
    ] = False,
) -> None:
    print(context.get_help())


def main() -> None:
    """Run the command: 0 after ``--help`` and ``--version``, 2 for anything that this release does not know."""
    console.run(app)


if __name__ == "__main__":
    main()
