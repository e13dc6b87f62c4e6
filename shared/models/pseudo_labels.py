"""Learning from images that nobody has labelled: the broadcast model's own classes where it is sure of them.

FixMatch (Sohn et al., NeurIPS 2020, arXiv:2001.07685): a row that the broadcast model gives a class with at least
``confidence`` is taught that class (Lee, "Pseudo-Label", ICML 2013 workshop on challenges in representation learning),
and what is taught is not the image that was asked about but an augmented one; the others take no part in the round. In
every round a site trains on twice as many rows as it has without a label: those of which the model is sure, and rows
with a label, repeated. So a study whose pseudo-labels never begin (``after``) is the fair comparison: as many steps.
Nothing of this leaves a site but the change of the weights; of whom the model is sure the state decides, so a sum is
over a subset that the data choose, and with too few patients in it a site trains on its labelled rows alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic.dataclasses import dataclass

from shared.examples import Examples
from shared.preparation import Prepared
from shared.schema import CLOSED


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class PseudoLabels:
    """``[method.options.pseudo_labels]`` of ``neural``.

    confidence: a class counts as an image's label from this probability on.
    after: training rounds on labelled rows alone, before; with as many as the study has, there are no others.
    min_subset_patients: fewest patients of a site of whom the model is sure; with fewer, labelled rows alone are used.
    """

    confidence: Annotated[float, Field(ge=0.5, le=1)] = 0.95
    after: Annotated[int, Field(ge=0)] = 0
    min_subset_patients: Annotated[int, Field(ge=1)] = 5

    def sure(self, unlabelled: Examples, outputs: NDArray[Any]) -> Examples:
        """Return the rows of whose class the model is sure, with that class as label; none for too few patients.

        outputs: logits, array of shape (rows without a label, classes).
        """
        shifted = np.exp(outputs.astype(np.float64) - outputs.max(axis=1, keepdims=True, initial=-np.inf))
        likeliest = (shifted / shifted.sum(axis=1, keepdims=True)).max(axis=1, initial=0.0)
        named = replace(unlabelled, labels=shifted.argmax(axis=1).astype(np.float64))
        chosen = named.take(likeliest >= self.confidence)
        return chosen if chosen.patient_count >= self.min_subset_patients else chosen.take(np.zeros(0, np.intp))

    def sum_holds(self) -> str:
        """Return what a training sum holds, for the hospital."""
        certainty = f"at least {100 * self.confidence:g} % sure of their class"
        return f"images without a label count in these where the model is {certainty}"

    def sentence(self) -> str:
        """Return how the network learnt, for the model card."""
        return (
            f"After {self.after} round(s) also on images without a label, with the class of which the model was at"
            f" least {100 * self.confidence:g} % sure."
        )


def joined(labelled: Prepared, sure: Prepared, unlabelled: int) -> Prepared:
    """Return the rows that a site trains on in a round: those of which the model is sure last.

    unlabelled: rows that the site has without a label; with those sure, labelled rows come to at most twice as many,
        and each is there at least once.
    """
    times = max(1, (2 * unlabelled - len(sure)) // len(labelled))
    x, y = ([*[getattr(labelled, name)] * times, getattr(sure, name)] for name in "xy")
    return Prepared(np.concatenate(x), np.concatenate(y))
