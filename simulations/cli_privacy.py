"""The commands of ``consilium-simulate`` about privacy: sweep and audit."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simulations import options

if TYPE_CHECKING:
    from shared.study import Study
    from simulations.hospitals import Hospitals

app = typer.Typer()


@app.command()
def sweep(  # noqa: PLR0917 - one parameter for each option
    study: options.StudyArgument,
    epsilon: Annotated[str, typer.Option(metavar="E,E,...", help="Budgets to try.")] = "0.5,1,2,4,8",
    seeds: Annotated[int, typer.Option(help="Runs at each epsilon, each with another split.", min=1, max=1000)] = 5,
    changes: options.Changes = None,
    data_dir: options.DataDir = None,
    data: options.Data = None,
    site: options.Site = None,
    output: Annotated[Path | None, typer.Option(help="Output folder; else runs/NAME-sweep, numbered.")] = None,
) -> None:
    """Draw how good a private study's model is at each epsilon, and without noise.

    The metrics are exact, as only a simulation knows them: mean and spread over seeds.

    Leaves sweep.html and sweep.json in the output folder.

    Example: consilium-simulate sweep heart_disease_private --epsilon 1,2,5 --seeds 10
    """
    from simulations import sweep as sweeping
    from simulations import sweep_page

    chosen, paths = _chosen(study, changes, site)
    sweeping.check(chosen)
    epsilons = sweeping.epsilons_of(epsilon)
    # Data that cannot be read leave no folder behind.
    _hospitals(chosen, data_dir, data, paths)
    folder = options.new_folder(f"{chosen.name}-sweep", output)
    found = sweeping.sweep(chosen, lambda one: _hospitals(one, data_dir, data, paths), epsilons, seeds, _say)
    sweep_page.write(found, folder)
    _table(sweep_page.rows(found), f"{chosen.name}: mean and standard deviation over {found.seeds} runs")
    _places(folder, sweep_page.PAGE, sweep_page.JSON)


@app.command()
def audit(  # noqa: PLR0917 - one parameter for each option
    study: options.StudyArgument,
    runs: Annotated[
        int | None,
        typer.Option(
            help="Runs with canaries; else as many as could contradict the study's epsilon.", min=1, max=10_000
        ),
    ] = None,
    canaries: Annotated[int | None, typer.Option(help="Most canaries in a run.", min=2, max=10_000)] = None,
    shadows: Annotated[
        int | None,
        typer.Option(help="Shadow models of LiRA; 0 for none. Else 24, or 4 for a network.", min=0, max=10_000),
    ] = None,
    changes: options.Changes = None,
    data_dir: options.DataDir = None,
    data: options.Data = None,
    site: options.Site = None,
    output: Annotated[Path | None, typer.Option(help="Output folder; else runs/NAME-audit, numbered.")] = None,
) -> None:
    """Attack a study on its own data, model and settings: who trained the model, who was in the data?

    Membership inference looks at the released model. Canaries, invented patients as extreme as the study's contract
    allows, are guessed from all that the aggregator sees; that gives a lower bound on epsilon, with 95 % confidence.
    Without noise it is also counted how many patients stand alone in some number of a total.

    Leaves audit.html and audit.json in the output folder.

    Exit codes: 0 nothing contradicts the study's epsilon, 2 something you can mend, 3 something does.

    Example: consilium-simulate audit heart_disease_private
    """
    from simulations import audit as auditing
    from simulations import audit_page
    from simulations.local import gather

    chosen, paths = _chosen(study, changes, site)
    auditing.check(chosen)
    consortium = gather(chosen, _hospitals(chosen, data_dir, data, paths).raw)
    folder = options.new_folder(f"{chosen.name}-audit", output)
    effort = auditing.Effort(canaries, runs, shadows)
    found = auditing.audit(chosen, consortium.data, effort, _say)
    audit_page.write(found, folder)
    _table(audit_page.rows(found), chosen.name)
    _places(folder, audit_page.PAGE, audit_page.JSON)
    if found.contradictions:
        for sentence in found.contradictions:
            print(f"error: {sentence}", file=sys.stderr)
        raise typer.Exit(3)
    print(audit_page.verdict(found))


def _chosen(name: str, changes: list[str] | None, site: list[str] | None) -> tuple[Study, list[tuple[str, str]]]:
    """Return the study, and each hospital's own name and path."""
    from simulations.hospitals import check_dealing

    settings, paths = options.pairs("--set", changes), options.pairs("--site", site)
    study = options.study_of(name, settings)
    check_dealing(study, [key for key, _ in settings], paths)
    return study, paths


def _hospitals(study: Study, data_dir: Path | None, data: Path | None, paths: list[tuple[str, str]]) -> Hospitals:
    from simulations.hospitals import hospitals_of

    return hospitals_of(study, data_dir, data, paths)


def _say(what: str) -> None:
    print(what, file=sys.stderr, flush=True)


def _places(folder: Path, page: str, numbers: str) -> None:
    print(f"{'page':<8} {folder / page}\n{'numbers':<8} {folder / numbers}")


def _table(lines: list[list[str]], title: str) -> None:
    """Print a table whose first line is its heads."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    heads, *rows = lines
    table = Table(*map(escape, heads), title=escape(title), title_justify="left")
    for row in rows:
        table.add_row(*map(escape, row))
    Console().print(table)
