"""What a broadcast state asks for, and whether this hospital answers: before anything is computed from patients."""

from __future__ import annotations

import math
from collections.abc import Mapping

from client.data.split import SiteData
from client.policy import check_sum
from client.secagg_state import Member
from shared.errors import Refusal
from shared.examples import Arrays
from shared.fixedpoint import WordPlan
from shared.messages import ContributeRequest
from shared.methods.base import Ask, within
from shared.methods.combinators import InTurn
from shared.methods.words import word_plan
from shared.plan import EVALUATE, PREPARE, TRAIN, TUNE, exchanges
from shared.secagg.transcript import state_digest


def asked(
    request: ContributeRequest, settled: Mapping[str, bytes], member: Member, data: SiteData, method: InTurn
) -> tuple[Ask, WordPlan, Mapping[str, bytes]]:
    """Return what is asked, how it becomes words, and the digests of finished stages; no patient's values are read.

    settled: digests of the stages that were finished before.
    data: the frozen cohort, for the hospital's rules. method: the study's plan.

    Raises: Refusal ``settled-changed`` if a stage that was finished before is open again, or ended otherwise;
        ``state-out-of-bounds``; ``beyond-plan`` or ``not-private`` in a study with ``[privacy]``; or as
        ``client.policy.check_sum``. StudyError if so many sites could wrap. Whatever a method raises for a state that
        is none.
    """
    now = {name: state_digest(arrays) for name, arrays in method.settled(request.state).items()}
    if any(now.get(name) != digest for name, digest in settled.items()):
        raise Refusal("settled-changed", "a stage that was finished, such as the preparation, is not as it was")
    ask, study = method.asks(request.state), member.study
    check_state(ask)
    if study.privacy:
        _check_stage(request.heading.round, method.stage(request.state), exchanges(study))
        if ask.noise_multiplier is None and ask.event is None:
            raise Refusal("not-private", "the study has a [privacy] part, and this sum would be without noise")
    check_sum(member.policy, study, data, ask, request.sites, parameters(request.state, method))
    return ask, word_plan(ask, request.sites), now


def check_state(ask: Ask) -> None:
    """Raise Refusal unless the broadcast weights are finite and within the method's bound."""
    if not (math.isfinite(ask.state_norm) and ask.state_norm <= ask.state_norm_bound):
        raise Refusal("state-out-of-bounds", f"the weights' norm must not exceed {ask.state_norm_bound:g}")


def _check_stage(number: int, stage: str, last: int) -> None:
    """Refuse a second preparation, a second evaluation, or one round of training more: noise is for one of each.

    Every private method makes all its rounds, so the number of a sum says what it is about.
    """
    planned = PREPARE if number == 1 else EVALUATE if number == last else TRAIN
    if stage != planned:
        raise Refusal("beyond-plan", f"sum {number} of the study is of stage {planned}, and this would be of {stage}")


def parameters(state: Arrays, method: InTurn) -> int:
    """Return how many numbers the models have that a state trains; 0 where none is trained."""
    if method.stage(state) == TUNE:
        # Every candidate on every fold is a model of its own.
        return sum(array.size for array in within(TUNE, state).values() if array.dtype.kind == "f")
    if method.stage(state) != TRAIN:
        return 0
    weights: Arrays = method.method(state, TRAIN).result(within(TRAIN, state))
    return sum(array.size for array in weights.values())
