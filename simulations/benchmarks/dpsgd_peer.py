"""The other side of the DP-SGD benchmark: the same network and step by Opacus, ghost clipping, in its own environment.

Run by its path with a Python that has torch and opacus, none of which this project needs. A line of JSON on standard
input, ``{"filters": [16, 32, 64], "dense_units": 64, "batch": 64, "steps": 10}``, is answered by one on standard
output, ``{"seconds": ..., "weights": ...}``: what so many noised steps took of the processor, and the network's size.
The first line out holds the versions. The noise is torch's own generator's, which Opacus calls not secure and which is
its default.
"""

from __future__ import annotations

import json
import sys
import time
from importlib.metadata import version
from typing import Any

GROUPS, CLASSES, SIDE = 8, 2, 28


class Step:
    """One network with Opacus's ghost clipping, ready to take steps.

    filters, dense_units: as in ``shared.models.image_cnn.ImageCnn``.
    batch: rows of a step.
    """

    def __init__(self, filters: tuple[int, ...], dense_units: int, batch: int) -> None:
        import torch
        from opacus.grad_sample import GradSampleModuleFastGradientClipping
        from opacus.optimizers import DPOptimizerFastGradientClipping
        from opacus.utils.fast_gradient_clipping_utils import DPLossFastGradientClipping

        nn = torch.nn
        generator = torch.Generator().manual_seed(1)
        self._x = torch.randn((batch, 1, SIDE, SIDE), generator=generator)
        self._y = torch.randint(CLASSES, (batch,), generator=generator)
        layers: list[Any] = []
        for before, after in zip((1, *filters), filters, strict=False):
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.GroupNorm(GROUPS, after), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        flat = filters[-1] * (SIDE >> len(filters)) ** 2
        layers += [nn.Flatten(), nn.Linear(flat, dense_units), nn.ReLU(), nn.Linear(dense_units, CLASSES)]
        network = nn.Sequential(*layers)
        self.weights = sum(parameter.numel() for parameter in network.parameters())
        self._network = GradSampleModuleFastGradientClipping(network, max_grad_norm=1.0, use_ghost_clipping=True)
        self._optimizer = DPOptimizerFastGradientClipping(
            torch.optim.SGD(self._network.parameters(), lr=0.01, momentum=0.9),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            expected_batch_size=batch,
        )
        self._loss = DPLossFastGradientClipping(self._network, self._optimizer, nn.CrossEntropyLoss())

    def seconds(self, steps: int) -> float:
        """Return what so many steps take of the processor."""
        started = time.process_time()
        for _ in range(steps):
            self._optimizer.zero_grad()
            self._loss(self._network(self._x), self._y).backward()
            self._optimizer.step()
        return time.process_time() - started


def main() -> None:
    """Answer until standard input ends."""
    import torch

    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    print(json.dumps({name: version(name) for name in ("torch", "opacus")}), flush=True)
    kept: dict[str, Step] = {}
    for line in sys.stdin:
        asked = json.loads(line)
        steps, key = asked.pop("steps"), line
        if key not in kept:
            kept[key] = Step(tuple(asked["filters"]), asked["dense_units"], asked["batch"])
        print(json.dumps({"seconds": kept[key].seconds(steps), "weights": kept[key].weights}), flush=True)


if __name__ == "__main__":
    main()
