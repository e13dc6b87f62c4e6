"""``consilium-client``: the hospital's command.

Nothing heavy is imported here: ``--help`` answers at once, and TensorFlow is loaded only by studies that need it.
"""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client import cli_running
from client.cli_running import DataName, Folder
from shared import console

if TYPE_CHECKING:
    from client.approval import Approval
    from shared.enrolment import EnrolmentRequest, Roster

app = console.application(
    "For the [bold]hospital[/bold]: see and approve what leaves, take part, be able to prove it later.\n\n"
    "Patients' data stay here; only sums leave, and only of studies that you approved. Begin with"
    " [bold]consilium-client init DIR --name NAME[/bold], then fill in DIR/site.toml.",
    needs_arguments=True,
)

StudyFile = Annotated[Path, typer.Argument(metavar="STUDY", help="A study file, as the coordinator sent it.")]
_SAY_YES = "Answer yes at a terminal, or give --yes."


@app.callback()
def _options(
    _show: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=console.version_printer("consilium-client"), is_eager=True
        ),
    ] = False,
) -> None:
    """Options before the command."""


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new folder for this hospital.")],
    name: Annotated[str, typer.Option(help="The hospital's name in the consortium: letters, digits, '.', '_', '-'.")],
) -> None:
    """Make the hospital's folder: its keys, its settings, and the request to be enrolled.

    Send DIR/request.json to the coordinator, and read the fingerprint to them over the phone. DIR/secrets never leaves.

    Example: consilium-client init charite --name Charite
    """
    from client import identity, settings

    request = identity.init(folder, name, datetime.now(UTC))
    settings.write_template(folder)
    print(f"{folder}: made. Keep a copy of {folder / 'secrets'} where only you can read it.")
    print(f"Next: fill in {folder / settings.FILE}.")
    _show_request(folder, request)


@app.command()
def join(
    folder: Folder,
    welcome: Annotated[Path, typer.Argument(metavar="WELCOME.json", help="What the coordinator sent back.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: the fingerprint was compared before.")] = False,
) -> None:
    """Take in what the coordinator sent back: the consortium's address and keys, and this hospital's certificate.

    WELCOME.json is that answer. Shows the consortium's fingerprint: go on only if it is the one that the coordinator
    reads to you over the phone.

    Example: consilium-client join charite WELCOME.json
    """
    from client import identity
    from client.welcome import read_welcome
    from shared import audit
    from shared.enrolment import grouped
    from shared.errors import EnrolmentError

    found = read_welcome(welcome)
    print(f"{found.consortium} at {found.address}")
    print(f"fingerprint  {grouped(found.fingerprint)}")
    if not yes and not _agreed("Is it the fingerprint that the coordinator read to you?"):
        raise EnrolmentError(f"{welcome}: not joined, nothing was changed. {_SAY_YES}")
    now = datetime.now(UTC)
    identity.join(folder, welcome, now)
    audit.append(folder, "joined", now, consortium=found.consortium, fingerprint=found.fingerprint)
    print(f"joined, with {len(found.roster.members)} member(s) on the roster")


@app.command()
def renew(
    folder: Folder,
    rotate: Annotated[
        str | None, typer.Option(metavar="KEY", help="Draw a new key, too: tls or flower. The signing key stays.")
    ] = None,
) -> None:
    """Write a new request, for a new certificate; the old one stays in use until you join the new welcome.

    Example: consilium-client renew charite --rotate tls
    """
    from typing import cast

    from client import identity

    now = datetime.now(UTC)
    if rotate is None:
        request = identity.renew(folder, now)
    else:
        request = identity.rotate(folder, cast("identity.Rotating", rotate), now)
    _show_request(folder, request)


@app.command()
def check(folder: Folder, study: StudyFile, data: DataName = None) -> None:
    """Read this hospital's data under a study's contract, and say what would leave. Nothing is sent or written.

    STUDY is a study file, as the coordinator sent it. Of one with noise, what it costs of the budget is said, too.

    Example: consilium-client check charite heart_disease.toml
    """
    from client import identity
    from client.review import review

    own = identity.load(folder)
    found = review(folder, study, own.name, own.signing, data)
    # The welcome's roster is as old as this hospital's enrolment; `approve` counts the members of the newest one.
    members = len(own.welcome.roster.members) if own.welcome else 0
    sites = max(members, found.fewest_sites())
    print(found.describe(sites))
    for sentence in found.violations(sites):
        print(f"\nYour own site.toml does not allow it. {sentence}")


