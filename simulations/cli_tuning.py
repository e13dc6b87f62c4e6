"""The command of ``consilium-simulate`` that chooses options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shared.errors import StudyError
from simulations import cli_running, options

if TYPE_CHECKING:
    from server.outcome import Outcome

app = typer.Typer()


@app.command()
def tune(  # noqa: PLR0917 - one parameter for each option
    study: options.StudyArgument,
    grid: Annotated[
        list[str] | None,
        typer.Option(metavar="OPTION=V,V,...", help="Values of an option to try; repeatable. Else the study's own."),
    ] = None,
    folds: Annotated[int | None, typer.Option(help="Parts of the training patients.", min=2, max=20)] = None,
    changes: options.Changes = None,
    data_dir: options.DataDir = None,
    data: options.Data = None,
    site: options.Site = None,
    output: Annotated[Path | None, typer.Option(help="Output folder; else runs/NAME, numbered.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the output folder.")
    ] = False,
) -> None:
    """Choose options by cross-validation over all hospitals, then run the study with them.

    Every combination of the values is trained on all but one fold of each hospital's training patients and judged on
    that fold. To do the same between hospitals, write it into the study file: `tuning.grid`, `tuning.folds`.

    Leaves what `run` leaves; the report shows every candidate.

    Example: consilium-simulate tune heart_disease --grid C=0.01,0.1,1,10 --folds 5
    """
    tried = options.pairs("--grid", grid)
    if len(dict(tried)) < len(tried):
        raise StudyError(f"--grid: expected each option once. Received: {', '.join(name for name, _ in tried)}")
    values = [(f"tuning.grid.{name}", _list(text)) for name, text in tried]
    given = [("tuning.folds", str(folds))] if folds else []
    settings = [*options.pairs("--set", changes), *values, *given]
    if options.study_of(study, settings).tuning is None:
        raise StudyError(f"{study}: expected values to try. Received: none. Give --grid OPTION=VALUE,VALUE")
    outcome, folder = cli_running.run(
        study, settings, data_dir, data, options.pairs("--site", site), output=output, resume=resume, command="tune"
    )
    _tell(outcome)
    cli_running.summarise(outcome, folder)


def _tell(outcome: Outcome) -> None:
    """Print what each candidate reached."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from server.tables import choice_table

    choice = choice_table(outcome)
    assert choice is not None
    table = Table("", "options", f"{choice.metric}, mean over the folds", "deviation", "", title="Candidates")
    for row in choice.rows:
        cells = (str(row.number), escape(row.options), row.mean, row.deviation, "chosen" if row.chosen else "")
        table.add_row(*cells, style="bold" if row.chosen else "")
    Console().print(table)


def _list(text: str) -> str:
    """Return ``0.1,1`` as TOML writes a list: ``[0.1, 1]``; what is no value of TOML is a text."""
    return f"[{', '.join(_value(each.strip()) for each in text.split(','))}]"


def _value(text: str) -> str:
    import tomllib

    try:
        tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return json.dumps(text)
    return text
