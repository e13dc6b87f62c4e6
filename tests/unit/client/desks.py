"""A hospital that approved a study without secure aggregation, and its desk: one question, one answer."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from typer.testing import CliRunner

from client import approval, cli, identity
from client.deployment import desk_of
from client.desk import Desk
from server.strategies import server_optimizer
from shared import packing
from shared.messages import ContributeRequest, EndRequest, Heading, PreflightRequest, Reply, Request
from shared.plan import plan_of
from shared.study import Study, load_study
from tests.unit.client.hospitals import SETTINGS, STUDY, joined

BARE = STUDY + "[aggregation]\nsecure = false\n"


def hospital(folder: Path) -> Path:
    """Make a hospital that approved the study for one run; return its folder."""
    north = joined(folder, "north", "south", "west")["north"]
    (folder / "small.toml").write_text(BARE)
    (north / "site.toml").write_text(SETTINGS + "[policy]\nunmasked = true\nruns = 1\n")
    approve(north)
    return north


def approve(north: Path) -> None:
    arguments = ["approve", north, north.parent / "small.toml", "--roster", north.parent / "ROSTER.json", "--yes"]
    result = CliRunner().invoke(cli.app, [str(each) for each in arguments], catch_exceptions=False)
    assert 0 == result.exit_code, result.output


def study_of(north: Path) -> Study:
    return load_study(north.parent / "small.toml")


def opened(north: Path) -> Desk:
    """The desk of a node that was just started."""
    return desk_of(north, identity.load(north))


def contribute(north: Path, number: int = 1, run: str = "run") -> ContributeRequest:
    study = study_of(north)
    return ContributeRequest(Heading(run, study.digest, number), 3, 0, plan_of(study, server_optimizer(study)).start())


def preflight(north: Path) -> PreflightRequest:
    return PreflightRequest(Heading("", study_of(north).digest, 0))


def end(north: Path, run: str = "run") -> EndRequest:
    return EndRequest(Heading(run, study_of(north).digest, 4), finished=True)


def asked(desk: Desk, request: Request) -> Reply:
    packed, _ = desk.answer(packing.pack(request), "message")
    reply: Reply = packing.unpack(packed, *get_args(Reply))
    return reply


def state_of(north: Path) -> Path:
    return north / approval.STATES / study_of(north).digest
