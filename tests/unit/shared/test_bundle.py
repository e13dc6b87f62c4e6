"""The released model: what is read is what was written, and what was changed is refused."""

from __future__ import annotations

import dataclasses
import errno
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shared.bundle import Bundle, examples_of, load_bundle, write_bundle
from shared.errors import DataError, OutputError
from shared.examples import Arrays, Examples
from shared.preparation import FeatureColumn, Preparation
from shared.study import Study, load_study, parse_study
from shared.tuning import Tuning

FILES = {"weights.npz", "preparation.json", "schema.json", "model_card.md", "manifest.json"}
AGE = {"type": "number", "range": [0.0, 120.0], "missing": [-1]}
SEX = {"type": "category", "levels": ["female", "male"]}
WEIGHTS: Arrays = {"coef": np.array([[2.0, 1.0]]), "intercept": np.array([-0.5])}


def study_of(levels: list[Any] | None = None) -> Study:
    label = {"type": "category", "levels": levels or ["healthy", "ill"]}
    return parse_study(
        {
            "study": {"name": "small", "question": "Who is ill?"},
            "data": {"kind": "table", "label": "y", "columns": {"age": AGE, "sex": SEX, "y": label}},
            "method": {"name": "logistic-regression", "rounds": 3},
            "simulation": {"dataset": "breast_cancer", "sites": 2},
        },
        "test",
    )


def preparation_of(study: Study) -> Preparation:
    """Age 60 is 0, and 10 years are 1; a missing sex is half a man."""
    return Preparation(
        contract=study.data,
        columns=(
            FeatureColumn("age", levels=0, center=60.0, scale=10.0, fill=55.0, indicator=False),
            FeatureColumn("sex", levels=2, center=0.0, scale=1.0, fill=0.5, indicator=False),
        ),
        image_mean=(),
        image_deviation=(),
        label_mean=0.0,
        label_deviation=1.0,
        rows=10,
        missing={"age": 1, "sex": 0},
        outside={"age": 0, "sex": 0},
        class_rows=(5, 5),
    )


def released(folder: Path, study: Study | None = None, weights: Arrays = WEIGHTS) -> Bundle:
    study = study or study_of()
    write_bundle(folder, study, preparation_of(study), weights, "# Card\n")
    return load_bundle(folder)


def test_a_tuned_model_predicts_with_the_options_that_were_chosen(tmp_path: Path) -> None:
    study = dataclasses.replace(study_of(), tuning=Tuning(grid={"C": (0.5, 2.0)}))
    write_bundle(tmp_path / "model", study, preparation_of(study), WEIGHTS, "# Card\n", candidate=1)
    bundle = load_bundle(tmp_path / "model")
    assert (2.0, 1.0) == (bundle.trained.method.options.C, bundle.study.method.options.C)
    assert study.digest == bundle.digest


