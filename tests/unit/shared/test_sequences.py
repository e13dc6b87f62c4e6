"""Sequences: the letters of a text and a patient's rows in their order, from the contract to what a network reads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from client.data.base import RawData
from client.data.conform import Conformed, conform
from shared.bundle import examples_of
from shared.errors import DataError, StudyError
from shared.preparation import FeatureColumn, Preparation
from shared.schema import DataContract
from shared.sequences import PADDING, histories
from shared.study import Study, approved_parts, parse_study

GENE = {"letters": "ACGT", "unknown": "N", "length": 3}
SICK = {"type": "category", "levels": [0, 1]}
VISITS: dict[str, Any] = {
    "steps": {"order": "day", "count": 3},
    "patient_id": "who",
    "columns": {
        "day": {"type": "number", "range": [0, 100]},
        "drug": {"type": "category", "levels": ["a", "b", "c"]},
        "sick": SICK,
    },
}
NAN = float("nan")


def study(kind: str = "sequences", architecture: str = "sequence_cnn", **data: Any) -> Study:
    """Of genes with three letters, unless told otherwise."""
    filters = {"model": {"filters": [8]}} if architecture.endswith("cnn") else {}
    genes = {"texts": {"gene": GENE}, "columns": {"sick": SICK}} if "columns" not in data else {}
    return parse_study(
        {
            "study": {"name": "small", "question": "Does it work?"},
            "data": {"kind": kind, "label": "sick", **genes, **data},
            "method": {"name": "neural", "rounds": 1, "options": {"architecture": architecture, **filters}},
        },
        "test",
    )


def visits() -> DataContract:
    return study(**VISITS).data


def conformed(contract: DataContract, **columns: list[Any]) -> Conformed:
    return conform(contract, RawData({name: np.array(cells, dtype=object) for name, cells in columns.items()}), "here")


def test_a_text_is_a_category_for_each_of_its_letters() -> None:
    found = conformed(study().data, gene=["ACG", " TNA ", ""], sick=[0, 1, 1])
    assert ("gene 1", "gene 2", "gene 3") == study().data.features
    expected = [[0, 1, 2], [3, NAN, 0], [NAN, NAN, NAN]]
    assert np.array_equal(np.array(expected), found.examples.values, equal_nan=True)
    assert {} == found.findings.outside


def test_letters_and_lengths_outside_the_contract_are_counted_and_missing() -> None:
    found = conformed(study().data, gene=["ACX", "AC", "aCG", "ACG"], sick=[0, 1, 1, 0])
    assert {"gene 1": 2, "gene 2": 1, "gene 3": 2} == found.findings.outside
    assert np.array_equal([0, 1, NAN], found.examples.values[0], equal_nan=True)


def test_a_text_that_is_outside_at_every_position_is_pointed_out_once_with_what_to_check() -> None:
    found = conformed(study().data, gene=["acg", "ACGT"], sick=[0, 1])
    [note] = found.findings.notes
    assert note.startswith("Column gene: every observed value lies outside the contract")
    assert note.endswith("of a text, the letters and the length.")


def test_an_absent_text_is_named_once_by_its_own_name() -> None:
    with pytest.raises(DataError, match=r"^here: expected the column 'gene' \(feature\)\. [^\n]*$"):
        conformed(study().data, sick=[0, 1])


def test_a_study_with_sequences_is_read_back_as_it_was() -> None:
    for whole in (study(), study(**VISITS)):
        assert whole.digest == parse_study(approved_parts(whole), "again").digest


def test_a_study_without_sequences_keeps_the_digest_it_had() -> None:
    plain = study("table", "tabular_mlp", columns={"age": {"type": "number", "range": [0, 120]}, "sick": SICK})
    assert not {"texts", "steps"} & approved_parts(plain)["data"].keys()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"texts": {"gene": GENE, "other": GENE}, "columns": {"sick": SICK}}, "reads one of [data.texts]"),
        ({"texts": {"gene": GENE}, "columns": {**VISITS["columns"]}}, "reads one of [data.texts]"),
        ({"texts": {"gene": {**GENE, "unknown": "A"}}, "columns": {"sick": SICK}}, "must differ from each other"),
        ({"texts": {"sick": GENE}, "columns": {"sick": SICK}}, "must not be declared under [data.columns]"),
        ({**VISITS, "kind": "table"}, 'goes with kind = "sequences"'),
        ({**VISITS, "steps": {"order": "day"}}, "of 2 at least"),
        ({**VISITS, "patient_id": None}, "needs patient_id"),
        ({**VISITS, "steps": {"order": "drug", "count": 3}}, "order must name a number column other than the label"),
        ({**VISITS, "steps": {"order": "dya", "count": 3}}, "Received: 'dya'. Did you mean 'day'?"),
    ],
)
def test_a_contract_that_says_no_sequence_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(StudyError) as raised:
        study(**changes)
    assert message in str(raised.value)
    assert "?." not in str(raised.value)


def test_a_sequence_is_not_halved_away_and_a_table_is_none() -> None:
    with pytest.raises(StudyError, match=r"at most 0 entries of filters, .* which has 1 steps\. Received: 1"):
        study(texts={"gene": {**GENE, "length": 1}}, columns={"sick": SICK})
    with pytest.raises(StudyError, match=r"for which there is 'sequence_cnn', 'sequence_rnn'"):
        study(architecture="tabular_mlp")


def test_a_history_is_the_patients_own_rows_up_to_that_row() -> None:
    patients, days = np.array(["p", "q", "p", "p", "p"]), np.array([3.0, 1.0, 1.0, 4.0, 2.0])
    found = histories(patients, days, 10 * days[:, None], 3)[:, :, 0]
    expected = [
        [10, 20, 30],
        [10, PADDING, PADDING],
        [10, PADDING, PADDING],
        [20, 30, 40],
        [10, 20, PADDING],
    ]
    assert expected == found.tolist()


def test_rows_at_one_place_of_a_patient_follow_each_other_as_they_stand_and_are_counted() -> None:
    found = conformed(visits(), who=["p", "p", "q"], day=[1, 1, 1], drug=["b", "a", "c"], sick=[1, 1, 1])
    assert found.examples.images is not None
    assert [[1, 1], [1, 0]] == found.examples.images[1, :2].tolist()
    assert found.findings.notes == (
        "2 row(s) have the place of another row of their patient: they follow each other as they stand in the data.",
    )


def test_a_row_without_a_label_is_read_in_later_rows_only_and_one_without_a_place_never() -> None:
    found = conformed(
        visits(), who=["p", "p", "p", "q"], day=[2, 1, 999, None], drug=["b", "a", "c", "c"], sick=[1, None, 1, 1]
    )
    assert (2, 1) == (found.findings.no_order, found.findings.no_label)
    assert found.examples.images is not None
    assert [[[1, 0], [2, 1], [PADDING, PADDING]]] == found.examples.images.tolist()


def test_a_column_that_is_dealt_anew_is_dealt_with_its_history() -> None:
    found = conformed(visits(), who=["p", "p", "q"], day=[1, 2, 9], drug=["a", "b", "c"], sick=[1, 0, 1]).examples
    wrong = found.dealt(0, np.array([2, 2, 1]))
    assert [9, 9, 2] == wrong.values[:, 0].tolist()
    assert wrong.images is not None
    expected = [[9, PADDING, PADDING], [9, NAN, PADDING], [1, PADDING, PADDING]]
    assert np.array_equal(expected, wrong.images[:, :, 0], equal_nan=True)
    assert found.values[:, 1].tolist() == wrong.values[:, 1].tolist()


def prepared(contract: DataContract, **columns: list[Any]) -> np.ndarray:
    """As a network reads it; days are shifted by 2."""
    encodings = [
        FeatureColumn(
            name,
            len(contract.columns[name].levels),
            center=2.0 if contract.columns[name].range else 0.0,
            scale=1.0,
            fill=2.0,
            indicator=False,
        )
        for name in contract.features
    ]
    preparation = Preparation(contract, tuple(encodings), (), (), 0.0, 1.0, 4, {}, {}, (2, 2))
    x = preparation.transform(conformed(contract, **columns).examples).x
    assert preparation.input_shape == x.shape[1:]
    return np.asarray(x)


def test_a_network_reads_one_channel_for_each_letter_and_where_the_end_is() -> None:
    x = prepared(study().data, gene=["ANT"], sick=[0])
    assert [[1, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 1, 3]] == x[0].tolist()


def test_a_network_reads_the_columns_of_each_row_and_where_the_last_row_is() -> None:
    x = prepared(visits(), who=["p", "p"], day=[3, 1], drug=["b", None], sick=[1, 0])
    assert [[-1, 0, 0, 0, 0], [1, 0, 1, 0, 3], [0, 0, 0, 0, 0]] == x[0].tolist()
    assert [[-1, 0, 0, 0, 3], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]] == x[1].tolist()


def test_a_released_model_takes_texts_and_visits_as_a_hospital_writes_them() -> None:
    assert [[0, 1, 3]] == examples_of(study().data, [{"gene": "ACT"}]).values.tolist()
    rows: list[dict[str, Any]] = [{"who": 7, "day": 2, "drug": "a"}, {"who": 7, "day": 1, "drug": "b"}]
    past = examples_of(visits(), rows).images
    assert past is not None
    assert [[1, 1], [2, 0]] == past[0, :2].tolist()
    with pytest.raises(DataError, match=r"expected who and day in every row"):
        examples_of(visits(), [{"who": 7, "day": None, "drug": "a"}])
