"""SuperLink as we start it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_ASK = """
import importlib, sqlite3, sys
from flwr.supercore import constant
from server import superlink

def ask(database):
    sql_mixin = importlib.import_module("flwr.supercore.sql_mixin")
    connection = sqlite3.connect(database)
    sql_mixin._set_sqlite_pragmas(connection, None)
    pragmas = ("busy_timeout", "journal_mode", "foreign_keys")
    print(*(connection.execute(f"PRAGMA {name}").fetchone()[0] for name in pragmas))

as_it_is = constant.SQLITE_PRAGMAS
superlink.wait_longer()
ask(sys.argv[1])
sys.modules.pop("flwr.supercore.sql_mixin")
constant.SQLITE_PRAGMAS = as_it_is
ask(sys.argv[2])
"""


def test_requests_wait_a_minute_for_each_other_at_superlinks_database_and_nothing_else_changes(tmp_path: Path) -> None:
    asked = [sys.executable, "-c", _ASK, tmp_path / "ours.db", tmp_path / "flowers.db"]

    assert ["60000 wal 1", "5000 wal 1"] == subprocess.check_output(asked, text=True).splitlines()
