"""The hospital's own file: parsed once, closed, and its errors name the key and the nearest one."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from client import settings
from client.policy import Policy
from client.settings import Conversion, DataSet, Network, Retention, Settings
from shared.errors import SettingsError
from tests.architecture import ROOT

SAMPLE = ROOT / "docs" / "samples" / "site.toml"


def parsed(text: str) -> Settings:
    return settings.parse(tomllib.loads(text), "site.toml")


def one_set(text: str) -> DataSet:
    return parsed(f'[data.heart]\npath = "a.csv"\n{text}').data["heart"]


def fault(text: str) -> str:
    with pytest.raises(SettingsError) as raised:
        parsed(text)
    return str(raised.value)


def test_the_template_says_what_an_empty_file_says() -> None:
    assert Settings() == parsed(settings.template())


def test_the_templates_examples_of_data_are_settings_once_their_marks_are_taken_away() -> None:
    about_data = settings.template().partition("# --- The way out")[0]
    found = parsed(re.sub(r"^# (?=\[|\w+ = )", "", about_data, flags=re.MULTILINE)).data["heart_disease"]

    assert "/srv/research/heart.csv" == found.path
    assert {"chol": "mmol/l of cholesterol", "trestbps": "kPa"} == found.units
    assert {"F": 0, "M": 1, "unknown": ""} == found.codes["sex"]


def test_the_sample_in_the_documents_is_read_with_every_part() -> None:
    found = settings.load(SAMPLE.parent)

    assert {"heart_disease", "pneumonia_cnn"} == set(found.data)
    assert Network(proxy="http://proxy.hospital.example:3128") == found.network
    assert ("logistic-regression", "neural") == found.policy.methods
    assert Conversion(factor=10.0, offset=0.0) == found.data["heart_disease"].conversions["oldpeak"]


def test_paths_are_relative_to_the_hospitals_folder() -> None:
    assert Path("/h/a.csv") == one_set("").at(Path("/h"))
    assert Path("/srv/a.csv") == DataSet(path="/srv/a.csv").at(Path("/h"))


def test_the_policy_is_read_with_its_defaults() -> None:
    assert Policy(min_sites=5) == parsed("[policy]\nmin_sites = 5").policy


def test_a_hospital_can_leave_images_of_patients_out_of_its_own_report() -> None:
    assert not parsed("[report]\npictures = false").report.pictures
    assert parsed("").report.pictures


def test_retention_is_in_days() -> None:
    assert Retention(memory_days=7, replies_days=30, logs_days=90) == parsed("[retention]\nmemory_days = 7").retention


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[polcy]\n", "site.toml: [polcy] unknown key. Did you mean 'policy'?"),
        ("[policy]\nmin_site = 3", "site.toml: [policy] min_site: unknown key. Did you mean 'min_sites'?"),
        ("[policy]\nmin_sites = '3'", "site.toml: [policy] min_sites: expected a valid integer. Received: '3'."),
        ("[policy]\nmethods = ['nural']", "site.toml: [policy] methods: no method 'nural'. Did you mean 'neural'?"),
        (
            "[retention]\nlogs_days = 0",
            "site.toml: [retention] logs_days: expected greater than or equal to 1. Received: 0.",
        ),
        ("[data.a]\npth = 'x'", "site.toml: [data.a] pth: unknown key. Did you mean 'path'?"),
        ("[data.a]\ncolumns = {}", "site.toml: [data.a] path: missing. Expected this key to be set."),
        (
            "[data.a]\npath = 'x'\n[data.a.conversions.chol]\nfacter = 2.0",
            "site.toml: [data.a.conversions.chol] facter: unknown key. Did you mean 'factor'?",
        ),
    ],
)
def test_a_fault_names_file_part_key_and_the_nearest_known_key(text: str, expected: str) -> None:
    assert expected in fault(text).splitlines()


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("[data.heart.conversions]\nx = {factor = 0.0}", "factor must not be 0"),
        ("[data.heart.conversions]\nx = {factor = nan}", "conversions.x"),
        ("[data.heart]\nunits = {x = 'kPa'}\nconversions = {x = {factor = 2.0}}", "a unit or a conversion, not both"),
        ("[data.heart.columns]\nx = 'A'\ny = 'A'", "'A' stands for two columns"),
        (
            "[data.heart.opt_out]\ncolumn = 'A'\nvalues = [1]\n[data.heart.consent]\ncolumn = 'B'\nvalues = [1]",
            "not both",
        ),
        ("[data.heart.opt_out]\ncolumn = 'A'\nvalues = []", "a list of at least one value"),
        ("[data.heart.codes]\nsex = {M = 2024-01-01}", "dates and times are not used here"),
    ],
)  # fmt: skip
def test_a_data_set_that_cannot_be_is_refused(part: str, expected: str) -> None:
    assert expected in fault(f'[data.heart]\npath = "a.csv"\n{part.removeprefix("[data.heart]")}')


@pytest.mark.parametrize("values", ["'Jane Doe'", "['x', ['Jane Doe']]", "{name = 'Jane Doe'}"])
def test_a_fault_in_a_list_of_patients_shows_none_of_it(values: str) -> None:
    said = fault(f'[data.heart]\npath = "a.csv"\n[data.heart.opt_out]\ncolumn = "A"\nvalues = {values}')

    assert "values: expected" in said
    assert "Jane" not in said


def test_an_opt_out_that_is_no_part_is_refused_without_its_content() -> None:
    said = fault('[data.heart]\npath = "a.csv"\nopt_out = "Jane Doe"')

    assert "opt_out: expected a part with column and values" in said
    assert "Jane" not in said


def test_a_list_of_patients_is_not_in_the_settings_repr() -> None:
    assert "Jane" not in repr(one_set("[data.heart.opt_out]\ncolumn = 'A'\nvalues = ['Jane Doe']"))


@pytest.mark.parametrize(
    "proxy", ["proxy:3128", "http://proxy", "socks5://proxy:1", "http://proxy:3128/path", "http://p:no"]
)
def test_a_proxy_is_an_address_with_its_port(proxy: str) -> None:
    assert "expected http://HOST:PORT" in fault(f"[network]\nproxy = '{proxy}'")


def test_a_proxys_password_does_not_belong_into_the_file_nor_into_an_error() -> None:
    said = fault("[network]\nproxy = 'http://user:hunter2@proxy:3128'")

    assert "secrets do not belong" in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "no such file"), (b"[policy", "not valid TOML"), (b"\xff\xfe", "expected UTF-8")],
)
def test_a_file_that_cannot_be_read_is_an_error_with_its_name(
    tmp_path: Path, content: bytes | None, expected: str
) -> None:
    if content is not None:
        (tmp_path / "site.toml").write_bytes(content)

    with pytest.raises(SettingsError, match=expected):
        settings.load(tmp_path)


def made(*names: str) -> Settings:
    parts: dict[str, Any] = {name: {"path": f"{name}.csv"} for name in names}
    return settings.parse({"data": parts}, "site.toml")


@pytest.mark.parametrize(
    ("names", "wanted", "expected"),
    [
        (["anything"], None, "anything"),
        (["heart", "lung"], None, "heart"),
        (["heart", "lung"], "lung", "lung"),
    ],
)
def test_a_study_uses_the_only_data_or_those_of_its_name_or_those_that_are_named(
    names: list[str], wanted: str | None, expected: str
) -> None:
    assert expected == settings.choose(made(*names), "heart", wanted, "site.toml")[0]


@pytest.mark.parametrize(
    ("names", "wanted", "expected"),
    [
        ([], None, "no data yet"),
        (["lung", "liver"], None, "Name one with --data: liver, lung"),
        (["lung"], "long", "Did you mean 'lung'?"),
    ],
)
def test_unclear_which_data_is_an_error(names: list[str], wanted: str | None, expected: str) -> None:
    with pytest.raises(SettingsError) as raised:
        settings.choose(made(*names), "heart", wanted, "site.toml")
    assert expected in str(raised.value)
