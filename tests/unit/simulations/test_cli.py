"""What the researcher's command says: paths as they are, commands that can be pasted, advice that helps."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from shared.errors import DataError, OutputError, StudyError
from simulations import cli, cli_running
from tests.unit.server.outcomes import outcome_of

RUNNER = CliRunner()


def error_of(*arguments: str) -> BaseException | None:
    return RUNNER.invoke(cli.app, list(arguments)).exception


def table(path: Path, rows: int = 20) -> Path:
    path.write_text("age,sick\n" + "".join(f"{30 + row},{row % 2}\n" for row in range(rows)))
    return path


def test_a_path_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path("runs/[bold]mine[/]" + "x" * 100)
    cli_running.summarise(outcome_of(), folder)
    assert f"report   {folder}/report.html\n" in capsys.readouterr().out


def test_a_drafted_studys_hint_can_be_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table(tmp_path / "my data; rm x.csv")
    result = RUNNER.invoke(cli.app, ["study", "new", "--from", "my data; rm x.csv"])
    command = shlex.split(result.output.rpartition("then: ")[2])
    assert command == ["consilium-simulate", "run", "my data; rm x.toml", "--data", "my data; rm x.csv"]


def test_a_study_that_cannot_be_drafted_there_is_not_told_to_resume(tmp_path: Path) -> None:
    source = table(tmp_path / "a.csv")
    error = error_of("study", "new", "--from", str(source), "--output", str(tmp_path / "nodir" / "x.toml"))
    assert isinstance(error, OutputError)
    assert str(error).endswith("x.toml: cannot be written: No such file or directory. Choose another --output.")


def test_a_second_demo_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "digits_cnn").mkdir()
    error = error_of("demo", "--output", str(tmp_path))
    assert isinstance(error, OutputError)
    assert "digits_cnn: exists already. Open the report in it, or choose another --output." in str(error)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--sites", "3", "--site", "a=a.csv"], "--sites says how data are dealt to hospitals, and --site gives each"),
        (["--partition", "iid", "--site", "a=a.csv"], "--partition says how data are dealt to hospitals"),
        (["--set", "simulation.sites=3", "--site", "a=a.csv"], "--sites says how data are dealt"),
        (["--sites", "3", "--partition", "column:ward"], "'column:ward' makes a hospital of each value"),
    ],
)
def test_an_option_that_would_be_ignored_is_refused(arguments: list[str], message: str) -> None:
    error = error_of("run", "breast_cancer", *arguments)
    assert isinstance(error, StudyError)
    assert message in str(error)


def test_a_file_with_a_header_line_only_has_no_rows(tmp_path: Path) -> None:
    source = table(tmp_path / "headeronly.csv", rows=0)
    error = error_of("run", "breast_cancer", "--data", str(source))
    assert isinstance(error, DataError)
    assert "headeronly.csv: expected at least one row below the line of column names. Received: none." in str(error)
