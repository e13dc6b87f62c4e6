"""One hospital's steps in a round, in order: check the question, compute, encode, answer or refuse.

A pure function of request and state; nothing that it raises or returns contains data: an error inside a method
becomes the code ``internal-error``, and the site's own log gets the places in the code, without messages or values.
"""

from __future__ import annotations

import dataclasses
import logging
import math
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from client.data.split import SiteData
from shared import fixedpoint, layout, randomness
from shared.errors import ProtocolError, Refusal, StudyError
from shared.examples import Arrays
from shared.fixedpoint import Words
from shared.messages import Contributed, ContributeRequest, Refused, Reply
from shared.methods.base import NOTHING, Ask, Contribution, Method, word_plan
from shared.randomness import Randomness
from shared.study import Study

log = logging.getLogger("consilium.client")


@dataclass(frozen=True, eq=False)
class SiteState:
    """What a site remembers of one run.

    run: the run's id; empty before the first request.
    round: the last round that was answered.
    memory: of the method, committed.
    staged: of the last answer; it becomes the memory when the aggregator says that the answer was counted.
    """

    run: str = ""
    round: int = 0
    memory: Arrays = dataclasses.field(default_factory=lambda: NOTHING)
    staged: Arrays = dataclasses.field(default_factory=lambda: NOTHING)


def answer(
    request: ContributeRequest, state: SiteState, data: SiteData, study: Study, method: Method[Any]
) -> tuple[Reply, SiteState]:
    """Return the reply to one request, and the site's next state.

    method: the study's plan (``shared.plan.plan_of``), the same as the aggregator's.
    """
    heading = (data.name, request.run, request.round, request.attempt)
    try:
        state = _admit(request, state, study)
        drawn = randomness.for_site(study.study.seed, data.name, request.round)
        words, staged = _contribute(request, state, data, method, drawn)
    except (Refusal, ProtocolError) as error:
        return Refused(*heading, error.code, error.hint), state
    except StudyError as error:
        return Refused(*heading, "study-error", str(error)), state
    except Exception as error:
        places = "".join(traceback.format_tb(error.__traceback__))
        log.error("site=%s round=%d %s\n%s", data.name, request.round, type(error).__name__, places)  # noqa: TRY400
        return Refused(*heading, "internal-error", "see the site's own log"), state
    return Contributed(*heading, words), dataclasses.replace(state, round=request.round, staged=staged)


def _admit(request: ContributeRequest, state: SiteState, study: Study) -> SiteState:
    """Return the state in which the request is answered.

    Raises: Refusal if the request is for another study or goes back in time.
    """
    if request.study != study.digest:
        raise Refusal("another-study", "the request is for a study with another digest than the one approved here")
    if request.run != state.run:
        state = SiteState(run=request.run)
    if request.round < state.round:
        raise Refusal("round-went-back", f"round {state.round} was answered already")
    if state.round and request.counted == state.round:
        state = dataclasses.replace(state, memory=state.staged)
    return state


def _contribute(
    request: ContributeRequest, state: SiteState, data: SiteData, method: Method[Any], drawn: Randomness
) -> tuple[Words, Arrays]:
    ask = method.asks(request.state)
    check_state(ask)
    examples = data.parts[ask.part]
    contribution, memory = method.contribute(request.state, examples, state.memory, drawn)
    words = encode(ask, contribution, request.sites, drawn)
    return words, memory


def check_state(ask: Ask) -> None:
    """Raise Refusal unless the broadcast weights are finite and within the method's bound."""
    if not (math.isfinite(ask.state_norm) and ask.state_norm <= ask.state_norm_bound):
        raise Refusal("state-out-of-bounds", f"the weights' norm must not exceed {ask.state_norm_bound:g}")


def encode(ask: Ask, contribution: Contribution, sites: int, drawn: Randomness) -> Words:
    """Return the words of a contribution: the layout's entries, and the weight as the last word.

    Raises: Refusal if a value is not finite or beyond its bound; StudyError if so many sites could wrap.
    """
    plan = word_plan(ask, sites)
    arrays: Mapping[str, Any] = {**contribution.arrays, "weight": contribution.weight}
    vector = layout.to_vector(plan.entries, arrays)
    return fixedpoint.encode(plan, vector, drawn.training if ask.stochastic_rounding else None)
