"""Every field of everything that a hospital says in a study with noise: paid for, or the same whoever its patients are.

One whole run is kept, with every question. The same questions are asked again of a hospital with other patients and the
same secrets: what differs then was computed from patients. That may be the words of a sum alone, each with its charge.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest

from client.budget import compose, spendings_of
from client.data.split import SiteData
from client.site import SiteState, answer, encode
from shared import packing
from shared.examples import Part
from shared.messages import Contributed, ContributeRequest, Heading, Refused, Reply
from shared.methods.base import NOTHING, PlainMean
from shared.methods.words import word_plan
from shared.plan import multipliers_of, plan_of
from shared.privacy import calibration
from shared.privacy.accounting import SampledGaussian
from shared.randomness import for_site
from tests.unit.client.private import STUDY, Listening, PrivateDesks, Said, patients_of, rows_of, run

AMPLE = "epsilon = 20.0\ndelta = 1e-4"
SAME, NOISED, NEVER, INSIDE = "same", "noised", "never", "inside"
LEAVES = {
    # Public: what the question said, the hospital's name, rules and code.
    **dict.fromkeys(("Heading.run", "Heading.study", "Heading.round", "Heading.attempt"), SAME),
    **dict.fromkeys(("Ready.site", "Joined.site", "Keys.site", "Shares.site", "Receipt.site"), SAME),
    **dict.fromkeys(("Contributed.site", "Revealed.site", "Ended.site", "Refused.site"), SAME),
    **dict.fromkeys(("Ready.members", "Ready.code", "Joined.min_sites", "Joined.shrinking"), SAME),
    # The protocol's: keys, shares, nonces, and signatures and digests of what was asked.
    **dict.fromkeys(("Joined.nonce", "Joined.signature", "Keys.mask", "Keys.seal", "Keys.seed_digest"), SAME),
    **dict.fromkeys(("Keys.signature", "Shares.sealed", "Receipt.maskers", "Receipt.state"), SAME),
    **dict.fromkeys(("Receipt.signature", "Revealed.seeds", "Revealed.scalars", "Revealed.next_sealed"), SAME),
    # Computed from patients, noised and charged.
    "Contributed.words": NOISED,
    # Computed from patients, and not said in a study with noise.
    **dict.fromkeys(("Counts.patients", "Counts.rows", "Counts.training_rows", "Counts.held_out_rows"), NEVER),
    **dict.fromkeys(("Counts.class_rows", "Counts.out_of_contract", "Ended.metrics"), NEVER),
    **dict.fromkeys(("Shown.value", "Shown.low", "Shown.high"), NEVER),
    "Ended.rows": SAME,
    # Codes are held against planted patients below.
    **dict.fromkeys(("Refused.code", "Refused.hint"), SAME),
    # What these hold is in this table by its own name.
    **{f"{kind}.heading": INSIDE for kind in ("Ready", "Joined", "Keys", "Shares", "Receipt", "Contributed")},
    **{f"{kind}.heading": INSIDE for kind in ("Revealed", "Ended", "Refused")},
    **dict.fromkeys(("Ready.counts", "Contributed.receipt", "Contributed.next_keys"), INSIDE),
}
"""What each field is. A new field stands here, with a test of what it is, before it may leave."""


def fields_of(kind: type[Any]) -> Iterator[str]:
    """Yield the fields of a message, and of the messages in it."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        yield f"{kind.__name__}.{field.name}"
        for inner in (hints[field.name], *get_args(hints[field.name])):
            if dataclasses.is_dataclass(inner):
                yield from fields_of(inner)  # type: ignore[arg-type]


def values_of(message: Any) -> Iterator[tuple[str, Any]]:
    """Yield the same of one message, with its values."""
    for field in dataclasses.fields(message):
        name, value = f"{type(message).__name__}.{field.name}", getattr(message, field.name)
        inside = list(value.values()) if isinstance(value, Mapping) else [value]
        parts = [each for each in inside if dataclasses.is_dataclass(each)]
        yield name, None if parts else value
        for part in parts:
            yield from values_of(part)


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> tuple[PrivateDesks, Listening]:
    """A whole run of four hospitals, from the question whether they are ready to its end."""
    desks = PrivateDesks(tmp_path_factory.mktemp("heard"))
    return desks, run(desks)[1]


