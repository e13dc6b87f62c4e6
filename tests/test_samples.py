"""The samples in docs/samples parse, and every command line in them is one that the project has."""

from __future__ import annotations

import importlib
import re
import shlex
import tomllib
from configparser import ConfigParser
from pathlib import Path

import pytest
import typer
import yaml

from tests.architecture import ROOT

SAMPLES = ROOT / "docs" / "samples"
UNITS = ["consilium-server.service", "consilium-client.service"]
SCRIPTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]


def options_of(script: str, command: str) -> set[str] | None:
    """The options of one command, None where there is no such command."""
    app = importlib.import_module(SCRIPTS[script].partition(":")[0]).app
    found = getattr(typer.main.get_command(app), "commands", {}).get(command)
    if found is None:
        return None
    parameters = [parameter for each in (found, *getattr(found, "commands", {}).values()) for parameter in each.params]
    return {option for parameter in parameters for option in (*parameter.opts, *parameter.secondary_opts)}


def faults_of(words: list[str]) -> list[str]:
    """What is wrong with a command line of ours."""
    script, command, *rest = [Path(words[0]).name, *words[1:], ""]
    if script not in SCRIPTS:
        return [f"{script} is no command of pyproject.toml"]
    options = options_of(script, command)
    if options is None:
        return [f"{script} has no command {command!r}"]
    given = {word.partition("=")[0] for word in rest if word.startswith("-")}
    return [f"{script} {command} has no option {option}" for option in sorted(given - options)]


def commands_in(text: str) -> list[list[str]]:
    """Every command line of ours in a text, comments included: a name and at least one word, to the line's end."""
    lines = re.findall(r"(?<![\w\"])(?:/[\w/]*/)?consilium-[a-z]+ (?=[a-z])[^\n]*", text)
    return [shlex.split(line.split("    (")[0], comments=True) for line in lines]


def unit(name: str) -> ConfigParser:
    parser = ConfigParser(strict=False, interpolation=None, comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string((SAMPLES / name).read_text(encoding="utf-8"))
    return parser


@pytest.mark.parametrize("path", sorted(SAMPLES.iterdir()), ids=lambda path: path.name)
def test_every_command_in_a_sample_is_one_of_ours(path: Path) -> None:
    assert [] == [fault for words in commands_in(path.read_text(encoding="utf-8")) for fault in faults_of(words)]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_every_command_in_a_block_of_a_page_is_one_of_ours(path: Path) -> None:
    blocks = re.findall(r"^ *```\n(.*?)^ *```$", path.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip().startswith("consilium-")]
    assert [] == [fault for line in lines for words in commands_in(line) for fault in faults_of(words)]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("ExecStart=/opt/consilium/bin/consilium-serve start DIR", "consilium-serve is no command of pyproject.toml"),
        ("# sudo -u consilium /opt/bin/consilium-server begin DIR", "consilium-server has no command 'begin'"),
        ("consilium-server init DIR --adress HOST:PORT", "consilium-server init has no option --adress"),
        ("consilium-simulate run heart_disease --quick=1", "consilium-simulate run has no option --quick"),
    ],
)
def test_a_wrong_command_is_found(line: str, fault: str) -> None:
    assert [fault] == [found for words in commands_in(line) for found in faults_of(words)]


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_starts_the_command_of_its_name(name: str) -> None:
    program, command, _folder = shlex.split(unit(name)["Service"]["ExecStart"])

    assert (Path(name).stem, "start") == (Path(program).name, command)


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_is_restarted_after_a_failure_and_can_do_little_else(name: str) -> None:
    service = unit(name)["Service"]
    wanted = {
        "Restart": "on-failure",
        "KillMode": "mixed",
        "UMask": "0077",
        "User": "consilium",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ReadWritePaths": "/var/lib/consilium",
        "PrivateTmp": "yes",
        "ProtectHome": "yes",
        "CapabilityBoundingSet": "",
    }

    assert wanted == {key: service.get(key) for key in wanted}


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_writes_only_below_the_folder_that_it_starts(name: str) -> None:
    service = unit(name)["Service"]

    assert Path(service["ReadWritePaths"]) in Path(shlex.split(service["ExecStart"])[2]).parents


def test_the_compose_file_starts_both_sides_with_no_right_that_they_do_not_need() -> None:
    services = yaml.safe_load((SAMPLES / "compose.yaml").read_text(encoding="utf-8"))["services"]

    assert {"aggregator", "hospital"} == set(services)
    assert [] == [fault for service in services.values() for fault in faults_of(service["command"])]
    for service in services.values():
        assert (True, True, ["ALL"], ["no-new-privileges:true"]) == (
            service["init"],
            service["read_only"],
            service["cap_drop"],
            service["security_opt"],
        )


def test_the_compose_file_publishes_one_port_and_mounts_each_sides_folder_and_secrets() -> None:
    services = yaml.safe_load((SAMPLES / "compose.yaml").read_text(encoding="utf-8"))["services"]

    assert {"aggregator": ["9443:9443"], "hospital": []} == {
        name: service.get("ports", []) for name, service in services.items()
    }
    for service in services.values():
        folder = service["command"][2]
        mounted = [volume.split(":")[1:] for volume in service["volumes"]]
        assert [folder] in mounted
        assert [f"{folder}/secrets", "ro"] in mounted
