"""``consilium-simulate``: the researcher's command.

Nothing heavy is imported here: ``--help`` answers at once, and TensorFlow is loaded only by studies that need it.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from shared import console
from simulations import cli_privacy, cli_running, cli_tuning, options

app = console.application(
    "Try a federated study on one machine, with the code that real hospitals run.\n\n"
    "Begin with [bold]consilium-simulate demo[/bold], then [bold]consilium-simulate list[/bold].",
    needs_arguments=True,
)
study_app = typer.Typer(help="Write study files.", no_args_is_help=True)
app.add_typer(study_app, name="study")
app.add_typer(cli_tuning.app)
app.add_typer(cli_privacy.app)


@app.callback()
def _options(
    show: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version.",
            callback=console.version_printer("consilium-simulate"),
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Options before the command."""


@app.command()
def run(
    study: Annotated[str, typer.Argument(help="A study file, or the name of a shipped study (see `list`).")],
    sites: Annotated[int | None, typer.Option(help="Number of hospitals that the data are dealt to.")] = None,
    partition: Annotated[
        str | None,
        typer.Option(help="How: iid, dirichlet:A (labels), quantity:A (sizes), column:NAME (one hospital a value)."),
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Training rounds.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the study: split, partition, batches.")] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change any key of the study; repeatable."),
    ] = None,
    data_dir: options.DataDir = None,
    data: Annotated[
        Path | None, typer.Option(help="Your own data in one file or image folder, dealt out by --partition.")
    ] = None,
    site: Annotated[
        list[str] | None, typer.Option(metavar="NAME=PATH", help="Your own data, one hospital each; repeatable.")
    ] = None,
    output: Annotated[Path | None, typer.Option(help="Output folder; else runs/NAME, numbered.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the last checkpoint in the output folder.")
    ] = False,
    engine: Annotated[
        Literal["local", "ray"],
        typer.Option(help="Hospitals in this process, or in processes of Flower's own simulation (needs Ray)."),
    ] = "local",
    as_json: Annotated[
        bool, typer.Option("--json", help="Print metrics.json, and nothing else, on standard output.")
    ] = False,
) -> None:
    """Run a study: data in, a judged model out.

    STUDY is a study file, or the name of a shipped study (see `consilium-simulate list`).

    Leaves metrics.json, report.html, model/, checkpoint/ and run.log in the output folder.

    Example: consilium-simulate run heart_disease --rounds 100 --set method.options.C=0.5
    """
    given = {
        "simulation.sites": sites,
        "simulation.partition": None if partition is None else json.dumps(partition),
        "method.rounds": rounds,
        "study.seed": seed,
    }
    settings = [(key, str(value)) for key, value in given.items() if value is not None]
    outcome, folder = cli_running.run(
        study,
        settings + options.pairs("--set", changes),
        data_dir,
        data,
        options.pairs("--site", site),
        output=output,
        resume=resume,
        engine=engine,
    )
    if as_json:
        print((folder / "metrics.json").read_text(encoding="utf-8"), end="")
    else:
        cli_running.summarise(outcome, folder)


@app.command()
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the two runs.")] = Path("runs/demo"),
) -> None:
    """Train two models on data that come with scikit-learn: breast cancer (a table), then digits (images, needs keras).

    Takes about a minute. Overwrites nothing: the second time, choose another --output.
    """
    from shared.errors import DependencyMissing, OutputError

    names = ("breast_cancer", "digits_cnn")
    there = [output / name for name in names if os.path.lexists(output / name)]
    if there:
        raise OutputError(f"{there[0]}: exists already. Open the report in it, or choose another --output.")
    for name in names:
        print(f"\n{name}: five simulated hospitals")
        try:
            cli_running.summarise(*cli_running.run(name, [], None, None, [], output=output / name, resume=False))
        except DependencyMissing as error:
            print(f"skipped: {error}")


@app.command("list")
def list_() -> None:
    """Show the shipped studies and the data sets, with licence, attribution, and whether the files are here."""
    from rich.console import Console
    from rich.markup import escape
    from rich.padding import Padding

    from shared.errors import DatasetMissing
    from shared.study import load_study
    from simulations.datasets import DATASETS
    from simulations.datasets.base import locate

    console = Console()
    console.print("Studies: consilium-simulate run NAME", highlight=False)
    for name, path in options.shipped().items():
        study = load_study(path)
        console.print(f"\n[bold]{name}[/bold]  {study.method.name}, {study.simulation.dataset}", highlight=False)
        console.print(Padding(escape(study.study.question), (0, 0, 0, 2)), highlight=False)
    console.print("\nData sets", highlight=False)
    for dataset in DATASETS.values():
        try:
            folder = locate(dataset, None)
            where = dataset.origin if dataset.embedded else str(folder)
        except DatasetMissing:
            where = f"not here: {dataset.to_have_it}"
        console.print(f"\n[bold]{dataset.name}[/bold]  {escape(dataset.title)}\n  {escape(where)}", highlight=False)
        console.print(f"  {escape(dataset.licence)}\n  {escape(dataset.attribution)}", style="dim", highlight=False)


@app.command()
def fetch(
    name: Annotated[str, typer.Argument(help="A data set's name; see `list`.")],
    to: Annotated[Path | None, typer.Option(help="Folder to put it in; else the cache.")] = None,
) -> None:
    """Download a data set from its public home and check its SHA-256."""
    from shared.errors import DataError, nearest
    from simulations.datasets import DATASETS
    from simulations.datasets.base import fetch as download

    if name not in DATASETS:
        raise DataError(f"no data set {name!r}. {nearest(name, DATASETS)}")

    def show(file: str, received: int, expected: int) -> None:
        end = "\n" if received >= expected else "\r"
        print(f"{file}  {received:,} of {expected:,} bytes", end=end, file=sys.stderr, flush=True)

    folder = download(DATASETS[name], to, progress=show)
    print(f"{folder}: complete, SHA-256 checked")


@study_app.command("new")
def study_new(
    source: Annotated[Path, typer.Option("--from", help="A table (CSV, Parquet), an image folder or an .npz file.")],
    name: Annotated[str | None, typer.Option(help="Name of the study; else the file's.")] = None,
    output: Annotated[Path | None, typer.Option(help="Where to write it; else NAME.toml here.")] = None,
) -> None:
    """Draft a study file from your data; every guess is marked for you to confirm."""
    from shared import files
    from shared.errors import OutputError
    from simulations.draft import draft_study

    target = output or Path(f"{name or source.stem}.toml")
    if os.path.lexists(target):
        raise OutputError(f"{target}: exists already. Choose another --output.")
    text = draft_study(source, name)
    try:
        files.replace_text(target, text)
    except OSError as error:
        raise OutputError(f"{target}: cannot be written: {error.strerror}. Choose another --output.") from None
    then = shlex.join(["consilium-simulate", "run", str(target), "--data", str(source)])
    print(f"{target}: drafted. Read every line marked 'guess', then: {then}")


def main() -> None:
    """Run the command; errors that a user can mend are one message and an exit code, never a traceback."""
    # Read when the linear algebra library is loaded: it must not start more threads than a study will allow it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    console.run(app)


if __name__ == "__main__":
    main()
