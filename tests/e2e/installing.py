"""Installations of changed copies of this code, each in an environment of its own."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from shared.provenance import PACKAGES, ROOT
from tests.e2e import commands, consortium


def installation(root: Path, changes: Mapping[str, Iterable[tuple[str, str]]]) -> Path:
    """Install a changed copy of this code in an environment of its own; return the folder of its commands.

    changes: by file, pairs of a text that occurs in it once and what stands there instead; a new file has one pair
        with an empty first text.
    """
    source = root / "source"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name, pairs in changes.items():
        path = source / name
        text = path.read_text(encoding="utf-8") if path.exists() else ""
        for old, new in pairs:
            assert text.count(old) == 1 or not (old or text), f"{name}: {old!r} occurs {text.count(old)} times"
            text = text.replace(old, new)
        path.write_text(text, encoding="utf-8")
    venv.create(root / "environment", symlinks=True, with_pip=False)
    made = root / "environment" / "bin"
    # The libraries of this environment; ours come first, from the copy.
    own = Path(subprocess.check_output([made / "python", "-c", _WHERE], text=True).strip())
    inherited = [path for path in sys.path if path.endswith("site-packages")]
    (own / "changed.pth").write_text("\n".join([str(source), *inherited]) + "\n", encoding="utf-8")
    for path in Path(sys.executable).parent.iterdir():
        if path.name.startswith(("consilium-", "flower-", "flwr")):
            _, _, rest = path.read_text(encoding="utf-8").partition("\n")
            (made / path.name).write_text(f"#!{made / 'python'}\n{rest}", encoding="utf-8")
            (made / path.name).chmod(0o755)
    return made


@contextlib.contextmanager
def using(installed: Path) -> Iterator[None]:
    """Let commands be those of another installation for a while. installed: the folder of its commands."""
    with pytest.MonkeyPatch.context() as patched:
        for module in (commands, consortium):
            patched.setattr(module, "BIN", installed)
        yield


_WHERE = "import sysconfig; print(sysconfig.get_path('purelib'))"
