"""A site answers what it was asked, refuses what it should, and lets no data out with an error."""

from __future__ import annotations

import dataclasses
import logging
from typing import Any

import numpy as np
import pytest

from client.site import Site, SiteState, answer
from server.strategies import server_optimizer
from server.training import Progress, run_study
from shared.errors import RunAbandoned
from shared.examples import Arrays, Examples
from shared.messages import Contributed, ContributeRequest, Heading, PreflightRequest, Ready, Refused
from shared.methods.base import NOTHING, Ask, Contribution
from shared.methods.combinators import InTurn
from shared.plan import plan_of
from shared.randomness import Randomness
from simulations.local import LocalTransport, local_sites
from tests.builders import examples_of, random_consortium, site_of, table_study, ticking
from tests.secure import Hospitals, RecordingTransport, Rows, secure_study

STUDY = table_study()
PLAN = plan_of(STUDY, server_optimizer(STUDY))
DATA = site_of("a", examples_of([[1.0, 2.0], [3.0, 5.0]], [0, 1]))
SITE = local_sites(STUDY, PLAN, {"a": DATA})["a"]


def request(
    study: str = STUDY.digest, run: str = "run", number: int = 1, counted: int = 0, state: object = None
) -> ContributeRequest:
    return ContributeRequest(Heading(run, study, number), 3, counted, PLAN.start() if state is None else state)  # type: ignore[arg-type]


def site_with(method: object) -> Site:
    return dataclasses.replace(SITE, method=method)  # type: ignore[arg-type]


def test_an_answer_carries_the_heading_of_the_question() -> None:
    reply, state = answer(request(), SiteState(), SITE)
    assert isinstance(reply, Contributed)
    assert (reply.site, reply.heading) == ("a", Heading("run", STUDY.digest, 1, 1))
    assert (state.run, state.round) == ("run", 1)


def test_the_same_question_gets_the_same_words() -> None:
    first, state = answer(request(), SiteState(), SITE)
    second, _ = answer(request(), state, SITE)
    assert np.array_equal(first.words, second.words)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"study": "0" * 64}, "another-study"),
        ({"number": 0}, "round-went-back"),
        ({"number": 6}, "beyond-plan"),
        ({"state": {}}, "bad-state"),
    ],
)
def test_a_refusal_has_its_own_code(changes: dict[str, Any], code: str) -> None:
    _, state = answer(request(), SiteState(), SITE)
    reply, after = answer(request(**changes), state, SITE)
    assert isinstance(reply, Refused)
    assert reply.code == code
    assert after.round == 1


def test_weights_of_huge_norm_are_refused() -> None:
    """Two chosen states of norm 1e9 isolate one patient through a perfect sum; a site does not answer them."""
    consortium = random_consortium(STUDY, {"a": 10})
    plan, progress = consortium.run(ticking())
    state = {**progress.state, "stage": np.array(1), "train/round": np.array(0)}
    for coefficient, code in ((1e9, "state-out-of-bounds"), (np.nan, "state-out-of-bounds")):
        bad = {**state, "train/weights/coef": np.full((1, 2), coefficient)}
        reply, _ = answer(request(state=bad, number=2), SiteState(), local_sites(STUDY, plan, consortium.data)["a"])
        assert isinstance(reply, Refused)
        assert reply.code == code


def test_an_error_inside_a_method_lets_no_patient_text_out(caplog: pytest.LogCaptureFixture) -> None:
    message = "patient Alice Example 123-45-6789"

    class Leaky:
        settled = PLAN.settled

        def asks(self, _state: object) -> object:
            raise RuntimeError(message)

    with caplog.at_level(logging.DEBUG):
        reply, _ = answer(request(), SiteState(), site_with(Leaky()))
    assert isinstance(reply, Refused)
    assert "Alice" not in f"{reply}{caplog.text}"
    assert "RuntimeError" in caplog.text
    assert "test_site.py" in caplog.text  # the place in the code is in the site's own log


class Counting:
    """A method that remembers how often it was counted."""

    settled = PLAN.settled
    stage = PLAN.stage

    def asks(self, state: object) -> object:
        return PLAN.asks(PLAN.start())

    def contribute(self, state, examples, memory, randomness):  # type: ignore[no-untyped-def]
        contribution, _ = PLAN.contribute(PLAN.start(), examples, {}, randomness)
        return contribution, {"times": np.array(int(memory.get("times", 0)) + 1)}


def test_memory_is_committed_only_when_the_site_was_counted() -> None:
    state, method = SiteState(), Counting()
    _, state = answer(request(number=1), state, site_with(method))
    _, state = answer(request(number=2, counted=1), state, site_with(method))
    assert int(state.memory["times"]) == 1
    # Round 2 was not counted: what it staged is forgotten.
    _, state = answer(request(number=3, counted=1), state, site_with(method))
    assert int(state.memory["times"]) == 1
    assert int(state.staged["times"]) == 2


