"""The one seam: a federated method is a loop of sums (DESIGN section 2).

A round is: the server broadcasts a state; every site computes a contribution from its own patients; the contributions
are added; the server moves the state with the total alone. Both halves of a method stand in one file: ``contribute``
runs at the hospital, ``advance`` at the aggregator, and what they must agree on is the ``Ask`` that both derive from
the state.

A state is named arrays, so that broadcasting, checkpointing and digests are written once. Names with a path component
``server`` (an optimiser's moments) stay at the aggregator: ``broadcast`` leaves them out. No state repeats in a run (a
counter of rounds sees to it): a site answers each once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.examples import Arrays, Examples, Part
from shared.interpretation import Interpretation
from shared.layout import Entry
from shared.randomness import Randomness

if TYPE_CHECKING:
    from shared.preparation import Preparation, Prepared
    from shared.privacy.accounting import Event
    from shared.study import Study

Measurements = Mapping[str, float]
"""What ``advance`` reports of a round, for people: ``{"loss": 0.31}``."""

R_co = TypeVar("R_co", covariant=True)

ROOM = 1.0 + 2.0**-30
"""Room for the last digits of float64 above the bound of a noised sum: a refusal there would depend on patients."""

NOTHING: Arrays = {}
"""The memory of a method that remembers nothing at the site."""


@dataclass(frozen=True)
class Influence:
    """How much one unit of privacy, a patient or a whole site, can change one site's contribution, after clipping.

    l1, l2: norms over the whole vector, weight included.
    """

    l1: float
    l2: float


@dataclass(frozen=True)
class Ask:
    """What both halves agree on for one round.

    part: whose rows are summed.
    entries: the layout of the contribution, with the bound and the precision of each entry.
    weight_bound: largest weight that one site may have.
    word_bits: 32 for networks, 64 for statistics.
    stochastic_rounding: unbiased rounding from the run's generator; otherwise to nearest.
    state_norm: L2 norm of the broadcast weights, `averaging.norm`; 0 where the state holds none.
    state_norm_bound: largest norm of a legitimate state; a site refuses others (a chosen state of huge norm isolates
        one patient).
    exact: whether a contribution is determined by the patients and the state, without noise or chance that hides how it
        changes from round to round. Sums with and without one site can then be subtracted, so contributors are frozen
        (docs/protocol.md, "Lost sites subtract").
    influence: that of the study's unit of privacy (``[privacy] unit``), or None where the method bounds none.
    patient_influence: one patient's, where the unit is a whole site: the hospital's ledger is in patients' units. None
        where ``influence`` is a patient's.
    noise_multiplier: each site adds its share of noise to its words, so that the sum of all has a standard deviation of
        this times ``influence.l2`` (``shared/privacy/mechanisms.py``). The weight gets none: it is a public constant.
    event: what a contribution costs that holds noise already (DP-SGD at the site).
    subset_patients: where sums are over subsets that the data choose (a tree node, a risk set): fewest patients of the
        site to which the method keeps in each, 1 where one patient may make such a sum alone. None for other sums.
    """

    part: Part
    entries: tuple[Entry, ...]
    weight_bound: float
    word_bits: int
    stochastic_rounding: bool
    state_norm: float
    state_norm_bound: float
    exact: bool = True
    influence: Influence | None = None
    patient_influence: Influence | None = None
    noise_multiplier: float | None = None
    event: Event | None = None
    subset_patients: int | None = None

    @property
    def data_dependent_subsets(self) -> bool:
        """Whether sums are over subsets that the data choose."""
        return self.subset_patients is not None


@dataclass(frozen=True, eq=False)
class Contribution:
    """What one site computed.

    arrays: by entry name, in the shapes that the ask says.
    weight: what the site counts for in a mean, usually its rows.
    smallest_subset: fewest patients of the site in one of the data-dependent subsets that are summed, empty ones apart;
        None where there are no such subsets. It stays at the site, which holds its policy against it.
    """

    arrays: Arrays
    weight: float
    smallest_subset: int | None = None


@dataclass(frozen=True, eq=False)
class Total:
    """The sum over the contributing sites.

    arrays: by entry name.
    weight: sum of the weights.
    contributors: number of sites.
    """

    arrays: Arrays
    weight: float
    contributors: int


class Method(Protocol[R_co]):
    """A federated method whose result is an ``R_co``."""

    def start(self) -> Arrays:
        """Return the state that round 1 broadcasts."""
        ...

    def asks(self, state: Arrays) -> Ask:
        """Return what sites are asked for in this state."""
        ...

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return this site's contribution, and what the site remembers if it is counted. Pure."""
        ...

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the next state, from the total alone."""
        ...

    def finished(self, state: Arrays) -> bool:
        """Whether no further round is needed."""
        ...

    def result(self, state: Arrays) -> R_co:
        """Return what the method was run for; a broadcast state suffices."""
        ...

    def keep(self, state: Arrays, examples: Mapping[Part, Examples], memory: Arrays) -> object | None:
        """Return what stays at the hospital: its own metrics, a personal head. None for most methods."""
        ...


class ServerOptimizer(Protocol):
    """How an averaging method moves its weights with the mean; the aggregator hands one in."""

    def init(self, weights: Arrays) -> Arrays:
        """Return the optimiser's first state."""
        ...

    def apply(self, state: Arrays, weights: Arrays, mean: Arrays) -> tuple[Arrays, Arrays]:
        """Return (state, weights) after a round.

        weights: the weights that were broadcast.
        mean: the weighted mean of the weights that the sites ended with.
        """
        ...


