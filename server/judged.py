"""The judgements of a finished run: on everyone, on subgroups, and of the model with a column dealt anew."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from shared.interpretation import Interpretation, Table
from shared.judgement import judge
from shared.metrics import Judgement
from shared.plan import DEALT, EVALUATE, EVERYONE
from shared.study import Study
from shared.wording import METRIC_WORDS


@dataclass(frozen=True, eq=False)
class Judged:
    """How good the released model is.

    everyone: on all held-out rows; subgroups: by ``column=level``.
    dealt: by column, with its values dealt anew among each hospital's rows.
    """

    everyone: Judgement
    subgroups: Mapping[str, Judgement]
    dealt: Mapping[str, Judgement]

    def with_importance(self, said: Interpretation) -> Interpretation:
        """Return what the model says, with the table of permutation importance where that was asked for."""
        table = _importance(self.everyone, self.dealt) if self.dealt else None
        return dataclasses.replace(said, tables=(*said.tables, table)) if table else said


def judged_of(study: Study, results: Mapping[str, Any]) -> Judged:
    """Return the judgements of a run. results: of its plan."""
    sums = results[EVALUATE]
    found = {name: judge(study, f"federated/{name}", each) for name, each in sums.items()}
    dealt = {name.removeprefix(DEALT): found.pop(name) for name in sums if name.startswith(DEALT)}
    return Judged(found.pop(EVERYONE), found, dealt)


def _importance(everyone: Judgement, dealt: Mapping[str, Judgement]) -> Table | None:
    """Return by how much the main metric is worse with each column dealt anew, the most important column first."""
    metric = next(iter(everyone.metrics))
    words = METRIC_WORDS[metric]
    own = everyone.metrics[metric].value
    worse = {name: words.better * (own - each.metrics[metric].value) for name, each in dealt.items()}
    defined = {name: loss for name, loss in worse.items() if loss == loss}  # noqa: PLR0124 - NaN is not itself
    if not defined:
        return None
    rows = [
        (name, loss, dealt[name].metrics[metric].value) for name, loss in sorted(defined.items(), key=lambda it: -it[1])
    ]
    return Table(
        "Permutation importance",
        ("column", f"{words.label} worse by", f"{words.label} then"),
        tuple(rows),
        note=(
            f"{words.label} on the held-out rows is {own:.3g}; each line says what becomes of it when the column's"
            " values are dealt anew among the rows of each hospital. Columns that say the same thing share their"
            " importance; a value near zero, or below, may be chance."
        ),
        bars=f"{words.label} worse by",
    )
