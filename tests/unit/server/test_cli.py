"""``consilium-server`` explains itself, and says no to everything else."""

from __future__ import annotations

import re
from importlib.metadata import version

import pytest
from typer.testing import CliRunner

from server import cli


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_says_who_it_is_for_and_that_it_is_not_in_this_release(arguments: list[str]) -> None:
    result = CliRunner().invoke(cli.app, arguments)

    assert 0 == result.exit_code
    words = " ".join(re.sub("[│╭╰╮╯─]", " ", result.output).split())
    assert "For the coordinator" in words
    assert "Not in this release" in words
    assert "consilium-simulate" in words


def test_version_is_the_installed_one() -> None:
    result = CliRunner().invoke(cli.app, ["--version"])

    assert (0, f"consilium-server {version('consilium')}\n") == (result.exit_code, result.output)


def test_an_unknown_command_is_an_error_of_the_user() -> None:
    assert 2 == CliRunner().invoke(cli.app, ["start"]).exit_code
