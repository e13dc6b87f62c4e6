"""``consilium-simulate``: the researcher's command.

Nothing heavy is imported here: ``--help`` answers at once, and TensorFlow is loaded only by studies that need it.
"""

from __future__ import annotations

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from shared import console
from simulations import cli_privacy, options

if TYPE_CHECKING:
    from server.outcome import Outcome
    from shared.metrics import Judgement
    from shared.study import Study
    from simulations.hospitals import Hospitals
    from simulations.local import Engine

app = console.application(
    "Try a federated study on one machine, with the code that real hospitals run.\n\n"
    "Begin with [bold]consilium-simulate demo[/bold], then [bold]consilium-simulate list[/bold].",
    needs_arguments=True,
)
study_app = typer.Typer(help="Write study files.", no_args_is_help=True)
app.add_typer(study_app, name="study")
app.add_typer(cli_privacy.app)

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder with a data set's files; else $CONSILIUM_DATA/NAME, then the cache."),
]


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
    data_dir: DataDir = None,
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
    outcome, folder = _run(
        study,
        settings + options.pairs("--set", changes),
        data_dir,
        data,
        options.pairs("--site", site),
        output,
        resume,
        engine,
    )
    if as_json:
        print((folder / "metrics.json").read_text(encoding="utf-8"), end="")
    else:
        _summarise(outcome, folder)


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
            _summarise(*_run(name, [], None, None, [], output / name, resume=False))
        except DependencyMissing as error:
            print(f"skipped: {error}")


@app.command("list")
def list_() -> None:
    """Show the shipped studies and the data sets, with licence, attribution, and whether the files are here."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from shared.errors import DatasetMissing
    from shared.study import load_study
    from simulations.datasets import DATASETS
    from simulations.datasets.base import locate

    console = Console()
    table = Table(
        "study", "method", "data set", "question", title="Studies: consilium-simulate run NAME", title_justify="left"
    )
    for name, path in options.shipped().items():
        study = load_study(path)
        table.add_row(name, study.method.name, study.simulation.dataset, escape(study.study.question))
    console.print(table)
    for dataset in DATASETS.values():
        try:
            where = "comes with scikit-learn" if dataset.embedded else str(locate(dataset, None))
        except DatasetMissing:
            where = f"not here: consilium-simulate fetch {dataset.name}"
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


def _run(
    study_name: str,
    settings: list[tuple[str, str]],
    data_dir: Path | None,
    data: Path | None,
    site_paths: list[tuple[str, str]],
    output: Path | None,
    resume: bool,
    engine: Literal["local", "ray"] = "local",
) -> tuple[Outcome, Path]:
    from server import output as folders
    from server.display import LiveLine
    from simulations.hospitals import check_dealing, hospitals_of
    from simulations.run import run as run_simulation

    runs_on = _engine(engine)
    study: Study = options.study_of(study_name, settings)
    check_dealing(study, [key for key, _ in settings], site_paths)
    hospitals: Hospitals = hospitals_of(study, data_dir, data, site_paths)
    folder = folders.choose(study, output, resume)
    try:
        with LiveLine(study.method.rounds) as display:
            return run_simulation(study, hospitals, folder, resume, display, runs_on), folder
    except KeyboardInterrupt:
        again = shlex.join(["consilium-simulate", "run", study_name, "--output", str(folder), "--resume"])
        where = f"interrupted: what is finished is in {folder / 'checkpoint'}"
        print(f"{where}; go on with {again} and the options of before", file=sys.stderr)
        raise typer.Exit(130) from None


def _engine(name: Literal["local", "ray"]) -> Engine:
    """Return what the study runs on; what it needs is looked for before any data are read."""
    if name == "local":
        from simulations.local import in_turn

        return in_turn
    from simulations import ray

    ray.require()
    return ray.on_ray


def _summarise(outcome: Outcome, folder: Path) -> None:
    """Print the table that answers the question, and where the report is."""
    from rich.console import Console
    from rich.table import Table

    from shared.wording import value_text

    def cells(judgement: Judgement) -> list[str]:
        (name, first), *others = judgement.metrics.items()
        interval = " to ".join(value_text(name, bound) for bound in (first.low, first.high))
        return [f"{value_text(name, first.value)} ({interval})", *(value_text(each, it.value) for each, it in others)]

    main, *others = (name.replace("_", " ") for name in outcome.federated.metrics)
    table = Table(
        "", f"{main} (95 %)", *others, title=f"On all {outcome.together.n} held-out rows", title_justify="left"
    )
    table.add_row("together", *cells(outcome.together), style="bold")
    if outcome.privacy:
        table.add_row("as released, noised", *cells(outcome.federated))
    if outcome.pooled:
        table.add_row("pooled", *cells(outcome.pooled))
    for name, judgement in outcome.local.items():
        table.add_row(f"{name} alone", *cells(judgement))
    Console().print(table)
    # Plain, because a console would read [brackets] in a path as markup, and break a long one.
    for what, name in (("report", "report.html"), ("metrics", "metrics.json"), ("model", "model")):
        print(f"{what:<8} {folder / name}")


def main() -> None:
    """Run the command; errors that a user can mend are one message and an exit code, never a traceback."""
    # Read when the linear algebra library is loaded: it must not start more threads than a study will allow it.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    console.run(app)


if __name__ == "__main__":
    main()
