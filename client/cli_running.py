"""The commands of ``consilium-client`` for a hospital at work: start, status, ledger, audit."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The hospital's folder, made by `init`.")]
DataName = Annotated[
    str | None,
    typer.Option("--data", metavar="NAME", help="Name of the data in site.toml; needed only if it is not clear."),
]


@app.command()
def start(
    folder: Folder,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for a consortium that is away; else end with exit code 2.")
    ] = True,
) -> None:
    """Look whether everything is as it must be, then run the node until Ctrl-C or SIGTERM.

    DIR is the hospital's folder, made by `init`. What is wrong is said first, in plain words, with exit code 2.

    The node connects to the consortium's address only, answers approved studies only, and is started again when it
    ends. docs/samples has a service for systemd.

    Example: consilium-client start charite
    """
    from client import running

    running.start(folder, lambda line: print(line, flush=True), wait)


@app.command()
def status(
    folder: Folder,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")] = False,
) -> None:
    """Show whether the node runs and is connected, what of each study has left, and the last of the record.

    DIR is the hospital's folder, made by `init`. Works while the node runs, and reads only.

    Example: consilium-client status charite
    """
    import dataclasses
    import json

    from client.status import describe, gather
    from shared.provenance import code_digest

    found = gather(folder, code_digest(), datetime.now(UTC))
    print(json.dumps(dataclasses.asdict(found), indent=2) if as_json else describe(found))


@app.command()
def ledger(
    folder: Folder,
    study: Annotated[Path | None, typer.Argument(metavar="[STUDY]", help="What would this study file cost?")] = None,
    data: DataName = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs: one JSON object.")] = False,
) -> None:
    """Show what was spent of the privacy budget, by study and day, what is left, and what a study would cost.

    DIR is the hospital's folder, made by `init`; STUDY a study file, as the coordinator sent it. Reads only. A ledger
    that was changed, cut or replaced by an older one is named with its line, and exit code 2. Note the number of lines
    and the digest in another place: they prove later that no charge was taken back.

    Example: consilium-client ledger charite heart_disease.toml
    """
    import json

    from client import cli_ledger

    found = cli_ledger.sheets(folder)
    plan = cli_ledger.planned(folder, study, data) if study else None
    print(json.dumps(cli_ledger.plain(found, plan), indent=2) if as_json else cli_ledger.text(found, plan))


class _AuditAction(StrEnum):
    VERIFY = "verify"
    SHOW = "show"


@app.command()
def audit(
    folder: Folder,
    action: Annotated[_AuditAction, typer.Argument(metavar="verify|show", help="What to do with the record.")],
    lines: Annotated[int | None, typer.Option("--last", min=1, metavar="N", help="With show: only the last N.")] = None,
) -> None:
    """Verify the record of everything that left this hospital, or show it in words.

    DIR is the hospital's folder, made by `init`. The record is DIR/audit.jsonl.

    verify: names the first line that was changed, is missing or was moved, with exit code 2. Note the digest that it
    prints in another place: it proves later that nothing before it was rewritten.

    show: one line for each event, in words.

    Example: consilium-client audit charite verify
    """
    from client import record
    from shared import audit as audit_record

    if action is _AuditAction.VERIFY:
        print(audit_record.verify(folder))
        return
    for line in record.in_words(record.lines(folder), lines):
        print(line)
