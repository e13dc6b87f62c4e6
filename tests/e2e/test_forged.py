"""An enrolled hospital that lies to SuperLink in another's name: Flower takes it, and it counts for nothing."""

from __future__ import annotations

from typing import Any

import pytest

from shared.messages import Heading
from tests.e2e import hostile
from tests.e2e.commands import until
from tests.e2e.conftest import Template
from tests.e2e.consortium import Consortium
from tests.e2e.hostile import Forger, Question

pytestmark = pytest.mark.e2e

VICTIM, LIAR = "Basel", "Cork"


def next_question(world: Consortium, answered: list[str]) -> Question:
    """Wait for a message to the victim that was not answered yet."""

    def fresh() -> list[Question]:
        return [each for each in hostile.questions(world, VICTIM) if each.id not in answered]

    until("the victim is asked", fresh, 30.0)
    return fresh()[0]


def heading(world: Consortium) -> Heading:
    """Return which question the liar was asked last: the victim is asked the same."""
    line = world.record(world.hospital(LIAR))[-1]
    return Heading(line["run"], line["study"], line["round"], line["attempt"])


def test_replies_forged_by_another_enrolled_hospital_do_not_count(
    running: Consortium, template: Template, simulated: tuple[dict[str, Any], dict[str, bytes]]
) -> None:
    name = running.begin(template.study)
    running.wait_exchanges(name, 2)
    liar = Forger(running, LIAR, VICTIM)
    answered: list[str] = []
    # The victim's node hangs for a moment: its own answer might be there first.
    with hostile.silenced(running, VICTIM):
        for how in ("unsigned", "own key", "replayed"):
            question = next_question(running, answered)
            before = hostile.run_log(running, name).count(f"site={VICTIM} reply=bad-signature")
            liar.refuse(question, heading(running), how)
            answered.append(question.id)
            until(
                f"the {how} reply is refused",
                lambda before=before: (
                    before < hostile.run_log(running, name).count(f"site={VICTIM} reply=bad-signature")
                ),
                10.0,
            )
    liar.close()
    running.wait_finished(name)

    assert {4} == {len(each.contributors) for each in running.status(name).history}
    assert simulated[1] == running.weights(name)