def test_a_bundle_has_its_files_and_nothing_else(tmp_path: Path) -> None:
    released(tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    study = study_of()
    bundle = released(tmp_path / "model", study)
    assert bundle.digest == study.digest == bundle.study.digest
    assert bundle.preparation == preparation_of(bundle.study)
    assert {name: array.tolist() for name, array in bundle.weights.items()} == {
        "coef": [[2.0, 1.0]],
        "intercept": [-0.5],
    }
    assert bundle.card == "# Card\n"


def test_the_same_model_gives_the_same_bytes(tmp_path: Path) -> None:
    released(tmp_path / "a")
    released(tmp_path / "b")
    assert {name: (tmp_path / "a" / name).read_bytes() for name in FILES} == {
        name: (tmp_path / "b" / name).read_bytes() for name in FILES
    }


def test_where_a_simulation_took_its_data_from_is_not_released(tmp_path: Path) -> None:
    released(tmp_path / "model")
    assert "simulation" not in json.loads((tmp_path / "model" / "schema.json").read_text())


def test_a_man_of_seventy_by_hand(tmp_path: Path) -> None:
    """Log-odds 2 * 1 + 1 * 1 - 0.5 = 2.5; a probability of 1 / (1 + exp(-2.5))."""
    bundle = released(tmp_path / "model")
    p = 1 / (1 + math.exp(-2.5))
    assert bundle.predict(bundle.examples([{"age": 70, "sex": "male"}])) == pytest.approx(np.array([[1 - p, p]]))


def test_what_was_not_measured_is_filled_in_as_in_training(tmp_path: Path) -> None:
    """Age 55 and half a man: 2 * -0.5 + 1 * 0.5 - 0.5 = -1."""
    bundle = released(tmp_path / "model")
    expected = 1 / (1 + math.exp(1))
    for age, sex in ((None, None), (-1, ""), (500, "other")):
        found = bundle.predict(bundle.examples([{"age": age, "sex": sex}]))
        assert found[0, 1] == pytest.approx(expected)


def test_probabilities_of_several_classes_add_to_one(tmp_path: Path) -> None:
    weights = {"coef": np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 2.0]]), "intercept": np.array([0.0, 0.5, 1.0])}
    bundle = released(tmp_path / "model", study_of(["a", "b", "c"]), weights)
    found = bundle.predict(bundle.examples([{"age": 70, "sex": "male"}, {"age": 60, "sex": "female"}]))
    logits = np.array([[1.0, 1.5, 2.0], [0.0, 0.5, 1.0]])
    assert found == pytest.approx(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
    assert found.sum(axis=1) == pytest.approx([1.0, 1.0], abs=1e-12)


def test_out_of_contract_cells_are_marked() -> None:
    found = examples_of(study_of().data, [{"age": 500, "sex": "male"}, {"age": "old", "sex": None}])
    assert found.outside.tolist() == [[True, False], [True, False]]
    assert np.isnan(found.values).tolist() == [[True, False], [True, True]]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"age": 70, "sexx": "male"}, "row 0: unknown column 'sexx'. Did you mean 'sex'?"),
        ({"age": 70}, "row 0: expected a cell for sex; None says that it was not measured"),
    ],
)
def test_rows_with_other_columns_are_refused(row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        examples_of(study_of().data, [row])
    assert str(caught.value) == message


def test_examples_of_another_study_are_refused(tmp_path: Path) -> None:
    bundle = released(tmp_path / "model")
    other = Examples(np.zeros((1, 3)), np.zeros((1, 3), bool), np.zeros(1), np.array(["p"]))
    with pytest.raises(DataError, match=r"must have the shape \(2,\).* Received: \(3,\)"):
        bundle.predict(other)


@pytest.mark.parametrize("name", sorted(FILES - {"manifest.json"}))
def test_a_changed_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    released(tmp_path / "model")
    with (tmp_path / "model" / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(DataError, match=rf"{name}: was changed after release"):
        load_bundle(tmp_path / "model")


@pytest.mark.parametrize("name", sorted(FILES))
def test_a_missing_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    released(tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(DataError, match=rf"{name}: cannot be read: No such file"):
        load_bundle(tmp_path / "model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "expected format 1. Received: 2. Use the version of Consilium that wrote the model"),
        ({"files": {}}, "expected the digests of weights.npz"),
        ({"study_digest": "0"}, "is of another study than the manifest"),
    ],
)
def test_an_unknown_manifest_is_refused(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    released(tmp_path / "model")
    path = tmp_path / "model" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(DataError, match=message):
        load_bundle(tmp_path / "model")


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_a_broken_manifest_is_refused(tmp_path: Path, text: str) -> None:
    released(tmp_path / "model")
    (tmp_path / "model" / "manifest.json").write_text(text)
    with pytest.raises(DataError, match=r"manifest\.json: (not valid JSON|expected a JSON object)"):
        load_bundle(tmp_path / "model")


def test_pickled_arrays_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        released(tmp_path / "model", weights={"coef": np.array([{}], dtype=object)})
    assert list(tmp_path.iterdir()) == []


def test_an_older_bundle_is_replaced(tmp_path: Path) -> None:
    released(tmp_path / "model")
    newer = released(tmp_path / "model", weights={**WEIGHTS, "intercept": np.array([3.0])})
    assert newer.weights["intercept"].tolist() == [3.0]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_folder_that_is_no_bundle_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="expected an older bundle or nothing here"):
        released(tmp_path / "model")
    assert (tmp_path / "model" / "thesis.txt").read_text() == "years of work"


def test_a_full_disk_leaves_the_older_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    released(tmp_path / "model")

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match="cannot be written: No space left on device"):
        released(tmp_path / "model", weights={**WEIGHTS, "intercept": np.array([3.0])})
    assert load_bundle(tmp_path / "model").weights["intercept"].tolist() == [-0.5]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_what_a_killed_run_left_behind_is_cleared(tmp_path: Path) -> None:
    for name in (".model.new", ".model.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights.npz").write_bytes(b"half")
    released(tmp_path / "model")
    assert load_bundle(tmp_path / "model").digest == study_of().digest
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.slow
def test_a_network_for_a_number_predicts_in_the_labels_unit(tmp_path: Path) -> None:
    """Weights of zero say the mean of the label, 50."""
    pytest.importorskip("keras")
    from shared.methods import METHODS
    from shared.methods.averaging import weights_of

    raw = {
        "study": {"name": "small", "question": "How high?"},
        "data": {
            "kind": "table",
            "label": "y",
            "columns": {"age": AGE, "sex": SEX, "y": {"type": "number", "range": [0.0, 100.0]}},
        },
        "method": {"name": "neural", "rounds": 1, "options": {"architecture": "tabular_mlp"}},
    }
    study = parse_study(raw, "test")
    preparation = dataclasses.replace(preparation_of(study), label_mean=50.0, label_deviation=20.0, class_rows=())

    class Nothing:
        def init(self, weights: Arrays) -> Arrays:
            return {}

        def apply(self, state: Arrays, weights: Arrays, mean: Arrays) -> tuple[Arrays, Arrays]:
            return state, mean

    start = METHODS["neural"].create(study, preparation, Nothing()).start()
    zeros = {name: np.zeros_like(array) for name, array in weights_of(start).items()}
    write_bundle(tmp_path / "model", study, preparation, zeros, "# Card\n")
    bundle = load_bundle(tmp_path / "model")
    assert bundle.predict(bundle.examples([{"age": 70, "sex": "male"}])).tolist() == [[50.0]]


def test_the_example_in_the_docs_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the shipped heart study and weights of zero, both classes have a probability of one half."""
    root = Path(__file__).parents[3]
    study = load_study(root / "simulations" / "studies" / "heart_disease.toml")
    columns = tuple(
        FeatureColumn(name, levels=len(column.levels), center=0.0, scale=1.0, fill=0.0, indicator=False)
        for name, column in ((name, study.data.columns[name]) for name in study.data.features)
    )
    preparation = dataclasses.replace(preparation_of(study), columns=columns)
    weights = {"coef": np.zeros((1, len(preparation.feature_names))), "intercept": np.zeros(1)}
    (tmp_path / "out").mkdir()
    write_bundle(tmp_path / "out" / "model", study, preparation, weights, "# Card\n")
    monkeypatch.chdir(tmp_path)
    page = (root / "docs" / "bundle.md").read_text(encoding="utf-8")
    exec(page.split("```python\n")[1].split("```")[0], {})
    assert capsys.readouterr().out == "num = 0: 0.500\nnum = 1/2/3/4: 0.500\n"


def test_an_empty_folder_is_filled(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    assert released(tmp_path / "model").card == "# Card\n"
