"""What several commands of ``consilium-simulate`` make of their options."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shared.study import Study


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
