"""How commands of ``consilium-simulate`` run a study, and what they print of it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import typer

from simulations import options

if TYPE_CHECKING:
    from server.outcome import Outcome
    from shared.metrics import Judgement
    from shared.study import Study
    from simulations.hospitals import Hospitals
    from simulations.local import Engine


def run(
    study_name: str,
    settings: list[tuple[str, str]],
    data_dir: Path | None,
    data: Path | None,
    site_paths: list[tuple[str, str]],
    *,
    output: Path | None,
    resume: bool,
    engine: Literal["local", "ray"] = "local",
    command: str = "run",
) -> tuple[Outcome, Path]:
    """Run a study, and return its outcome and the folder where it is.

    study_name: a file, or a shipped study's name; settings: changes of its keys.
    site_paths: each hospital's own name and path.
    command: what a person types to go on.
    """
    from server import output as folders
    from server.display import LiveLine
    from shared.plan import exchanges
    from simulations.hospitals import check_dealing, hospitals_of
    from simulations.run import run as run_simulation

    runs_on = _engine(engine)
    study: Study = options.study_of(study_name, settings)
    check_dealing(study, [key for key, _ in settings], site_paths)
    hospitals: Hospitals = hospitals_of(study, data_dir, data, site_paths)
    folder = folders.choose(study, output, resume)
    try:
        with LiveLine(study.method.rounds, exchanges(study)) as display:
            return run_simulation(study, hospitals, folder, resume, display, runs_on), folder
    except KeyboardInterrupt:
        again = shlex.join(["consilium-simulate", command, study_name, "--output", str(folder), "--resume"])
        where = f"interrupted: what is finished is in {folder / 'checkpoint'}"
        print(f"{where}; go on with {again} and the options of before", file=sys.stderr)
        raise typer.Exit(130) from None


def _engine(name: Literal["local", "ray"]) -> Engine:
    """Return what the study runs on; what it needs is looked for before any data are read."""
    if name == "local":
        from simulations.local import in_turn

        return in_turn
    from simulations import ray, ray_cluster

    ray_cluster.require()
    return ray.on_ray


def summarise(outcome: Outcome, folder: Path) -> None:
    """Print the table that answers the question, and where the report is."""
    from rich.console import Console
    from rich.table import Table

    from shared.wording import value_text

    def cells(judgement: Judgement) -> list[str]:
        (name, first), *others = judgement.metrics.items()
        interval = " to ".join(value_text(name, bound) for bound in (first.low, first.high))
        return [f"{value_text(name, first.value)} ({interval})", *(value_text(each, it.value) for each, it in others)]

    main, *others = (name.replace("_", " ") for name in outcome.federated.metrics)
    judged = f"On all {outcome.together.n} held-out {'patients' if outcome.together.by_patient else 'rows'}"
    table = Table("", f"{main} (95 %)", *others, title=judged, title_justify="left")
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
