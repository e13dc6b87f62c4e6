"""Networks by federated averaging: what a site contributes, what becomes of it, and the same bits every time."""

from __future__ import annotations

import dataclasses
import hashlib
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server.strategies import server_optimizer
from shared import fixedpoint, layout
from shared.errors import DependencyMissing, Refusal, StudyError
from shared.examples import Arrays, Examples
from shared.methods.base import Contribution, Total, under, within
from shared.methods.neural import Neural, NeuralOptions
from shared.methods.preparation import PreparationMethod
from shared.methods.words import word_plan
from shared.models import runtime
from shared.models.image_cnn import ImageCnn
from shared.models.tabular_mlp import TabularMlp
from shared.plan import TRAIN
from shared.preparation import Prepared
from shared.privacy.settings import Privacy
from shared.randomness import for_site
from shared.study import Study, parse_study
from simulations.local import Consortium, gather
from tests.builders import examples_of, random_consortium, site_of, table_study, ticking

ROOT = Path(__file__).parents[3]
LINEAR: Mapping[str, Any] = {"architecture": "tabular_mlp", "model": {"units": []}}

NUMBER: Mapping[str, Any] = {"type": "number", "range": [0.0, 20.0], "levels": []}


def mlp_study(features: int = 1, **changes: Any) -> Study:
    """A binary study of a network over numbers; ``changes`` are ``section__key=value``."""
    options = {**LINEAR, **changes.pop("options", {})}
    changes = {"method__rounds": 2, "data__max_rows_per_site": 1000, **changes}
    return table_study(features, method__name="neural", method__options=options, **changes)


def image_study(data: Mapping[str, Any] | None = None, **options: Any) -> Study:
    """Images of 8 x 8 grey pixels in [0, 1] with two classes."""
    return parse_study(
        {
            "study": {"name": "small", "question": "Does it work?", "seed": 7},
            "data": {
                "kind": "images",
                "label": "y",
                "columns": {"y": {"type": "category", "levels": [0, 1]}},
                "images": {"height": 8, "width": 8, "range": [0, 1]},
                "max_rows_per_site": 1000,
                **(data or {}),
            },
            "method": {"name": "neural", "rounds": 2, "options": {"architecture": "image_cnn", **options}},
        },
        "test",
    )


def images_of(rows: int, seed: int = 0) -> Examples:
    """Class 1 is bright on the left."""
    rng = np.random.default_rng(seed)
    y = (np.arange(rows) % 2).astype(float)
    images = rng.uniform(0, 0.5, (rows, 8, 8, 1))
    images[y == 1, :, :4] += 0.5
    return dataclasses.replace(examples_of(np.zeros((rows, 0)), y), images=images)


def prepared_method(study: Study, examples: Examples) -> Neural:
    """The method after an exchange with one site."""
    preparation = PreparationMethod(study.data)
    contribution, _ = preparation.contribute(preparation.start(), examples, {}, for_site(7, "a", 0))
    state, _ = preparation.advance(preparation.start(), Total(contribution.arrays, contribution.weight, 1))
    return Neural.create(study, preparation.result(state), server_optimizer(study))


def contributed(method: Neural, state: Arrays, examples: Examples, round_: int = 1) -> Contribution:
    contribution, memory = method.contribute(state, examples, {}, for_site(7, "a", round_))
    assert {} == memory
    return contribution


def refused(options: Mapping[str, Any]) -> str:
    with pytest.raises(StudyError) as caught:
        mlp_study(options=options)
    return str(caught.value)


def test_a_wrong_option_of_the_architecture_is_named_with_its_place_and_the_nearest_known_key() -> None:
    assert (
        refused({"model": {"unitz": [3]}}) == "test: [method.options.model] unitz: unknown key. Did you mean 'units'?"
    )
    expected = "test: [method.options.model] units: expected a valid array. Received: 3."
    assert expected == refused({"model": {"units": 3}})
    expected = "[method.options] architecture: expected 'image_cnn', 'sequence_cnn', 'sequence_rnn' or 'tabular_mlp'"
    assert expected in refused({"architecture": "cnn"})


def test_an_architecture_for_other_data_is_refused() -> None:
    assert "architecture 'image_cnn' reads 'images'" in refused({"architecture": "image_cnn", "model": {}})


def test_blocks_that_halve_the_image_away_are_refused() -> None:
    with pytest.raises(StudyError, match="at most 3 entries of filters"):
        image_study(model={"filters": [8, 8, 8, 8]})


def test_defaults_of_the_architecture_are_part_of_the_digest() -> None:
    assert ImageCnn() == NeuralOptions(architecture="image_cnn").model
    written, left_out = image_study(model={"dense_units": 64}), image_study()
    assert left_out.digest == written.digest
    assert image_study(model={"dense_units": 65}).digest != left_out.digest


def test_options_can_be_changed_from_code() -> None:
    options = dataclasses.replace(mlp_study().method.options, local_epochs=3)
    assert (TabularMlp(units=()), 3) == (options.model, options.local_epochs)


