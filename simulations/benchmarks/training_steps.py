"""The training steps of the CNN's work and nothing else: what the federated loop can at best reach.

The same compiled graph on the same numbers of rows: ten sites one after the other, ``CNN_ROUNDS`` times, each starting
from the first weights. There is no averaging, no encoding and no evaluation. Start-up and the graph's compilation are
not counted, although the federated loop's first round has the latter in it.

``python -m simulations.benchmarks.training_steps`` prints ``{"seconds": ..., "steps": ..., "ms_per_step": ...}``.
"""

from __future__ import annotations

import json
import time

from shared.models import network
from shared.models.training import Trainer, batches, trainer
from shared.randomness import for_site
from shared.study import Study
from simulations.benchmarks import work


def bare_training_seconds(rounds: int) -> float:
    """Return the wall-clock seconds that the steps of so many rounds take."""
    study = work.cnn_study()
    own, descent = _trainer(study), study.method.options.descent()
    weights = network.initial_weights(own.model, study.study.seed)
    sites = [work.cnn_site(number) for number in range(work.SITES)]

    def one_round(number: int) -> None:
        for site, (x, y) in enumerate(sites):
            own.train(weights, x, y, descent, for_site(study.study.seed, f"site_{site}", number).training)

    one_round(0)
    started = time.perf_counter()
    for number in range(1, rounds + 1):
        one_round(number)
    return time.perf_counter() - started


def steps(rounds: int) -> int:
    """Return the number of training steps in so many rounds."""
    study = work.cnn_study()
    drawn = for_site(study.study.seed, "site_0", 1).training
    index, _ = batches(len(work.cnn_site(0)[1]), study.method.options.descent(), drawn)
    return rounds * work.SITES * len(index)


def _trainer(study: Study) -> Trainer:
    images, options = study.data.images, study.method.options
    assert images is not None
    shape = (images.height, images.width, images.channels)
    return trainer(options.architecture, options.model, shape, len(study.data.classes), study.study.threads)


if __name__ == "__main__":
    seconds, count = bare_training_seconds(work.CNN_ROUNDS), steps(work.CNN_ROUNDS)
    print(json.dumps({"seconds": seconds, "steps": count, "ms_per_step": seconds / count * 1e3}))
