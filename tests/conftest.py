"""What every test runs under: nothing is sent anywhere or drawn on a screen, and generated examples repeat in CI."""

from __future__ import annotations

import gc
import os
from pathlib import Path

import hypothesis
import pytest

# Before the first import of the libraries that read them.
os.environ.update(
    {
        "FLWR_TELEMETRY_ENABLED": "0",
        "FLWR_DISABLE_UPDATE_CHECK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "MPLBACKEND": "agg",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "CUDA_VISIBLE_DEVICES": "-1",
    }
)

# A shared machine stalls: how long an example takes says nothing about the code.
hypothesis.settings.register_profile("local", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "local")


def pytest_collection_finish() -> None:
    """What was imported stays: let the garbage collector look neither through it nor as often as it would."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def medical_data() -> Path:
    """The folder with the real data sets, or a skip that says how to get them."""
    folder = os.environ.get("CONSILIUM_DATA")
    if not folder:
        pytest.skip("real data: set CONSILIUM_DATA to the folder that holds heart_disease/ and pneumoniamnist/")
    if not Path(folder).is_dir():
        pytest.fail(f"CONSILIUM_DATA must name a folder. Received: {folder!r}")
    return Path(folder)