def test_a_study_without_keras_is_refused_before_anything_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise DependencyMissing("type this")

    monkeypatch.setattr(runtime, "require", missing)
    study = mlp_study()  # reading a study, to list it, needs no Keras
    with pytest.raises(DependencyMissing, match="type this"):
        gather(study, {})


@pytest.mark.parametrize("sites", [5, 20, 100])
def test_words_of_32_bits_hold_a_hundred_sites_of_a_million_rows(sites: int) -> None:
    study = mlp_study(data__max_rows_per_site=1_000_000)
    method = prepared_method(study, examples_of([[-1.0], [1.0]], [0, 1]))
    word_plan(method.asks(method.start()), sites)


@pytest.mark.parametrize(("batch_size", "exact"), [(32, False), (999, False), (1000, True)])
def test_one_batch_of_all_rows_counts_as_exact(batch_size: int, exact: bool) -> None:
    """Where nothing is left to chance, sums with and without a site can be subtracted; the study allows 1000 rows."""
    method = prepared_method(mlp_study(options={"batch_size": batch_size}), examples_of([[1.0], [2.0]], [0, 1]))
    assert exact == method.asks(method.start()).exact


def test_a_contribution_is_the_change_times_the_rows() -> None:
    """Standardised x is -1, 1, 1, -1 for classes 0, 1, 1, 0: from zeros the kernel's gradient is (1/2, -1/2)."""
    examples = examples_of([[-1.0], [1.0], [1.0], [-1.0]], [0, 1, 1, 0])
    method = prepared_method(mlp_study(options={"learning_rate": 0.1}), examples)
    zeros = {"weights/head/kernel": np.zeros((1, 2), np.float32), "weights/head/bias": np.zeros(2, np.float32)}
    contribution = contributed(method, {**method.start(), **zeros}, examples)
    assert 4 == contribution.weight
    assert pytest.approx(np.array([[-0.05 * 4, 0.05 * 4]]), abs=1e-5) == contribution.arrays["update/head/kernel"]
    assert pytest.approx(4 * np.log(2), rel=1e-5) == contribution.arrays["loss"]
    assert 0 == contribution.arrays["clipped"]


def test_one_site_ends_where_its_own_training_ends() -> None:
    examples = images_of(20)
    method = prepared_method(image_study(), examples)
    state = method.start()
    contribution = contributed(method, state, examples)
    moved, measured = method.advance(state, Total(contribution.arrays, contribution.weight, 1))
    weights, trained = method.result(state), method.result(moved)
    for name, update in within("update", contribution.arrays).items():
        assert pytest.approx(weights[name] + update / 20, abs=1e-6) == trained[name]
    assert {"loss": pytest.approx(float(contribution.arrays["loss"]) / 20), "clipped": 0.0} == measured


def test_contributing_is_pure_and_another_round_draws_other_batches() -> None:
    examples = images_of(40)
    method = prepared_method(image_study(batch_size=8), examples)
    state = method.start()
    first, other, same = (contributed(method, state, examples, round_) for round_ in (1, 2, 1))
    assert all(np.array_equal(first.arrays[name], same.arrays[name]) for name in first.arrays)
    assert not np.array_equal(first.arrays["update/head/kernel"], other.arrays["update/head/kernel"])


def test_a_site_with_one_class_trains_on() -> None:
    study = mlp_study(aggregation__min_sites=2)
    data = {
        "mixed": site_of("mixed", examples_of([[-1.0], [1.0], [2.0]], [0, 1, 1])),
        "all_sick": site_of("all_sick", examples_of([[0.5], [1.5]], [1, 1], first=10)),
    }
    _, progress = Consortium(study, data).run(ticking())
    assert [("mixed", "all_sick")] * 4 == [record.contributors for record in progress.history]


def test_networks_learn_together() -> None:
    study = image_study(local_epochs=2, learning_rate=0.05)
    data = {name: site_of(name, images_of(40, seed)) for seed, name in enumerate(("a", "b", "c"))}
    plan, progress = Consortium(study, data).run(ticking())
    method: Any = plan.method(progress.state, TRAIN)
    unseen = method.preparation.transform(images_of(50, seed=9))
    scores = method.scores(plan.result(progress.state)[TRAIN], unseen)
    assert np.array_equal(unseen.y, scores.argmax(axis=1))


def test_changes_beyond_the_bound_are_clipped_and_counted() -> None:
    """A gradient of 1/2 at rate 1 moves both weights and no bias by 1/2; the bound is 1/8."""
    examples = examples_of([[-1.0], [1.0]], [0, 1])
    method = prepared_method(mlp_study(options={"learning_rate": 1.0, "update_bound": 0.125}), examples)
    zeros = {"weights/head/kernel": np.zeros((1, 2), np.float32), "weights/head/bias": np.zeros(2, np.float32)}
    state = {**method.start(), **zeros}
    contribution = contributed(method, state, examples)
    assert [[-0.125 * 2, 0.125 * 2]] == contribution.arrays["update/head/kernel"].tolist()
    assert 2 == contribution.arrays["clipped"]
    assert 2 == method.advance(state, Total(contribution.arrays, 2.0, 1))[1]["clipped"]