def test_over_which_subsets_it_summed_is_remembered_though_the_aggregator_says_it_was_not_counted() -> None:
    class Choosing(Counting):
        def asks(self, state: object) -> Ask:
            return dataclasses.replace(PLAN.asks(PLAN.start()), subset_patients=5)

        def contribute(self, state, examples, memory, randomness):  # type: ignore[no-untyped-def]
            contribution, kept = super().contribute(state, examples, memory, randomness)  # type: ignore[no-untyped-call]
            return dataclasses.replace(contribution, smallest_subset=2), kept

    _, state = answer(request(number=1), SiteState(), site_with(Choosing()))
    _, state = answer(request(number=2, counted=0), state, site_with(Choosing()))
    assert int(state.memory["times"]) == 2


def test_another_run_starts_with_the_memory_of_what_was_counted() -> None:
    _, state = answer(request(), SiteState(), site_with(Counting()))
    _, state = answer(request(number=2, counted=1), state, site_with(Counting()))
    _, state = answer(request(run="other"), state, site_with(Counting()))
    assert int(state.memory["times"]) == 1
    assert int(state.staged["times"]) == 2


@pytest.mark.parametrize("odd", [None, 5, "x", [], Heading])
def test_what_is_no_request_or_has_no_heading_is_refused_too(odd: Any) -> None:
    before = SiteState()
    for asked_for in (odd, dataclasses.replace(request(), heading=odd)):
        reply, after = answer(asked_for, before, SITE)
        assert isinstance(reply, Refused)
        assert reply.code == "internal-error"
        assert after is before


# What a cheating aggregator asks of one site under secure aggregation

SECURE = table_study(aggregation__secure=True, aggregation__min_sites=3, method__rounds=3)


def asked(round_number: int, **changes: Any) -> tuple[Site, ContributeRequest, SiteState]:
    """Return site a of three, what it is asked in a round of an honest run, and where it stands then.

    changes: of the state that is broadcast, by name with ``__`` for ``/``.
    """
    consortium = random_consortium(SECURE, {"a": 10, "b": 10, "c": 10})
    plan = plan_of(SECURE, server_optimizer(SECURE))
    sites = local_sites(SECURE, plan, consortium.data)
    local = LocalTransport(sites)
    recording = RecordingTransport(local, local.states)
    identities = {name: site.member.signing.public for name, site in sites.items()}
    run_study(SECURE, plan, identities, recording, Progress("", plan.start()), ticking())
    found = recording.at("contribute", round_number, "a")
    assert isinstance(found.request, ContributeRequest)
    state = {**found.request.state, **{name.replace("__", "/"): value for name, value in changes.items()}}
    return sites["a"], dataclasses.replace(found.request, state=state), found.before


def refused_with(site: Site, question: ContributeRequest, before: SiteState) -> tuple[str, SiteState]:
    reply, after = answer(question, before, site)
    assert isinstance(reply, Refused), reply
    return reply.code, after


def test_a_preparation_that_no_sums_give_is_refused_before_data_are_read() -> None:
    """Scales of 1e-9 and weights of norm 1 would make one patient's value the largest of all."""
    table = np.array([[0.0, 1e-9, 0.0], [0.0, 1e-9, 0.0]])
    site, question, before = asked(2, prepare__table=table)
    assert ("bad-preparation", before) == refused_with(site, question, before)


def test_a_preparation_stays_as_it_was_when_training_began() -> None:
    site, question, before = asked(3)
    table = question.state["prepare/table"].copy()
    table[0, 0] += 1e-3
    changed = dataclasses.replace(question, state={**question.state, "prepare/table": table})
    assert ("settled-changed", before) == refused_with(site, changed, before)


def test_preparation_is_not_asked_again_after_training_began() -> None:
    site, question, before = asked(3)
    again = dataclasses.replace(question, state={"stage": np.array(0), "prepare/rounds": np.array(0), "x": np.zeros(1)})
    assert ("settled-changed", before) == refused_with(site, again, before)


def test_weights_of_another_type_cannot_hide_their_norm() -> None:
    """In 64-bit integers the square of 2**32 is 0."""
    site, question, before = asked(2, train__weights__coef=np.full((1, 2), 2**32))
    assert ("state-out-of-bounds", before) == refused_with(site, question, before)


def test_a_refusal_that_may_depend_on_patients_uses_up_the_round() -> None:
    """Asked again with other states, refusals of one hospital told a patient's value bit by bit."""
    site, question, before = asked(2)
    loud = dataclasses.replace(site, method=Loud(site.method))  # type: ignore[arg-type]
    code, after = refused_with(loud, question, before)
    assert code == "beyond-bound"
    assert "round-went-back" == refused_with(site, question, after)[0]
    other = dataclasses.replace(question, state={**question.state, "train/weights/intercept": np.ones(1)})
    assert "round-went-back" == refused_with(site, other, after)[0]
    later = dataclasses.replace(question, heading=dataclasses.replace(question.heading, round=3))
    assert "state-answered" == refused_with(site, later, after)[0]
    assert (None, None, None) == (after.secure.keys, after.secure.sharing, after.secure.masked)


