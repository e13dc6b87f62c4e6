"""Neural networks by federated averaging, with FedProx's proximal term.

Every site starts from the broadcast weights, makes ``local_epochs`` passes over its rows by minibatch SGD
(``shared/models/training.py``), and contributes its weighted change (``shared/methods/averaging.py``; McMahan et al.
2017, arXiv:1602.05629, Algorithm 1). A site with rows of a single class trains on like every other.

A change of one weight beyond ``update_bound`` is clipped, not refused: no statistic is made wrong by it, and a hospital
lost for one weight would cost more than a shorter step. How many values were clipped rides in the sum. What is not a
finite number is never clipped: it reaches the encoder, which refuses it.
"""

from __future__ import annotations

import dataclasses
import json
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, TypeAdapter, ValidationError, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from shared.examples import Arrays, Examples, Part
from shared.layout import Entry
from shared.methods import averaging
from shared.methods.base import NOTHING, Ask, Contribution, Forecast, Measurements, ServerOptimizer, Total
from shared.methods.clipped_averaging import ClippedAveraging
from shared.models import MODELS, network, runtime
from shared.models.pseudo_labels import PseudoLabels, joined
from shared.models.saliency import integrated_gradients
from shared.models.training import Descent, Trainer, trainer
from shared.preparation import Preparation, Prepared
from shared.randomness import Randomness
from shared.schema import CLOSED
from shared.scores import log_odds
from shared.validation import nested

if TYPE_CHECKING:
    from shared.study import Study

UPDATE_PRECISION = 1 / 16
"""Harmless rounding error of one element of n_k (w_k - w).

Words of 32 bits leave steps of about sites * max_rows_per_site * update_bound / 2**31: 2**-4 for 100 sites of a million
rows, 2**-8 for 5 such sites, 2**-15 for 5 sites of ten thousand. Rounding is stochastic, so the mean is right on
average; its deviation is at most half a step * sqrt(sites) / (rows of all sites), which at a step of 2**-4 is 3e-5 for
100 sites that have but 100 rows each: far below the noise of one step of SGD, which moves weights by 1e-3 and more.
"""


_CLIP_COUNT_PRECISION = 1e-5
"""Of the number of weights: how many were clipped is for people to look at."""


@dataclass(frozen=True, config=CLOSED, kw_only=True)
class NeuralOptions:
    """``[method.options]`` of ``neural``.

    architecture: a key of ``shared.models.MODELS``.
    model: that architecture's own options, a frozen dataclass of ``shared.models.MODELS``.
    local_epochs: passes over a site's rows in a round.
    batch_size: largest number of rows in one step.
    learning_rate, momentum: of the local SGD; momentum starts from zero in every round.
    proximal_mu: weight of FedProx's term, which holds a site near the broadcast weights.
    update_bound: largest change of one weight in one round at one site.
    augment: whether images are altered whenever they are trained on (``shared/models/augmentation.py``).
    pseudo_labels: how images without a label are learnt from; needs ``[data] unlabelled``, and ``augment``.
    """

    architecture: Literal["image_cnn", "sequence_cnn", "sequence_rnn", "tabular_mlp"]
    model: Annotated[Any, Field(validate_default=True)] = None
    local_epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    batch_size: Annotated[int, Field(ge=1, le=65536)] = 32
    learning_rate: Annotated[float, Field(gt=0)] = 0.02
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    proximal_mu: Annotated[float, Field(ge=0)] = 0.0
    update_bound: Annotated[float, Field(gt=0, le=1e6)] = 1.0
    augment: bool = False
    pseudo_labels: PseudoLabels | None = None

    @field_validator("model", mode="plain")
    @classmethod
    def _of_the_architecture(cls, value: Any, info: ValidationInfo) -> Any:
        """Parse the options of the architecture that was chosen."""
        kind = MODELS.get(info.data.get("architecture", ""))
        if kind is None or isinstance(value, kind):
            return value
        try:
            return TypeAdapter(kind).validate_json(json.dumps({} if value is None else value))
        except ValidationError as error:
            raise nested(error, kind) from None

    def descent(self) -> Descent:
        """Return how a site descends."""
        return Descent(
            epochs=self.local_epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            momentum=self.momentum,
            proximal_mu=self.proximal_mu,
            loss_bound=averaging.LOSS_BOUND,
            augment=self.augment,
        )


