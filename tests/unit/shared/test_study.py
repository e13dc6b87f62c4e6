"""The study file: parsed once, closed, with errors that say what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import StudyError
from shared.study import load_study, parse_study

TEXT = """
[study]
name = "small"
question = "Does it work?"

[data]
kind = "table"
label = "sick"

[data.columns.age]
type = "number"
unit = "years"
range = [18, 100]

[data.columns.sick]
type = "category"
levels = [0, 1]

[method]
name = "logistic-regression"
rounds = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.toml"
    path.write_text(TEXT)
    return path


def test_defaults_are_filled_in(file: Path) -> None:
    study = load_study(file)
    assert (study.name, study.method.rounds, study.method.options.max_iter) == ("small", 3, 1)
    assert study.aggregation.strategy == "FedAvg"
    assert study.data.features == ("age",)
    assert study.data.task == "binary"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("method.roundz", "3"), r"small.toml: \[method\] roundz: unknown key. Did you mean 'rounds'\?"),
        (("metod.rounds", "3"), r"small.toml: \[metod\] unknown key. Did you mean 'method'\?"),
        (("method.rounds", '"ten"'), r"\[method\] rounds: expected a valid integer. Received: 'ten'"),
        (("method.rounds", "0"), r"\[method\] rounds: expected greater than or equal to 1. Received: 0"),
        (("method.rounds", "true"), r"\[method\] rounds: expected a valid integer. Received: True"),
        (("method.name", "logistic-regresion"), r"\[method\] name: .*Did you mean 'logistic-regression'\?"),
        (("method.options.max_itr", "3"), r"\[method.options\] max_itr: unknown key. Did you mean 'max_iter'\?"),
        (("aggregation.options.eta", "3"), r"\[aggregation.options\] eta: unknown key"),
        (("aggregation.strategy", "FedAdm"), r"\[aggregation\] strategy: expected 'FedAvg'.*Received: 'FedAdm'"),
        (("data.label", "ill"), r"\[data\] label 'ill' must be declared under \[data.columns\]"),
        (
            ("data.columns.age.range", "[100, 18]"),
            r"\[data.columns\] age: .*smallest < largest. Received: \[100.0, 18.0\]",
        ),
        (("data.columns.age.unitt", "1"), r"\[data.columns.age\] unitt: unknown key. Did you mean 'unit'\?"),
        (("data.columns.age.levels", "[1, 2]"), r"a number has a range, not levels"),
        (("data.positive", "[7]"), r"positive must name levels of the label. Received: \[7\]"),
        (("evaluation.subgroups", '["age"]'), r"subgroups must name categorical feature columns. Received: 'age'"),
        (("study.name", '"a b"'), r"\[study\] name: .*Received: 'a b'"),
    ],
)
def test_an_error_names_file_key_expectation_and_received(file: Path, change: tuple[str, str], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        load_study(file, [change])


def test_a_missing_part_is_named(file: Path) -> None:
    with pytest.raises(StudyError, match=r"\[method\] missing"):
        parse_study({"study": {"name": "x", "question": "?"}, "data": {}}, "x.toml")


def test_every_fault_is_listed_at_once(file: Path) -> None:
    with pytest.raises(StudyError) as caught:
        load_study(file, [("method.roundz", "3"), ("study.sed", "4")])
    assert str(caught.value).count("unknown key") == 2


def test_text_that_is_not_toml_says_where(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("[study\n")
    with pytest.raises(StudyError, match=r"broken.toml: not valid TOML: .*line 1"):
        load_study(path)


def test_a_missing_file_says_how_to_find_studies(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="consilium-simulate list"):
        load_study(tmp_path / "no.toml")


def test_the_digest_ignores_layout_and_simulation_but_not_a_rule(file: Path) -> None:
    digest = load_study(file).digest
    file.write_text(TEXT.replace("\n\n", "\n# a comment\n\n"))
    assert load_study(file).digest == digest
    assert load_study(file, [("simulation.sites", "9")]).digest == digest
    assert load_study(file, [("method.rounds", "3")]).digest == digest
    assert load_study(file, [("method.rounds", "4")]).digest != digest
    assert load_study(file, [("method.options.C", "2.0")]).digest != digest


def test_a_change_that_is_no_toml_is_text(file: Path) -> None:
    assert load_study(file, [("simulation.partition", "dirichlet:0.5")]).simulation.partition == "dirichlet:0.5"


def test_a_change_without_a_section_is_refused(file: Path) -> None:
    with pytest.raises(StudyError, match=r"--set expects section\.key=value"):
        load_study(file, [("rounds", "3")])


def test_logistic_regression_refuses_a_number_as_label(file: Path) -> None:
    with pytest.raises(StudyError, match="logistic-regression predicts classes"):
        load_study(file, [("data.label", "age")])


def test_positive_levels_make_a_label_binary(file: Path) -> None:
    changes = [("data.columns.sick.levels", "[0, 1, 2]"), ("data.positive", "[1, 2]")]
    data = load_study(file, changes).data
    assert data.task == "binary"
    assert data.classes == ("0", "1/2")
    assert data.class_of_level() == {"0.0": 0, "1.0": 1, "2.0": 1}


def test_another_strategy_leaves_the_options_of_the_first_behind(file: Path) -> None:
    file.write_text(TEXT + '\n[aggregation]\nstrategy = "FedAvgM"\n[aggregation.options]\nserver_momentum = 0.5\n')
    assert load_study(file).aggregation.options.server_momentum == 0.5
    assert load_study(file, [("aggregation.strategy", "FedAvg")]).aggregation.strategy == "FedAvg"
    changes = [("aggregation.strategy", "FedAdam"), ("aggregation.options.eta", "0.2")]
    assert load_study(file, changes).aggregation.options.eta == 0.2


def test_where_nothing_is_known_nothing_is_suggested(file: Path) -> None:
    with pytest.raises(
        StudyError, match=r"\[aggregation.options\] eta: unknown key. Nothing is known here: leave it out"
    ):
        load_study(file, [("aggregation.options.eta", "1.0")])
