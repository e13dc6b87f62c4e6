"""Whatever a study says that cannot be is refused before anything is computed or written."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import numpy as np
import pytest

from client.data.base import RawData
from shared.errors import StudyError
from simulations.local import Consortium, gather, prove_sums
from tests.builders import table_study


def gathered(sites: int = 3, faults: Sequence[str] = (), **changes: Any) -> Consortium:
    study = table_study(1, simulation__faults=list(faults), **changes)
    rows = np.arange(60)
    raw = {f"h{site}": RawData({"x0": (rows + site) % 7, "y": rows % 2}) for site in range(1, sites + 1)}
    return gather(study, raw)


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (["h1 2"], "expected 'SITE EXCHANGE KIND'"),
        (["h9 2 late"], "unknown 'h9'"),
        (["h1 2 slow"], "unknown 'slow'"),
        (["h1 6 late"], r"'h1 6 late': expected an exchange from 1 to 5: the preparation, 3 rounds and the evaluation"),
        (["h1 2 late", "h2 2 late", "h1 2 lost"], "'h1 2 lost': site 'h1' has another fault in exchange 2 already"),
    ],
)
def test_faults_that_cannot_be_are_refused(faults: list[str], message: str) -> None:
    with pytest.raises(StudyError, match=message):
        gathered(faults=faults)


def test_faults_in_the_first_and_the_last_exchange_are_planned() -> None:
    assert len(gathered(faults=["h1 1 exception", "h1 5 lost", "h2 5 late"]).data) == 3


def test_more_sites_demanded_than_there_are_is_refused_with_both_numbers() -> None:
    with pytest.raises(StudyError, match=r"\[aggregation\] min_sites: expected at most the number of sites, 3. .*: 4"):
        gathered(aggregation__min_sites=4)
    assert len(gathered(aggregation__min_sites=3).data) == 3


def test_sums_that_could_wrap_are_refused() -> None:
    study = table_study(data__max_rows_per_site=10_000_000)
    prove_sums(study, 1000)
    with pytest.raises(StudyError, match=r"with 1000000 sites, values up to 1e\+07 leave steps of"):
        prove_sums(study, 1_000_000)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("keras") is None, reason="networks need the extra keras")
def test_sums_of_the_training_are_proved_before_it() -> None:
    """Steps of 5 sites x 1000 rows x update bound / 2**31: 2e-6 for a bound of 1, 2 for one of a million."""
    network: dict[str, Any] = {"method__name": "neural", "method__options__architecture": "tabular_mlp"}
    prove_sums(table_study(**network), 5)
    with pytest.raises(StudyError, match="in words of 32 bits"):
        prove_sums(table_study(**network, method__options__update_bound=1e6), 5)
