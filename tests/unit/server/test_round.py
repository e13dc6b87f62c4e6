"""One bad site never ends a round: every planned fault, and what the result says of it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from server.training import Progress
from shared.errors import RunAbandoned, StudyError
from shared.plan import TRAIN
from tests.builders import Consortium, random_consortium, table_study, ticking

SIZES = {"a": 20, "b": 30, "c": 40}


def run(*faults: str, **changes: object) -> tuple[Progress, Consortium]:
    study = table_study(simulation__faults=list(faults), **changes)
    consortium = random_consortium(study, SIZES)
    return consortium.run(ticking())[1], consortium


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("lost", "no-reply"),
        ("late", "late"),
        ("nan", "wrong-type"),
        ("shape", "wrong-shape"),
        ("exception", "bad-state"),
    ],
)
def test_a_bad_site_is_left_out_of_that_round_and_named(kind: str, code: str) -> None:
    progress, _ = run(f"b 3 {kind}")
    contributors = [record.contributors for record in progress.history]
    assert contributors == [("a", "b", "c"), ("a", "b", "c"), ("a", "c"), ("a", "b", "c"), ("a", "b", "c")]
    assert [dict(record.dropped) for record in progress.history][2] == {"b": code}


@pytest.mark.parametrize("exchange", [1, 2, 5])
def test_a_site_that_raises_is_left_out_in_whatever_exchange(exchange: int) -> None:
    progress, _ = run(f"b {exchange} exception")
    dropped = [dict(record.dropped) for record in progress.history]
    assert dropped == [{"b": "bad-state"} if number == exchange else {} for number in range(1, 6)]


def test_a_round_without_a_site_is_the_round_of_the_others() -> None:
    """Leaving b out of every training round gives the weights of a consortium that never had b in training."""
    lost = ["b 2 lost", "b 3 late", "b 4 shape"]
    with_faults, consortium = run(*lost, aggregation__min_sites=2)
    study = consortium.study
    plan, clean = Consortium(dataclasses.replace(study, simulation=table_study().simulation), consortium.data).run(
        ticking()
    )
    assert not np.array_equal(with_faults.state["train/weights/coef"], clean.state["train/weights/coef"])
    others = Consortium(table_study(), {name: consortium.data[name] for name in ("a", "c")})
    state = {**clean.state, **plan.start(), "stage": np.array(1)}
    state |= {f"train/{k}": v for k, v in plan.method(clean.state, TRAIN).start().items()}
    _, resumed = others.run(
        ticking(), Progress("run", {k: v for k, v in state.items() if not k.startswith("evaluate")})
    )
    assert resumed.state["train/weights/coef"] == pytest.approx(with_faults.state["train/weights/coef"], abs=1e-6)


def test_a_reply_that_comes_twice_counts_once_and_is_noted() -> None:
    once, _ = run()
    twice, _ = run("b 3 twice")
    assert dict(twice.history[2].noted) == {"b": "replied-twice"}
    assert np.array_equal(once.state["train/weights/coef"], twice.state["train/weights/coef"])


def test_a_late_reply_turns_up_in_the_next_round_and_is_not_taken_for_it() -> None:
    progress, _ = run("b 3 late")
    assert dict(progress.history[3].noted) == {"b": "stale-reply"}
    assert progress.history[3].contributors == ("a", "b", "c")


def test_fewer_than_min_sites_end_the_run_naming_who_and_why() -> None:
    with pytest.raises(
        RunAbandoned, match=r"exchange 3: 1 of 3 sites contributed, and 2 are needed.*a \(no-reply\), b \(late\)"
    ):
        run("a 3 lost", "b 3 late", aggregation__min_sites=2)


def test_a_run_starts_again_from_any_progress_and_ends_with_the_same_bits() -> None:
    whole, consortium = run()
    seen: list[Progress] = []
    consortium.run(dataclasses.replace(ticking(), save=seen.append))
    for progress in seen:
        _, resumed = consortium.run(ticking(), progress)
        assert all(np.array_equal(resumed.state[name], whole.state[name]) for name in whole.state)


@pytest.mark.parametrize("text", ["b three lost", "b 3", "d 3 lost", "b 3 gone", "b 0 lost"])
def test_a_fault_that_cannot_be_planned_is_refused(text: str) -> None:
    with pytest.raises(StudyError, match="faults"):
        run(text)


def test_values_beyond_the_declared_bound_are_refused_by_the_site() -> None:
    """More rows than the study declares do not fit the proved words: the site says so, with a code."""
    study = table_study(data__max_rows_per_site=25, aggregation__min_sites=1)
    _, progress = random_consortium(study, SIZES).run(ticking())
    assert dict(progress.history[0].dropped) == {"b": "beyond-bound", "c": "beyond-bound"}


def test_bytes_are_those_of_the_words_and_the_state() -> None:
    progress, _ = run()
    # Training: 2 coefficients, 1 intercept, loss, weight: five words of 8 bytes from each of 3 sites, and headers.
    assert 3 * 5 * 8 < progress.history[1].bytes_up < 3 * (5 * 8 + 150)


def test_masks_change_no_bit() -> None:
    bare, _ = run()
    masked, _ = run(aggregation__secure=True)
    assert bare.state.keys() == masked.state.keys()
    for name, array in bare.state.items():
        assert array.tobytes() == masked.state[name].tobytes(), name


def test_masks_change_no_bit_where_sites_of_a_network_come_and_go() -> None:
    """A site lost in one round is back in the next, with masks as without; lost at the reveal, it still counts."""
    network = {
        "method": {"name": "neural", "rounds": 3, "options": {"architecture": "tabular_mlp", "model": {"units": []}}}
    }
    faults = ["b 2 lost", "a 3 late", "d 3 twice", "c 4 nan"]
    sizes = {"a": 40, "b": 40, "c": 40, "d": 40, "e": 40}
    ends = []
    for secure, more in ((False, []), (True, ["e 1 lost reveal", "b 5 late reveal"])):
        study = table_study(simulation__faults=faults + more, aggregation__secure=secure, **network)
        ends.append(random_consortium(study, sizes).run(ticking())[1])
    bare, masked = ends
    assert [record.contributors for record in bare.history] == [record.contributors for record in masked.history]
    for name, array in bare.state.items():
        assert array.tobytes() == masked.state[name].tobytes(), name


def test_an_exact_method_ends_when_a_site_is_lost_and_says_which_and_why() -> None:
    with pytest.raises(RunAbandoned, match=r"exchange 3.*b \(no-reply\).*exact method.*may_shrink"):
        study = table_study(simulation__faults=["b 3 lost"], aggregation__secure=True)
        random_consortium(study, {**SIZES, "d": 10, "e": 10}).run(ticking())


def test_where_contributors_may_shrink_the_lost_site_stays_out() -> None:
    allowed = {"aggregation__secure": True, "aggregation__threshold": 3, "simulation__contributors_may_shrink": True}
    study = table_study(simulation__faults=["d 3 lost"], **allowed)
    progress = random_consortium(study, {**SIZES, "d": 10}).run(ticking())[1]
    everyone, others = ("a", "b", "c", "d"), ("a", "b", "c")
    # No patient is both in training and held out: the evaluation has all four again.
    assert [record.contributors for record in progress.history] == [everyone, everyone, others, others, everyone]
    assert dict(progress.history[3].dropped) == {"d": "not-asked"}


def test_a_run_that_goes_on_keeps_the_contributors_of_its_first_exact_sum() -> None:
    """New processes of the hospitals remember what was frozen; without b, no sum of the same patients is made."""
    study = table_study(aggregation__secure=True)
    sizes = {**SIZES, "d": 10, "e": 10}
    saved: list[Progress] = []
    random_consortium(study, sizes).run(dataclasses.replace(ticking(), save=saved.append))
    lost = random_consortium(table_study(aggregation__secure=True, simulation__faults=["b 3 lost"]), sizes)
    halfway = dataclasses.replace(saved[1], secured=None)
    with pytest.raises(RunAbandoned, match="contributors-changed"):
        lost.run(ticking(), halfway)
    whole = random_consortium(study, sizes).run(ticking(), halfway)[1]
    assert all(array.tobytes() == whole.state[name].tobytes() for name, array in saved[-1].state.items())
