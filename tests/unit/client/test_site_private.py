"""A site in a study that promises privacy: no sum without noise, and none whose noise could be all colluders'."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from client.site import answer
from server.training import Progress, run_study
from shared.errors import RunAbandoned, StudyError
from shared.messages import Refused
from shared.methods.base import PlainMean
from shared.plan import plan_of
from shared.privacy.settings import Privacy
from shared.study import Study
from simulations.local import LocalTransport, check_secure, local_sites
from tests.builders import random_consortium, table_study, ticking
from tests.secure import RecordingTransport

NAMES = ("a", "b", "c", "d")


def run(study: Study, method: str) -> None:
    """Run a private study with the plan of another method, exact or private."""
    data = random_consortium(study, dict.fromkeys(NAMES, 30)).data
    without = dataclasses.replace(study, privacy=study.privacy if method.startswith("private") else None)
    options = table_study(method__name="logistic-regression").method.options if without.privacy is None else None
    chosen = dataclasses.replace(study.method, name=method, options=options or study.method.options)
    plan = plan_of(dataclasses.replace(without, method=chosen), PlainMean())
    sites = local_sites(study, plan, data)
    identities = {name: site.member.signing.public for name, site in sites.items()}
    run_study(study, plan, identities, LocalTransport(sites), Progress(run="run", state=plan.start()), ticking())


def private(**changes: object) -> Study:
    study = table_study(
        method__name="private-logistic-regression",
        aggregation__secure=True,
        aggregation__min_sites=3,
        privacy__epsilon=5.0,
        privacy__delta=1e-5,
    )
    assert study.privacy is not None
    return dataclasses.replace(study, privacy=dataclasses.replace(study.privacy, **changes))  # type: ignore[arg-type]


def test_an_exact_sum_is_refused_in_a_private_study() -> None:
    with pytest.raises(RunAbandoned, match="not-private"):
        run(private(), "logistic-regression")


def test_four_hospitals_of_which_three_may_collude_have_no_honest_noise() -> None:
    """Three of four are enough for a sum: all three may be those that give their noise away."""
    with pytest.raises(RunAbandoned, match="too-few-for-noise"):
        run(private(colluding_sites=3), "private-logistic-regression")


def test_a_simulation_with_so_many_colluders_is_refused_before_it_begins() -> None:
    with pytest.raises(StudyError, match="colluding_sites"):
        check_secure(private(colluding_sites=3), 4)
    check_secure(private(colluding_sites=2), 4)


def test_bare_sums_cannot_be_private() -> None:
    with pytest.raises(ValueError, match="secure = true"):
        dataclasses.replace(table_study(), privacy=Privacy(epsilon=1.0, delta=1e-5))


@pytest.mark.parametrize("again", ["prepare", "train", "evaluate"])
def test_a_sum_of_another_stage_than_the_plan_has_there_is_refused(again: str) -> None:
    """Noise is for one preparation, so many rounds and one evaluation: one more would cost more than promised."""
    study = private()
    plan = plan_of(study, PlainMean())
    sites = local_sites(study, plan, random_consortium(study, dict.fromkeys(NAMES, 30)).data)
    local = LocalTransport(sites)
    recording = RecordingTransport(local, local.states)
    identities = {name: site.member.signing.public for name, site in sites.items()}
    run_study(study, plan, identities, recording, Progress("", plan.start()), ticking())
    # Sums 1 to 5: the preparation, three rounds, the evaluation.
    number, state_of = {"prepare": (2, 1), "train": (5, 4), "evaluate": (4, 5)}[again]
    found: Any = recording.at("contribute", number, "a")
    other: Any = recording.at("contribute", state_of, "a")
    state = {**other.request.state, "x": np.zeros(1)}
    before = dataclasses.replace(found.before, settled={})
    reply, after = answer(dataclasses.replace(found.request, state=state), before, sites["a"])
    assert isinstance(reply, Refused)
    assert reply.code == "beyond-plan"
    assert after is before
