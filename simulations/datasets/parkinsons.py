"""UCI Parkinsons Telemonitoring: 42 people in early Parkinson's disease, 5875 voice recordings at home over six months.

Tsanas, Little, McSharry, Ramig, "Accurate Telemonitoring of Parkinson's Disease Progression by Noninvasive Speech
Tests", IEEE Transactions on Biomedical Engineering 57:884 (2010), doi 10.1109/TBME.2009.2036000.

About 140 rows are one patient: a split by row puts the same patient on both sides, and every score looks good. The
UPDRS was scored at the start and after about three and six months, and interpolated linearly between; so a trend at day
120 already leans towards the score of month six. Whoever forecasts with it does better than a clinic could, and so does
whoever carries the last score forward.

The file is a copy of UCI's at a fixed commit, separated by tabs; UCI's own is separated by commas.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from client.data.base import RawData
from shared.errors import DataError
from simulations.datasets.base import DataFile, Dataset, read_checked

KNOWN_UNTIL_DAY = 120.0
"""Scores until this day are known; those of later visits are to be forecast."""

TREND_DAYS = 28.0
"""A trend is over the days before the last known score, so many at most."""

AHEAD_DAYS = 28.0
"""How far ahead a session's score is to be forecast from the sessions so far, at least."""

_FILE = DataFile(
    name="parkinsons_updrs.data",
    url=(
        "https://raw.githubusercontent.com/shikashyam/ParkinsonsTelemonitoring/deb237cac5ac21f2254f96077e53ec90f401a4c5"
        "/parkinsons_updrs.data"
    ),
    sha256="52229b3075c2109a2c144f5584d88cc5ea99022a9a9eaa6d978b2e8e7c6bc501",
    bytes=906868,
)


def read(folder: Path) -> RawData:
    """Return 5875 rows: the file's columns, with ``patient_id`` for ``subject#``, and what is forecast.

    Of a visit after day 120, and missing of the others:

    - ``late_total_UPDRS``: the score of that visit, which is to be forecast.
    - ``last_total_UPDRS``: the patient's last score until day 120.
    - ``trend_total_UPDRS``: its change a day over the 28 days before.
    - ``days_ahead``: from the last score to the visit.
    - ``projected_total_UPDRS``: last score + trend * days ahead.

    Of the first recording of a session (a patient recorded several on one day), and missing of the others:

    - ``session``: its number, 1, 2, ...
    - ``ahead_total_UPDRS``: the score of the first session 28 days later or more; missing where there is none.

    Raises: DataError if the file is not the published one.
    """
    header, *lines = read_checked(folder, _FILE).decode("ascii").split("\r\n")
    cells = np.array([line.split("\t") for line in lines if line])
    columns = dict(zip(header.split("\t"), cells.astype(np.float64).T, strict=True))
    patients = columns.pop("subject#").astype(np.int64).astype(np.str_)
    about = patients, columns["test_time"], columns["total_UPDRS"]
    return RawData({"patient_id": patients, **columns, **forecast(*about), **sessions(*about)})


def forecast(
    patients: NDArray[np.str_], days: NDArray[np.float64], scores: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return the columns of a forecast; a patient's come from that patient's own visits until day 120 alone.

    patients, days, scores: of each visit, arrays of shape (n,); every patient has a visit until day 120.
    """
    late = days > KNOWN_UNTIL_DAY
    last, trend, ahead = (np.full(len(days), np.nan) for _ in range(3))
    for patient in np.unique(patients):
        own = np.flatnonzero(patients == patient)
        known = own[~late[own]]
        known = known[np.argsort(days[known], kind="stable")]
        if not len(known):
            raise DataError(f"expected a visit until day {KNOWN_UNTIL_DAY:g} of every patient. Received: none of one.")
        end = known[-1]
        start = known[days[known] >= days[end] - TREND_DAYS][0]
        passed = days[end] - days[start]
        rows = own[late[own]]
        last[rows] = scores[end]
        trend[rows] = (scores[end] - scores[start]) / passed if passed > 0 else 0.0
        ahead[rows] = days[rows] - days[end]
    return {
        "late_total_UPDRS": np.where(late, scores, np.nan),
        "last_total_UPDRS": last,
        "trend_total_UPDRS": trend,
        "days_ahead": ahead,
        "projected_total_UPDRS": last + trend * ahead,
    }


def sessions(
    patients: NDArray[np.str_], days: NDArray[np.float64], scores: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Return the numbers of the sessions, and the scores that follow; arguments as of ``forecast``.

    A session begins with the first recording a day or more after the one with which the session before began.
    """
    number, ahead = np.full(len(days), np.nan), np.full(len(days), np.nan)
    for patient in np.unique(patients):
        own = np.flatnonzero(patients == patient)
        own = own[np.argsort(days[own], kind="stable")]
        begun = [own[0]]
        for row in own:
            if days[row] >= days[begun[-1]] + 1.0:
                begun.append(row)
        firsts = np.array(begun)
        number[firsts] = np.arange(1, len(firsts) + 1)
        later = np.searchsorted(days[firsts], days[firsts] + AHEAD_DAYS)
        there = later < len(firsts)
        ahead[firsts[there]] = scores[firsts[later[there]]]
    return {"session": number, "ahead_total_UPDRS": ahead}


PARKINSONS = Dataset(
    name="parkinsons_telemonitoring",
    title="UCI Parkinsons Telemonitoring: 5875 voice recordings of 42 patients over six months, with UPDRS",
    licence="CC BY 4.0",
    attribution=(
        "A. Tsanas, M. Little (2009). Parkinsons Telemonitoring. UCI Machine Learning Repository, doi 10.24432/C5ZS3N."
        " A. Tsanas, M. Little, P. McSharry, L. Ramig (2010). IEEE Transactions on Biomedical Engineering 57:884-893."
    ),
    files=(_FILE,),
    read=read,
)
