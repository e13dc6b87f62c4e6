"""TensorFlow, started once in a process: quiet, deterministic, with the number of threads that the study fixes.

One operation computed by another number of threads gives other bits. Operations that do not depend on each other give
the same bits side by side and in turn, so how many run at once is left to TensorFlow.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from shared.errors import DependencyMissing, StudyError

_CHATTER = re.compile(rb"WARNING: All log messages before absl::InitializeLog|[IW]\d{4} [\d:.]+ +\d+ \w+\.cc:\d+\]")
"""Lines that TensorFlow's start writes to standard error whatever its log level."""


def require() -> None:
    """Raise DependencyMissing unless Keras and TensorFlow are installed; neither is imported."""
    missing = [name for name in ("keras", "tensorflow") if importlib.util.find_spec(name) is None]
    if missing:
        slim = sys.platform == "linux" and platform.machine() == "x86_64"
        extra = "keras-cpu" if slim else "keras"
        raise DependencyMissing(
            f"method 'neural' needs {' and '.join(missing)}, which this Python lacks. Type:"
            f' {sys.executable} -m pip install "consilium[{extra}]"'
        )


@cache
def start(threads: int) -> Any:
    """Return the ``tensorflow`` module, with ``threads`` threads for one operation.

    Raises: DependencyMissing if it is not installed; StudyError if this process started it with another number of
        threads, or Keras with another backend.
    """
    require()
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    with _without_chatter():
        import keras
        import tensorflow as tf
    if keras.backend.backend() != "tensorflow":
        raise StudyError(
            f"method 'neural' needs Keras on TensorFlow; in this process it runs on {keras.backend.backend()!r}."
            " Run the study in a process of its own."
        )
    try:
        tf.config.threading.set_intra_op_parallelism_threads(threads)
    except RuntimeError:
        running = tf.config.threading.get_intra_op_parallelism_threads() or "its own choice of threads"
        raise StudyError(
            f"[study] threads: expected {running}, because TensorFlow was already started with that in this process."
            f" Received: {threads}. Run the study in a process of its own."
        ) from None
    tf.config.experimental.enable_op_determinism()
    return tf


@contextmanager
def _without_chatter() -> Iterator[None]:
    """Hold back what the block writes to standard error below Python; afterwards pass on what is not chatter."""
    try:
        original = os.dup(2)
    except OSError:  # no standard error: nothing to keep quiet
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(original, 2)
            os.close(original)
            held.seek(0)
            rest = b"".join(line for line in held if not _CHATTER.match(line))
            if rest:
                os.write(2, rest)