def test_a_diverged_network_is_refused_not_clipped() -> None:
    examples = examples_of([[-1.0], [1.0]], [3.0, 4.0])
    study = mlp_study(data__columns__y=NUMBER, options={"learning_rate": 1e30, "local_epochs": 5})
    method = prepared_method(study, examples)
    state = method.start()
    contribution = contributed(method, state, examples)
    plan = word_plan(method.asks(state), 5)
    vector = layout.to_vector(plan.entries, {**contribution.arrays, "weight": np.array(contribution.weight)})
    with pytest.raises(Refusal, match="not-finite: update/"):
        fixedpoint.encode(plan, vector, np.random.default_rng(0))


def test_the_proximal_term_keeps_a_site_near() -> None:
    examples = images_of(40)
    moved = {}
    for mu in (0.0, 10.0):
        method = prepared_method(image_study(local_epochs=5, proximal_mu=mu), examples)
        update = within("update", contributed(method, method.start(), examples).arrays)
        moved[mu] = sum(float(np.square(array).sum()) for array in update.values())
    assert moved[10.0] < 0.5 * moved[0.0]


def test_saturated_scores_are_finite_log_odds() -> None:
    examples = examples_of([[-1.0], [1.0]], [0, 1])
    method = prepared_method(mlp_study(), examples)
    weights = {"head/kernel": np.array([[-500.0, 500.0]], np.float32), "head/bias": np.zeros(2, np.float32)}
    scores = method.scores(weights, method.preparation.transform(examples))
    assert np.float64 == scores.dtype
    assert [[1000.0, -1000.0], [-1000.0, 1000.0]] == scores.tolist()


def test_a_number_is_predicted_in_the_label_s_unit() -> None:
    """y = 10 + 2 x; a standardised slope of one and no bias is exactly that line."""
    examples = examples_of([[-2.0], [-1.0], [1.0], [2.0]], [6.0, 8.0, 12.0, 14.0])
    study = mlp_study(data__columns__y=NUMBER, method__rounds=30, options={"learning_rate": 0.1})
    method = prepared_method(study, examples)
    line = {"head/kernel": np.array([[1.0]], np.float32), "head/bias": np.zeros(1, np.float32)}
    scores = method.scores(line, method.preparation.transform(examples))
    assert pytest.approx(np.array([[6.0], [8.0], [12.0], [14.0]]), abs=1e-5) == scores
    plan, progress = Consortium(study, {"a": site_of("a", examples), "b": site_of("b", examples)}).run(ticking())
    trained: Any = plan.method(progress.state, TRAIN)
    ten = Prepared(np.zeros((1, 1)), np.zeros(1))
    assert pytest.approx(10.0, abs=0.01) == trained.scores(plan.result(progress.state)[TRAIN], ten)
    assert progress.history[-2].measurements["loss"] < 1e-4


def test_the_model_card_says_what_it_is() -> None:
    method = prepared_method(image_study(proximal_mu=0.1, model={"filters": [8]}), images_of(4))
    expected = (
        "Convolutional network of 1 Conv-GroupNorm-ReLU-MaxPool block(s) (8 channels, 3 x 3 filters) and a hidden layer"
        " of 64 ReLU units: 8,474 trained weights. Fitted by federated averaging with 1 local epoch(s) a round of SGD"
        " in batches of 32, learning rate 0.02, momentum 0.9, proximal term 0.1 (FedProx)."
    )
    assert expected == method.description()


def test_the_centralised_study_is_the_study_without_privacy() -> None:
    study = image_study()
    private = dataclasses.replace(study, privacy=Privacy(epsilon=1.0, delta=1e-5, patients_per_site=10))
    assert [study, study] == [Neural.centralised(study), Neural.centralised(private)]


def digest_of_a_run() -> str:
    """SHA-256 of the weights after a whole run of three sites, local training and encoding included."""
    study = image_study(batch_size=8)
    data = {name: site_of(name, images_of(20, seed)) for seed, name in enumerate(("a", "b", "c"))}
    plan, progress = Consortium(study, data).run(ticking())
    weights = under("weights", plan.result(progress.state)[TRAIN])
    return hashlib.sha256(b"".join(name.encode() + array.tobytes() for name, array in weights.items())).hexdigest()


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_in_another_process() -> None:
    script = "from tests.unit.shared.test_neural import digest_of_a_run\nprint(digest_of_a_run())"
    ran = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=True, text=True)
    assert ran.stdout.strip() == digest_of_a_run()


def test_tables_of_several_columns_are_learnt() -> None:
    study = mlp_study(features=3, method__rounds=10, options={"model": {"units": [8]}, "learning_rate": 0.1})
    _, progress = random_consortium(study, {"a": 60, "b": 90}).run(ticking())
    losses = [record.measurements["loss"] for record in progress.history if record.stage == TRAIN]
    assert losses[-1] < 0.6 * losses[0]
