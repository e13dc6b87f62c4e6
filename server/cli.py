"""``consilium-server``: the coordinator's command.

Each command calls the functions that do the work and prints what they return; nothing heavy is imported here.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server import cli_running
from shared import console

if TYPE_CHECKING:
    from shared.enrolment import EnrolmentRequest, Welcome

app = console.application(
    "For the [bold]coordinator[/bold]: enrol hospitals, run a study, hand out a report and a model.\n\n"
    "Begin with [bold]consilium-server init[/bold], then [bold]consilium-server enrol[/bold] for each hospital.",
    needs_arguments=True,
)

app.add_typer(cli_running.app)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="The coordinator's folder, of `consilium-server init`.")]
RequestFile = Annotated[Path, typer.Argument(metavar="REQUEST.json", help="The hospital's request.json.")]
Output = Annotated[
    Path | None,
    typer.Option(metavar="WELCOME.json", help="Where to write the welcome; else welcome-NAME.json here."),
]


@app.callback()
def _options(
    show: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=console.version_printer("consilium-server"), is_eager=True
        ),
    ] = False,
) -> None:
    """Options before the command."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder for the consortium.")],
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where hospitals will connect.")],
    name: Annotated[str | None, typer.Option(help="Name of the consortium; else the folder's.")] = None,
    host: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="A further DNS name or IP address of the server; repeatable."),
    ] = None,
) -> None:
    """Make the consortium: its certificate authority, the server's certificate, its keys.

    DIR is a new or an empty folder; nothing is overwritten.

    The address and every --host go into the server's certificate, and cannot change later.

    Example: consilium-server init danube --name "Danube consortium" --address fl.danube.example:9443 --host 192.0.2.7
    """
    from server import consortium
    from shared.enrolment import grouped

    made = consortium.init(folder, name or folder.resolve().name, address, host or [], datetime.now(UTC))
    print(f"{folder}: made for {made.name}, reached at {made.address}")
    print(f"server's certificate for  {', '.join(made.hosts)}")
    print(f"consortium's fingerprint  {grouped(made.fingerprint)}")
    print(f"\nTo back up, all below {folder}:")
    for part, why in consortium.BACKUP:
        print(f"  {part:<16} {why}")
    print(f"\nNext, for each hospital: consilium-server enrol {folder} REQUEST.json")