class Loud:
    """The method, with contributions that are too large."""

    def __init__(self, inner: InTurn) -> None:
        self.asks, self.settled, self._inner = inner.asks, inner.settled, inner
        self.stage, self.method = inner.stage, inner.method

    def contribute(self, state, examples, memory, randomness):  # type: ignore[no-untyped-def]
        contribution, kept = self._inner.contribute(state, examples, memory, randomness)
        return dataclasses.replace(contribution, weight=1e30), kept


# The hospital's own rules, in each round


def with_rules(site: Site, **rules: Any) -> Site:
    """The same site, whose hospital has changed its policy since it approved the study."""
    return dataclasses.replace(
        site, member=dataclasses.replace(site.member, policy=dataclasses.replace(site.member.policy, **rules))
    )


@pytest.mark.parametrize("round_number", [1, 2, 5])
@pytest.mark.parametrize(
    ("code", "rules"),
    [
        ("too-few-patients", {"min_patients": 21}),
        ("too-few-of-a-class", {"min_class_patients": 10}),
        ("method-not-allowed", {"methods": ("neural",)}),
        ("too-few-members", {"min_sites": 4}),
    ],
)
def test_a_rule_of_the_policy_holds_in_each_round_and_changes_nothing(
    round_number: int, code: str, rules: dict[str, Any]
) -> None:
    site, question, before = asked(round_number)

    assert (code, before) == refused_with(with_rules(site, **rules), question, before)


def test_a_model_that_is_too_large_is_refused_when_it_is_to_be_trained() -> None:
    """Two coefficients and an intercept for ten patients to train on."""
    for round_number, largest, allowed in ((1, 0.01, True), (2, 0.29, False), (2, 0.3, True)):
        site, question, before = asked(round_number)
        reply, _ = answer(question, before, with_rules(site, max_parameters_per_patient=largest))
        assert allowed == isinstance(reply, Contributed), reply


def test_a_hospital_with_too_few_patients_is_not_ready() -> None:
    preflight = PreflightRequest(Heading("", STUDY.digest, 0))
    reply, _ = answer(preflight, SiteState(), with_rules(SITE, min_patients=5))

    assert isinstance(reply, Refused)
    assert "too-few-patients" == reply.code
    assert isinstance(answer(preflight, SiteState(), SITE)[0], Ready)


# Sums over subsets that the data choose


class Nodes(Rows):
    """In round r, sums over the patients whose value is at least r: a node of a tree, as it were."""

    says = True

    def asks(self, state: Arrays) -> Ask:
        return dataclasses.replace(super().asks(state), subset_patients=5)

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        node = examples.values[:, 0] >= int(state["round"]) + 1
        total = examples.values[node].sum(axis=0)
        return Contribution({"row": total}, 1.0, int(node.sum()) if self.says else None), NOTHING


class SilentNodes(Nodes):
    """The same, and the site does not hear how small the node is."""

    says = False


def nodes(kind: type[Nodes] = Nodes, **rules: Any) -> Hospitals:
    """Three hospitals whose patients have the values 1 to 6; the first one has rules."""
    values = np.arange(1.0, 7.0).reshape(6, 1)
    made = Hospitals(secure_study(method__rounds=4), dict.fromkeys("abc", values), kind(1, 4))
    made.sites["a"] = made.local.sites["a"] = with_rules(made.sites["a"], **rules)
    return made


def test_sums_over_subsets_that_the_data_choose_need_the_policys_leave() -> None:
    with pytest.raises(RunAbandoned, match=r"exchange 1: .* a \(data-dependent-subsets\)"):
        nodes(data_dependent_subsets=False).run()


def test_a_subset_may_be_as_small_as_the_policy_says_and_no_smaller() -> None:
    """Six patients in the first round, five in the second, four in the third."""
    with pytest.raises(RunAbandoned, match=r"exchange 3: .* a \(subset-too-small\)"):
        nodes(min_subset_patients=5).run()


def test_without_such_a_rule_the_node_of_few_patients_is_summed() -> None:
    assert 3.0 * (4 + 5 + 6) == nodes().run().history[-1].measurements["first"]


def test_a_method_that_does_not_say_how_small_its_subsets_are_is_refused() -> None:
    with pytest.raises(RunAbandoned, match=r"exchange 1: .* a \(subset-too-small\)"):
        nodes(SilentNodes).run()


def test_a_subset_that_was_too_small_uses_up_the_round() -> None:
    """Whether it is too small depends on patients: other states in the same round would tell how many there are."""
    made = nodes(min_subset_patients=5)
    recording = RecordingTransport(made.local, made.local.states)
    with pytest.raises(RunAbandoned):
        made.run(recording)
    found = recording.at("contribute", 3, "a")
    assert isinstance(found.request, ContributeRequest)
    code, after = refused_with(made.sites["a"], found.request, found.before)
    smaller = dataclasses.replace(found.request, state={**found.request.state, "sum/round": np.array(0)})

    assert "subset-too-small" == code
    assert "round-went-back" == refused_with(made.sites["a"], smaller, after)[0]
