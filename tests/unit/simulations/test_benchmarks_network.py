"""What the benchmark of the network part reads from logs and writes into study files. No speed is asserted."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.study import load_study
from simulations.benchmarks import network, network_consortium, network_peer


def log(*seconds: float) -> str:
    return "".join(
        f"2026-11-21 12:00:00,000Z INFO consilium.node answered worked_s={each:.3f} sent_s=9.000\n" for each in seconds
    )


def test_the_work_of_a_round_is_the_slowest_hospitals_for_each_of_its_messages() -> None:
    """Contribute took b 2.0 s and reveal a 0.5 s; then come the evaluation, with two messages, and the end."""
    preparation, evaluation, end = [0.1] * 6, [0.3, 0.1], [0.1]
    logs = [log(*preparation, 1.0, 0.5, *evaluation, *end), log(*preparation, 2.0, 0.1, *evaluation, *end)]

    assert [2.5] == network.slowest(logs, rounds=1, messages=2)


def test_only_the_last_run_counts() -> None:
    run = [0.1, 0.1, 4.0, 5.0, 0.1, 0.1]  # preflight, preparation, two rounds, evaluation, end

    assert [4.0, 5.0] == network.slowest([log(*[7.0] * 5, *run)], rounds=2, messages=1)


def test_a_shipped_study_is_written_with_other_values_and_no_simulation(tmp_path: Path) -> None:
    study = load_study(network_consortium.write_study(tmp_path / "short.toml", "breast_cancer", rounds=2))

    assert ("short", 2, None) == (study.name, study.method.rounds, study.simulation.dataset)


def test_the_wide_network_has_its_width_squared_weights(tmp_path: Path) -> None:
    study = load_study(network_consortium.write_wide_study(tmp_path / "wide.toml", 10))

    assert (10, 10) == study.method.options.model.units


def test_waiting_ends() -> None:
    with pytest.raises(TimeoutError, match="the moon"):
        network_consortium.until("the moon", lambda: False, seconds=0.0)


def test_flowers_apps_are_made_only_when_flower_asks_for_them() -> None:
    assert "server_app" not in vars(network_peer)
    with pytest.raises(AttributeError, match="another"):
        _ = network_peer.another
