"""What a person sees while a run goes on: one live line with stage, round, loss and time left, on standard error."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from server.outcome import RoundRecord

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

_PLAIN_STEPS = 10
"""Lines that a run prints where standard error is not a terminal."""


def rounds_of(stage: str, rounds: int) -> int | None:
    """Return how many exchanges a stage takes at most; None for one that takes a single one.

    rounds: training rounds of the study. Tuning judges in one exchange more.
    """
    return {"tune": rounds + 1, "train": rounds}.get(stage)


class LiveLine:
    """A live line on a terminal, and about ten plain lines elsewhere.

    rounds: training rounds of the study; exchanges: of the whole run, at most.
    """

    def __init__(self, rounds: int, exchanges: int) -> None:
        self._rounds = rounds
        self._exchanges = exchanges
        self._done = 0
        self._seconds = 0.0
        self._bar: Bar | None = None

    def __enter__(self) -> LiveLine:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn

            columns = (
                SpinnerColumn(),
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[left]}", markup=False),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("starting", total=self._exchanges, left="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar:
            self._bar.stop()

    def say(self, what: str) -> None:
        """Show what is being done now."""
        if self._bar:
            self._bar.update(self._task, description=what, left="")
        else:
            print(what, file=sys.stderr, flush=True)

    def round(self, record: RoundRecord) -> None:
        """Show that a round is finished, and how long the others will take."""
        self._done += 1
        self._seconds += record.seconds
        loss = f"  loss {record.measurements['loss']:.4f}" if "loss" in record.measurements else ""
        most = rounds_of(record.stage, self._rounds)
        number = f" round {record.round}/{most}" if most else ""
        dropped = f"  dropped {', '.join(record.dropped)}" if record.dropped else ""
        left = f"{self._seconds / self._done * (self._exchanges - self._done):.0f} s left"
        line = f"{record.stage}{number}{loss}{dropped}"
        if self._bar:
            self._bar.update(self._task, advance=1, description=line, left=left)
        elif not most or dropped or record.round % max(1, most // _PLAIN_STEPS) == 0:
            print(f"{line}  {left}", file=sys.stderr, flush=True)