def several_rows() -> SiteData:
    """Five patients with eight rows each."""
    data = patients_of("a", seed=5)
    training = data.parts[Part.TRAINING]
    patients = np.repeat([f"m{number}" for number in range(5)], 8)
    return SiteData("a", {**data.parts, Part.TRAINING: dataclasses.replace(training, patients=patients)})


def planted(x: float, label: float, count: int = 30) -> SiteData:
    rows = rows_of(np.column_stack([np.full(count, x), np.arange(count) % 2]), np.full(count, label))
    held_out = rows_of([[x, 1.0]] * 10, [label] * 10, "h")
    return SiteData("a", {Part.TRAINING: rows, Part.HELD_OUT: held_out})


OTHERS = {
    "more of them": patients_of("a", 57, 31, seed=9),
    "one class, at the edge of the range": planted(10.0, 1.0),
    "nothing measured": planted(float("nan"), 0.0),
    "several rows each": several_rows(),
    "all but equal": planted(0.0, 0.0, 3),
}
"""Other patients of hospital a."""


def said_by(desks: PrivateDesks, questions: list[Said]) -> list[Reply]:
    """Ask hospital a the same questions again."""
    found = []
    for each in questions:
        packed, _ = desks.desks["a"].answer(each.asked, "message")
        found.append(packing.unpack(packed, *get_args(Reply)))
    return found


def test_every_field_of_every_reply_is_in_the_table() -> None:
    assert {name for kind in get_args(Reply) for name in fields_of(kind)} == set(LEAVES)


def test_every_reply_of_a_run_was_heard(heard: tuple[PrivateDesks, Listening]) -> None:
    """Else the rest would show nothing: everything but a refusal, and shares for a second attempt."""
    kinds = {type(each.reply).__name__ for each in heard[1].of("a")}

    assert {kind.__name__ for kind in get_args(Reply)} - {"Refused"} == kinds


@pytest.fixture(scope="module", params=OTHERS)
def other(
    request: pytest.FixtureRequest, heard: tuple[PrivateDesks, Listening], tmp_path_factory: pytest.TempPathFactory
) -> tuple[SiteData, list[Reply]]:
    """Other patients, and what is said of them under the same secrets."""
    desks, data = PrivateDesks(tmp_path_factory.mktemp("other")), OTHERS[request.param]
    desks.treats("a", data)
    return data, said_by(desks, heard[1].of("a"))


def test_what_is_not_a_sum_is_the_same_whoever_the_patients_are(
    heard: tuple[PrivateDesks, Listening], other: tuple[SiteData, list[Reply]]
) -> None:
    check_same(heard[1].of("a"), other[1])


def check_same(said: list[Said], again: list[Reply]) -> None:
    """Hold what was said of two groups of patients against each other and against the table."""
    for first, second in zip(said, again, strict=True):
        for (name, one), (other_name, two) in zip(values_of(first.reply), values_of(second), strict=True):
            assert name == other_name
            match LEAVES[name]:
                case "same" | "inside":
                    assert one == two, name
                case "never":
                    assert not one and not two, name
                case "noised":
                    assert one.shape == two.shape, name


def test_words_differ_by_what_is_summed_alone_so_noise_masks_and_weight_do_not_depend_on_patients(
    heard: tuple[PrivateDesks, Listening], other: tuple[SiteData, list[Reply]]
) -> None:
    desks, before = heard[0], patients_of("a")
    plan = plan_of(desks.study, PlainMean())
    for first, second in zip(heard[1].of("a"), other[1], strict=True):
        if not isinstance(first.reply, Contributed):
            continue
        assert isinstance(first.request, ContributeRequest) and isinstance(second, Contributed)
        state, ask = first.request.state, plan.asks(first.request.state)
        one, two = (
            encode(
                word_plan(ask, 4), plan.contribute(state, data.parts[ask.part], NOTHING, for_site(7, "a", 1))[0], None
            )
            for data in (before, other[0])
        )
        assert 0 == (two - one)[-1]
        assert (two - one).tolist() == (second.words - first.reply.words).tolist()


