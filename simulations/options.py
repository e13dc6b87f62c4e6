"""Options that several commands of ``consilium-simulate`` share, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from shared.study import Study

StudyArgument = Annotated[
    str, typer.Argument(metavar="STUDY", help="A study file, or the name of a shipped study (see `list`).")
]
Changes = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Change any key of the study; repeatable."),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder with a data set's files; else $CONSILIUM_DATA/NAME, then the cache."),
]
Data = Annotated[
    Path | None, typer.Option(help="Your own data in one file or image folder, dealt out by the study's partition.")
]
Site = Annotated[
    list[str] | None, typer.Option(metavar="NAME=PATH", help="Your own data, one hospital each; repeatable.")
]


def shipped() -> dict[str, Path]:
    """Return the shipped study files by name."""
    folder = Path(__file__).parent / "studies"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def study_of(name: str, changes: Sequence[tuple[str, str]]) -> Study:
    """Return a shipped study, or the one in a file, with keys changed.

    Raises: StudyError.
    """
    from shared.study import load_study

    return load_study(shipped().get(name, Path(name)), changes)


def pairs(option: str, texts: list[str] | None) -> list[tuple[str, str]]:
    """Return (before, after) the first ``=`` of each text.

    Raises: StudyError, which names the option.
    """
    from shared.errors import StudyError

    found = [tuple(part.strip() for part in text.partition("=")[::2]) for text in texts or []]
    for text, (before, after) in zip(texts or [], found, strict=True):
        if not before or not after:
            raise StudyError(f"{option} expects NAME=VALUE. Received: {text!r}")
    return [(before, after) for before, after in found]


def new_folder(name: str, output: Path | None) -> Path:
    """Make a folder for results, and return it: ``output``, or ``runs/NAME``, ``runs/NAME-2``, ...

    Raises: OutputError if it holds something, or cannot be made.
    """
    from shared.errors import OutputError

    folder, number = output or Path("runs") / name, 1
    try:
        while output is None and folder.exists():
            number += 1
            folder = Path("runs") / f"{name}-{number}"
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise OutputError(f"{folder}: exists and is not empty. Choose another --output.")
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made: {error.strerror}. Choose another --output.") from None
    return folder