@app.command()
def approve(
    folder: Folder,
    study: StudyFile,
    data: DataName = None,
    roster: Annotated[
        Path | None, typer.Option(metavar="ROSTER.json", help="The members, signed; else those of welcome.json.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask: the fingerprints were compared before.")] = False,
) -> None:
    """Approve a study: pin its members, freeze this hospital's patients, allow the code that is installed now.

    STUDY is a study file. Shows first what would leave, then every member's name and fingerprint; compare these with
    the other hospitals. What the policy in DIR/site.toml does not allow, or its budget does not cover, is refused.
    Approving again replaces the approval of before: with other members or patients, what changed could be found by
    subtracting new sums from old.

    Example: consilium-client approve charite heart_disease.toml --roster ROSTER.json
    """
    from client import approval, approving, costs, identity
    from client.locking import study_lock
    from client.review import changes, review, roster_for
    from shared.errors import ApprovalError
    from shared.provenance import code_digest

    own = identity.load(folder)
    members = roster_for(own.require_welcome(), own.signing.public, roster)
    found = review(folder, study, own.name, own.signing, data)
    proposal = found.proposal(members.identities, code_digest())
    print(found.describe(len(members.members)))
    approving.check_policy(proposal)
    before = approval.readable(folder, found.study.digest)
    if changed := changes(before, proposal):
        print(f"\n{changed}")
    _show_members(members, own.name)
    if not yes and not _agreed("Approve this study with these members?"):
        raise ApprovalError(f"{found.study.name}: not approved, nothing was written. {_SAY_YES}")
    now = datetime.now(UTC)
    with study_lock(folder, proposal.study.digest):
        if approval.readable(folder, proposal.study.digest) != before:
            raise ApprovalError(
                f"{found.study.name}: was approved or withdrawn meanwhile, by another command. Look again."
            )
        if found.owed:
            costs.begin(folder, found.owed, now)
        made = approving.approve(folder, proposal, now, lambda each: _record(folder, "approved", now, each))
    print(f"\napproved {made.study.name} for {made.runs} run(s), snapshot {made.cohort[:16]}, code {made.code[:16]}")


@app.command()
def withdraw(
    folder: Folder,
    study: Annotated[str, typer.Argument(metavar="STUDY", help="A study file, a study's name, or its digest.")],
) -> None:
    """Take back an approval: the node answers nothing more of this study, and the snapshot of the patients is deleted.

    Images of patients in the hospital's own report are taken out, too.

    STUDY is a study file, a study's name, or its digest. What has left cannot be taken back; the record of it stays.

    Example: consilium-client withdraw charite heart_disease
    """
    from client import approval, approving
    from client.locking import study_lock

    now = datetime.now(UTC)
    digest = approval.find(folder, study)
    with study_lock(folder, digest):
        withdrawn = approving.withdraw(folder, digest, now)
        _record(folder, "withdrawn", now, withdrawn)
    print(f"withdrawn {withdrawn.study.name}: the node refuses it from now on")


@app.command()
def studies(folder: Folder) -> None:
    """Show the studies that this hospital approved.

    Example: consilium-client studies charite
    """
    from client import approval
    from shared.errors import Refusal
    from shared.provenance import code_digest

    code = code_digest()
    found = approval.read_all(folder)
    if not found:
        print("no study is approved here: consilium-client approve DIR STUDY")
    for each in found.values():
        try:
            approval.check(each, code)
            state = f"approved for {each.runs} run(s)"
        except Refusal as error:
            state = f"{error.code}: {error.hint}"
        print(f"{each.study.name}  {each.digest[:16]}  {each.approved_at:%Y-%m-%d}  {state}")
        print(f"  members  {', '.join(sorted(each.members))}")


def _show_members(roster: Roster, own: str) -> None:
    from shared.enrolment import grouped

    print(f"\nMembers of {roster.consortium} that will be pinned; compare each fingerprint with that hospital:")
    for member in roster.members:
        print(f"  {grouped(member.fingerprint)}  {member.name}{'  (this hospital)' if member.name == own else ''}")


def _show_request(folder: Path, request: EnrolmentRequest) -> None:
    from client.identity import REQUEST
    from shared.enrolment import grouped

    print(f"Next: send {folder / REQUEST} to the coordinator, and read this fingerprint to them over the phone:")
    print(f"fingerprint  {grouped(request.fingerprint)}")


def _agreed(question: str) -> bool:
    """Ask; nobody there to answer means no."""
    return sys.stdin.isatty() and typer.confirm(f"\n{question}")


def _record(folder: Path, event: str, now: datetime, approval: Approval) -> None:
    from shared import audit

    audit.append(
        folder,
        event,
        now,
        study=approval.digest,
        name=approval.study.name,
        code=approval.code,
        cohort=approval.cohort,
        members={name: identity.hex() for name, identity in sorted(approval.members.items())},
        runs=approval.runs,
    )


app.add_typer(cli_running.app)


def main() -> None:
    """Run the command; errors that a user can mend are one message and an exit code, never a traceback."""
    console.run(app)


if __name__ == "__main__":
    main()