class PlainMean:
    """The mean itself becomes the weights. Sites make the study's plan with it; they never move weights."""

    def init(self, weights: Arrays) -> Arrays:
        """Return nothing: the mean remembers nothing."""
        return NOTHING

    def apply(self, state: Arrays, weights: Arrays, mean: Arrays) -> tuple[Arrays, Arrays]:
        """Return the mean."""
        return state, mean


@dataclass(frozen=True)
class Forecast:
    """What training sums will hold, before any data are known: for the hospital that is to approve them.

    ask: the largest of a run.
    parameters: at most so many numbers make the model.
    contents: what the numbers of a sum are, one phrase each, such as ``"the model's error, summed over the rows"``.
    """

    ask: Ask
    parameters: int
    contents: tuple[str, ...]


class ModelMethod(Method[Arrays], Protocol):
    """A method whose result is the weights of a model."""

    @property
    def state_norm_bound(self) -> float:
        """Largest L2 norm of weights that a site accepts."""
        ...

    def scores(self, weights: Arrays, prepared: Prepared) -> NDArray[np.float64]:
        """Return what the model says of each row.

        Returns: array of shape (n, classes) with the log-odds of each class against the rest, or (n, 1) with the
            predicted numbers, in the label's unit; of a method with ``outputs``, one column for each.
        """
        ...

    def forecast(self) -> Forecast:
        """Return what a training sum holds at most; the preparation is one with as many columns as there can be."""
        ...

    def description(self) -> str:
        """Return one or two sentences about the model, for the model card."""
        ...

    def interpretation(self, weights: Arrays) -> Interpretation:
        """Return what the released model says, in the columns' own units; an empty one where that is nothing."""
        ...


class Traits:
    """What the rest of the system asks of a kind of method, as it is of most."""

    outputs: ClassVar[str] = ""
    """What the model says of a row in words, ``"a cluster"``; empty for one that predicts the label."""

    noun: ClassVar[str] = "model"
    """What training makes, in one word: ``"table"``, ``"policy"``."""

    prepared: ClassVar[bool] = True
    """Whether it reads prepared columns; one that does not gets a count of the rows in place of a preparation."""

    censored: ClassVar[bool] = False
    """Whether it knows of ``[data] event``: that a label may be the time until a patient was last seen."""


class TrainingMethod(ModelMethod, Protocol):
    """What ``METHODS`` lists: how a study names, checks and makes a ``ModelMethod``, and the ``Traits`` of that."""

    Options: ClassVar[type[Any]]
    """The frozen dataclass of ``[method.options]``."""

    outputs: ClassVar[str]
    noun: ClassVar[str]
    prepared: ClassVar[bool]
    censored: ClassVar[bool]

    @classmethod
    def check(cls, study: Study) -> None:
        """Raise ValueError if this method cannot serve this study."""
        ...

    @classmethod
    def require(cls) -> None:
        """Raise DependencyMissing, saying what to type, unless the packages that this method needs are installed."""
        ...

    @classmethod
    def create(cls, study: Study, preparation: Preparation, optimizer: ServerOptimizer) -> ModelMethod:
        """Return the method for one study whose data have been prepared."""
        ...

    @classmethod
    def centralised(cls, study: Study) -> Study:
        """Return the study by which this method is trained when all data lie in one place."""
        ...


def forecast_of(method: ModelMethod, *contents: str) -> Forecast:
    """Return the forecast of a method that asks for the same layout in every round."""
    state = method.start()
    return Forecast(method.asks(state), sum(array.size for array in method.result(state).values()), contents)


def broadcast(state: Arrays) -> Arrays:
    """Return the part of a state that sites receive."""
    return {name: array for name, array in state.items() if "server" not in name.split("/")}


def used(weights: Arrays) -> Arrays:
    """Return the weights that scores are made of; those under ``fit/`` say how the fit went, and are for people."""
    return {name: array for name, array in weights.items() if not name.startswith("fit/")}


def under(prefix: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Return the arrays with ``prefix/`` before each name."""
    return {f"{prefix}/{name}": array for name, array in arrays.items()}


def within(prefix: str, arrays: Arrays) -> dict[str, NDArray[Any]]:
    """Return the arrays whose names begin with ``prefix/``, without it."""
    return {name.removeprefix(f"{prefix}/"): array for name, array in arrays.items() if name.startswith(f"{prefix}/")}