@app.command()
def enrol(
    folder: Folder,
    request: RequestFile,
    output: Output = None,
    fingerprint: Annotated[
        str | None,
        typer.Option(metavar="'XXXX XXXX ...'", help="What the hospital read to you: compared, and nothing is asked."),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: the fingerprint was compared before.")] = False,
) -> None:
    """Enrol a hospital: sign its certificate, take in its keys, put it on the roster.

    DIR is the coordinator's folder, REQUEST.json is the request.json of the hospital's `consilium-client init`.

    Anybody can send a request in a hospital's name: call it on a number that you know from elsewhere, and compare.

    Works while everything runs.

    Example: consilium-server enrol danube request.json --output WELCOME.json
    """
    from server import enrolment

    asked = enrolment.read_request(request)
    target = _new_file(output or Path(f"welcome-{asked.name}.json"))
    _compare(asked, fingerprint, yes)
    _hand_out(enrolment.enrol(folder, asked, datetime.now(UTC)), target)
    print("The other hospitals see the new member when they approve their next study: send them roster.json.")


@app.command()
def revoke(
    folder: Folder,
    name: Annotated[str, typer.Argument(help="The hospital's name; see `consilium-server roster`.")],
) -> None:
    """Revoke a hospital: its connections are cut, its keys are refused from now on, the roster is without it.

    DIR is the coordinator's folder, NAME is the hospital's name in `consilium-server roster`.

    Works while everything runs. To come back, it needs new TLS and Flower keys and has to be enrolled again.

    Example: consilium-server revoke danube Aarhus
    """
    from server import enrolment

    site = enrolment.revoke(folder, name, datetime.now(UTC))
    print(f"revoked {site.name}. Roster: {folder / enrolment.ROSTER}")


@app.command()
def renew(
    folder: Folder,
    request: Annotated[
        Path | None,
        typer.Argument(
            metavar="[REQUEST.json]", help="An enrolled hospital's new request.json; without: the server's."
        ),
    ] = None,
    output: Output = None,
    at_once: Annotated[
        bool, typer.Option("--at-once", help="Refuse the old certificate and Flower key now, not in 7 days.")
    ] = False,
) -> None:
    """Renew a hospital's certificate, or take its new keys; without a request, renew the server's own certificates.

    DIR is the coordinator's folder, REQUEST.json is a new request of a hospital, signed by its identity.

    What the hospital used before is let in for 7 more days; by then it has to have joined with its new welcome.

    Works while everything runs; after renewing the server's own, stop and start it before the old ones expire.

    Example: consilium-server renew danube request.json
    """
    from server import consortium, enrolment

    now = datetime.now(UTC)
    if request is None:
        print(f"server's certificates renewed, valid until {consortium.renew_servers(folder, now):%d %B %Y}")
        return
    asked = enrolment.read_request(request)
    target = _new_file(output or Path(f"welcome-{asked.name}.json"))
    _hand_out(enrolment.renew(folder, asked, now, at_once=at_once), target)


@app.command()
def roster(folder: Folder) -> None:
    """Show who is enrolled, with every fingerprint, until when each certificate is valid, and who was revoked.

    DIR is the coordinator's folder. Send its roster.json, which is signed, to hospitals before they approve a study.

    Example: consilium-server roster danube
    """
    from server import consortium, enrolment
    from shared.enrolment import grouped

    owner = consortium.read(folder)
    record = enrolment.read(folder)
    print(f"{grouped(owner.fingerprint)}  {owner.name} (the consortium)")
    for site in record.active:
        print(f"{grouped(site.member.fingerprint)}  {site.name}, certificate until {site.expires_at:%d %B %Y}")
    for site in record.sites:
        if site.revoked_at is not None:
            print(f"revoked on {site.revoked_at:%d %B %Y}  {site.name}")
    members = len(enrolment.read_roster(folder).members)
    print(f"\nroster of {members} hospital{'' if members == 1 else 's'}, signed: {folder / enrolment.ROSTER}")


# Commands of a running consortium follow here.


def _new_file(path: Path) -> Path:
    """Return the path, before anything is changed for what could then not be written there."""
    from shared.errors import OutputError

    if path.exists() or path.is_symlink():
        raise OutputError(f"{path}: exists already. Choose another --output.")
    if not path.parent.is_dir():
        raise OutputError(f"{path.parent}: no such folder. Choose another --output.")
    return path


def _compare(request: EnrolmentRequest, read_out: str | None, yes: bool) -> None:
    """Show who asks, and raise EnrolmentError unless the fingerprint is the hospital's."""
    from shared.enrolment import grouped, matches
    from shared.errors import EnrolmentError

    shown = grouped(request.fingerprint)
    print(f"\n    hospital      {request.name}\n    fingerprint   {shown}\n")
    refused = f"{request.name}: not enrolled. Nothing was changed."
    if read_out is not None:
        if not matches(read_out, request.fingerprint):
            raise EnrolmentError(
                f"the request's fingerprint is not the one of --fingerprint, so it is not the hospital's, or was read"
                f" wrongly: expected {shown}. Received: {read_out!r}. {refused}"
            )
        return
    if yes:
        return
    print("Call the hospital on a number that you know from elsewhere, and let it read its fingerprint to you.")
    try:
        same = typer.confirm("Is it the same, in all eight groups?")
    except typer.Abort:
        raise EnrolmentError(f"{refused} Without a terminal, use --fingerprint.") from None
    if not same:
        raise EnrolmentError(refused)


def _hand_out(welcome: Welcome, path: Path) -> None:
    from shared import files
    from shared.enrolment import grouped, to_text
    from shared.errors import OutputError

    try:
        files.replace_text(path, to_text(welcome))
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written: {error.strerror}. {welcome.name} is enrolled; with the same request,"
            " `consilium-server renew` writes the welcome again."
        ) from None
    print(f"{welcome.name}: its welcome is {path}. Send it to the hospital; nothing in it is secret.")
    print(f"It will ask for the consortium's fingerprint: {grouped(welcome.fingerprint)}")


def main() -> None:
    """Run the command; errors that a user can mend are one message and an exit code, never a traceback."""
    console.run(app)


if __name__ == "__main__":
    main()