class Neural(averaging.AveragingMethod):
    """The method for one prepared study; weights are named by layer, ``block_1/conv/kernel``, float32.

    seed: the first weights derive from it.
    threads: processor threads of one operation.
    """

    Options: ClassVar[type[Any]] = NeuralOptions
    state_norm_bound: ClassVar[float] = 1e4

    def __init__(self, study: Study, preparation: Preparation, optimizer: ServerOptimizer) -> None:
        super().__init__(optimizer, study.method.rounds)
        self.options: NeuralOptions = study.method.options
        self.preparation = preparation
        self.max_rows = study.data.max_rows_per_site
        self.seed = study.study.seed
        self.threads = study.study.threads
        self.classes = len(preparation.contract.classes)

    @classmethod
    def check(cls, study: Study) -> None:
        """Raise ValueError unless the architecture reads such data."""
        options: NeuralOptions = study.method.options
        if options.model.reads != study.data.kind:
            fitting = [name for name, model in MODELS.items() if model.reads == study.data.kind]
            raise ValueError(
                f"options: architecture {options.architecture!r} reads {options.model.reads!r}. Received:"
                f" [data] kind = {study.data.kind!r}, for which there is {', '.join(map(repr, fitting))}"
            )
        if options.augment and (not study.data.images or (study.privacy and study.privacy.unit == "patient")):
            raise ValueError(
                'options: augment goes with kind = "images", and with no [privacy] of unit "patient". Received: kind ='
                f" {study.data.kind!r}, {'[privacy]' if study.privacy else 'no [privacy]'}"
            )
        if options.pseudo_labels and (
            study.privacy or study.tuning or not study.data.unlabelled or not options.augment
        ):
            raise ValueError(
                "options: pseudo_labels goes with augment = true and [data] unlabelled = true, and with no [privacy] or"
                f" [tuning]. Received: augment = {str(options.augment).lower()}, unlabelled ="
                f" {str(study.data.unlabelled).lower()}"
            )
        if study.privacy and study.privacy.patients_per_site is None:
            raise ValueError(
                "neural with [privacy] divides by an expected number of patients: write [privacy] patients_per_site."
                " Received: none"
            )
        if study.privacy and study.privacy.unit == "patient" and options.proximal_mu:
            raise ValueError(
                f'options: expected proximal_mu = 0 with [privacy] of unit "patient". Received: {options.proximal_mu:g}'
            )
        if study.data.images:
            images = study.data.images
            options.model.check((images.height, images.width, images.channels))
        if study.data.sequence_length:
            options.model.check((study.data.sequence_length,))

    @classmethod
    def require(cls) -> None:
        """Raise DependencyMissing unless Keras and TensorFlow are installed; neither is imported."""
        runtime.require()

    @classmethod
    def create(
        cls,
        study: Study,
        preparation: Preparation,
        optimizer: ServerOptimizer,
        noise_multiplier: float | None = None,
    ) -> Neural | ClippedAveraging:
        """Return the method for one study whose data have been prepared; with noise, the unit of privacy's."""
        if noise_multiplier is None or study.privacy is None:
            return cls(study, preparation, optimizer)
        if study.privacy.unit == "site":
            return ClippedAveraging(cls(study, preparation, optimizer), study.privacy.clipping_norm, noise_multiplier)
        from shared.methods.neural_private import PrivateNeural

        return PrivateNeural(study, preparation, optimizer, noise_multiplier)

    @classmethod
    def centralised(cls, study: Study) -> Study:
        """Return the study with the same number of passes over every row, and without privacy."""
        return dataclasses.replace(study, privacy=None)

    @cached_property
    def _trainer(self) -> Trainer:
        return trainer(
            self.options.architecture,
            self.options.model,
            self.preparation.input_shape,
            max(self.classes, 1),
            self.threads,
        )

    def start(self) -> Arrays:
        """Return round 1 with weights drawn from the study's seed."""
        return averaging.start(network.initial_weights(self._trainer.model, self.seed), self.optimizer)

    def asks(self, state: Arrays) -> Ask:
        """Return the layout: weighted changes of the weights, the loss, and the number of clipped values."""
        weights = averaging.weights_of(state)
        size = sum(array.size for array in weights.values())
        return Ask(
            part=Part.TRAINING,
            entries=(
                *averaging.entries(weights, self.max_rows, self.options.update_bound, UPDATE_PRECISION),
                Entry("clipped", (), float(size), max(0.5, size * _CLIP_COUNT_PRECISION)),
            ),
            weight_bound=float(self.max_rows),
            word_bits=32,
            stochastic_rounding=True,
            state_norm=averaging.norm(weights),
            state_norm_bound=self.state_norm_bound,
            # One batch of all rows as they are leaves nothing to chance.
            exact=self.options.batch_size >= self.max_rows and not self.options.augment,
            subset_patients=self.options.pseudo_labels.min_subset_patients if self.options.pseudo_labels else None,
        )

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return this site's weighted change after ``local_epochs`` passes over its rows."""
        prepared = self.preparation.transform(examples)
        before = averaging.weights_of(state)
        options = self.options.pseudo_labels
        if options is None:
            return self._trained(before, prepared, len(prepared), randomness), NOTHING
        unlabelled = examples.unlabelled or examples.take(np.arange(0))
        asked = unlabelled.take(np.arange(len(unlabelled) if state["round"] >= options.after else 0))
        sure = options.sure(asked, self._trainer.outputs(before, self.preparation.transform(asked).x))
        taught = joined(prepared, self.preparation.transform(sure), len(unlabelled))
        whole = self._trained(before, taught, len(prepared) + len(sure), randomness)
        return dataclasses.replace(whole, smallest_subset=(sure or examples).patient_count), NOTHING

    def _trained(self, before: Arrays, taught: Prepared, rows: int, randomness: Randomness) -> Contribution:
        """Return what these rows make of the broadcast weights; the site counts for ``rows`` in the mean."""
        after, loss = self._trainer.train(
            before, taught.x, self._targets(taught), self.options.descent(), randomness.training
        )
        whole = averaging.contribution(before, after, rows, loss * rows / len(taught))
        return _clipped(whole, self.options.update_bound * rows)

    def _targets(self, prepared: Prepared) -> NDArray[np.float64]:
        """Return what the network is taught: class indices, or the standardised number."""
        return (prepared.y - self.preparation.label_mean) / self.preparation.label_deviation

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the state moved by the mean; ``clipped`` counts values over all contributing sites."""
        state, measurements = super().advance(state, total)
        return state, {**measurements, "clipped": float(total.arrays["clipped"])}

    def scores(self, weights: Arrays, prepared: Prepared) -> NDArray[np.float64]:
        """Return the log-odds of each class against the rest, (n, classes), or numbers in the label's unit, (n, 1)."""
        outputs = self._trainer.outputs(weights, prepared.x).astype(np.float64)
        if self.classes:
            return log_odds(outputs)
        return outputs * self.preparation.label_deviation + self.preparation.label_mean

    def saliency(self, weights: Arrays, prepared: Prepared, classes: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return how much each pixel raises the log-odds of a class, against a black image; (n, height, width).

        classes: of each image, whose log-odds are explained; array of shape (n,).
        """
        mean, deviation = np.array(self.preparation.image_mean), np.array(self.preparation.image_deviation)
        black = np.broadcast_to(-mean / deviation, self.preparation.input_shape)
        found = integrated_gradients(self._trainer, weights, prepared.x, black, classes)
        return np.asarray(found.sum(axis=-1))

    def forecast(self) -> Forecast:
        """Return what a training sum holds."""
        usual = super().forecast()
        clipped = "how many of these numbers were cut to the study's bound"
        pseudo = self.options.pseudo_labels
        more = (clipped, pseudo.sum_holds()) if pseudo else (clipped,)
        return dataclasses.replace(usual, contents=(*usual.contents, *more))

    def description(self) -> str:
        """Return two sentences for the model card."""
        size = self._trainer.model.count_params()
        options = self.options
        proximal = f", proximal term {options.proximal_mu:g} (FedProx)" if options.proximal_mu else ""
        augmented = " Each image was altered at random whenever it was trained on." if options.augment else ""
        unlabelled = f" {options.pseudo_labels.sentence()}" if options.pseudo_labels else ""
        return (
            f"{options.model.sentence()}: {size:,} trained weights. Fitted by federated averaging with"
            f" {options.local_epochs} local epoch(s) a round of SGD in batches of {options.batch_size}, learning rate"
            f" {options.learning_rate:g}, momentum {options.momentum:g}{proximal}.{augmented}{unlabelled}"
        )


def _clipped(contribution: Contribution, limit: float) -> Contribution:
    """Return the contribution with changes held within +-limit, and how many were not; NaN and infinity stay."""
    arrays = dict(contribution.arrays)
    clipped = 0
    for name, array in contribution.arrays.items():
        if name.startswith("update/"):
            size = np.abs(array)
            if size.max() <= limit:  # almost always; NaN compares as False
                continue
            beyond = (size > limit) & np.isfinite(size)
            clipped += int(beyond.sum())
            arrays[name] = np.where(beyond, np.clip(array, -limit, limit), array)
    return dataclasses.replace(contribution, arrays={**arrays, "clipped": np.array(float(clipped))})