def test_every_sum_that_left_is_in_the_ledger_as_what_it_costs(heard: tuple[PrivateDesks, Listening]) -> None:
    desks, listening = heard
    plan = plan_of(desks.study, PlainMean())
    for name in "abcd":
        left = []
        for each in listening.of(name, ContributeRequest):
            assert isinstance(each.request, ContributeRequest)
            ask = plan.asks(each.request.state)
            left.append((each.packed.digest.hex(), (ask.part,), (calibration.event_of(ask, 4),)))
        found = [entry.charge for entry in desks.ledger(name).entries]
        assert left == [(charge.draw, charge.spending.parts, charge.spending.events) for charge in found]
        assert ["prepare", "train", "train", "train", "evaluate"] == [charge.stage for charge in found]


@pytest.mark.slow
def test_steps_of_dp_sgd_are_charged_and_nothing_but_their_words_depends_on_patients(tmp_path: Path) -> None:
    options = '[method.options]\narchitecture = "tabular_mlp"\nmodel = { units = [3] }\n'
    text = STUDY.replace("private-logistic-regression", "neural").replace("[aggregation]", f"{options}[aggregation]")
    text = text.replace("delta = 1e-4", "delta = 1e-4\nsampling_rate = 0.25\npatients_per_site = 40")
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first, second = PrivateDesks(tmp_path / "first", text=text), PrivateDesks(tmp_path / "second", text=text)
    listening = run(first)[1]
    chosen = multipliers_of(first.study)
    events = [entry.charge.spending.events[0] for entry in first.ledger("a").entries]
    assert chosen and [(chosen.train, 0.25, 4)] * 3 == [
        (event.noise_multiplier, event.sampling_rate, event.count)
        for event in events
        if isinstance(event, SampledGaussian)
    ]
    second.treats("a", OTHERS["more of them"])
    check_same(listening.of("a"), said_by(second, listening.of("a")))


def test_in_a_study_for_whole_hospitals_a_patients_cost_is_charged_and_only_words_depend_on_patients(
    tmp_path: Path,
) -> None:
    text = STUDY.replace("private-logistic-regression", "logistic-regression")
    text = text.replace("delta = 1e-4", 'delta = 1e-4\nunit = "site"\npatients_per_site = 20')
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    first, second = (PrivateDesks(tmp_path / name, text=text, budget=AMPLE) for name in ("first", "second"))
    listening, plan = run(first)[1], plan_of(first.study, PlainMean())
    second.treats("a", OTHERS["more of them"])
    check_same(listening.of("a"), said_by(second, listening.of("a")))

    charged = [entry.charge.spending for entry in first.ledger("a").entries]
    asked = [plan.asks(each.request.state) for each in listening.of("a", ContributeRequest)]  # type: ignore[union-attr]
    assert [(ask.part, calibration.event_of(ask, 4, "patient")) for ask in asked] == [
        (each.parts[0], each.events[0]) for each in charged
    ]
    # Nobody pays more than was said when the hospital approved; a patient may pay more than the study's epsilon.
    left, said = compose(charged), compose(spendings_of(first.study, "cohort"))
    assert all((left.rdp[part] <= said.rdp[part] * (1 + 1e-9)).all() for part in Part)
    assert all(left.sampler_error[part] <= said.sampler_error[part] for part in Part)
    assert 5.0 < left.epsilon(1e-4) == pytest.approx(said.epsilon(1e-4), rel=1e-4)


# Refusals: whether one comes, and which, is no answer to a question about a patient.


