"""Neural networks with patient-level differential privacy: DP-SGD at every site, and the mean of what they end with.

Every site starts from the broadcast weights and makes ``local_epochs / sampling_rate`` noised steps on Poisson-sampled
patients of its own (``shared/privacy/dpsgd.py``; Abadi et al. 2016, arXiv:1607.00133, Algorithm 1). Each patient is at
one site, so a round costs a patient the steps of that site alone, and nothing of the other sites' noise is needed. The
change of the weights is averaged with equal weights: how many patients a hospital has is a number about patients. No
loss and no count of clipped values leaves.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.examples import Arrays, Examples, Part
from shared.methods import averaging
from shared.methods.base import NOTHING, Ask, Contribution, Measurements, ServerOptimizer, Total, under
from shared.methods.neural import Neural
from shared.models.training import trainer
from shared.preparation import Preparation
from shared.privacy.accounting import SampledGaussian
from shared.privacy.noise import gaussian_error
from shared.privacy.settings import Privacy
from shared.randomness import Randomness

if TYPE_CHECKING:
    from shared.privacy.dpsgd import PrivatePlan, PrivateTrainer
    from shared.study import Study

_PRECISION = 1e-6
"""Rounding of one weight's change, far below the noise of one step."""


def steps(privacy: Privacy, local_epochs: int) -> int:
    """Return the noised steps of a round: each patient is in ``local_epochs`` of them on average."""
    return max(1, round(local_epochs / privacy.sampling_rate))


class PrivateNeural(Neural):
    """The method for one prepared study with ``[privacy]``.

    noise_multiplier: of one step.
    """

    def __init__(
        self, study: Study, preparation: Preparation, optimizer: ServerOptimizer, noise_multiplier: float
    ) -> None:
        super().__init__(study, preparation, optimizer)
        assert study.privacy is not None
        self.privacy = study.privacy
        self.noise_multiplier = noise_multiplier

    def _private(self) -> PrivateTrainer:
        options, shape = self.options, self.preparation.input_shape
        return _trainer_of(options.architecture, options.model, shape, max(self.classes, 1), self.threads)

    def _plan(self) -> PrivatePlan:
        from shared.privacy.dpsgd import PrivatePlan

        assert self.privacy.patients_per_site is not None
        return PrivatePlan(
            steps=steps(self.privacy, self.options.local_epochs),
            sampling_rate=self.privacy.sampling_rate,
            nominal_patients=self.privacy.patients_per_site,
            noise_multiplier=self.noise_multiplier,
            clipping_norm=self.privacy.clipping_norm,
            learning_rate=self.options.learning_rate,
            momentum=self.options.momentum,
        )

    def asks(self, state: Arrays) -> Ask:
        """Return the layout of the weights' changes, and what the steps behind them cost."""
        weights = averaging.weights_of(state)
        size = sum(array.size for array in weights.values())
        return Ask(
            part=Part.TRAINING,
            entries=averaging.changes(weights, 1, self.options.update_bound, _PRECISION),
            weight_bound=1.0,
            word_bits=32,
            stochastic_rounding=True,
            state_norm=averaging.norm(weights),
            state_norm_bound=self.state_norm_bound,
            exact=False,
            event=SampledGaussian(
                self.noise_multiplier,
                self.privacy.sampling_rate,
                count=steps(self.privacy, self.options.local_epochs),
                sampler_error=gaussian_error(size),
            ),
        )

    def contribute(
        self, state: Arrays, examples: Examples, memory: Arrays, randomness: Randomness
    ) -> tuple[Contribution, Arrays]:
        """Return how this site's noised steps move the weights."""
        prepared = self.preparation.transform(examples)
        before = averaging.weights_of(state)
        after = self._private().train(
            before, prepared.x, self._targets(prepared), examples.patients, self._plan(), randomness.secret
        )
        bound = self.options.update_bound
        # Post-processing of what is private already.
        moved = {
            name: np.clip(np.nan_to_num(np.asarray(after[name], np.float64) - before[name]), -bound, bound)
            for name in before
        }
        return Contribution(under("update", moved), 1.0), NOTHING

    def advance(self, state: Arrays, total: Total) -> tuple[Arrays, Measurements]:
        """Return the state moved by the mean over the sites."""
        return averaging.advance(state, total, self.optimizer)

    def description(self) -> str:
        """Return two sentences for the model card."""
        options, size = self.options, self._trainer.model.count_params()
        return (
            f"{options.model.sentence()}: {size:,} trained weights. Fitted by federated averaging of DP-SGD, with"
            f" {steps(self.privacy, options.local_epochs)} noised steps a round at each hospital on patients drawn with"
            f" probability {self.privacy.sampling_rate:g} and with gradients clipped to norm"
            f" {self.privacy.clipping_norm:g}; learning rate {options.learning_rate:g}, momentum {options.momentum:g}."
        )


@lru_cache(maxsize=8)
def _trainer_of(
    architecture: str, options: Any, input_shape: tuple[int, ...], outputs: int, threads: int
) -> PrivateTrainer:
    """Return this process's one private trainer of such a network: its graph is traced once."""
    from shared.privacy.dpsgd import PrivateTrainer

    return PrivateTrainer(trainer(architecture, options, input_shape, outputs, threads).model, threads)
