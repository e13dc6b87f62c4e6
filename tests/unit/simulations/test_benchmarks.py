"""The benchmarks' arithmetic and their eyes on processes. No speed is asserted."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from simulations.benchmarks import our_side, run, watched, work

needs_linux = pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="reads /proc of Linux")

CHILD_WITH_60_MIB = """
import subprocess, sys
print("said")
subprocess.run([sys.executable, "-c", "import time; block = bytearray(60 * 2**20); time.sleep(0.4)"])
"""


@needs_linux
def test_memory_of_a_child_process_counts() -> None:
    usage = watched.run([sys.executable, "-c", CHILD_WITH_60_MIB])

    assert "said\n" == usage.output
    assert 2 == usage.processes
    assert usage.rss_mib > 60
    assert 60 < usage.pss_mib <= usage.rss_mib


@needs_linux
def test_a_command_that_fails_is_an_error_with_its_last_words() -> None:
    with pytest.raises(RuntimeError, match=r"ended with 3:\nno such thing"):
        watched.run([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"])


def test_ratios_are_flowers_numbers_divided_by_ours() -> None:
    flower = {"loop_s": 20.0, "rounds_s": 10.0, "seconds": 30.0, "rss_mib": 900.0, "pss_mib": 600.0}
    ours = {"loop_s": 0.5, "rounds_s": 4.0, "seconds": 3.0, "rss_mib": 300.0, "pss_mib": 300.0}
    sides = {"logistic-flower": flower, "logistic-ours": ours, "cnn-flower": flower, "cnn-flower-kept": flower}
    found = run.ratios({**sides, "cnn-ours": ours, "cnn-bare": {"rounds_s": 3.0}})

    assert 40.0 == found["logistic-flower"]["loop_s"]
    assert 2.5 == found["cnn-flower"]["rounds_s"]
    assert 5.0 == found["cnn-flower"]["same_work_s"]  # Flower's 20 s against our 4 s of training rounds
    assert 3.0 == found["cnn-flower-kept"]["rss_mib"]
    assert 2.0 == found["cnn-flower"]["pss_mib"]
    assert {"rounds_s": 0.75} == found["cnn-bare"]


def test_a_table_has_a_line_for_each_number_and_a_column_for_each_side() -> None:
    assert [
        "                           a a-long-name",
        "rounds, s                2.5      0.1235",
        "peak RSS, MiB            300",
    ] == run.table({"a": {"rounds_s": 2.5, "rss_mib": 300.0}, "a-long-name": {"rounds_s": 0.12346}}).splitlines()


def test_the_table_is_dealt_to_ten_sites_without_losing_a_patient() -> None:
    table = work.breast_cancer()

    assert [46] * 5 + [45] * 5 == [len(y) for _, y in table.sites]
    np.testing.assert_allclose(np.concatenate([x for x, _ in table.sites]).mean(axis=0), 0, atol=1e-12)
    assert (114, 30) == table.held_out[0].shape


def test_our_side_learns_the_table() -> None:
    """112 of 114 held-out patients, which is what Flower's side reaches too."""
    assert 112 / 114 == pytest.approx(our_side.logistic(0.0).quality)
