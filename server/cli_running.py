"""The commands of ``consilium-server`` for a consortium at work: start, run, stop, status, audit."""

from __future__ import annotations

import json
import shlex
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from server.jobs import Job

app = typer.Typer()

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The coordinator's folder, of `consilium-server init`.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")]


@app.command()
def start(
    folder: Folder,
    superlink_port: Annotated[
        int, typer.Option(metavar="PORT", help="SuperLink's port on 127.0.0.1; else a free one.", min=0, max=65535)
    ] = 0,
    gateway: Annotated[
        bool,
        typer.Option("--gateway/--no-gateway", help="Without it, your own proxy lets hospitals in (docs/samples)."),
    ] = True,
) -> None:
    """Run the aggregator: hospitals connect to it, and runs that were asked for are done.

    It keeps three processes running: Flower's SuperLink and SuperExec, which only this machine reaches, and the
    gateway, the one public port, which lets in hospitals that are enrolled. What dies is started again.

    Ctrl-C or SIGTERM ends it. Runs that are not over go on after the next start, without anybody typing anything.

    Example: consilium-server start danube
    """
    from server import running

    running.start(folder, lambda line: print(line, flush=True), superlink_port, gateway)


@app.command()
def run(
    folder: Folder,
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study file that the hospitals approved.")],
    as_json: Json = False,
    at_least: Annotated[
        int,
        typer.Option(
            metavar="N", help="Begin once so many hospitals can take part; else the study's min_sites.", min=0
        ),
    ] = 0,
    detach: Annotated[bool, typer.Option("--detach", help="Do not wait for the end: print the run's name.")] = False,
) -> None:
    """Run a study on the enrolled hospitals that have approved it, and show how it goes on.

    The run is the aggregator's: Ctrl-C ends this display, not the run. `status` and `run` of `DIR/runs/NAME` show it,
    `stop` ends it. It needs `consilium-server start DIR` at work, here or in a service.

    It begins as soon as the min_sites of the study can take part, or --at-least so many; the others are left out, by
    name, to its end.

    Leaves the same files as `consilium-simulate run` in DIR/runs/NAME: metrics.json, report.html, model/.

    Exit codes: 0 done, 2 something you can mend, 3 given up or stopped, 130 display interrupted.

    Example: consilium-server run danube heart_disease.toml
    """
    from server import following, jobs
    from server.display import LiveLine
    from shared.plan import exchanges

    job = _job(folder, study, at_least)
    if detach:
        print(job.name)
        return
    try:
        with LiveLine(job.study.method.rounds, exchanges(job.study)) as display:
            display.say(f"{job.name}: asking the enrolled hospitals")
            following.follow(job, display, lambda: following.aggregator_runs(folder))
    except KeyboardInterrupt:
        stop_it = shlex.join(["consilium-server", "stop", str(folder), job.name])
        typer.echo(
            f"{job.name} goes on; look at it with `consilium-server status {folder}`, end it: {stop_it}", err=True
        )
        raise typer.Exit(130) from None
    following.refuse_unfinished(job)
    if as_json:
        print((job.folder / "metrics.json").read_text(encoding="utf-8"), end="")
        return
    for line in following.summary(following.metrics(job)):
        print(line)
    for site, code, why in following.left_out(jobs.read_status(job)):
        print(f"left out: {site} ({code}): {why}")
    for what, name in (("report", "report.html"), ("metrics", "metrics.json"), ("model", "model")):
        print(f"{what:<8} {job.folder / name}")


def _job(folder: Path, study: Path, at_least: int) -> Job:
    """Return a new run of a study file, or the one in the folder of a run that is named."""
    from server import enrolment, jobs

    if (study / jobs.RUN).is_file():
        return jobs.read(study)
    enrolment.read(folder)
    return jobs.create(folder, study, datetime.now(UTC), at_least)


@app.command()
def stop(
    folder: Folder,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the run, as `status` shows it.")],
) -> None:
    """End a run for good. What is finished stays in its folder; hospitals forget its secrets.

    Example: consilium-server stop danube heart_disease
    """
    from server import jobs
    from shared import audit
    from shared.errors import DeploymentError, nearest

    known = {job.name: job for job in jobs.read_all(folder)}
    if name not in known:
        raise DeploymentError(f"{folder}: no run {name!r}. {nearest(name, known)}")
    job, now = known[name], datetime.now(UTC)
    state = jobs.read_status(job).state
    if state in jobs.FINAL:
        raise DeploymentError(f"{name}: is over already: {state}.")
    jobs.changed(job, now, "stopped", "stopped by the coordinator", exit_code=3)
    audit.append(folder, "stopped", now, id=job.id, name=job.name, study=job.study.digest)
    print(f"{name}: stopped")


@app.command()
def status(folder: Folder, as_json: Json = False) -> None:
    """Show the processes, the enrolled hospitals and when each was last seen, and the runs.

    Example: consilium-server status danube
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from server import following

    found = following.standing(folder)
    parts = {
        "processes": (("process", "state", "since", "restarts", "last end"), found.processes),
        "hospitals": (("hospital", "state", "last seen"), found.sites),
        "runs": (("run", "state", "how far", "message"), found.runs),
    }
    if as_json:
        everything = {**parts, "left_out": (("run", "hospital", "code", "why"), found.left_out)}
        plain = {
            title: [dict(zip(names, row, strict=True)) for row in rows] for title, (names, rows) in everything.items()
        }
        print(json.dumps(plain))
        return
    if not following.aggregator_runs(folder):
        print(f"The aggregator does not run. Start it with: consilium-server start {folder}")
    for title, (names, rows) in parts.items():
        table = Table(*names, title=title, title_justify="left")
        for row in rows:
            table.add_row(*map(escape, row))
        Console().print(table)
    for name, site, code, why in found.left_out:
        print(f"left out of {name}: {site} ({code}): {why}")


@app.command()
def audit(
    folder: Folder,
    what: Annotated[
        Literal["verify", "show"], typer.Argument(help="verify: hold the record against itself; show: print it.")
    ],
) -> None:
    """Check, or show, the record of who took part in what, when, with which digests.

    Every line holds the digest of the line before it: one that was changed, taken out or moved is named.

    Example: consilium-server audit danube verify
    """
    from shared import audit as record

    if what == "verify":
        print(record.verify(folder))
    else:
        record.show(folder)
