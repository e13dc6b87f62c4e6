"""SuperLink as we start it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ASK = """
import sys
from server import superlink
if sys.argv[1] == "longer":
    superlink.wait_longer()
from flwr.supercore import sql_mixin
import sqlite3
connection = sqlite3.connect(sys.argv[2])
sql_mixin._set_sqlite_pragmas(connection, None)
pragmas = ("busy_timeout", "journal_mode", "foreign_keys")
print(*(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas))
"""


def said(how: str, database: Path) -> str:
    return subprocess.check_output([sys.executable, "-c", _ASK, how, str(database)], text=True).strip()


def test_requests_wait_a_minute_for_each_other_at_superlinks_database_and_nothing_else_changes(tmp_path: Path) -> None:
    assert "5000 wal 1" == said("as it is", tmp_path / "flowers.db")
    assert "60000 wal 1" == said("longer", tmp_path / "ours.db")
