"""Ray on this machine for one run, with workers that run the code that runs here.

Ray would import ``client`` and ``shared`` from the working folder first, another project's if it has folders of these
names (measured). So it starts in an empty folder of its own, and what its workers import is compared.
"""

from __future__ import annotations

import contextlib
import importlib.util
import logging
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shared import provenance
from shared.errors import DependencyMissing, MixedInstallation

_QUIET = {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}
"""Nothing is sent anywhere, and the screen stays readable."""

_LONGEST_FOLDER = 40
"""Letters of a folder in which Ray's sockets have room: their paths may be 107 letters long."""


def require() -> None:
    """Raise DependencyMissing unless Ray is installed; it is not imported."""
    if importlib.util.find_spec("ray") is None:
        raise DependencyMissing(
            f'--engine ray needs Ray, which this Python lacks. Type: {sys.executable} -m pip install "consilium[bench]"'
        )


@contextlib.contextmanager
def cluster(sites: int, threads: int) -> Iterator[Path]:
    """Start Ray on this machine, with a worker for each processor and no more than there are sites.

    threads: that a site may use.

    Yields: an empty folder of its own.
    Raises: MixedInstallation if its workers do not import what runs here.
    """
    os.environ.update(_QUIET)
    import ray

    workers = max(1, min(sites, (os.cpu_count() or 1) // threads))
    environment = {"env_vars": {"PYTHONPATH": str(provenance.ROOT)}, "worker_process_setup_hook": f"{__name__}.prepare"}
    with tempfile.TemporaryDirectory(prefix="consilium-", ignore_cleanup_errors=True) as name:
        with contextlib.chdir(name):
            ray.init(
                "local",
                num_cpus=workers,
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                runtime_env=environment,
                _temp_dir=name if len(name) <= _LONGEST_FOLDER else None,
            )
        try:
            _check_code(ray)
            yield Path(name)
        finally:
            ray.shutdown()


def prepare() -> None:
    """Prepare a worker process; Ray calls this by its name when the process starts."""
    with without_tensorflow():
        import flwr.simulation  # noqa: F401  # what Ray reads next names it


@contextlib.contextmanager
def without_tensorflow() -> Iterator[None]:
    """Hide TensorFlow from what is imported: Flower's engine imports it wherever it is installed, for GPUs only."""
    hidden = "tensorflow" not in sys.modules
    if hidden:
        sys.modules["tensorflow"] = None  # type: ignore[assignment]  # what makes an import fail
    try:
        yield
    finally:
        if hidden:
            del sys.modules["tensorflow"]


def _check_code(ray: Any) -> None:
    """Raise MixedInstallation unless a worker imports the code that runs here."""
    ours = str(provenance.ROOT), provenance.code_digest()
    try:
        theirs = ray.get(ray.remote(num_cpus=0)(_code).remote())
    except ray.exceptions.RayError as error:
        reason = str(error).strip().splitlines()[-1]
        raise MixedInstallation(f"Ray's worker processes cannot import Consilium from {ours[0]}: {reason}") from None
    if theirs != ours:
        raise MixedInstallation(
            f"Ray's worker processes import other code than runs here. Expected: {ours[0]}. Received: {theirs[0]}."
            " Unset PYTHONPATH, and do not change the code while it starts."
        )


def _code() -> tuple[str, str]:
    provenance.require_one_root()
    return str(provenance.ROOT), provenance.code_digest()
