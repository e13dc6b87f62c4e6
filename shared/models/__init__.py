"""Keras architectures by the name that a study uses, each the frozen dataclass of ``[method.options.model]``."""

from typing import Any

from shared.models.image_cnn import ImageCnn
from shared.models.sequence_cnn import SequenceCnn
from shared.models.sequence_rnn import SequenceRnn
from shared.models.tabular_mlp import TabularMlp

MODELS: dict[str, type[Any]] = {
    "image_cnn": ImageCnn,
    "sequence_cnn": SequenceCnn,
    "sequence_rnn": SequenceRnn,
    "tabular_mlp": TabularMlp,
}
