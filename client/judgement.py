"""How good the released model is on one hospital's own patients, and how much the hospital brings: its own business.

Both stay at the hospital, unless its policy lets them be shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from client.data.split import SiteData
from shared.examples import Arrays, Part
from shared.judgement import judge
from shared.messages import Counts
from shared.methods.base import NOTHING
from shared.methods.combinators import InTurn
from shared.plan import EVALUATE, EVERYONE

if TYPE_CHECKING:
    from client.secagg_state import Member
    from shared.metrics import Judgement


def own_judgement(member: Member, data: SiteData, method: InTurn, judged: Arrays) -> Judgement:
    """Return the judgement of the released model on the hospital's own held-out rows.

    judged: the state from which the model was judged (``SiteState.judged``).
    """
    kept: Any = method.keep(judged, data.parts, NOTHING)
    return judge(member.study, f"site/{member.name}", kept[EVALUATE][EVERYONE])


def counts_of(data: SiteData, classes: int) -> Counts:
    """Return how much a hospital brings.

    classes: number of classes of the label; 0 for a number.
    """
    training, held_out = data.parts[Part.TRAINING], data.parts[Part.HELD_OUT]
    class_rows = np.bincount(training.labels.astype(int), minlength=classes).tolist() if classes else []
    return Counts(
        patients=training.patient_count + held_out.patient_count,
        rows=len(training) + len(held_out),
        training_rows=len(training),
        held_out_rows=len(held_out),
        class_rows=tuple(class_rows),
        out_of_contract=dict(data.findings.outside),
    )