def changed(request: ContributeRequest, **arrays: Any) -> ContributeRequest:
    """The request with other values in its state."""
    state = {
        name: np.array(arrays[name.replace("/", "_")](array)) if name.replace("/", "_") in arrays else array
        for name, array in request.state.items()
    }
    assert any(state[name] is not request.state[name] for name in state)
    return dataclasses.replace(request, state=state)


def about_one_value(table: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Center x0 on a value that a patient may have, with the smallest scale that a site takes."""
    table = table.copy()
    table[0] = (10.0, 20.0 * 1e-6, 10.0)
    return table


def at(request: ContributeRequest, **heading: Any) -> ContributeRequest:
    return dataclasses.replace(request, heading=dataclasses.replace(request.heading, **heading))


QUESTIONS = {
    "the run's own": (lambda asked: asked, "Contributed"),
    "long weights": (lambda asked: changed(asked, train_weights_coef=lambda w: w + 400.0), "Contributed"),
    "weights too long": (lambda asked: changed(asked, train_weights_coef=lambda w: w + 1e9), "state-out-of-bounds"),
    "weights that are no numbers": (
        lambda asked: changed(asked, train_weights_coef=lambda w: w * np.nan),
        "state-out-of-bounds",
    ),
    "weights of more classes": (
        lambda asked: changed(
            asked, train_weights_coef=lambda w: np.ones((5, w.shape[1])), train_weights_intercept=lambda _w: np.ones(5)
        ),
        "Contributed",
    ),
    "weights of other columns": (
        lambda asked: changed(asked, train_weights_coef=lambda w: np.ones((1, w.shape[1] + 1))),
        "internal-error",
    ),
    "a preparation about one value": (lambda asked: changed(asked, prepare_table=about_one_value), "Contributed"),
    "a preparation without scale": (lambda asked: changed(asked, prepare_table=lambda t: t * 0.0), "bad-preparation"),
    "a preparation of no numbers": (
        lambda asked: changed(asked, prepare_table=lambda t: t * np.nan),
        "bad-preparation",
    ),
    "no patients in the preparation": (lambda asked: changed(asked, prepare_rows=lambda r: r * 0.0), "Contributed"),
    "one more than planned": (lambda asked: at(asked, round=6), "beyond-plan"),
    "one that was": (lambda asked: at(asked, round=1), "round-went-back"),
    "another study": (lambda asked: at(asked, study="0" * 64), "another-study"),
    "bare words": (lambda asked: dataclasses.replace(asked, masking=None), "unmasked"),
    "more hospitals": (lambda asked: dataclasses.replace(asked, sites=5), "another-scale"),
}
"""Other questions than the run's own in its second exchange, and how a hospital answers."""


@pytest.fixture(scope="module")
def places(heard: tuple[PrivateDesks, Listening]) -> list[tuple[SiteData, SiteState]]:
    """Where hospital a is before the second exchange, with each of its patients."""
    desks, listening = heard
    found = []
    for data in (patients_of("a"), *OTHERS.values()):
        state, site = SiteState(), desks.site("a", data)
        for each in listening.of("a"):
            if isinstance(each.request, ContributeRequest) and each.request.heading.round == 2:
                break
            _, state = answer(each.request, state, site)
        found.append((data, state))
    return found


@pytest.mark.parametrize("name", QUESTIONS)
def test_an_answer_comes_or_is_refused_whoever_the_patients_are(
    heard: tuple[PrivateDesks, Listening], places: list[tuple[SiteData, SiteState]], name: str
) -> None:
    change, expected = QUESTIONS[name]
    asked = heard[1].of("a", ContributeRequest)[1].request
    assert isinstance(asked, ContributeRequest) and asked.heading == Heading(
        asked.heading.run, heard[0].study.digest, 2
    )
    said = [answer(change(asked), state, heard[0].site("a", data))[0] for data, state in places]

    assert [expected] * 6 == [each.code if isinstance(each, Refused) else type(each).__name__ for each in said]
    assert 1 == len({each.hint if isinstance(each, Refused) else "" for each in said})
