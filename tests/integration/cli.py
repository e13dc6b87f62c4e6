"""Run the researcher's command as a user would: a real process, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def simulate(
    *arguments: str | Path, cwd: Path, timeout_s: float = 300, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Return the finished process; nothing is checked."""
    return subprocess.run(
        [*command(), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def command() -> list[str]:
    """Return the installed console script, which lies beside the interpreter."""
    return [str(Path(sys.executable).with_name("consilium-simulate"))]
